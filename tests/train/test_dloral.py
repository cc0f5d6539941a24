"""Training DLoRAL: each stage lowers its losses, moves its own parts, and writes what is loaded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stvsr_cli.errors import UsageError
from stvsr_cli.models import dloral
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers.lora import is_factor
from stvsr_cli.models.step import run_window
from stvsr_cli.train import dloral as stages
from stvsr_cli.train import dloral_network as networks
from stvsr_cli.train.config import DataConfig, StageConfig, read_config
from stvsr_cli.train.loop import Averaged
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import total
from tests.clips import make_video, read_frames

CPU = torch.device("cpu")
RECIPES = Path(stages.__file__).parent / "recipes" / "dloral"
TINY_UNET = {"block_out_channels": (8, 16), "norm_num_groups": 4}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(networks, "SMALL_UNET", networks.SMALL_UNET | TINY_UNET)
    monkeypatch.setattr(networks, "SMALL_RETRIEVAL", {"heads": 2, "dim": 4})
    monkeypatch.setattr(networks, "SMALL_RANKS", {"consistency": 2, "quality": 3})


def stage(name, **changes):
    return StageConfig(model="dloral", stage=name, data=DataConfig(sources=()), steps=1, **changes)


def moving(side=64):
    """Three frames of a smooth picture that moves four pixels a frame, and the first and last, reduced."""
    picture = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(picture, size=(side, side), mode="bicubic").clamp(0, 1)[0]
    high = torch.stack([picture.roll(4 * t, dims=-1) for t in range(3)])[None]
    low = torch.nn.functional.avg_pool2d(high[0, ::2], 4)[None]
    flow = torch.zeros(1, 1, 2, 2, side // 4, side // 4)
    flow[:, :, 0, 0], flow[:, :, 1, 0] = 2.0, -2.0  # eight pixels in two frames, on a grid four times coarser
    return Batch(low, high, flow, 2)


def lively(network):
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if not parameter.detach().any() and parameter.ndim > 1 and not name.startswith("vae."):
            with torch.no_grad():
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", list(stages.STAGES))
def test_every_stage_lowers_its_losses_and_moves_its_own_parts(name) -> None:
    network, built, _ = stages.build(stage(name), None)
    lively(network)
    weights = {n: w for n, w in read_config(RECIPES / f"{name}.toml").losses.items() if n != "perceptual"}
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    data, values = moving(), []
    for _ in range(5):
        torch.manual_seed(4)  # the flow's pictures are shifted at random
        loss = total(built.losses(network, data, None), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    wanted = {
        "base": lambda n: n.startswith("unet.") and not is_factor(n),
        "flow": lambda n: n.startswith("retrieval.flow."),
        "consistency": lambda n: n.startswith("retrieval.attention.") or n.endswith("_consistency.weight"),
        "detail": lambda n: n.endswith("_quality.weight"),
    }[name]
    assert moved
    assert all(wanted(n) for n in moved)
    assert all(wanted(n) == p.requires_grad for n, p in network.named_parameters())


def test_the_flow_is_trained_on_only_where_its_own_loss_counts() -> None:
    for weight in (0.0, 1.0):
        network, _, _ = stages.build(stage("consistency", losses={"pixel": 1.0, "flow": weight}), None)
        assert all(p.requires_grad == bool(weight) for p in network.retrieval.flow.parameters())


def test_levels_of_the_flow_are_one_while_they_are_trained_and_averaged() -> None:
    network, _, _ = stages.build(stage("flow"), None)
    averaged = Averaged(network, 0.5)
    with torch.no_grad():
        network.retrieval.flow.levels[0].convs[0].bias.add_(1.0)
    averaged.update(network, 100)
    state = averaged.state(network)
    biases = [state[f"retrieval.flow.levels.{i}.convs.0.bias"] for i in range(6)]
    assert all(torch.equal(bias, torch.full_like(bias, 0.5)) for bias in biases)


def test_an_untrained_retrieval_changes_nothing_and_the_flow_loss_knows_the_true_flow() -> None:
    network, data = networks.new_network(), moving()
    with torch.no_grad():
        video = network.enlarge(data.low)
        paired, alone = network.restore(video), network.restore(video, paired=False)
        torch.testing.assert_close(paired.clean, alone.clean)
        still = stages.pair_losses(network, data, None)["flow"]
        # from the second keyframe back to the first the picture goes to the left
        shift = torch.tensor([-4.0, 0.0]).view(1, 2, 1, 1)
        network.retrieval.flow.forward = lambda a, b: shift.expand(len(a), 2, 32, 32)
        right = stages.pair_losses(network, data, None)["flow"]
    assert right < 0.2 * still


def test_what_a_stage_exports_is_what_is_loaded(tmp_path) -> None:
    network, built, _ = stages.build(stage("detail"), None)
    lively(network).eval()
    for name, parameter in network.named_parameters():
        if stages.is_expert(name, "quality") and ".lora_B." in name:
            parameter.detach().mul_(3)
    built.export(network, network.state_dict(), tmp_path / "detail")
    frames = moving().low
    with torch.inference_mode():
        expected = network(frames, 1)[0].clamp(0, 1)
    errors = []
    for detail in (1.0, 0.0):
        model = dloral.load(tmp_path / "detail", CPU, torch.float32, detail=detail, process_px=1, color_fix="none")
        output = run_window(model, frames, Request(fps_factor=1, detail=detail))
        errors.append((output - expected).abs().mean())
    assert errors[0] < 0.01
    assert errors[1] > 1.5 * errors[0]


@pytest.mark.slow
def test_what_a_stage_exports_runs_through_the_command_line(tmp_path) -> None:
    network, built, _ = stages.build(stage("detail"), None)
    built.export(lively(network), network.state_dict(), tmp_path / "detail")
    frames = [np.roll(np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3), t, 1) for t in range(3)]
    source, target = make_video(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0"), tmp_path / "out.mkv"
    command = [sys.executable, "-m", "stvsr_cli", "upscale", source, target, "--model", "dloral", "--device", "cpu"]
    command += ["--weights", tmp_path / "detail", "--precision", "fp32", "--fps-factor", "1", "--progress", "none"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    shown = read_frames(target)[0]
    assert [frame.shape for frame in shown] == [(128, 192, 3)] * 3


def test_the_losses_come_over_from_the_other_stage_linearly() -> None:
    config = stage("detail", losses={"pixel": 1.0, "perceptual": 2.0}, losses_before={"warp": 4.0, "pixel": 3.0}, blend_steps=4)  # fmt: skip
    assert config.weights_at(0) == {"warp": 4.0, "pixel": 3.0, "perceptual": 0.0}
    assert config.weights_at(2) == {"warp": 2.0, "pixel": 2.0, "perceptual": 1.0}
    assert config.weights_at(4) == config.weights_at(9) == {"pixel": 1.0, "perceptual": 2.0}


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown stage 'x'"):
        stages.build(stage("x"), None)
    with pytest.raises(UsageError, match="no network settings, got speed"):
        stages.build(stage("base", network={"speed": 2}), None)
