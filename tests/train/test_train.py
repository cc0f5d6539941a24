"""Training: data drawn by step alone, degradations, losses, and a run that resumes exactly."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stvsr_cli.errors import InputError, ModelError, UsageError
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.expert import DetailedNetwork
from stvsr_cli.models.compact.model import read_config as read_sizes
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.train import run
from stvsr_cli.train.clips import build_cache, clip_flow, moving_photo
from stvsr_cli.train.compact import STAGES
from stvsr_cli.train.config import DataConfig, StageConfig, read_config
from stvsr_cli.train.degrade import CODECS, apply, draw, strengths, through_codec
from stvsr_cli.train.losses import charbonnier, flow_error, psnr
from stvsr_cli.train.origin import load_part, load_weights
from stvsr_cli.train.samples import StepDataset
from stvsr_cli.weights.places import find_weights
from tests.clips import ROOT

RECIPES = ROOT / "stvsr_cli" / "train" / "recipes"


def texture(seed: int, height: int = 288, width: int = 320) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short clips of a texture that moves two pixels a frame."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(2):
        with av.open(str(folder / f"clip{seed}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 320, 288, "yuv420p"
            stream.options = {"crf": "10", "preset": "ultrafast"}
            for t in range(16):
                picture = np.ascontiguousarray(np.roll(texture(seed), 2 * t, axis=1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return folder


@pytest.fixture(scope="module")
def cache(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    folder = tmp_path_factory.mktemp("cache")
    return build_cache([sources], folder), folder


def stage(**changes: object) -> StageConfig:
    settings: dict[str, object] = {
        "model": "compact", "stage": "one_step", "data": DataConfig(sources=()), "steps": 4, "batch": 1,
        "crop_px": 128, "keyframes": 2,
    }  # fmt: skip
    return StageConfig(**{**settings, **changes})


def test_a_clip_that_is_too_short_for_the_keyframes_is_named(cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"keyframes=40 needs clips of (79|157) frames; .* has \d+"):
        StepDataset(cache[0], tmp_path, stage(keyframes=40))[0]


def test_a_clip_that_is_too_small_for_the_crop_is_named(cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"crop_px=4096 is larger than .*, \d+x\d+"):
        StepDataset(cache[0], tmp_path, stage(crop_px=4096))[0]


def test_batches_depend_on_the_step_alone(cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    one, other = StepDataset(cache[0], cache[1], stage(batch=2)), StepDataset(cache[0], tmp_path, stage(batch=2))
    other[0]
    a, b = one[2], other[2]
    assert torch.equal(a.low, b.low)
    assert torch.equal(a.high, b.high)
    assert a.high.shape[-1] == 4 * a.low.shape[-1] == 128
    assert a.high.shape[1] == (a.low.shape[1] - 1) * a.fps_factor + 1


def test_flow_follows_the_motion() -> None:
    frames = np.stack([np.roll(texture(1), 2 * t, axis=1) for t in range(5)])
    flow = clip_flow(frames).astype(np.float32)
    middle = flow[:, :, 16:-16, 16:-16]
    assert middle[:, 0, ..., 0].mean() == pytest.approx(1.0, abs=0.1)  # 4 pixels in 2 frames, on a grid 4 times coarser
    assert middle[:, 1, ..., 0].mean() == pytest.approx(-1.0, abs=0.1)


def test_a_photo_becomes_a_moving_clip() -> None:
    clip = moving_photo(texture(3, 800, 1200), 5, np.random.default_rng(0))
    assert clip.shape[0] == 5
    assert clip.shape[1] % 8 == clip.shape[2] % 8 == 0
    assert all(np.abs(a.astype(int) - b).mean() > 0.1 for a, b in zip(clip[:-1], clip[1:], strict=True))


@pytest.mark.parametrize("codec", sorted(set(CODECS)))
def test_codecs_keep_size_and_count(codec: str) -> None:
    frames = waves(4, 37, 47)
    decoded = through_codec(frames, codec, 10)
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    assert 0 < np.abs(decoded.astype(int) - frames).mean() < 6  # measured: 0.8 to 4.9
    assert np.abs(decoded[1:].astype(int) - frames[:-1]).mean() > 10  # a frame late


def waves(count: int, height: int, width: int) -> np.ndarray:
    """Smooth frames that move a pixel or two, [count, height, width, 3] uint8."""
    y, x = np.mgrid[:height, :width]
    side = min(height, width)
    pictures = [
        [127 + 80 * np.sin((x + 2 * t) * 6 / side + colour) * np.cos(y * 5 / side - colour) for colour in range(3)]
        for t in range(count)
    ]
    return np.stack([np.stack(picture, -1) for picture in pictures]).astype(np.uint8)


def test_every_drawn_degradation_reduces_a_clip() -> None:
    frames = waves(3, 96, 128)
    plain = np.stack([cv2.resize(frame, (32, 24), interpolation=cv2.INTER_AREA) for frame in frames]).astype(float)
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        low = apply(frames, draw(rng), 4, rng)
        assert low.shape == (3, 24, 32, 3) and low.dtype == np.uint8
        assert abs(low.mean() - plain.mean()) < 3  # brightness stays
        assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(low, plain, strict=True)) > 0.9
        again = np.random.default_rng(seed)
        assert np.array_equal(apply(frames, draw(again), 4, again), low)
        errors.append(np.abs(low - plain).mean())
    assert max(errors) > 4 * min(errors) and np.median(errors) > 1  # from light to heavy


@given(st.integers(0, 2**32 - 1))
def test_strengths_of_a_draw_lie_in_range_and_rise_with_each_of_its_parts(seed: int) -> None:
    drawn = draw(np.random.default_rng(seed))
    before = strengths(drawn)
    assert before.dtype == np.float32 and bool(((before >= 0) & (before <= 1)).all())
    stronger = {
        0: replace(drawn, noise=drawn.noise + 1),
        1: replace(drawn, codecs=(*drawn.codecs, ("libx264", 36))),
        2: replace(drawn, blur=np.full((17, 17), 1 / 17**2, np.float32)),
    }
    for place, degradation in stronger.items():
        after = strengths(degradation)
        assert after[place] > before[place] or after[place] == 1
        assert np.array_equal(np.delete(after, place), np.delete(before, place))
    assert not strengths(replace(drawn, noise=0.0, shot_noise=0.0, jpeg=None, codecs=(), blur=None)).any()


def test_measures_of_equal_pictures() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert float(charbonnier(x, x)) == pytest.approx(1e-3)
    assert bool((psnr(x, x) >= 99).all())
    assert psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)).item() == pytest.approx(20, abs=1e-3)
    flow = torch.ones(1, 1, 2, 8, 8)
    level = torch.full((1, 1, 2, 4, 4), 0.5)  # the same motion, in positions twice as large
    assert float(flow_error([level], flow)) == pytest.approx(0.01**0.4, abs=1e-6)


def write_config(path: Path, stage_name: str, steps: int, extra: str = "") -> Path:
    path.write_text(
        f'model = "compact"\nstage = "{stage_name}"\nsteps = {steps}\nbatch = 1\ncrop_px = 128\nkeyframes = 2\n'
        f'precision = "fp32"\nwarmup_steps = 1\nsave_every = 100\nlosses = {{ flow = 1.0, between = 1.0, pixel = 1.0 }}\n'
        f'{extra}[data]\nsources = ["."]\nphoto_share = 0.0\n'
    )
    return path


def test_a_resumed_run_equals_one_in_one_go(sources: Path, cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    config = write_config(tmp_path / "flow.toml", "flow", 3)

    def go(out: str, **options: object) -> None:
        torch.manual_seed(0)
        run(config, data=sources, out=tmp_path / out, cache=cache[1], **options)

    go("whole")
    go("parts", max_minutes=0.0)  # one step, then saved
    assert torch.load(tmp_path / "parts" / "flow.state.pt", weights_only=True)["step"] == 1
    go("parts", resume=True)
    whole, parts = (load_file(str(tmp_path / name / "flow.safetensors")) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "whole" / "flow.config.json").exists()


def test_a_stage_trains_its_own_part_only(sources: Path, cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    run(write_config(tmp_path / "a.toml", "flow", 1), data=sources, out=tmp_path, cache=cache[1])
    before = load_file(str(tmp_path / "flow.safetensors"))
    extra = 'start_from = "flow.safetensors"\n'
    run(write_config(tmp_path / "b.toml", "one_step", 2, extra), data=sources, out=tmp_path, cache=cache[1])
    after = load_file(str(tmp_path / "one_step.safetensors"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "flow" not in changed
    assert {"decoder"} <= changed


def test_log_and_plot_are_written(sources: Path, cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    run(write_config(tmp_path / "a.toml", "flow", 2, "log_every = 1\n"), data=sources, out=tmp_path, cache=cache[1])
    with (tmp_path / "flow.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["name"] for row in rows} == {"flow", "between", "fidelity"}
    assert (tmp_path / "flow.png").stat().st_size > 1000


def test_recipes_read() -> None:
    recipes = sorted(RECIPES.rglob("*.toml"))
    assert recipes
    for path in recipes:
        assert path.stem.startswith(read_config(path).stage)


def test_what_is_wrong_is_said(tmp_path: Path, sources: Path) -> None:
    config = write_config(tmp_path / "a.toml", "nothing", 1)
    with pytest.raises(UsageError, match="unknown stage 'nothing'"):
        run(config, data=sources, out=tmp_path, cache=tmp_path)
    (tmp_path / "b.toml").write_text('model = "compact"\nstage = "flow"\nsteps = 1\nspeed = 3\n')
    with pytest.raises(UsageError, match="unknown stage settings speed"):
        read_config(tmp_path / "b.toml")
    with pytest.raises(UsageError, match="nowhere"):
        read_config(tmp_path / "nowhere.toml")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no clip"):
        build_cache([empty], tmp_path / "cache")
    with pytest.raises(ModelError, match="cannot resume"):
        run(
            write_config(tmp_path / "c.toml", "flow", 1),
            data=sources,
            out=tmp_path / "new",
            cache=tmp_path,
            resume=True,
        )


def test_the_command_runs_a_stage_and_says_what_is_wrong(sources: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", "flow", 1)
    command = [sys.executable, "-m", "stvsr_cli", "train", "--data", str(sources), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "flow.safetensors").stat().st_size > 1_000_000
    wrong = subprocess.run([*command, "compact/nothing"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "nothing" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_shipped_weights_can_be_trained_on() -> None:
    shipped = find_weights("compact") / "model.safetensors"
    for kind in (CompactNetwork, DetailedNetwork):
        network = kind(CompactConfig(detail_rank=read_sizes(shipped.with_name("config.json")).detail_rank))
        load_weights(network, shipped, STAGES["detail"].adds)
        assert torch.equal(network.decoder.leave.bias, load_file(str(shipped))["decoder.leave.bias"].float())


def test_a_part_is_taken_whole_from_weights_of_another_network(tmp_path: Path) -> None:
    network = torch.nn.ModuleDict({"flow": torch.nn.Linear(2, 2), "rest": torch.nn.Linear(2, 3)})
    before = network["rest"].weight.clone()
    given = {"flow.weight": torch.ones(2, 2), "flow.bias": torch.ones(2), "rest.weight": torch.ones(9, 9)}
    save_file(given, tmp_path / "other.safetensors")
    load_part(network, tmp_path / "other.safetensors", "flow.")
    assert torch.equal(network["flow"].weight, torch.ones(2, 2))
    assert torch.equal(network["rest"].weight, before)
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    for load in (load_weights, lambda network, path: load_part(network, path, "flow.")):
        with pytest.raises(ModelError, match="damaged.safetensors"):
            load(network, tmp_path / "damaged.safetensors")
    for prefix in ("rest.", "none."):
        with pytest.raises(ModelError, match=f"its {prefix}"):
            load_part(network, tmp_path / "other.safetensors", prefix)


@pytest.mark.parametrize(("least", "most"), [(0.5, 0.3), (0.4, 0.4), (-0.1, 1.0), (0.2, 1.2), (0.95, 1.0)])
def test_strengths_that_are_hardly_ever_drawn_are_refused(least: float, most: float) -> None:
    data = DataConfig(sources=(), least_strength=least, most_strength=most)
    with pytest.raises(UsageError, match="least_strength"):
        StageConfig(model="compact", stage="restore", data=data, steps=1)
