"""Quality measures: each says what it is for, and agrees with a plain account of it."""

import cv2
import numpy as np
import pytest
import torch

from stvsr_cli.quality.measures import chroma, gradient_energy, luma, measure, psnr, ssim
from stvsr_cli.quality.motion import Motion


def video(num_frames: int = 4, height: int = 64, width: int = 96, step_px: int = 2) -> torch.Tensor:
    """A smooth random picture that moves to the right, [T, 3, H, W]."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.random((height, width, 3), dtype=np.float32), (0, 0), 1.5)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    frames = [np.roll(picture, step_px * t, axis=1) for t in range(num_frames)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def blurred(frames: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)


def test_psnr_of_a_known_error() -> None:
    a = torch.full((2, 1, 8, 8), 0.5)
    assert psnr(a, a + 0.1).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_luma_has_the_video_range() -> None:
    assert luma(torch.ones(1, 3, 2, 2)).mean() == pytest.approx(235 / 255, abs=1e-4)
    assert luma(torch.zeros(1, 3, 2, 2)).mean() == pytest.approx(16 / 255, abs=1e-4)


def test_grey_has_no_chroma_and_a_primary_its_own_most() -> None:
    assert chroma(torch.full((2, 5, 3, 4, 4), 0.3)).abs().max() < 1e-6
    blue, red = torch.zeros(3, 1, 1), torch.zeros(3, 1, 1)
    blue[2], red[0] = 1, 1
    assert chroma(blue)[0].item() == pytest.approx(112 / 255)
    assert chroma(red)[1].item() == pytest.approx(112 / 255)
    with torch.autocast("cpu", torch.bfloat16):
        assert chroma(blue).dtype == torch.float32


def test_ssim_agrees_with_opencvs_window() -> None:
    a = luma(video(1))
    b = luma(blurred(video(1)))
    x, y = (t[0, 0].double().numpy() * 255 for t in (a, b))

    def average(z: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(z, (11, 11), 1.5)[5:-5, 5:-5]

    mx, my = average(x), average(y)
    vx, vy, cov = average(x * x) - mx * mx, average(y * y) - my * my, average(x * y) - mx * my
    expected = ((2 * mx * my + 6.5025) * (2 * cov + 58.5225)) / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225))
    assert ssim(a, b).item() == pytest.approx(expected.mean(), abs=1e-6)
    assert ssim(a, a).item() == pytest.approx(1.0)


def test_motion_is_found_and_the_original_is_steady_along_it() -> None:
    frames = luma(video())
    motion = Motion.of(frames)
    assert np.median(motion.flow[..., 0]) == pytest.approx(2.0, abs=0.2)
    assert motion.seen.mean() > 0.7
    assert motion.error(frames) < 0.2 * motion.error(frames[torch.tensor([0, 0, 0, 0])])


def test_each_measure_moves_with_what_it_is_for() -> None:
    target = video()
    same = measure(target, target)
    assert same["psnr"] > 90
    assert same["sharp"] == pytest.approx(1)
    assert same["flicker"] == pytest.approx(1)
    soft = measure(blurred(target), target)
    assert soft["sharp"] < 0.9
    assert soft["psnr"] < same["psnr"]
    shaking = target.clone()
    shaking[1::2] = (shaking[1::2] + 0.1 * torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    worse = measure(shaking, target)
    assert worse["temporal"] > 2 * same["temporal"]
    assert worse["flicker"] > 1.5
    assert worse["psnr_mid"] < 25 < worse["psnr"]


def test_gradient_energy_of_a_ramp() -> None:
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 4, 8)
    assert gradient_energy(ramp) == pytest.approx(1.0)
