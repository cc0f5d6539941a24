"""DLoRAL (arXiv 2506.15591) behind the five verbs: space by four, frame pair by frame pair, in one step."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.dloral.color_fix import ColorFix, fix_colors
from stvsr_cli.models.dloral.initial import (
    Initial,
    enlarged_size,
    initialise,
    restore_size,
)
from stvsr_cli.models.dloral.retrieval import CrossFrameRetrieval
from stvsr_cli.models.dloral.tiles import Tile, blend, gaussian_weights, grid
from stvsr_cli.models.dloral.vae import FrameCodec
from stvsr_cli.models.layers.insertion import Inserter, insert_mixtures
from stvsr_cli.models.layers.retrieval import BLOCK_BYTES

TIMESTEP = 1
"""The one noise level at which the UNet is asked."""
UNET_COPIES = 24
"""Most activations alive at once, in copies of the first level's: 22 as counted over the live tensors of Stable Diffusion
2.1."""
BLOCKS_HELD = 1.2
"""Most similarities alive at once in the retrieval, in blocks of them."""

TRAITS = Traits(
    name="dloral",
    scale=4,
    multiple_px=1,  # any size is enlarged to a multiple of the VAE's stride, and brought back afterwards
    minimum_px=16,  # shorter sides would be enlarged more than eightfold
    window=8,
    overlap=1,  # a frame looks at the one before it, and at no other
    minimum_window=1,
    join="discard",  # a window's first frame had no predecessor there; so the result is the whole clip's to 1e-5
    tile_px=0,  # the model tiles its latents by itself
    tile_overlap_px=32,
    denoiser="unet",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    color_fix: ColorFix = "adain"
    """Whence the output's colours come."""
    process_px: int = 512
    """Frames are enlarged until both sides are this long, as in training, and the output is reduced again."""
    latent_tile: int = 96
    """Latents of more positions than a square of this side are taken in tiles of it; 0: always whole."""
    latent_overlap: int = 32
    """Positions that two tiles share."""
    pairs_per_call: int = 1
    """Frame pairs that go through the UNet together."""
    paired: bool = True
    """Whether each frame is paired with the one before it; if not, with itself, to compare."""

    def __post_init__(self) -> None:
        if self.color_fix not in get_args(ColorFix):
            raise UsageError(f"color_fix={self.color_fix!r} is unknown.", hint=f"Choose one of {get_args(ColorFix)}.")
        for name, least in (("process_px", 1), ("latent_tile", 0), ("pairs_per_call", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} must be at least {least}.")
        if self.latent_tile and not 0 <= self.latent_overlap < self.latent_tile:
            raise UsageError(f"latent_overlap={self.latent_overlap} must lie in [0, {self.latent_tile}).")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    tiles: list[Tile]
    """In positions of the latent."""
    aligned: list[Tensor]
    """By tile: the latent of the frame before, warped; float32 [B, T, C, h, w]."""
    fused: list[Tensor]
    """By tile: the latent with what was retrieved from the aligned one; float32 [B, T, C, h, w]."""


class DLoRAL:
    """The published system: retrieval from the frame before, and a UNet with both experts merged."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        codec: FrameCodec,
        retrieval: CrossFrameRetrieval,
        prompt: Tensor,
        *,
        detail: float = 1.0,
        remerge: Callable[[float], Mapping[str, Tensor]] | None = None,
        inserter: Inserter = insert_mixtures,
        options: Options | None = None,
    ) -> None:
        """Wire the parts, which lie on one device.

        prompt: [1, L, D]. detail: the share of the D-LoRA that is merged into `unet`, and the most a request gets.
        remerge: returns the UNet's weights at another share. inserter: makes the in-between frames, at the
        input's size; by default they are mixtures of their neighbours.
        """
        self.traits = TRAITS
        self.unet, self.codec, self.retrieval, self.prompt = unet, codec, retrieval, prompt
        self.options = options or Options()
        self._insert = inserter
        self._detail = self._merged_detail = detail
        self._remerge = remerge

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks; see `contract.PartedModel`."""
        return {"vae": self.codec.vae, "retrieval": self.retrieval, "unet": self.unet}

    def initialise(self, frames: Tensor, request: Request) -> Initial:
        """Return the enlarged video, in-between frames included."""
        return initialise(
            frames,
            fps_factor=request.fps_factor,
            scale=self.traits.scale,
            multiple_px=self.codec.stride,
            process_px=self.options.process_px,
            insert=self._insert,
        )

    def encode(self, init: Initial, request: Request) -> Tensor:
        """Return the frames' latents, float32 [B, T, C, H / 8, W / 8]."""
        latent = self.codec.encode(init.video.flatten(0, 1), request.seed)
        return latent.unflatten(0, init.video.shape[:2])

    def condition(self, init: Initial, latent: Tensor, request: Request) -> Condition:
        """Return, tile by tile, what each frame takes from the one before; the first is paired with itself."""
        height, width = latent.shape[-2:]
        frames = torch.cat(
            [
                functional.interpolate(frame * 2 - 1, size=(height, width), mode="bicubic")
                for frame in init.video.flatten(0, 1).split(1)
            ]
        ).unflatten(0, init.video.shape[:2])
        tiles = self._tiles(height, width)
        found = [self._retrieve(tile.crop(frames), tile.crop(latent)) for tile in tiles]
        return Condition(tiles=tiles, aligned=[part[0] for part in found], fused=[part[1] for part in found])

    def denoise(self, latent: Tensor, condition: Condition, request: Request) -> Tensor:
        """Return the clean latent, float32 [B, T, C, H / 8, W / 8], from one prediction."""
        self._merge(min(self._detail, request.detail))
        if len(condition.tiles) == 1:
            return next(self._clean_tiles(condition))[1]
        weights = gaussian_weights(condition.tiles[0].height, condition.tiles[0].width, latent.device)
        height, width = latent.shape[-2:]
        return blend(self._clean_tiles(condition), weights, (height, width))

    def decode(self, latent: Tensor, init: Initial, request: Request) -> Tensor:
        """Return the output frames, [B, T, 3, H, W] in [0, 1]."""
        batch, num_frames = latent.shape[:2]
        output = init.video.new_empty((batch * num_frames, 3, *init.size))
        for index, (one, source) in enumerate(
            zip(latent.flatten(0, 1).split(1), init.video.flatten(0, 1).split(1), strict=True)
        ):
            frame = fix_colors(self.codec.decode(one), source, self.options.color_fix).clamp_(0, 1)
            output[index] = restore_size(frame, init.size)[0]
        return output.unflatten(0, (batch, num_frames))

    def _tiles(self, height: int, width: int) -> list[Tile]:
        side = self.options.latent_tile
        if side == 0 or height * width <= side * side:
            return [Tile(0, 0, height, width)]
        return grid(height, width, side, self.options.latent_overlap)

    def _retrieve(self, frames: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the aligned and the fused latents of one tile. frames: [B, T, 3, h, w]; latent: [B, T, C, h, w]."""
        before = previous if self.options.paired else _itself
        pairs = (frames, before(frames), latent, before(latent))
        found = [
            self.retrieval(*(part[None] for part in pair))
            for pair in zip(*(part.flatten(0, 1) for part in pairs), strict=True)
        ]
        aligned, fused = (torch.cat(part).unflatten(0, latent.shape[:2]) for part in zip(*found, strict=True))
        return aligned, fused

    def _clean_tiles(self, condition: Condition) -> Iterator[tuple[Tile, Tensor]]:
        for tile, aligned, fused in zip(condition.tiles, condition.aligned, condition.fused, strict=True):
            seen = torch.cat([aligned, fused], dim=2).flatten(0, 1).to(self.unet.dtype)  # [B*T, 2*C, h, w]
            prediction = torch.cat([self._predict(pairs) for pairs in seen.split(self.options.pairs_per_call)])
            yield tile, fused - prediction.float().unflatten(0, fused.shape[:2])

    def _predict(self, pairs: Tensor) -> Tensor:
        timestep = torch.full((1,), TIMESTEP, device=pairs.device)
        prompt = self.prompt.to(pairs.device).expand(pairs.shape[0], -1, -1)
        prediction: Tensor = self.unet(pairs, timestep, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction

    def _merge(self, detail: float) -> None:
        """Bring the merged share of the D-LoRA to `detail`."""
        if detail == self._merged_detail:
            return
        if self._remerge is None:
            raise UsageError(f"detail={detail} was requested of a network merged at {self._merged_detail}.")
        self.unet.load_state_dict(self._remerge(detail), strict=True)
        self._merged_detail = detail

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Return an estimate of the bytes one window of this input size needs beyond the weights."""
        return max(self.stage_bytes(num_frames, height_px, width_px, fps_factor).values())

    def stage_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> dict[str, int]:
        """Return the bytes in use while each part runs; see `contract.PartedModel`."""
        frames = (num_frames - 1) * fps_factor + 1
        scale = self.traits.scale
        height, width = (side * scale for side in enlarged_size(height_px, width_px, self.options.process_px // scale))
        video = 3 * frames * (height * width + scale * scale * height_px * width_px)  # the enlarged and the output
        pixels = 4 * (video + 12 * height * width)  # in float32, with a few copies of one frame
        return {
            "frames": pixels,
            "vae": pixels + self.codec.bytes_for(self.codec.decoded_px(height, width)),
            "retrieval": pixels + self._retrieval_bytes(height, width),
            "unet": pixels + self._unet_bytes(height, width),
        }

    def _retrieval_bytes(self, height: int, width: int) -> int:
        """Return the bytes of a block of similarities between the positions of one tile."""
        tile = self._tiles(*(math.ceil(side / self.codec.stride) for side in (height, width)))[0]
        every = self.retrieval.attention.heads * (tile.height * tile.width) ** 2
        return int(BLOCKS_HELD * min(BLOCK_BYTES, every * self.retrieval.attention.key_conv.weight.dtype.itemsize))

    def _unet_bytes(self, height: int, width: int) -> int:
        """Return the bytes of the first level's feed-forward network."""
        height, width = (math.ceil(side / self.codec.stride) for side in (height, width))
        tile = self._tiles(height, width)[0]
        channels = self.unet.config["block_out_channels"][0]
        copies = UNET_COPIES * channels * tile.height * tile.width * self.options.pairs_per_call
        return int(copies * self.unet.dtype.itemsize)


def previous(x: Tensor) -> Tensor:
    """Return for every frame of [B, T, ...] the one before it, and for the first itself."""
    return torch.cat([x[:, :1], x[:, :-1]], dim=1)


def _itself(x: Tensor) -> Tensor:
    """Return what it is given."""
    return x
