"""The stages of the compact model: each runs, trains its own part, and hands on to the next."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.denoiser import alpha_bar
from stvsr_cli.models.compact.target import TargetedNetwork
from stvsr_cli.models.layers.silence import silence
from stvsr_cli.train import run
from stvsr_cli.train.compact import STAGES
from stvsr_cli.train.critic import Critic, critic_losses
from stvsr_cli.train.losses import PERIOD_PX, evenness_error, grid_error, mesh_error, off_grid
from stvsr_cli.train.motion import warped_change
from stvsr_cli.train.samples import Batch
from tests.train.test_train import cache, sources

__all__ = ["cache", "sources"]

LOSSES = {
    "autoencoder": "{ pixel = 1.0, spread = 0.1 }",
    "flow": "{ flow = 1.0, between = 1.0 }",
    "diffusion": "{ velocity = 1.0 }",
    "one_step": "{ pixel = 1.0, between = 0.3, latent = 0.1 }",
    "temporal": "{ pixel = 1.0, temporal = 1.0 }",
    "detail": "{ pixel = 1.0, adversarial = 0.1, critic = 1.0 }",
    "decoder": "{ pixel = 1.0, temporal = 0.5 }",
    "pixels": "{ plain_fidelity = 1.0, plain_even = 0.1, pixel = 1.0, even = 0.1, adversarial = 0.1, critic = 1.0 }",
    "joint": "{ plain_fidelity = 1.0, pixel = 1.0, even = 0.1, adversarial = 0.1, critic = 1.0 }",
    "restore": "{ pixel = 1.0, even = 0.1, adversarial = 0.1, critic = 1.0 }",
    "motion": "{ between = 1.0 }",
}
PARTS = {
    "autoencoder": {"target"}, "flow": {"flow", "aggregation"}, "diffusion": {"denoiser", "guidance"},
    "one_step": {"aggregation", "encoder", "denoiser", "decoder", "guidance"}, "temporal": {"denoiser"},
    "detail": {"expert", "critic"}, "decoder": {"decoder"},
    "pixels": {"decoder", "expert", "critic"},
    "joint": {"encoder", "denoiser", "decoder", "expert", "critic"},
    "restore": {"restorer", "critic"},
    "motion": {"flow", "aggregation"},
}  # fmt: skip


def write(folder: Path, stage: str, before: str | None, steps: int) -> Path:
    path = folder / f"{stage}.toml"
    start = f'start_from = "{before}.safetensors"\n' if before else ""
    start += 'start_parts = { "target." = "autoencoder.safetensors" }\n' if before and stage == "diffusion" else ""
    path.write_text(
        f'model = "compact"\nstage = "{stage}"\nsteps = {steps}\nbatch = 1\ncrop_px = 128\nkeyframes = 2\nwhole_px = 32\n'
        f'precision = "fp32"\nwarmup_steps = 1\nsave_every = 100\nlosses = {LOSSES[stage]}\n{start}'
        f"{'[network]' if stage == 'temporal' else ''}\n{'uses_temporal_expert = true' if stage == 'temporal' else ''}\n"
        f'[data]\nsources = ["."]\nphoto_share = 0.0\n'
    )
    return path


def test_the_stages_follow_each_other(sources: Path, cache: tuple[list[Path], Path], tmp_path: Path) -> None:
    assert set(LOSSES) == set(STAGES)
    before = None
    for stage in STAGES:
        run(write(tmp_path, stage, before, 3), data=sources, out=tmp_path, cache=cache[1])
        if before:
            old, new = (load_file(str(tmp_path / f"{name}.safetensors")) for name in (before, stage))
            changed = {n.split(".")[0] for n in new if n in old and not torch.equal(old[n], new[n])}
            assert changed <= PARTS[stage], stage
            assert changed or stage in ("temporal", "detail"), stage  # whose parts are new
        before = stage


def test_a_stage_that_draws_noise_resumes_exactly(
    sources: Path, cache: tuple[list[Path], Path], tmp_path: Path
) -> None:
    config = write(tmp_path, "diffusion", None, 3)

    def go(out: str, **options: object) -> None:
        torch.manual_seed(0)
        run(config, data=sources, out=tmp_path / out, cache=cache[1], **options)

    go("whole")
    go("parts", max_minutes=0.0)
    go("parts", resume=True)
    whole, parts = (load_file(str(tmp_path / name / "diffusion.safetensors")) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


class Oracle(nn.Module):
    """A denoiser that knows the clean latent, and returns the velocity that leads to it from the noisy one."""

    def __init__(self, clean: torch.Tensor, num_timesteps: int) -> None:
        super().__init__()
        self.clean, self.num_timesteps = clean, num_timesteps

    def forward(self, noisy: torch.Tensor, *given: object) -> tuple[torch.Tensor, torch.Tensor]:
        signal = alpha_bar(given[1], self.num_timesteps).view(-1, 1, 1, 1)
        noise = (noisy - signal.sqrt() * self.clean) / (1 - signal).sqrt()
        return signal.sqrt() * noise - (1 - signal).sqrt() * self.clean, torch.zeros(())


@pytest.fixture
def targeted() -> tuple[TargetedNetwork, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return TargetedNetwork(CompactConfig()), torch.rand(2, 2, 3, 32, 32), torch.rand(2, 3, 3, 128, 128)


@pytest.mark.parametrize("timesteps", [(100, 900), (399, 399)])
def test_a_perfect_velocity_has_no_error(targeted, timesteps) -> None:
    network, low, high = targeted
    with torch.no_grad():
        init = network.initialise(low, 2)
        clean = network.target.encode(high.flatten(0, 1))
        network.denoiser = Oracle(clean, network.config.num_timesteps)
        assert float(network.velocity_error(high, init, low, torch.tensor(timesteps))) < 1e-8
        network.denoiser = Oracle(clean + 0.1, network.config.num_timesteps)
        assert float(network.velocity_error(high, init, low, torch.tensor(timesteps))) > 1e-3


def test_a_silent_denoiser_has_the_velocitys_power_as_its_error(targeted) -> None:
    network, low, high = targeted
    silence(network.denoiser.leave)
    init = network.initialise(low, 2)
    error = network.velocity_error(high, init, low, torch.tensor([0, 999]))
    with torch.no_grad():
        clean = network.target.encode(high.flatten(0, 1)).unflatten(0, (2, 3))
    power = (1.0 + float(clean[1].square().mean())) / 2  # noise alone at the first timestep, latent alone at the last
    assert float(error.detach()) == pytest.approx(power, rel=0.1)  # the silent denoiser returns zeros


def test_each_side_of_the_critics_losses_moves_its_own_side() -> None:
    torch.manual_seed(0)
    critic, output = Critic(8), torch.rand(1, 3, 3, 32, 32, requires_grad=True)
    losses = critic_losses(critic, output, torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 32, 32))
    (given,) = torch.autograd.grad(losses["adversarial"], output, retain_graph=True)
    assert bool(given.any())
    assert (
        torch.autograd.grad(losses["adversarial"], list(critic.parameters()), retain_graph=True, allow_unused=True)[0]
        is None
    )
    assert torch.autograd.grad(losses["critic"], output, retain_graph=True, allow_unused=True)[0] is None
    losses["critic"].backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_the_critics_word_counts_for_each_output_as_much_as_it_is_worth() -> None:
    torch.manual_seed(0)
    critic, output = Critic(8), torch.rand(2, 3, 3, 32, 32, requires_grad=True)
    target, given = torch.rand(2, 3, 3, 32, 32), torch.rand(2, 3, 32, 32)
    loss = critic_losses(critic, output, target, given, torch.tensor([1.0, 0.0]))["adversarial"]
    alone = critic_losses(critic, output, target, given)["adversarial"]
    (slope,), (whole,) = torch.autograd.grad(loss, output), torch.autograd.grad(alone, output)
    assert float(loss.detach()) < float(alone.detach())
    assert float(slope[1].abs().sum()) < 0.5 * float(whole[1].abs().sum())  # through the mean of all alone


def test_the_critic_learns_to_tell_noise_from_flat() -> None:
    torch.manual_seed(0)
    critic = Critic(8)
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
    flat, noise = torch.full((1, 3, 3, 32, 32), 0.5), torch.rand(1, 3, 3, 32, 32)
    given = flat[:, 0]
    for _ in range(40):
        loss = critic_losses(critic, flat, noise, given)["critic"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    critic.eval()
    with torch.no_grad():
        maps = list(zip(critic(noise, given), critic(flat, given), strict=True))
    assert [real.shape[-1] for real, _ in maps] == [16, 8, 4]
    assert all(float((real - made).mean()) > 1 for real, made in maps)


def test_features_see_every_place_on_the_outputs_grid_and_the_same_of_both() -> None:
    rows = torch.arange(24.0).view(24, 1).expand(24, 32)
    columns = torch.arange(32.0).view(1, 32).expand(24, 32)
    places = torch.stack([rows, columns])
    torch.manual_seed(0)
    seen = set()
    for _ in range(400):
        a, b = off_grid(places, places + 100)
        assert a.shape == (2, 24 - PERIOD_PX, 32 - PERIOD_PX) and torch.equal(a + 100, b)
        seen.add((int(a[0, 0, 0]), int(a[1, 0, 0])))
    assert len(seen) > 0.9 * PERIOD_PX**2


def test_change_along_the_motion_costs_where_the_output_stands_still() -> None:
    torch.manual_seed(0)
    picture = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 96, 112), 5, 1, 2)
    high = torch.stack([picture[..., 16:80, 24 - 4 * t : 88 - 4 * t] for t in range(5)], 1)  # to the right
    flow = torch.zeros(1, 2, 2, 2, 16, 16)
    flow[:, :, 0, 0], flow[:, :, 1, 0] = 2.0, -2.0  # in low pixels, from keyframe to keyframe
    batch = Batch(torch.zeros(1, 3, 3, 16, 16), high, flow, 2)
    still = high[:, :1].expand_as(high)
    assert float(warped_change(still, batch, 4)) > 10 * float(warped_change(high, batch, 4))


def test_evenness_sees_a_weave_of_the_input_pixels_and_no_noise_nor_blur() -> None:
    random = torch.Generator().manual_seed(0)
    target = 0.5 + 0.008 * torch.randn(2, 3, 3, 64, 64, generator=random)
    noise = 0.008 * torch.randn(2, 3, 1, 64, 64, generator=random)
    weave = torch.zeros(64, 64)
    weave[1::4, 1::4] = 2
    natural = [target, target + noise, torch.full_like(target, 0.5)]
    assert max(float(evenness_error(x, target)) for x in natural) < 0.12
    for place in ((0, 0), (1, 2)):  # wherever the weave lies
        woven = (target + noise * weave.roll(place, (0, 1))).requires_grad_()
        error = evenness_error(woven, target)
        assert float(error.detach()) > 0.2
    (slope,) = torch.autograd.grad(error, woven)
    assert float((slope * (woven.detach() - target)).sum()) > 0  # less weave, less error


def test_a_mesh_is_what_repeats_from_input_pixel_to_input_pixel_here_and_there() -> None:
    random = torch.Generator().manual_seed(0)
    noise = 0.5 + 0.02 * torch.randn(2, 3, 1, 72, 72, generator=random).expand(-1, -1, 3, -1, -1)
    lines = torch.zeros(72, 72)
    lines[1::4] = 0.02
    lines[:, 36:] *= -1  # not the same everywhere
    assert float(mesh_error(noise, 4)) == pytest.approx(4**2 / 32**2, rel=0.2)
    assert float(mesh_error(noise + lines, 4)) > 0.1
    assert float(mesh_error(torch.full_like(noise, 0.5), 4)) < 1e-6
    slanted = 0.5 + 0.2 * torch.sin(0.9 * torch.arange(72.0)[:, None] + 0.7 * torch.arange(72.0)).expand(
        1, 1, 3, -1, -1
    )
    assert float(mesh_error(slanted, 4)) < 0.02


def test_a_pattern_of_the_grid_is_told_from_what_does_not_repeat() -> None:
    target = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    stripes = 0.1 * (torch.arange(64) % PERIOD_PX == 0).float().expand(2, 3, 64, 64)
    assert grid_error(target, target) == 0
    assert grid_error(target + 0.5, target) < 1e-6
    assert grid_error(target + stripes, target) == pytest.approx(0.1 * 2 * 7 / 64, rel=1e-3)
    assert grid_error(target + noise, target) < 0.02
