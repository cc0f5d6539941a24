"""Cross-frame context aggregation: intermediate frames from the keyframes around them, in pixel space.

After DiffST (arXiv 2605.13182): frame prediction warps two keyframes on each side to the target time, frame fusion
weighs them. The flow to the target time starts from the linear combination of Super SloMo (arXiv 1712.00080, eq. 4).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.flow import resize_flow
from stvsr_cli.models.layers.parts import frames_at_once
from stvsr_cli.models.layers.warp import Sampling, warp

RARE = 0.02
"""Share at which an untrained fusion weighs what is not warped from the keyframe beside it."""


def flow_from_between(forward: Tensor, backward: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
    """Flow from time t in (0, 1) to both keyframes, from the flow between the keyframes.

    forward, backward: [..., 2, H, W]; time: one for all, or what broadcasts over them. Returns two of the same shape
    (Super SloMo, eq. 4).
    """
    t = time
    return (
        -(1 - t) * t * forward + t * t * backward,
        (1 - t) * (1 - t) * forward - t * (1 - t) * backward,
    )


class ContextAggregation(nn.Module):
    """Frame prediction and frame fusion for any time between two keyframes."""

    def __init__(self, width: int = 40, *, sampling: Sampling = "bilinear", still: bool = False) -> None:
        """width: feature channels of both networks. sampling: of the keyframes that are fused.

        still: whether the two keyframes beside the target time are also fused as they are, for what the flow cannot follow.
        """
        super().__init__()
        self.sampling: Sampling = sampling
        self.still = still
        candidates = 6 if still else 4
        self.refine = nn.Sequential(
            nn.Conv2d(3 * 12 + 4 + 1, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 4, 3, padding=1),
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(candidates * 12 + 4 + 1, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, candidates * 4 + 12, 3, padding=1),
        )
        for branch in (self.refine, self.fuse):
            for parameter in branch[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, frames: Tensor, forward: Tensor, backward: Tensor, time: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the frames at `time` between all neighbouring keyframes, and the flow from there to both sides.

        frames: [B, T, 3, h, w]; forward, backward: [B, T-1, 2, h/2, w/2], flow between keyframes in those positions;
        time: in (0, 1), for all intervals or for each, [T-1].
        Returns [B, T-1, 3, h, w] and twice [B, T-1, 2, h/2, w/2].
        """
        pairs, num_pairs = forward.shape[:2], forward.shape[0] * forward.shape[1]
        given = [x.flatten(0, 1) for x in (*_around(frames), forward, backward, *_beyond(forward, backward))]
        times = time.repeat(pairs[0]).view(-1, 1, 1, 1) if isinstance(time, Tensor) else time  # [N, 1, 1, 1]
        at_once = frames_at_once(forward)
        parts = []
        for start in range(0, num_pairs, at_once):
            part = slice(start, start + at_once)
            moment = times[part] if isinstance(times, Tensor) else times
            parts.append(self._made(*(x[part] for x in given), time=moment))
        blended, to_left, to_right = (torch.cat(made).unflatten(0, pairs) for made in zip(*parts, strict=True))
        return blended, to_left, to_right

    def _made(
        self, left: Tensor, right: Tensor, before: Tensor, after: Tensor, forward: Tensor, backward: Tensor,
        first: Tensor, last: Tensor, *, time: float | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """The frames between some pairs, and the flow from there to both sides; see `forward`, `_around` and `_beyond`.

        time: for all, or [N, 1, 1, 1].
        """
        to_left, to_right = flow_from_between(forward, backward, time)
        a, b = (
            warp(left, resize_flow(to_left, 2), padding="border"),
            warp(right, resize_flow(to_right, 2), padding="border"),
        )
        moment = torch.zeros_like(to_left[:, :1]) + time
        parts = [functional.pixel_unshuffle(x, 2) for x in (a - 0.5, b - 0.5, (a - b).abs())]
        update = self.refine(torch.cat([*parts, to_left, to_right, moment], 1)).float()
        to_left, to_right = to_left + update[:, :2], to_right + update[:, 2:]
        to_before = to_left + warp(first, to_left, padding="border")
        to_after = to_right + warp(last, to_right, padding="border")
        sources, flows = (left, right, before, after), (to_left, to_right, to_before, to_after)
        predictions = [
            warp(source, resize_flow(flow, 2), padding="border", sampling=self.sampling)
            for source, flow in zip(sources, flows, strict=True)
        ]  # 4 x [N, 3, h, w]
        shares = [1 - time, time, RARE, RARE]
        if self.still:
            predictions += [left, right]
            shares += [RARE * (1 - time), RARE * time]
        count = len(predictions)
        parts = [functional.pixel_unshuffle(x - 0.5, 2) for x in predictions]
        fused = self.fuse(torch.cat([*parts, to_left, to_right, moment], 1)).float()
        fused = functional.pixel_shuffle(fused, 2)  # [N, count + 3, h, w]
        # filled on the device, one by one: a tensor of them would be copied there, which waits for it
        count_times = time.shape[0] if isinstance(time, Tensor) else 1
        prior = torch.cat([fused.new_zeros(count_times, 1, 1, 1) + share for share in shares], 1).log()
        weights = (fused[:, :count] + prior).softmax(1)
        blended = sum(weights[:, i : i + 1] * p for i, p in enumerate(predictions)) + fused[:, count:]
        return blended, to_left, to_right


def _around(frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The frames at the left and the right of each interval, and those beyond; at the ends the nearest one twice."""
    left, right = frames[:, :-1], frames[:, 1:]
    return left, right, torch.cat([left[:, :1], left[:, :-1]], 1), torch.cat([right[:, 1:], right[:, -1:]], 1)


def _beyond(forward: Tensor, backward: Tensor) -> tuple[Tensor, Tensor]:
    """The flow from the left frame of each interval to the one before it, and from the right one to that after it; none at the ends."""
    first = torch.cat([torch.zeros_like(backward[:, :1]), backward[:, :-1]], 1)
    return first, torch.cat([forward[:, 1:], torch.zeros_like(forward[:, :1])], 1)
