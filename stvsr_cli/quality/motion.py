"""Where pixels go from frame to frame, and how steady a video is along that way."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

SAME_PATH_PX = 1.0
"""Where flow there and back differ by less than this (sum of both axes), a pixel is seen in both frames."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Where each pixel of a video goes by the next frame."""

    flow: np.ndarray
    """[T - 1, H, W, 2] float32: x, y in pixels."""
    seen: np.ndarray
    """[T - 1, H, W] float32: 1 where the pixel is found again, 0 where it is covered or lost."""

    @classmethod
    def of(cls, frames: Tensor) -> "Motion":
        """Return the motion of luma frames [T, 1, H, W] in [0, 1], by OpenCV's DIS, checked there and back."""
        import cv2  # an extra: what needs no motion works without it

        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        coded = (frames[:, 0] * 255).clamp(0, 255).byte().cpu().numpy()
        flows, seen = [], []
        for here, there in pairwise(coded):
            flow, back = search.calc(here, there, None), search.calc(there, here, None)
            error = np.abs(flow + _along(back, flow)).sum(-1)
            flows.append(flow)
            seen.append((error < SAME_PATH_PX).astype(np.float32))
        return cls(np.stack(flows), np.stack(seen))

    def error(self, frames: Tensor) -> float:
        """Mean absolute change of luma frames [T, 1, H, W] along this motion, where it is seen: the temporal error."""
        values = frames[:, 0].float().cpu().numpy()
        errors = [
            (np.abs(_along(there, flow) - here) * seen).sum() / max(seen.sum(), 1)
            for (here, there), flow, seen in zip(pairwise(values), self.flow, self.seen, strict=True)
        ]
        return float(np.mean(errors))


def _along(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return a picture [H, W] or [H, W, C] sampled where the flow points."""
    import cv2

    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR))
