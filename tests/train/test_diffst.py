"""Training DiffST: each stage lowers its losses, moves its own parts, and writes what is loaded."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stvsr_cli.errors import UsageError
from stvsr_cli.models import diffst
from stvsr_cli.models.contract import Request
from stvsr_cli.models.diffst.adapters import is_factor
from stvsr_cli.models.diffst.network import new_network
from stvsr_cli.models.step import run_window
from stvsr_cli.train import diffst as stages
from stvsr_cli.train import run
from stvsr_cli.train.config import DataConfig, StageConfig
from stvsr_cli.train.losses import log_error
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import total, train_only
from tests.models.diffst.tiny import TINY, clip, lively, tiny, write_wan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_wan(tmp_path_factory.mktemp("wan"))


def batch(factor=2):
    high = torch.nn.functional.interpolate(clip(3, 8, 8)[0], size=(64, 64), mode="bicubic").clamp(0, 1)[None]
    low = torch.nn.functional.avg_pool2d(high[0, ::2], 4)[None]
    return Batch(low, high, torch.zeros(1, 1, 2, 2, 16, 16), factor)


def stage(name, **network):
    return StageConfig(model="diffst", stage=name, data=DataConfig(sources=()), steps=1, network=network)


PARTS = {
    "vae": {"vae"},
    "flow": {"flow", "aggregation"},
    "latent": {"guidance", "transformer"},
    "one_step": {"flow", "aggregation", "guidance", "transformer"},
}
WEIGHTS = {"pixel": 1.0, "divergence": 1e-4, "flow": 1.0, "between": 1.0, "latent": 1.0, "temporal": 0.3}


@pytest.mark.parametrize("name", ["vae", "flow", "latent", "one_step"])
def test_every_stage_lowers_its_losses_and_moves_its_own_parts(name) -> None:
    torch.manual_seed(0)
    network = lively(new_network(TINY))
    train_only(network, stages.STAGES[name].trains)
    trained = {n.split(".")[0] for n, p in network.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    data, values = batch(), []
    for _ in range(4):
        loss = total(stages.STAGES[name].losses(network, data, None), WEIGHTS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    moved = {n.split(".")[0] for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert moved == trained == PARTS[name]
    assert bool((network.latents_std != torch.tensor(TINY.vae["latents_std"])).any()) == (name == "vae")


def test_the_latent_loss_alone_reaches_context_aggregation_and_guidance() -> None:
    network = tiny()
    network.vae.requires_grad_(False)
    network.transformer.enable_gradient_checkpointing()
    network.train()
    stages.latent_losses(network, batch(), None)["latent"].backward()
    reached = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    for name in ("aggregation.fuse.0.weight", "aggregation.refine.0.weight", "flow.finest.4.weight", "guidance.tokens"):
        assert name in reached
    assert all(f"transformer.blocks.{i}.attn2.to_k.weight" in reached for i in range(2))
    assert not any(name.startswith("vae.") for name in reached)


def test_a_stage_is_built_with_the_switches_it_asks_for(monkeypatch, base) -> None:
    monkeypatch.setattr(stages, "SMALL", TINY)
    monkeypatch.setattr(stages, "FULL", TINY)

    def trained(name, **network):
        built, _, _ = stages.build(stage(name, **network), None)
        return built, {n for n, p in built.named_parameters() if p.requires_grad}

    assert {n.split(".")[0] for n in trained("vae")[1]} == {"vae"}
    built, names = trained("one_step", aggregation=False, guidance=False, gradient_checkpointing=True)
    assert {n.split(".")[0] for n in names} == {"transformer"}
    assert not built.use_aggregation
    assert not built.use_guidance
    assert built.transformer.gradient_checkpointing
    assert {n.split(".")[0] for n in trained("one_step", train_aggregation=False)[1]} == {"guidance", "transformer"}
    assert {n.split(".")[0] for n in trained("flow", train_aggregation=False)[1]} == {"flow", "aggregation"}
    built, names = trained("latent", base=str(base), finetune="lora", lora_rank=2)
    assert all(is_factor(n) for n in names if n.startswith("transformer."))
    assert any(n.startswith("guidance.") for n in names)
    with pytest.raises(UsageError, match="unknown stage 'x'"):
        stages.build(stage("x"), None)
    with pytest.raises(UsageError, match="unknown network settings speed"):
        stages.build(stage("flow", speed=2), None)
    with pytest.raises(UsageError, match="stays as it is"):
        stages.build(stage("vae", base=str(base)), None)


def test_what_a_stage_exports_is_what_is_loaded(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(stages, "SMALL", TINY)
    network, built, _ = stages.build(stage("one_step", lora_rank=2), None)
    lively(network).latents_mean += 0.5
    built.export(network, network.state_dict(), tmp_path / "one_step")
    model = diffst.load(tmp_path / "one_step", CPU, torch.float32)
    torch.testing.assert_close(model.network.latents_mean, network.latents_mean, rtol=1e-3, atol=1e-3)
    with torch.inference_mode():
        expected = network.eval()(clip(2, 16, 16), 2)[0].clamp(0, 1)
    assert (run_window(model, clip(2, 16, 16), Request()) - expected).abs().mean() < 5e-3


@pytest.fixture
def footage(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for t in range(8):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 2 * t, axis=1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder


def test_stages_follow_each_other_through_the_loop(monkeypatch, footage, tmp_path) -> None:
    monkeypatch.setattr(stages, "SMALL", TINY)
    for name, extra in (("vae", ""), ("latent", 'start_from = "vae.safetensors"\n')):
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'model = "diffst"\nstage = "{name}"\nsteps = 1\nbatch = 1\ncrop_px = 64\nkeyframes = 2\nprecision = "fp32"\n'
            f"{extra}losses = {{ pixel = 1.0, latent = 1.0 }}\n[network]\nlora_rank = 2\n"
            '[data]\nsources = ["."]\nphoto_share = 0.0\n'
        )
        run(config, data=footage, out=tmp_path / "out", cache=tmp_path / "cache")
    model = diffst.load(tmp_path / "out" / "latent", CPU, torch.float32)
    assert run_window(model, clip(), Request()).shape == (1, 3, 3, 64, 64)


def test_a_stage_resumes_exactly(monkeypatch, footage, tmp_path) -> None:
    monkeypatch.setattr(stages, "SMALL", TINY)
    config = tmp_path / "latent.toml"
    config.write_text(
        'model = "diffst"\nstage = "latent"\nsteps = 3\nbatch = 1\ncrop_px = 64\nkeyframes = 2\nprecision = "fp32"\n'
        'losses = { latent = 1.0 }\n[network]\nlora_rank = 2\n[data]\nsources = ["."]\nphoto_share = 0.0\n'
    )

    def go(out, **options):
        torch.manual_seed(0)
        run(config, data=footage, out=tmp_path / out, cache=tmp_path / "cache", **options)
        return load_file(str(tmp_path / out / "latent.safetensors"))

    whole, first = go("whole"), go("parts", max_minutes=0.0)
    parts = go("parts", resume=True)
    assert any(not torch.equal(first[name], parts[name]) for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_fidelity_counts_an_easy_sample_as_much_as_a_hard_one() -> None:
    easy, hard = torch.full((1, 3, 4, 4), 0.01), torch.full((1, 3, 4, 4), 0.3)
    both = log_error(torch.cat([easy, hard]))
    torch.testing.assert_close(
        both - log_error(torch.cat([easy / 2, hard])), both - log_error(torch.cat([easy, hard / 2]))
    )
    losses = stages.flow_losses(tiny(), batch(), None)
    assert set(losses) == {"flow", "between", "fidelity"}
    assert losses["fidelity"] < 0


def test_guidance_sees_the_whole_frames_where_a_batch_has_them() -> None:
    network = tiny()
    seen = []
    network.guidance.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    whole = torch.rand(1, 2, 3, 32, 32)
    stages.latent_losses(network, batch(), None)
    stages.latent_losses(network, replace(batch(), whole=whole), None)
    assert [video.shape[-1] for video in seen] == [16, 32]
    assert seen[1] is whole


def test_a_network_trained_without_a_part_is_loaded_without_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(stages, "SMALL", TINY)
    network, built, _ = stages.build(stage("one_step", aggregation=False, guidance=False), None)
    built.export(network, network.state_dict(), tmp_path / "one_step")
    model = diffst.load(tmp_path / "one_step", CPU, torch.float32)
    assert not model.network.use_aggregation
    assert not model.network.use_guidance
