"""Sizes of the compact network."""

from dataclasses import dataclass

from stvsr_cli.errors import ModelError


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    scale: int = 4
    """Spatial factor."""
    latent_stride: int = 2
    """Input pixels per latent position, so that a latent position covers scale * latent_stride output pixels (1/8)."""
    latent_channels: int = 32
    """Channels of the latent."""
    width: int = 64
    """Feature channels on the latent grid."""
    middle_width: int = 96
    """Feature channels at half the latent grid."""
    coarse_width: int = 128
    """Feature channels at a quarter of the latent grid, where attention is."""
    num_heads: int = 4
    """Attention heads at the coarsest level."""
    encoder_blocks: int = 1
    """Residual blocks of the encoder."""
    denoiser_blocks: int = 3
    """Residual blocks of the denoiser on the latent grid, on each of its two sides together."""
    propagation_blocks: int = 1
    """Residual blocks of one recurrent step of the decoder, in each direction."""
    settling_steps: int = 2
    """Recurrent steps of the decoder on a window's first frame, before the one that counts, so that the state is settled there."""
    decoder_blocks: int = 2
    """Residual blocks after both directions are fused."""
    output_width: int = 48
    """Feature channels on the input's own grid, from which the output pixels are shuffled."""
    output_blocks: int = 8
    """Residual blocks there, which see the input's pixels beside what was decoded."""
    pixel_channels: int = 5
    """Feature channels beside the three colours at full size, which the last two convolutions see."""
    pixel_width: int = 16
    """Feature channels between those two."""
    temporal_filter: float = 0.25
    """Strength of the temporal filter of the output frames, in [0, 0.5]; 0 leaves it out."""
    restored_temporal_filter: float = 0.25
    """The same where the restoration expert acts wholly; where it acts in part, the strength lies between the two."""
    flow_widths: tuple[int, ...] = (24, 32, 48, 64)
    """Feature channels of the flow pyramid at 1/2, 1/4, 1/8 and 1/16 of the input."""
    flow_radius: int = 3
    """Search radius of the flow's correlation, in positions of each level."""
    still_candidates: bool = True
    """Whether context aggregation also fuses the keyframes beside the target time unwarped."""
    alignment_width: int = 16
    """Feature channels that the decoder's deformable alignment samples, on the latent grid and on half of it."""
    guidance_tokens: int = 16
    """Global tokens of the video."""
    guidance_width: int = 64
    """Width of the global tokens."""
    retrieval_width: int = 32
    """Width of the cross-frame retrieval's queries and keys."""
    temporal_rank: int = 8
    """Rank of the temporal expert's adapters."""
    uses_residual: bool = False
    """Whether the denoiser sees the motion residual. What is off here is off in the weights that ship."""
    uses_aggregation: bool = True
    """Whether intermediate frames are made by context aggregation; else by a linear blend of the two keyframes."""
    uses_alignment: bool = False
    """Whether the decoder aligns its recurrent state by deformable convolution and channel cross-attention."""
    uses_guidance: bool = False
    """Whether global tokens of the video guide the denoiser."""
    uses_temporal_expert: bool = False
    """Whether adapters gated by the motion residual act on the denoiser."""
    uses_retrieval: bool = False
    """Whether the denoiser retrieves from the aligned previous frame."""
    uses_denoiser: bool = True
    """Whether there is a diffusion step at all; else the decoder gets the encoded latent."""
    detail_rank: int = 48
    """Rank of the detail expert's adapters."""
    detail: float = 1.0
    """Strength of the detail expert unless the user says otherwise."""
    num_timesteps: int = 1000
    """Length of the diffusion schedule."""
    timestep: int = 399
    """The one timestep at which the encoded input is taken for the noisy latent."""

    def __post_init__(self) -> None:
        if not 0 <= self.timestep < self.num_timesteps:
            raise ModelError(f"timestep={self.timestep} must lie in [0, {self.num_timesteps}).")
        if not 0 <= self.detail <= 1:
            raise ModelError(f"detail={self.detail} must lie in [0, 1].")
        for name in ("temporal_filter", "restored_temporal_filter"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ModelError(f"{name}={getattr(self, name)} must lie in [0, 0.5].")
        if self.coarse_width % self.num_heads:
            raise ModelError(f"coarse_width={self.coarse_width} must be a multiple of num_heads={self.num_heads}.")
        if len(self.flow_widths) != 4:
            raise ModelError(f"flow_widths needs 4 levels, got {len(self.flow_widths)}.")

    @property
    def multiple_px(self) -> int:
        """Input sides must be multiples of this: the coarsest level of the flow pyramid."""
        return 2 ** len(self.flow_widths)
