"""Lessons: what a teacher adds, the teacher's weights as its package has them, and samples made with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.quality.measures import chroma, luma
from stvsr_cli.quality.weave import blurred
from stvsr_cli.train import run
from stvsr_cli.train.config import read_config
from stvsr_cli.train.lessons import LESSON_PX, make_lessons
from stvsr_cli.train.samples import StepDataset, lesson_path
from stvsr_cli.train.teacher import Teacher, lesson, load_teacher
from tests.train.test_train import cache, sources

__all__ = ["cache", "sources"]
CPU = torch.device("cpu")
TABLE = (
    'model = "compact"\nstage = "pixels"\nsteps = 4\nbatch = 2\ncrop_px = 128\nkeyframes = 3\nwhole_px = 32\n'
    'losses = { plain_fidelity = 1.0, taught = 1.0 }\n[data]\nsources = ["."]\nphoto_share = 0.0\n'
)


def write_ncnn(teacher: Teacher, path: Path) -> None:
    """Weights as ncnn keeps them: half precision, padded to four bytes, with biases in full."""
    parts = []
    for layer in teacher.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach().half().numpy().tobytes()
            parts += [(0x01306B47).to_bytes(4, "little"), weight, b"\0" * (-len(weight) % 4)]
            parts.append(layer.bias.detach().numpy().tobytes())
    path.write_bytes(b"".join(parts))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "x4plus.bin"
    write_ncnn(Teacher(), path)
    return path


def test_a_teachers_weights_are_read_whole(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    same, read = Teacher(), load_teacher(weights)
    for own, stored in zip(same.parameters(), read.parameters(), strict=True):
        assert torch.allclose(own, stored, atol=1e-3)
    (tmp_path / "long.bin").write_bytes(weights.read_bytes() + b"more")
    (tmp_path / "short.bin").write_bytes(weights.read_bytes()[:-4])
    for name in ("long", "short", "none"):
        with pytest.raises(ModelError, match=name):
            load_teacher(tmp_path / f"{name}.bin")


def test_a_lesson_has_the_truths_colours_and_the_teachers_edges() -> None:
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    random = torch.Generator().manual_seed(0)
    grain = 0.05 * torch.randn(1, 3, 64, 64, generator=random)
    grain -= blurred(grain, 2.0)
    taught = lesson(0.7 * ramp + 0.1 + grain, ramp)
    inner = (..., slice(8, -8), slice(8, -8))
    assert float((blurred(taught, 2.0) - ramp)[inner].abs().mean()) < 0.005
    assert float((taught - ramp - grain)[inner].abs().mean()) < 0.01


def test_a_lesson_has_the_teachers_edges_of_colour() -> None:
    truth, made = torch.full((1, 3, 96, 96), 0.4), torch.full((1, 3, 96, 96), 0.4)
    made[:, 0, :, 48:], made[:, 1, :, 48:] = 0.6, 0.4 - 0.2 * 65.481 / 128.553  # redder, and as bright
    taught = lesson(made, truth)
    assert torch.allclose(luma(taught), luma(truth), atol=1e-3)
    across = taught[0, 0, 48]
    assert float(across[48] - across[47]) == pytest.approx(0.2, abs=0.01)
    assert float((across[:16] - 0.4).abs().max()) < 0.02  # far from the edge it has the truth's colour


def test_lessons_are_made_once_and_trained_on(
    sources: Path, cache: tuple[list[Path], Path], weights: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "pixels.toml"
    recipe.write_text(TABLE)
    with pytest.raises(UsageError, match="no teacher"):
        make_lessons(recipe, 1, data=sources, cache=cache[1], device=CPU)
    recipe.write_text(f'{TABLE}teacher = "{weights}"\nlesson_share = 0.5\n')
    config = read_config(recipe)
    with pytest.raises(UsageError, match="no lessons"):
        StepDataset(cache[0], cache[1], config)
    make_lessons(recipe, 2, data=sources, cache=cache[1], device=CPU)
    paths = [lesson_path(cache[1], number) for number in range(2)]
    before = [path.stat().st_mtime_ns for path in paths]
    with np.load(paths[0]) as stored:
        assert stored["taught"].shape == (LESSON_PX, LESSON_PX, 3)
        assert stored["low"].shape[1] * 4 == LESSON_PX
    make_lessons(recipe, 2, data=sources, cache=cache[1], device=CPU)
    assert [path.stat().st_mtime_ns for path in paths] == before
    batch = StepDataset(cache[0], cache[1], replace(config, data=replace(config.data, lesson_share=1.0)))[0].to(CPU)
    assert batch.taught is not None and batch.taught.shape == (2, 3, 128, 128)
    assert batch.low.shape == (2, 3, 3, 32, 32) and batch.high.shape == (2, 5, 3, 128, 128)
    low, high = batch.low[:, 1], nn.functional.avg_pool2d(batch.high[:, 2], 4)
    distances = [float((x - high).abs().mean()) for x in (low, low.flip(-1), low.flip(-2), low.roll(4, -1))]
    assert min(distances) == distances[0]  # cropped and turned alike
    for path in paths:
        path.unlink()


def test_a_live_teacher_sees_a_keyframe_of_half_of_the_samples_in_training(
    sources: Path, cache: tuple[list[Path], Path], weights: Path, tmp_path: Path
) -> None:
    live = (
        TABLE.replace('"pixels"', '"joint"').replace("steps = 4", "steps = 1\nlog_every = 1") + "live_lessons = true\n"
    )
    recipe = tmp_path / "joint.toml"
    recipe.write_text(live)
    with pytest.raises(UsageError, match="live_lessons asks for a teacher"):
        run(recipe, data=sources, out=tmp_path, cache=cache[1])
    recipe.write_text(f'{live}teacher = "{weights}"\n')
    run(recipe, data=sources, out=tmp_path, cache=cache[1])
    assert "train,taught," in (tmp_path / "joint.csv").read_text()
    batch = StepDataset(cache[0], cache[1], read_config(recipe))[0].to(CPU)
    seen = load_teacher(weights).taught(batch)
    assert seen.taught is not None and seen.taught.shape == (1, 3, 128, 128)
    assert seen.taught_frame in range(0, batch.high.shape[1], batch.fps_factor)
    truth = batch.high[:1, seen.taught_frame]
    difference = luma(seen.taught) - luma(truth)
    assert float(blurred(difference, 2.0).abs().mean()) < 0.5 * float(difference.abs().mean())
    color = chroma(seen.taught - truth)
    assert float(blurred(color, 8.0).abs().mean()) < 0.5 * float(color.abs().mean())
