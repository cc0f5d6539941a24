"""DiffST (arXiv 2605.13182) behind the five verbs: a whole window in space and time in one step."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from stvsr_cli.errors import UsageError
from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.diffst.network import FRAMES_PER_CHUNK, DiffSTNetwork

Posterior = Literal["mode", "sample"]

COUNTED = 1.08
"""Bytes alive at once in the autoencoder, as counted, for each byte of the decoder's last level; a few more are allowed."""


@dataclass(frozen=True, slots=True)
class Initial:
    """The video before the diffusion step, and the input it was made from."""

    frames: Tensor
    """[B, (T-1)F + 1, 3, h, w]: keyframes and intermediate frames on the input's grid."""
    keyframes: Tensor
    """[B, T, 3, h, w]: the input."""


class DiffST:
    """Cross-frame context aggregation, one step of Wan's transformer, video representation guidance."""

    def __init__(self, network: DiffSTNetwork, *, posterior: Posterior = "mode") -> None:
        """Wrap a network on a device. Raises UsageError for an unknown `posterior`."""
        if posterior not in get_args(Posterior):
            raise UsageError(f"posterior={posterior!r} is unknown.", hint=f"Choose one of {get_args(Posterior)}.")
        self.network, self.posterior = network, posterior
        self.traits = Traits(
            name="diffst",
            scale=network.config.scale,
            multiple_px=network.config.multiple_px,
            minimum_px=network.config.multiple_px,
            window=17,  # 17, 33 and 65 output frames at the factors 1, 2 and 4: each 4n + 1, so nothing is padded
            overlap=4,  # two keyframes on each side of every intermediate frame, in one window or the other
            minimum_window=1,
            join="crossfade",  # nearer to the whole clip: 37.6 code values against 41.1 (`tests.benchmark.seams`)
            tile_px=0,
            tile_overlap_px=32,
            wants_context=True,
            denoiser="transformer",
        )

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks; see `contract.PartedModel`."""
        names = ("flow", "aggregation", "guidance", "vae", "transformer")
        return {name: self.network.get_submodule(name) for name in names}

    def initialise(self, frames: Tensor, request: Request) -> Initial:
        """Return the video with intermediate frames by context aggregation. Raises UsageError if detail is not 1."""
        if request.detail != 1:
            raise UsageError(
                f"diffst cannot run at detail={request.detail}.", hint="It has no detail expert; leave --detail at 1."
            )
        keyframes = frames.float()
        return Initial(self.network.initialise(keyframes, request.fps_factor), keyframes)

    def encode(self, init: Initial, request: Request) -> Tensor:
        """Return the normalised latent of the enlarged video, [B, T', C, H', W']."""
        video = self.network.enlarge(init.frames)
        noise = self._noise(video, request.seed) if self.posterior == "sample" else None
        return self.network.encode(video, noise)

    def condition(self, init: Initial, latent: Tensor, request: Request) -> Tensor:
        """Return the global tokens of the whole frames of the window, [B, K, width]."""
        whole = init.keyframes if request.context is None else request.context
        return self.network.guide(whole.to(latent.device, torch.float32))

    def denoise(self, latent: Tensor, condition: Tensor, request: Request) -> Tensor:
        """Return the clean latent from one velocity prediction."""
        return self.network.denoise(latent, condition)

    def decode(self, latent: Tensor, init: Initial, request: Request) -> Tensor:
        """Return the output frames, [B, (T-1)F + 1, 3, scale * h, scale * w] in [0, 1]."""
        return self.network.decode(latent, init.frames.shape[1]).clamp(0, 1)

    def _noise(self, video: Tensor, seed: int) -> Tensor:
        """Noise of a latent's shape without the batch: every member gets the same, whatever it is batched with."""
        shape = (self.network.vae.config["z_dim"], *self._latent_size(*video.shape[1:2], *video.shape[-2:]))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def _latent_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Frames, height and width of the latent of a video of this size in pixels."""
        chunks = -(-(num_frames - 1) // FRAMES_PER_CHUNK)
        per_chunk = FRAMES_PER_CHUNK // 2 ** sum(self.network.vae.config["temperal_downsample"])
        stride = self.network.stride_px
        return 1 + chunks * per_chunk, height // stride, width // stride

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Return an estimate of the bytes one window of this input size needs beyond the weights."""
        return max(self.stage_bytes(num_frames, height_px, width_px, fps_factor).values())

    def stage_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> dict[str, int]:
        """Return the bytes in use while each part runs; see `contract.PartedModel`."""
        multiple = self.traits.multiple_px
        height, width = (-(-side // multiple) * multiple for side in (height_px, width_px))
        frames = (num_frames - 1) * fps_factor + 1
        padded = 1 + -(-(frames - 1) // FRAMES_PER_CHUNK) * FRAMES_PER_CHUNK
        kept = 4 * 3 * (num_frames + frames) * height * width
        aggregation = 4 * num_frames * height * width * self._aggregation_values()
        height, width = height * self.traits.scale, width * self.traits.scale
        values, size = padded * height * width * 3, self._vae_bytes_per_value()
        enlarging = values * (3 * 4 + size)  # three float32 copies and the autoencoder's; the same once decoded
        held = 7 * size // 2 if self.network.vae.use_tiling else 2 * size  # decoded so far: tiles overlap
        coding = values * max(4 + size, held) + self._vae_bytes(height, width)
        return {
            "frames": kept + enlarging,
            "aggregation": kept + aggregation,
            "vae": kept + coding,
            "transformer": kept + self._transformer_bytes(padded, height, width),
        }

    def _aggregation_values(self) -> int:
        """Values per input pixel and keyframe: the fusion's inputs and features at half the size, and warped frames."""
        config = self.network.config
        return 3 * config.aggregation_width // 4 + 72

    def _vae_bytes_per_value(self) -> int:
        return int(self.network.vae.quant_conv.weight.dtype.itemsize)

    def _transformer_bytes(self, num_frames: int, height: int, width: int) -> int:
        """Bytes of one block's activations, which are most in the feed-forward network, and of rotary positions."""
        config = self.network.transformer.config
        frames, rows, columns = self._latent_size(num_frames, height, width)
        tokens = frames * rows * columns // (config["patch_size"][1] * config["patch_size"][2])
        size = self.network.transformer.patch_embedding.weight.dtype.itemsize
        values = 2 * config["ffn_dim"] + 4 * self.network.width
        return int(tokens * (values * size + 2 * 4 * config["attention_head_dim"]))

    def _vae_bytes(self, height: int, width: int) -> int:
        """Bytes of the last level of the decoder, which holds the most: copies of a chunk, and every layer's cache."""
        config, vae = self.network.vae.config, self.network.vae
        if vae.use_tiling:
            height, width = min(height, vae.tile_sample_min_height), min(width, vae.tile_sample_min_width)
        size = self._vae_bytes_per_value()
        copies = 5 if size == 4 else 7  # below float32, normalisation makes two float32 copies
        caches = 3 * 2 * (config["num_res_blocks"] + 1) + 4  # two frames a layer; half as much in the levels below
        return int(COUNTED * (copies * FRAMES_PER_CHUNK + caches) * config["base_dim"] * height * width * size)
