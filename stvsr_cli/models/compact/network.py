"""The compact network: all parts of the compact model with their parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.codec import Decoder, Encoder
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.denoiser import Conditions, Denoiser, alpha_bar, clean_from_velocity
from stvsr_cli.models.compact.guidance import VideoGuidance
from stvsr_cli.models.compact.motion import Motion, neighbour_motion
from stvsr_cli.models.layers.aggregation import ContextAggregation, flow_from_between
from stvsr_cli.models.layers.flow import FlowNetwork
from stvsr_cli.models.layers.insertion import Moments, even_moments, rounds, spread, weave


@dataclass(frozen=True, slots=True)
class Initialised:
    """The video before the diffusion step."""

    frames: Tensor
    """[B, T', 3, h, w]: keyframes and intermediate frames on the input's grid."""
    residual: Tensor
    """[B, T', 3, h, w]: difference of the two keyframes at intermediate frames, zero at keyframes."""
    motion: Motion
    """Flow between neighbouring frames."""


@dataclass(frozen=True, slots=True)
class Latent:
    """A latent with what the encoder hands to the decoder beside it."""

    sample: Tensor
    """[B*T', C, H, W]."""
    features: Tensor
    """[B*T', width, H, W]."""


class CompactNetwork(nn.Module):
    """Flow, context aggregation, encoder, denoiser and decoder."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.flow = FlowNetwork(config.flow_widths, config.flow_radius)
        self.aggregation = None
        if config.uses_aggregation:
            self.aggregation = ContextAggregation(sampling="bicubic", still=config.still_candidates)
        self.encoder = Encoder(config)
        self.denoiser = Denoiser(config) if config.uses_denoiser else None
        self.decoder = Decoder(config)
        self.guidance = None
        if config.uses_guidance and config.uses_denoiser:
            self.guidance = VideoGuidance(config.guidance_tokens, config.guidance_width)

    def initialise(self, frames: Tensor, fps_factor: int, moments: Moments | None = None) -> Initialised:
        """Insert frames at some moments of each interval, or F - 1 at even steps.

        frames: [B, T, 3, h, w] in [0, 1], sides multiples of `config.multiple_px`.
        """
        height, width = (side // self.config.latent_stride for side in frames.shape[-2:])
        if frames.shape[1] == 1:
            none = frames.new_zeros(frames.shape[0], 0, 2, height, width)
            return Initialised(frames, torch.zeros_like(frames), Motion(none, none))
        forward, backward = (levels[-1] for levels in self.flow(frames))
        between, to_left, to_right = [], [], []
        moments = even_moments(frames.shape[1], fps_factor) if moments is None else moments
        times = rounds(moments, frames.device)
        for time in times:
            frame, left, right = self._between(frames, forward, backward, time)
            between.append(frame)
            to_left.append(left)
            to_right.append(right)
        change = frames[:, 1:] - frames[:, :-1]
        residual = weave(torch.zeros_like(frames), [change] * len(times), moments)
        motion = neighbour_motion(forward, backward, to_left, to_right, moments)
        return Initialised(weave(frames, between, moments), residual, motion)

    def _between(
        self, frames: Tensor, forward: Tensor, backward: Tensor, time: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the frames at `time` between all keyframes, and the flow from there to both sides.

        time: in (0, 1), for all intervals or for each, [T-1].
        """
        if self.aggregation is not None:
            predicted: tuple[Tensor, Tensor, Tensor] = self.aggregation(frames, forward, backward, time)
            return predicted
        left, right = flow_from_between(forward, backward, spread(time))
        return torch.lerp(frames[:, :-1], frames[:, 1:], spread(time)), left, right

    def encode(self, init: Initialised) -> Latent:
        """Latents of the initialised video."""
        return Latent(*self.encoder(init.frames.flatten(0, 1)))

    def condition(self, init: Initialised, video: Tensor) -> Conditions:
        """What the denoiser looks at; video: [B, T, 3, h, w], the window's whole frames, for the global tokens."""
        residual = functional.pixel_unshuffle(init.residual.flatten(0, 1), self.config.latent_stride)
        tokens = None if self.guidance is None else self.guidance(video)
        return Conditions(residual, init.motion.to_previous, tokens)

    def denoise(self, latent: Latent, conditions: Conditions) -> Latent:
        """One evaluation of the denoiser at the one timestep."""
        if self.denoiser is None:
            return latent
        timestep = torch.full((1,), self.config.timestep, device=latent.sample.device)
        num_frames = conditions.to_previous.shape[1] + 1
        velocity, change = self.denoiser(latent.sample, conditions, timestep, num_frames)
        signal = alpha_bar(timestep, self.config.num_timesteps)
        clean = clean_from_velocity(latent.sample.float(), velocity.float(), signal)
        return Latent(clean.to(latent.sample.dtype), latent.features + change)

    def carried(self, init: Initialised, video: Tensor) -> Tensor:
        """Features [B*T', width, H, W] of which the decoder makes each frame by itself; video: [B, T, 3, ., .], the whole keyframes."""
        latent = self.denoise(self.encode(init), self.condition(init, video))
        return self.decoder.carried(latent.sample, latent.features, init.motion)

    def decode(self, latent: Latent, init: Initialised, *, halved: bool = False) -> Tensor:
        """Output frames [B, T', 3, scale * h, scale * w], or halved, unclamped, float32."""
        return self.decoder(latent.sample, latent.features, init.frames, init.motion, halved=halved)

    def forward(self, frames: Tensor, fps_factor: int, video: Tensor | None = None) -> tuple[Tensor, Initialised]:
        """Return the output frames and the initialised video they were made from.

        video: [B, T, 3, ., .], the whole frames that `frames` are a part of; None: they are whole.
        """
        init = self.initialise(frames, fps_factor)
        latent = self.denoise(self.encode(init), self.condition(init, frames if video is None else video))
        return self.decode(latent, init), init
