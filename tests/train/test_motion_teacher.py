"""A teacher of motion: its weights as their package has them, what it shows of a batch, and when its flow is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.train import run
from stvsr_cli.train.config import read_config
from stvsr_cli.train.motion import taught_flow_error
from stvsr_cli.train.motion_teacher import MotionTeacher, load_motion_teacher
from stvsr_cli.train.samples import MotionLesson, StepDataset
from tests.train.test_train import cache, sources

__all__ = ["cache", "sources"]
CPU = torch.device("cpu")
TABLE = (
    'model = "compact"\nstage = "{}"\nsteps = 1\nlog_every = 1\nbatch = 2\ncrop_px = 128\nkeyframes = 3\n'
    "losses = {{ {} }}\n[data]\nsources = [\".\"]\nphoto_share = 0.0\nlive_lessons = true\nteacher = '{}'\n"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "rife.pkl"
    torch.save(MotionTeacher().state_dict(), path)
    return path


def test_its_weights_have_the_names_and_sizes_of_the_published_ones(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    assert sum(tensor.numel() for tensor in state.values()) == 5_306_256
    assert state["block0.conv0.0.0.weight"].shape == (96, 7, 3, 3)
    assert state["block1.convblock.7.beta"].shape == (1, 128, 1, 1)
    assert state["block3.lastconv.0.weight"].shape == (64, 24, 4, 4)


def test_weights_that_are_not_its_own_are_refused(weights: Path, tmp_path: Path) -> None:
    assert not load_motion_teacher(weights).training
    (tmp_path / "short.pkl").write_bytes(weights.read_bytes()[:-1000])
    (tmp_path / "text.pkl").write_text("not weights")
    (tmp_path / "empty.pkl").touch()
    torch.save({"block0": torch.zeros(1)}, tmp_path / "other.pkl")
    torch.save([1, 2], tmp_path / "list.pkl")
    with pytest.raises(ModelError, match="No such file"):
        load_motion_teacher(tmp_path / "none.pkl")
    for name in ("short", "text", "empty", "other", "list"):
        with pytest.raises(ModelError, match=f"{name}.pkl is not RIFE") as caught:
            load_motion_teacher(tmp_path / f"{name}.pkl")
        assert "\n" not in str(caught.value)


def test_an_equal_pair_without_flow_gives_the_same_frame() -> None:
    teacher = MotionTeacher()
    for block in teacher.children():
        for parameter in block.lastconv.parameters():
            torch.nn.init.zeros_(parameter)
    frame = torch.rand(1, 3, 64, 96)
    made, flow = teacher(frame, frame, 0.5)
    assert torch.allclose(made, frame, atol=1e-4) and not flow.any() and flow.shape == (1, 4, 64, 96)


def test_its_flow_is_learned_only_where_it_is_nearer_to_the_truth() -> None:
    wanted, flow = torch.zeros(1, 2, 3, 32, 32), torch.zeros(1, 2, 4, 16, 16, requires_grad=True)
    own = torch.full_like(wanted, 0.1)
    own[..., 16:] = 0.0
    made = torch.full_like(wanted, 0.05)
    taught_flow_error(own, flow, wanted, MotionLesson(made, torch.ones(1, 2, 4, 16, 16))).backward()
    assert flow.grad is not None
    assert (flow.grad[..., :6] < 0).all()  # towards the teacher's, where its frame is better by a margin
    assert not flow.grad[..., 10:].any()


def test_it_sees_every_batch_of_its_stage(
    sources: Path, cache: tuple[list[Path], Path], weights: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "motion.toml"
    recipe.write_text(TABLE.format("motion", "between = 10.0, taught_flow = 0.5", weights))
    run(recipe, data=sources, out=tmp_path, cache=cache[1])
    log = (tmp_path / "motion.csv").read_text()
    # the clips' own flow is not made where no loss looks
    assert "train,taught_flow," in log and "train,flow," not in log
    batch = StepDataset(cache[0], cache[1], read_config(recipe))[0].to(CPU)
    moved = load_motion_teacher(weights).taught(batch).moved
    assert moved is not None
    intervals = batch.low.shape[1] - 1
    assert moved.frames.shape == (2, intervals, 3, 32, 32) and moved.flow.shape == (2, intervals, 4, 16, 16)


def test_flow_is_in_positions_of_the_networks_own(
    cache: tuple[list[Path], Path], weights: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "flow.toml"
    recipe.write_text(TABLE.format("flow", "between = 10.0", weights))
    batch = StepDataset(cache[0], cache[1], read_config(recipe))[0].to(CPU)

    class Shifting(MotionTeacher):
        def forward(self, left: torch.Tensor, right: torch.Tensor, time: float) -> tuple[torch.Tensor, torch.Tensor]:
            """Eight pixels of its own frames, which are twice the input's size."""
            return left, torch.full_like(left[:, :1], 8.0).expand(-1, 4, -1, -1)

    moved = Shifting().taught(batch).moved
    assert moved is not None and torch.allclose(moved.flow, torch.full_like(moved.flow, 2.0))
    reduced = torch.nn.functional.avg_pool2d(batch.high[:, 0], 4)
    assert torch.allclose(moved.frames[:, 0], reduced, atol=1e-6)


def test_a_stage_without_a_teacher_says_so(
    sources: Path, cache: tuple[list[Path], Path], weights: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "decoder.toml"
    recipe.write_text(TABLE.format("decoder", "fidelity = 1.0", weights))
    with pytest.raises(UsageError, match="decoder learns from no teacher"):
        run(recipe, data=sources, out=tmp_path, cache=cache[1])
    config = read_config(recipe)
    assert not replace(config, losses={"flow": 0.0}).looks_at_flow
