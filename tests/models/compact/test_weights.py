"""The compact model as it ships: what its weights must do on a real clip."""

import logging

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.color.convert import to_rgb
from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.models.compact import CompactModel, load
from stvsr_cli.models.contract import Request
from stvsr_cli.models.step import run_window
from stvsr_cli.quality.measures import luma
from stvsr_cli.quality.weave import Weave
from stvsr_cli.weights.places import find_weights, verify
from tests.clips import BUNNY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> CompactModel:
    return load(find_weights("compact"), CPU, torch.float32)


@pytest.fixture(scope="module")
def whole() -> Tensor:
    """Nine frames of a real clip, [9, 3, 180, 320]."""
    frames = [to_rgb([frame.picture])[0] for frame, _ in zip(decode(probe(BUNNY)), range(9), strict=False)]
    return torch.stack(frames).clamp(0, 1)


@pytest.fixture(scope="module")
def clip(whole: Tensor) -> Tensor:
    """The middle of the same, [9, 3, 128, 192]."""
    return whole[:, :, 26:154, 64:256]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def fine_part(frames: Tensor) -> Tensor:
    """What 9 x 9 pixels differ from their mean in, over the colours. frames: [T, 3, H, W]. Returns [T, H, W]."""
    return (frames - functional.avg_pool2d(frames, 9, 1, 4, count_include_pad=False)).mean(1)


def upscaled(model: CompactModel, frames: Tensor, window: int, overlap: int, tile: int = 0, batch: int = 1) -> Tensor:
    config = TileConfig(size_px=tile, overlap_px=model.traits.tile_overlap_px if tile else 0)
    runner = Runner(model, Request(), config, batch)
    return torch.stack(list(upscale_shot(runner, frames, WindowConfig(size=window, overlap=overlap))))


def test_weights_are_whole_and_small() -> None:
    folder = find_weights("compact")
    assert {path.name for path in verify(folder)} == {"model.safetensors", "config.json"}
    assert (folder / "model.safetensors").stat().st_size < 24_000_000


def test_better_than_interpolation_on_a_real_clip(model: CompactModel, clip: Tensor) -> None:
    low = functional.avg_pool2d(clip[::2], 4)
    output = run_window(model, low[None], Request(detail=0.0))[0]  # faithful: detail is no matter of psnr
    between = (low[1:] + low[:-1]) / 2
    linear = torch.cat([torch.stack([low[:-1], between], 1).flatten(0, 1), low[-1:]])
    plain = functional.interpolate(linear, scale_factor=4, mode="bicubic").clamp(0, 1)
    assert psnr(output[::2], clip[::2]) > psnr(plain[::2], clip[::2]) + 0.3
    assert psnr(output[1::2], clip[1::2]) > psnr(plain[1::2], clip[1::2]) + 0.2


def test_no_pattern_of_the_outputs_grid_in_the_dark(model: CompactModel, clip: Tensor) -> None:
    dark = 0.15 * functional.avg_pool2d(clip[::2], 4)
    for detail in (0.0, 1.0):
        output = 255 * run_window(model, dark[None], Request(detail=detail))[0]
        cells = fine_part(output).unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8))  # [T, H / 8, 8, W / 8, 8]
        pattern = float(cells.mean((0, 1, 3)).std())
        logging.getLogger(__name__).info("detail %.0f: %.3f code values", detail, pattern)
        assert pattern < 0.25


@pytest.mark.parametrize("detail", [0.0, None, 1.0])
def test_no_weave_of_the_inputs_pixels(model: CompactModel, whole: Tensor, detail: float | None) -> None:
    strength = model.traits.detail if detail is None else detail
    for low in (functional.avg_pool2d(whole[::2, :, :176], 4), whole[:3]):  # soft output, and sharp
        weave = Weave()
        for frame in run_window(model, low[None], Request(detail=strength))[0]:
            weave.add(luma(frame[None])[0, 0])
        logging.getLogger(__name__).info("detail %.1f: %.3f code values", strength, weave.value)
        assert weave.value is not None and weave.value < 0.2  # where the eye begins to see it


def test_no_mesh_builds_up_in_a_long_window(whole: Tensor) -> None:
    """What the recurrent passes add up over nine whole frames; in three of them, or in a small part, it is hardly there."""
    half = load(find_weights("compact"), CPU, torch.bfloat16)
    output = 255 * run_window(half, whole[None], Request(detail=1.0))[0, ::2]
    for frame, low in zip(fine_part(output), whole.mean(1), strict=True):
        blocks = frame.unfold(-2, 64, 64).unfold(-2, 64, 64).flatten(0, 1)  # [N, 64, 64]
        inputs = low.unfold(-2, 16, 16).unfold(-2, 16, 16).flatten(0, 1)  # [N, 16, 16]
        activity = inputs.diff(dim=-1).abs().mean((-2, -1)) + inputs.diff(dim=-2).abs().mean((-2, -1))
        flattest = blocks[activity.argsort()[: len(blocks) // 4]]
        pattern = flattest.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).mean((1, 3)).flatten(1).std(1)
        assert float(pattern.mean()) < 0.7  # code values; a mesh that is seen at once has 1.3


def test_no_seam_between_windows_of_a_still_scene(model: CompactModel, clip: Tensor) -> None:
    frames = clip[:1].expand(13, -1, -1, -1)[:, :, ::2, ::2]
    output = upscaled(model, frames, window=5, overlap=2)
    changes = (output[1:] - output[:-1]).abs()
    assert len(output) == 25
    assert float(changes.mean((1, 2, 3)).max()) < 0.5 / 255  # most at the ends of the shot, which have one neighbour
    for steps, most in ((changes.mean((1, 2, 3)), 1.5), (changes.amax((1, 2, 3)), 1.75)):
        inside = steps[:5].max()  # within the first window
        assert float(steps.max()) <= max(float(inside) * most, 2 / 255)
    for steps in (changes.mean((1, 2, 3))[1:-1], changes.amax((1, 2, 3))[1:-1]):  # without the intervals at the ends
        inside = steps[:4].max()
        assert float(steps.max()) <= 1.5 * float(inside)


def test_windows_change_little_in_motion(model: CompactModel, clip: Tensor) -> None:
    frames = clip[:, :, ::2, ::2]
    assert psnr(upscaled(model, frames, window=5, overlap=2), upscaled(model, frames, window=9, overlap=2)) > 38


def test_tiles_change_little_and_batches_nothing(model: CompactModel, clip: Tensor) -> None:
    frames = clip[:3]
    whole, tiled = upscaled(model, frames, 3, 1), upscaled(model, frames, 3, 1, tile=96)
    assert psnr(tiled, whole) > 42
    assert torch.allclose(upscaled(model, frames, 3, 1, tile=96, batch=3), tiled, atol=1e-4)


def test_two_runs_are_equal_bit_for_bit(model: CompactModel, clip: Tensor) -> None:
    frames = clip[None, :3, :, :64, :64]
    assert torch.equal(run_window(model, frames, Request()), run_window(model, frames, Request()))


def test_bfloat16_is_close_to_float32(model: CompactModel, clip: Tensor) -> None:
    half = load(find_weights("compact"), CPU, torch.bfloat16)
    frames = clip[None, :3, :, :64, :64]
    assert psnr(run_window(half, frames, Request()), run_window(model, frames, Request())) > 42


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("size", [(33, 47), (16, 16), (1, 1)])
def test_any_size_and_factor(model: CompactModel, factor: int, size: tuple[int, int]) -> None:
    output = run_window(model, torch.rand(1, 3, 3, *size), Request(fps_factor=factor))
    assert output.shape == (1, 2 * factor + 1, 3, 4 * size[0], 4 * size[1])
    assert 0 <= float(output.min()) <= float(output.max()) <= 1


def test_four_times_the_rate_passes_through_twice_the_rate(model: CompactModel, clip: Tensor) -> None:
    frames = clip[None, :3, :, :64, :64]
    double, quadruple = (run_window(model, frames, Request(fps_factor=f))[0] for f in (2, 4))
    assert psnr(quadruple[::2], double) > 30
