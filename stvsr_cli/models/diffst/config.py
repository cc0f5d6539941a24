"""Sizes of DiffST: its own parts, and the Wan2.1 networks it stands on."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.warp import Sampling

Finetune = Literal["full", "lora"]

NUM_TIMESTEPS = 1000
"""Length of Wan's schedule: a timestep t stands for the noise share sigma = t / 1000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffSTConfig:
    scale: int = 4
    """Spatial factor."""
    timestep: int = 399
    """The one timestep at which the encoded input is taken for the noisy latent."""
    finetune: Finetune = "full"
    """Whether the file holds the whole fine-tuned transformer, or low-rank adapters to add to the base."""
    lora_rank: int = 64
    """Rank of the adapters, where there are any."""
    aggregation: bool = True
    """Whether intermediate frames come from context aggregation; if not, they are a linear blend."""
    guidance: bool = True
    """Whether the transformer is guided by the whole video; if not, by one empty token."""
    flow_widths: tuple[int, ...] = (24, 32, 48, 64)
    """Feature channels of the flow pyramid at 1/2, 1/4, 1/8 and 1/16 of the input."""
    flow_radius: int = 3
    """Search radius of the flow's correlation, in positions of each level."""
    aggregation_width: int = 40
    """Feature channels of frame prediction and frame fusion."""
    aggregation_sampling: Sampling = "bilinear"
    """Sampling of the keyframes that frame fusion fuses."""
    guidance_frames: int = 8
    """Frames the video encoder sees, spread evenly over the video."""
    guidance_px: int = 128
    """Side to which the video encoder resizes frames, whatever their shape."""
    guidance_patch: tuple[int, int] = (2, 16)
    """Frames and pixels (both sides) of one patch of the video encoder."""
    guidance_width: int = 128
    """Width of the video encoder."""
    guidance_depth: int = 3
    """Blocks of the video encoder."""
    guidance_heads: int = 4
    """Attention heads of the video encoder."""
    guidance_tokens: int = 32
    """Global tokens that every block of the transformer attends to."""

    def __post_init__(self) -> None:
        if not 0 < self.timestep <= NUM_TIMESTEPS:
            raise ModelError(f"timestep={self.timestep} must lie in (0, {NUM_TIMESTEPS}].")
        if self.aggregation_sampling not in get_args(Sampling):
            raise ModelError(f"{self.aggregation_sampling = !r} must be one of {', '.join(get_args(Sampling))}.")
        if self.finetune not in get_args(Finetune):
            raise ModelError(f"finetune={self.finetune!r} must be one of {', '.join(get_args(Finetune))}.")
        if self.guidance_frames % self.guidance_patch[0] or self.guidance_px % self.guidance_patch[1]:
            raise ModelError(
                f"{self.guidance_frames} frames of {self.guidance_px} px cannot be cut into patches of "
                f"{self.guidance_patch[0]} frames and {self.guidance_patch[1]} px."
            )
        if self.guidance_width % self.guidance_heads:
            raise ModelError(f"guidance_width={self.guidance_width} must be a multiple of {self.guidance_heads} heads.")

    @property
    def sigma(self) -> float:
        """Share of noise that the timestep stands for."""
        return self.timestep / NUM_TIMESTEPS

    @property
    def multiple_px(self) -> int:
        """Input sides must be multiples of this: the coarsest level of the flow pyramid."""
        return 2 ** len(self.flow_widths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A whole system: DiffST's own parts, and the settings of diffusers' classes."""

    own: DiffSTConfig
    transformer: dict[str, Any]
    """Settings of `WanTransformer3DModel`."""
    vae: dict[str, Any]
    """Settings of `AutoencoderKLWan`."""


FULL = Size(
    own=DiffSTConfig(aggregation_width=64, guidance_width=768, guidance_depth=8, guidance_heads=12, guidance_tokens=64),
    transformer={
        "patch_size": (1, 2, 2),
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 8960,
        "num_layers": 30,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "rope_max_seq_len": 1024,
    },
    vae={"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]},
)
"""Wan2.1-T2V-1.3B, as diffusers' conversion script describes it."""

SMALL = Size(
    own=DiffSTConfig(aggregation_sampling="bicubic", guidance_width=96, guidance_depth=2, guidance_tokens=16),
    transformer={
        "patch_size": (1, 4, 4),
        "num_attention_heads": 4,
        "attention_head_dim": 40,
        "in_channels": 24,
        "out_channels": 24,
        "text_dim": 32,
        "freq_dim": 128,
        "ffn_dim": 480,
        "num_layers": 4,
    },
    vae={
        "base_dim": 52,
        "z_dim": 24,
        "dim_mult": [1],
        "num_res_blocks": 0,
        "temperal_downsample": [],
        "latents_mean": [0.0] * 24,
        "latents_std": [1.0] * 24,
        "patch_size": 4,
        "in_channels": 48,
        "out_channels": 48,
        "scale_factor_spatial": 4,
        "scale_factor_temporal": 1,
    },
)
"""A system that one CPU core can train from scratch; a token covers 16 x 16 output pixels, as it does in Wan."""

SIZES = {"small": SMALL, "full": FULL}
