"""The latent codec: the encoder of the initialised video, and the decoder that propagates over time both ways."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.alignment import DeformableAlignment
from stvsr_cli.models.compact.blocks import SLOPE, ResidualBlock, start_at_unit_scale
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.motion import Motion
from stvsr_cli.models.compact.pixels import ROWS_AT_ONCE, PixelHead, enlarged_bilinearly, local_mean
from stvsr_cli.models.compact.temporal_filter import temporally_filtered
from stvsr_cli.models.layers.parts import in_parts, positions_at_once
from stvsr_cli.models.layers.silence import silence
from stvsr_cli.models.layers.warp import sampling_grid

INPUT_GAIN = 4.0
"""Brings pixels to about unit variance."""
OUTPUT_GAIN = 0.1
"""Brings features of unit variance to about what the enlargement lacks."""
PIXELS_AT_ONCE, CARD_PIXELS_AT_ONCE = 2**17, 2**18
"""Input pixels whose frames the last part of the decoder makes at once, on a CPU and on a card: it looks at each alone, and
small buffers are faster, as long as the calls are not so many that a card waits for them."""


class Encoder(nn.Module):
    """Latents and features of frames.

    Bilinear enlargement is linear and adds nothing, so the enlarged frame is read on the input's own grid: its latent
    on 1/8 of the output is a convolution of the input after a space-to-depth step.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.stride = config.latent_stride
        self.enter = nn.Conv2d(3 * config.latent_stride**2, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.encoder_blocks)))
        self.leave = nn.Conv2d(config.width, config.latent_channels, 1)
        start_at_unit_scale(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames: [N, 3, h, w] in [0, 1]. Returns the latent [N, C, H, W] and the features [N, width, H, W]."""
        features = in_parts(self._features, self.stride**2 * positions_at_once(frames), frames)
        return self.leave(features), features

    def _features(self, frames: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.enter(functional.pixel_unshuffle(INPUT_GAIN * (frames - 0.5), self.stride)))
        return features


class Propagation(nn.Module):
    """One direction of a recurrent pass over the frames, aligned by flow and by deformable convolution around it."""

    def __init__(
        self, inputs: int, width: int, num_blocks: int, alignment_width: int = 0, settling_steps: int = 0
    ) -> None:
        """alignment_width: of the deformable alignment; 0 leaves it out. settling_steps: see `CompactConfig`."""
        super().__init__()
        self.inputs, self.settling_steps = inputs, settling_steps
        self.merge = nn.Conv2d(inputs + width, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(num_blocks)))
        self.alignment = DeformableAlignment(inputs, width, alignment_width) if alignment_width else None

    def forward(self, features: Tensor, flows: Tensor) -> list[Tensor]:
        """Return a state [B, width, H, W] per frame, in the order given.

        features: [B, T, inputs, H, W] in order of travel; flows: [B, T-1, 2, H, W], from frame i + 1 (the one to fill)
        to frame i (the one before it in travel). The first frame goes before itself `settling_steps` times, as if it
        had stood still until then.
        """
        # the convolution over features and state joined is the sum of one over each; the first needs no order
        merged = in_parts(self._over_features, positions_at_once(features), features.flatten(0, 1))
        merged = merged.unflatten(0, features.shape[:2])
        state = self.blocks(functional.leaky_relu(merged[:, 0], SLOPE))
        for _ in range(self.settling_steps):
            state = self._next(merged[:, 0], state)
        states = [state]
        grids = sampling_grid(flows.flatten(0, 1)).unflatten(0, flows.shape[:2])  # of all steps in one go
        for i in range(1, features.shape[1]):
            states.append(self.step(merged[:, i], features[:, i], states[-1], flows[:, i - 1], grids[:, i - 1]))
        return states

    def _over_features(self, features: Tensor) -> Tensor:
        return functional.conv2d(features, self.merge.weight[:, : self.inputs], self.merge.bias, padding=1)

    def step(self, merged: Tensor, features: Tensor, state: Tensor, flow: Tensor, grid: Tensor) -> Tensor:
        """Return the next state from the one before; all of one frame.

        merged: of its features, as `forward` has it. grid: where the flow points.
        """
        return self._next(merged, self._aligned(features, state, flow, grid))

    def _next(self, merged: Tensor, state: Tensor) -> Tensor:
        step = merged + functional.conv2d(state, self.merge.weight[:, self.inputs :], padding=1)
        following: Tensor = self.blocks(functional.leaky_relu(step, SLOPE))
        return following

    def _aligned(self, features: Tensor, state: Tensor, flow: Tensor, grid: Tensor) -> Tensor:
        aligned = functional.grid_sample(state.float(), grid, padding_mode="border", align_corners=True)
        aligned = aligned.to(features.dtype)
        return aligned if self.alignment is None else aligned + self.alignment(features, state, flow)


class Decoder(nn.Module):
    """Output pixels from clean latents, with features carried backward and then forward in time."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width, out = config.width, config.output_width
        self.scale, self.temporal_filter = config.scale, config.temporal_filter
        self.enter = nn.Conv2d(config.latent_channels + width, width, 3, padding=1)
        alignment = config.alignment_width if config.uses_alignment else 0
        blocks, settling = config.propagation_blocks, config.settling_steps
        self.backward_pass = Propagation(width, width, blocks, alignment, settling)
        self.forward_pass = Propagation(2 * width, width, blocks, alignment, settling)
        self.fuse = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.decoder_blocks)))
        self.enlarge = nn.Conv2d(width, out * config.latent_stride**2, 3, padding=1)
        self.stride = config.latent_stride
        self.look = nn.Conv2d(3, out, 3, padding=1) if config.output_blocks else None
        refined = [ResidualBlock(out) for _ in range(config.output_blocks)]
        self.refine = nn.Sequential(*refined)
        self.detail = nn.Conv2d(out, out, 3, padding=1)
        self.leave = nn.Conv2d(out, 3 * config.scale**2, 3, padding=1)
        self.head = PixelHead(out, config.pixel_channels, config.pixel_width, config.scale)
        for layer in (self.leave, self.head.across2, self.look, *(block.conv2 for block in refined)):
            if layer is not None:
                silence(layer)
        start_at_unit_scale(self)

    def forward(
        self, latent: Tensor, features: Tensor, frames: Tensor, motion: Motion, *, halved: bool = False
    ) -> Tensor:
        """Return the output frames, [B, T, 3, scale * h, scale * w], or half as high and wide, unclamped.

        latent: [B*T, C, H, W], clean; features: [B*T, width, H, W] of the encoder; frames: [B, T, 3, h, w], the
        initialised video, whose bilinear enlargement the decoder adds its pixels to.
        """
        x = self.carried(latent, features, motion)
        at_once = PIXELS_AT_ONCE if frames.device.type == "cpu" else CARD_PIXELS_AT_ONCE
        pixels = in_parts(self.halved_pixels if halved else self.pixels, at_once, frames.flatten(0, 1), x)
        return self.filtered(pixels.unflatten(0, frames.shape[:2]), motion)

    def filtered(self, pixels: Tensor, motion: Motion) -> Tensor:
        """Steady what `pixels` made of each frame by itself; pixels: [B, T, 3, ., .], overwritten where nothing is trained."""
        return temporally_filtered(pixels, motion, self.temporal_filter)

    def carried(self, latent: Tensor, features: Tensor, motion: Motion) -> Tensor:
        """Return features of each frame that know the others, [B*T, width, H, W]; latent, features: as above."""
        x = in_parts(lambda *both: self.enter(torch.cat(both, 1)), positions_at_once(latent), latent, features)
        return self._propagate(x.unflatten(0, (-1, motion.to_next.shape[1] + 1)), motion)

    def pixels(self, frames: Tensor, x: Tensor) -> Tensor:
        """Output [N, 3, scale * h, scale * w] of frames [N, 3, h, w] and their features [N, width, H, W]; each by itself."""
        return self.enlarged(frames, self.added(frames, x))

    def halved_pixels(self, frames: Tensor, x: Tensor) -> Tensor:
        """What `pixels` makes, at half the size: [N, 3, scale / 2 * h, scale / 2 * w]."""
        return self.enlarged(frames, halved(self.added(frames, x)))

    def added(self, frames: Tensor, x: Tensor) -> Tensor:
        """What is added to the enlarged frames, before its gain, [N, 3, scale * h, scale * w], float32; of the same as `pixels`."""
        x = functional.pixel_shuffle(self.enlarge(self.blocks(x)), self.stride)
        if self.look is not None:
            x = x + self.look(INPUT_GAIN * (frames - 0.5))
        x = self.refine(functional.leaky_relu(x, SLOPE, inplace=True))
        x = functional.leaky_relu(self.detail(x), SLOPE, inplace=True)
        return self.head(self.leave(x), x).float()

    def enlarged(self, frames: Tensor, added: Tensor, output: Tensor | None = None) -> Tensor:
        """Frames [N, 3, h, w] enlarged to the size of what `added` made, [N, 3, H, W], and with that, float32.

        output: what that is written to, on a processor, in place of memory of its own.
        """
        scale = added.shape[-1] // frames.shape[-1]
        smooth = frames - OUTPUT_GAIN * local_mean(added, scale)
        enlarged = enlarged_bilinearly(smooth, scale)
        if output is None:
            return functional.pixel_shuffle(enlarged, scale).add_(added, alpha=OUTPUT_GAIN)
        rows = ROWS_AT_ONCE * scale
        shuffled = (functional.pixel_shuffle(part, scale) for part in enlarged.split(ROWS_AT_ONCE, -2))
        for part, above, below in zip(output.split(rows, -2), shuffled, added.split(rows, -2), strict=True):
            torch.add(above, below, alpha=OUTPUT_GAIN, out=part)
        return output

    def _propagate(self, features: Tensor, motion: Motion) -> Tensor:
        """features: [B, T, width, H, W]. Returns [B*T, width, H, W]."""
        whole = features.flatten(0, 1)
        back = _as_frames(self.backward_pass(features.flip(1), motion.to_next.flip(1))[::-1])
        ahead = _as_frames(
            self.forward_pass(torch.cat([whole, back], 1).unflatten(0, features.shape[:2]), motion.to_previous)
        )

        def fused(back: Tensor, ahead: Tensor, whole: Tensor) -> Tensor:
            return self.fuse(torch.cat([back, ahead], 1)) + whole

        return in_parts(fused, positions_at_once(whole), back, ahead, whole)


def halved(pixels: Tensor) -> Tensor:
    """Reduce [N, 3, H, W] to half the height and width, bicubically and without aliasing; H, W: even."""
    size = (pixels.shape[-2] // 2, pixels.shape[-1] // 2)
    return functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)


def _as_frames(states: Sequence[Tensor]) -> Tensor:
    """Join states [B, C, H, W] by frame to [B*T, C, H, W], in channels last, as convolutions make and take them."""
    return torch.stack([state.movedim(1, -1) for state in states], 1).flatten(0, 1).movedim(-1, 1)
