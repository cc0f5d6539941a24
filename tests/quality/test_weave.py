"""Weave: agrees with a plain account of it in OpenCV and NumPy, and rises with a pattern of the input's pixels."""

import cv2
import numpy as np
import pytest
import torch

from stvsr_cli.quality.weave import Weave, blurred


def film(num_frames: int = 3, height: int = 200, width: int = 264) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([cv2.GaussianBlur(rng.uniform(40, 220, (height, width)), (0, 0), 2.0) for _ in range(num_frames)])


def plain(frames: np.ndarray, window: int = 64) -> float:
    energies = []
    for frame in frames.astype(np.float32):
        fine, coarse = frame - cv2.GaussianBlur(frame, (0, 0), 1.0), cv2.GaussianBlur(frame, (0, 0), 4)
        squares = [
            (slice(y, y + window), slice(x, x + window))
            for y in range(0, frame.shape[0] - window + 1, window)
            for x in range(0, frame.shape[1] - window + 1, window)
        ]
        busy = [coarse[s].std() for s in squares]
        calm = [s for s, b in zip(squares, busy, strict=True) if b <= np.percentile(busy, 40)]
        places = [(fine[s].reshape(16, 4, 16, 4) ** 2).mean((0, 2)) for s in calm]
        energies.append(np.mean(places, 0))
    return float(np.sqrt(np.mean(energies, 0)).std())


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_blur_is_opencvs(sigma: float) -> None:
    picture = film(1)[0].astype(np.float32)
    ours = blurred(torch.from_numpy(picture), sigma).numpy()
    assert np.abs(ours - cv2.GaussianBlur(picture, (0, 0), sigma)).max() < 1e-2


def test_weave_agrees_with_its_definition() -> None:
    frames, weave = film(), Weave()
    for frame in frames:
        weave.add(torch.from_numpy(frame) / 255)
    assert weave.value == pytest.approx(plain(frames), rel=1e-3)


def test_a_pattern_of_the_inputs_pixels_shows() -> None:
    frame = torch.from_numpy(film(1)[0]) / 255
    woven = frame.clone()
    woven[::4, ::4] += 6 / 255
    smooth = Weave().add(frame)
    assert smooth is not None
    assert smooth < 0.1
    assert Weave().add(woven) > 0.5


def test_a_frame_too_small_has_none() -> None:
    weave = Weave()
    assert weave.add(torch.zeros(40, 400)) is None
    assert weave.value is None
