"""Training OSDEnhancer: each stage lowers its losses, moves its own parts, and writes what is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stvsr_cli.errors import UsageError
from stvsr_cli.models import osdenhancer
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers.lora import is_factor
from stvsr_cli.models.step import run_window
from stvsr_cli.train import loop
from stvsr_cli.train import osdenhancer as stages
from stvsr_cli.train.config import DataConfig, StageConfig, read_config
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import total

CPU = torch.device("cpu")
RECIPES = Path(stages.__file__).parent / "recipes" / "osdenhancer"
TINY = {"num_attention_heads": 1, "attention_head_dim": 16, "num_layers": 1, "time_embed_dim": 16, "text_embed_dim": 8}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(stages, "SMALL_TRANSFORMER", stages.SMALL_TRANSFORMER | TINY)
    monkeypatch.setattr(stages, "SMALL_RANK", 2)


def stage(name, **network):
    return StageConfig(model="osdenhancer", stage=name, data=DataConfig(sources=()), steps=1, network=network)


def moving(factor=2, side=32):
    """A smooth picture that moves two pixels a frame, and its reduction at a lower rate."""
    picture = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(picture, size=(side, side), mode="bicubic").clamp(0, 1)[0]
    high = torch.stack([picture.roll(2 * t, dims=-1) for t in range(factor + 1)])[None]
    low = torch.nn.functional.avg_pool2d(high[0, ::factor], 4)[None]
    return Batch(low, high, torch.zeros(1, 1, 2, 2, side // 4, side // 4), factor)


def lively(network):
    """Fill what starts at zero, so that every part takes effect."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if name.startswith("transformer.") and parameter.ndim > 1 and not parameter.detach().any():
            with torch.no_grad():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def test_an_untrained_network_gives_the_initial_video_back() -> None:
    output, init = stages.new_network()(moving().low, 2)
    assert (output - init.video).abs().max() < 0.02


@pytest.mark.parametrize("name", list(stages.STAGES))
def test_every_stage_lowers_its_losses_and_moves_its_own_parts(name) -> None:
    network, built, _ = stages.build(stage(name), None)
    lively(network)
    weights = read_config(RECIPES / f"{name}.toml").losses
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    rate = 1e-5 if name == "decoder" else 2e-3
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=rate)
    data, values = moving(), []
    for _ in range(4):
        loss = total(built.losses(network, data, None), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    wanted = {
        "one_step": lambda n: n.startswith("transformer.") and "lora" not in n and "res_patch" not in n,
        "tc": lambda n: "_TC_lora." in n or "res_patch." in n,
        "te": lambda n: ".TE_lora." in n,
        "decoder": lambda n: n.startswith("vae.decoder."),
    }[name]
    assert all(wanted(n) for n in moved)
    assert all(wanted(n) == p.requires_grad for n, p in network.named_parameters())


def test_a_recipe_can_train_a_part_of_what_its_stage_does() -> None:
    passes = "vae.decoder.up_deformable_blocks."
    network, _, _ = loop.build(replace(stage("decoder"), trains=(passes,)), None)
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        n for n, _ in network.named_parameters() if n.startswith(passes)
    }
    with pytest.raises(UsageError, match="trains no parameter that begins with 'transformer.'"):
        loop.build(replace(stage("decoder"), trains=(passes, "transformer.")), None)


def test_the_temporal_expert_does_nothing_where_nothing_moves() -> None:
    network = lively(stages.new_network())
    with torch.no_grad():
        for name in ("res_proj", "res_ff0_proj"):
            getattr(network.transformer.res_patch, name).bias.zero_()
        still = network.clean(moving().low[:, :1].expand(-1, 2, -1, -1, -1), 2)[0]
        lively_moving = network.clean(moving().low, 2)[0]
        for name, parameter in network.named_parameters():
            if "_TC_lora.lora_B" in name:
                parameter.zero_()
        torch.testing.assert_close(still, network.clean(moving().low[:, :1].expand(-1, 2, -1, -1, -1), 2)[0])
        assert (lively_moving - network.clean(moving().low, 2)[0]).abs().max() > 1e-4


def test_what_a_stage_exports_is_what_is_loaded(tmp_path) -> None:
    network, built, _ = stages.build(stage("te", spatial_rank=2), None)
    lively(network).eval()
    built.export(network, network.state_dict(), tmp_path / "te")
    model = osdenhancer.load(tmp_path / "te", CPU, torch.float32)
    assert not any(is_factor(n) for n in model.transformer.state_dict())
    frames = moving().low
    with torch.inference_mode():
        expected, init = network(frames, 2)
    output = run_window(model, frames, Request(fps_factor=2))
    assert (output - expected).abs().mean() < 2e-3
    assert (output - init.video).abs().mean() > 2.5 * (output - expected).abs().mean()


def test_a_published_folder_can_be_trained_on(tmp_path) -> None:
    network, built, _ = stages.build(stage("one_step"), None)
    built.export(lively(network), network.state_dict(), tmp_path / "base")
    again, _, _ = stages.build(
        stage("tc", base=str(tmp_path / "base"), spatial_rank=3, gradient_checkpointing=True), None
    )
    assert again.transformer.gradient_checkpointing
    again.train()
    stages.temporal_losses(again, moving(), None)["latent"].backward()
    reached = {n for n, p in again.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached
    assert all(stages.is_temporal(n) for n in reached)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown stage 'x'"):
        stages.build(stage("x"), None)
    with pytest.raises(UsageError, match="unknown network settings speed"):
        stages.build(stage("tc", speed=2), None)
