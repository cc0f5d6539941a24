"""The CogVideoX VAE with the bidirectional deformable decoder: frames borrow detail from aligned neighbours."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXDecoder3D
from torch import Tensor, nn

from stvsr_cli.models.layers.channel_attention import ChannelCrossAttention
from stvsr_cli.models.layers.deform import ModulatedDeformableConv2d

DEFORM_GROUPS = 8
NEGATIVE_SLOPE = 0.1

Cache = dict[str, Any]


class FeatureAlignment(nn.Module):
    """Aligns a neighbouring frame's feature to the current one by deformable convolution."""

    def __init__(self, channels: int, *, has_lower: bool) -> None:
        super().__init__()
        self.offset_conv1 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.offset_conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        if has_lower:
            self.offset_conv12 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.dcn_pack = ModulatedDeformableConv2d(channels, groups=DEFORM_GROUPS)

    def forward(self, current: Tensor, neighbour: Tensor, lower: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the aligned neighbour and the offset feature, all [B, C, H, W].

        lower: the offset feature of the level below, already at this level's size.
        """
        guide = F.leaky_relu(self.offset_conv1(torch.cat([current, neighbour], dim=1)), NEGATIVE_SLOPE)
        if lower is not None:
            # twice the size: twice the displacement
            guide = F.leaky_relu(self.offset_conv12(torch.cat([guide, 2 * lower], dim=1)), NEGATIVE_SLOPE)
        guide = F.leaky_relu(self.offset_conv2(guide), NEGATIVE_SLOPE)
        return F.leaky_relu(self.dcn_pack(neighbour, guide), NEGATIVE_SLOPE), guide


class OffsetUpsampler(nn.Module):
    """Brings the offset features of one level to the size, frame count and width of the next."""

    def __init__(self, in_channels: int, out_channels: int, *, doubles_time: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.doubles_time = doubles_time

    def forward(self, offsets: Tensor) -> Tensor:
        """Return [B, D, T or 2T, 2H, 2W] for offset features [B, C, T, H, W]."""
        offsets = F.interpolate(offsets, scale_factor=(2.0 if self.doubles_time else 1.0, 2.0, 2.0))
        batch = offsets.shape[0]
        frames: Tensor = self.conv(offsets.transpose(1, 2).flatten(0, 1))  # [B*T, D, H, W]
        return frames.view(batch, -1, *frames.shape[1:]).transpose(1, 2)


class RecurrentFusion(nn.Module):
    """Passes over the frames in one direction; each takes from its predecessor, aligned, what its channels match."""

    def __init__(self, channels: int, *, lower_channels: int | None = None, doubles_time: bool = False) -> None:
        super().__init__()
        has_lower = lower_channels is not None
        if lower_channels is not None:
            self.ver_align = OffsetUpsampler(lower_channels, channels, doubles_time=doubles_time)
        self.align = FeatureAlignment(channels, has_lower=has_lower)
        self.attn = ChannelCrossAttention(channels)

    def forward(
        self, features: Tensor, state: Tensor | None, lower: Tensor | None, *, backward: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the fused features, the state for the next batch of frames, and the offset features.

        features: [B, C, T, H, W]. state: [B, C, 1, H, W], the last fused frame of the batch before, or None.
        lower: the offset features of the level below, turned to this level's direction, one for each pair of
        neighbours, or None. The offset features returned are None for a single frame without a state.
        """
        frames = list((features if state is None else torch.cat([state, features], dim=2)).unbind(2))
        num_pairs = len(frames) - 1
        guides = [None] * num_pairs if lower is None else list(self.ver_align(lower).unbind(2))
        offsets: list[Any] = [None] * num_pairs
        for pair in reversed(range(num_pairs)) if backward else range(num_pairs):
            here, there = (pair, pair + 1) if backward else (pair + 1, pair)
            aligned, offsets[pair] = self.align(frames[here], frames[there], guides[pair])
            frames[here] = self.attn(frames[here], aligned)
        fused = torch.stack(frames[0 if state is None else 1 :], dim=2)
        return fused, fused[:, :, -1:].clone(), torch.stack(offsets, dim=2) if offsets else None


class BidirectionalDecoder(CogVideoXDecoder3D):  # type: ignore[misc]
    """CogVideoX's decoder with a recurrent pass before each of its levels: backward in time, then forward, in turn."""

    def __init__(self, *, temporal_compression_ratio: int, **config: Any) -> None:
        super().__init__(temporal_compression_ratio=temporal_compression_ratio, **config)
        widths = [block.resnets[0].in_channels for block in self.up_blocks]
        num_doublings = int(temporal_compression_ratio).bit_length() - 1
        self.up_deformable_blocks = nn.ModuleList(
            RecurrentFusion(
                width,
                lower_channels=widths[level - 1] if level else None,
                doubles_time=level - 1 < num_doublings,
            )
            for level, width in enumerate(widths)
        )

    def forward(
        self, sample: Tensor, temb: Tensor | None = None, conv_cache: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Return the decoded frames [B, 3, T', 8H, 8W] of latents [B, C, T, H, W], and the cache for the next batch."""
        cache, new_cache = conv_cache or {}, {}
        hidden, new_cache["conv_in"] = self.conv_in(sample, conv_cache=cache.get("conv_in"))
        hidden, new_cache["mid_block"] = self._run(self.mid_block, hidden, temb, sample, cache.get("mid_block"))
        offsets = None
        for level, (fusion, up_block) in enumerate(zip(self.up_deformable_blocks, self.up_blocks, strict=True)):
            state_key, block_key = f"fusion_{level}", f"up_block_{level}"
            offsets = None if offsets is None else -offsets  # the direction flips, and displacements with it
            hidden, new_cache[state_key], offsets = self._run(
                fusion, hidden, cache.get(state_key), offsets, backward=level % 2 == 0
            )
            hidden, new_cache[block_key] = self._run(up_block, hidden, temb, sample, cache.get(block_key))
        hidden, new_cache["norm_out"] = self.norm_out(hidden, sample, conv_cache=cache.get("norm_out"))
        hidden, new_cache["conv_out"] = self.conv_out(self.conv_act(hidden), conv_cache=cache.get("conv_out"))
        return hidden, new_cache

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run a block, under gradient checkpointing where that is on."""
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return torch.utils.checkpoint.checkpoint(block, *args, use_reentrant=False, **kwargs)
        return block(*args, **kwargs)


class BidirectionalAutoencoder(AutoencoderKLCogVideoX):  # type: ignore[misc]
    """CogVideoX's VAE: its own encoder, and the bidirectional deformable decoder."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        config = dict(self.config)
        kept = ("out_channels", "up_block_types", "block_out_channels", "layers_per_block", "act_fn", "norm_eps")
        self.decoder = BidirectionalDecoder(
            in_channels=config["latent_channels"],
            norm_num_groups=config["norm_num_groups"],
            temporal_compression_ratio=config["temporal_compression_ratio"],
            **{name: config[name] for name in kept},
        )
