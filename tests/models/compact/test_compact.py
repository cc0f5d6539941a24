"""The compact network: its parts, and what must hold whatever its weights are."""

from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.compact.blocks import SLOPE, temporal_shift
from stvsr_cli.models.compact.codec import Decoder
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.denoiser import alpha_bar, clean_from_velocity
from stvsr_cli.models.compact.expert import DetailedNetwork, RestoringNetwork, adapted_names
from stvsr_cli.models.compact.model import load, write_folder
from stvsr_cli.models.compact.motion import neighbour_motion
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.compact.pixels import ROWS_AT_ONCE, PixelHead, enlarged_bilinearly, local_mean
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers import parts
from stvsr_cli.models.layers.aggregation import ContextAggregation, flow_from_between
from stvsr_cli.models.layers.flow import correlation
from stvsr_cli.models.layers.insertion import even_moments, interleave, keyframe_places, rounds, weave
from stvsr_cli.models.registry import load_model
from stvsr_cli.models.step import run_window


@pytest.fixture(scope="module")
def network() -> CompactNetwork:
    torch.manual_seed(0)
    return CompactNetwork(CompactConfig()).eval()


@pytest.mark.parametrize(("count", "factor"), [(1, 2), (2, 1), (2, 2), (3, 2), (3, 4)])
def test_output_has_every_moment_and_starts_as_interpolation(count: int, factor: int) -> None:
    network = CompactNetwork(CompactConfig(temporal_filter=0)).eval()
    frames = torch.rand(1, count, 3, 32, 48)
    with torch.no_grad():
        output, init = network(frames, factor)
    assert output.shape == (1, (count - 1) * factor + 1, 3, 128, 192)
    assert torch.equal(init.frames[:, ::factor], frames)
    enlarged = functional.interpolate(frames[0], scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(output[0, ::factor], enlarged, atol=1e-6)


def test_members_of_a_batch_do_not_meet(network: CompactNetwork) -> None:
    one, other = torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 3, 32, 32)
    with torch.no_grad():
        both, _ = network(torch.cat([one, other]), 2)
        alone, _ = network(one, 2)
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_velocity_turns_back_into_the_clean_latent() -> None:
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    signal = alpha_bar(torch.tensor([399]), 1000)
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    assert torch.allclose(clean_from_velocity(noisy, velocity, signal), clean, atol=1e-5)


def test_schedule_falls_from_all_signal_to_almost_none() -> None:
    values = alpha_bar(torch.arange(1000), 1000)
    assert values[0] == pytest.approx(1.0)
    assert bool((values.diff() < 0).all())
    assert 0 < float(values[-1]) < 1e-4


def test_temporal_shift_keeps_windows_apart() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 16, 1, 1)  # two videos of three frames
    shifted = temporal_shift(x.unflatten(0, (2, 3)), 0, 3).flatten(0, 1)
    assert shifted[:, 0].flatten().tolist() == [0, 0, 1, 0, 3, 4]
    assert shifted[:, 2].flatten().tolist() == [1, 2, 0, 4, 5, 0]
    assert torch.equal(shifted[:, 4:], x[:, 4:])


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)])
def test_temporal_shift_of_some_frames_is_that_of_all(start, stop) -> None:
    frames = torch.randn(2, 3, 16, 2, 2)
    assert torch.equal(temporal_shift(frames, start, stop), temporal_shift(frames, 0, 3)[:, start:stop])


@pytest.mark.parametrize("at_once", [1, 300, 700])  # positions: a frame or pair at a time, or some
def test_some_frames_at_a_time_give_what_all_at_once_do(monkeypatch, at_once) -> None:
    torch.manual_seed(0)
    network, frames = CompactNetwork(CompactConfig()).eval(), torch.rand(2, 4, 3, 32, 48)
    for parameter in network.parameters():  # what starts at zero would hide what comes before
        torch.nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        whole, _ = network(frames, 2)
        monkeypatch.setattr(parts, "POSITIONS_AT_ONCE", at_once)
        made, init = network(frames, 2)
    assert init.frames.shape == (2, 7, 3, 32, 48)
    assert torch.allclose(made, whole, atol=1e-3 * float(whole.std()))


def test_correlation_peaks_where_the_other_frame_lies() -> None:
    torch.manual_seed(0)
    a = functional.normalize(torch.randn(1, 16, 12, 12), dim=1)
    b = a.roll((2, -1), dims=(2, 3))  # a(y, x) = b(y + 2, x - 1)
    best = correlation(a, b, 3)[0, :, 4:8, 4:8].argmax(0)
    assert bool((best == (3 + 2) * 7 + (3 - 1)).all())


def test_even_motion_is_split_evenly() -> None:
    forward = torch.full((1, 2, 4, 4), 8.0)
    for time in (0.25, 0.5, 0.75):
        left, right = flow_from_between(forward, -forward, time)
        assert torch.allclose(left, -forward * time)
        assert torch.allclose(right, forward * (1 - time))


@pytest.mark.parametrize("time", [0.25, 0.5, 0.75])
def test_what_no_flow_can_follow_can_be_blended(time: float) -> None:
    torch.manual_seed(0)
    aggregation = ContextAggregation(8, still=True)
    with torch.no_grad():
        aggregation.fuse[-1].bias[16:24] = 20.0  # the two keyframes as they are, 2 x 2 pixels each
        frames, wild = torch.rand(1, 3, 3, 16, 24), 9 * torch.randn(1, 2, 2, 8, 12)
        blended, _, _ = aggregation(frames, wild, wild.flip(1), time)
    assert torch.allclose(blended, torch.lerp(frames[:, :-1], frames[:, 1:], time), atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_motion_between_output_frames_adds_up(factor: int) -> None:
    forward = torch.full((1, 2, 2, 4, 4), 8.0)
    left = [-forward * j / factor for j in range(1, factor)]
    right = [forward * (1 - j / factor) for j in range(1, factor)]
    motion = neighbour_motion(forward, -forward, left, right, even_moments(3, factor))
    assert motion.to_next.shape[1] == 2 * factor
    assert torch.allclose(motion.to_next, torch.full_like(motion.to_next, 8.0 / factor))
    assert torch.allclose(motion.to_previous, torch.full_like(motion.to_previous, -8.0 / factor))


def test_motion_between_uneven_moments_adds_up() -> None:
    moments = [[Fraction(1, 4), Fraction(7, 8)], [], [Fraction(1, 3)]]
    forward = torch.full((1, 3, 2, 4, 4), 24.0)
    times = [torch.as_tensor(time).expand(3).view(1, 3, 1, 1, 1) for time in rounds(moments, forward.device)]
    motion = neighbour_motion(
        forward, -forward, [-forward * time for time in times], [forward * (1 - time) for time in times], moments
    )
    steps = torch.tensor([6.0, 15, 3, 24, 8, 16])
    assert torch.allclose(motion.to_next[0, :, 0, 0, 0], steps)
    assert torch.allclose(motion.to_previous[0, :, 0, 0, 0], -steps)


def test_weave_takes_as_many_as_there_are() -> None:
    moments = [[Fraction(1, 4), Fraction(7, 8)], [], [Fraction(1, 3)]]
    keys, between = torch.tensor([[0.0, 10, 20, 30]]), [torch.tensor([[1.0, -1, 21]]), torch.tensor([[2.0, -1, -1]])]
    woven = weave(keys, between, moments)
    assert woven.tolist() == [[0, 1, 2, 10, 20, 21, 30]]
    assert woven[:, keyframe_places(moments)].tolist() == keys.tolist()


def test_frames_are_made_at_any_moments(network: CompactNetwork) -> None:
    frames = torch.rand(2, 4, 3, 32, 48)
    with torch.no_grad():
        half = network.initialise(frames, 2)
        same = network.initialise(frames, 1, even_moments(4, 2))
        assert torch.equal(half.frames, same.frames) and torch.equal(half.motion.to_next, same.motion.to_next)
        quarters = network.initialise(frames, 4)
        moments = [[Fraction(1, 4)], [Fraction(1, 2), Fraction(3, 4)], []]
        some = network.initialise(frames, 1, moments)
    chosen = [0, 1, 4, 6, 7, 8, 12]
    assert torch.allclose(some.frames, quarters.frames[:, chosen], atol=1e-5)
    assert torch.equal(some.residual, quarters.residual[:, chosen])
    assert some.motion.to_next.shape[1] == 6 and bool(torch.isfinite(some.motion.to_previous).all())


def test_interleave_orders_by_time() -> None:
    keys = torch.tensor([[0.0, 4.0, 8.0]])
    between = [torch.tensor([[j, 4.0 + j]]) for j in (1.0, 2.0, 3.0)]
    assert interleave(keys, between).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="timestep"):
        CompactConfig(timestep=1000)
    with pytest.raises(ModelError, match="num_heads"):
        CompactConfig(num_heads=5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlargement_on_the_small_grid_is_the_bilinear_one(scale: int) -> None:
    frames = torch.rand(2, 3, 9, 7)
    expected = functional.interpolate(frames, scale_factor=scale, mode="bilinear", align_corners=False)
    assert torch.allclose(functional.pixel_shuffle(enlarged_bilinearly(frames, scale), scale), expected, atol=1e-6)


def test_what_the_decoder_adds_changes_no_brightness_and_keeps_detail() -> None:
    torch.manual_seed(0)
    detail = torch.rand(1, 3, 160, 256) - 0.5
    tint = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1)
    assert torch.allclose(local_mean(detail + tint, 4), local_mean(detail, 4) + tint, atol=1e-6)
    assert float(local_mean(detail, 4).abs().max()) < 0.05


@pytest.mark.parametrize("size", [(160, 252), (20, 8), (4, 4)])
def test_the_local_mean_is_that_of_a_square_of_what_is_there(size: tuple[int, int]) -> None:
    added = torch.rand(2, 3, *size)
    expected = functional.avg_pool2d(functional.avg_pool2d(added, 4), 17, 1, 8, count_include_pad=False)
    assert torch.allclose(local_mean(added, 4), expected, atol=1e-6)


def test_what_is_enlarged_is_the_same_wherever_it_is_written() -> None:
    decoder = Decoder(CompactConfig())
    frames, added = torch.rand(1, 3, 2 * ROWS_AT_ONCE + 3, 9), torch.rand(1, 3, 4 * (2 * ROWS_AT_ONCE + 3), 36)
    expected = decoder.enlarged(frames, added)
    output = torch.full((2, *expected.shape[1:]), torch.nan)
    decoder.enlarged(frames, added, output[1:])
    assert torch.equal(output[1:], expected)
    assert output[0].isnan().all()


def test_the_last_convolutions_start_as_the_shuffle_alone_and_see_across_input_pixels() -> None:
    torch.manual_seed(0)
    head = PixelHead(48, 5, 16, 4)
    features, colours = torch.rand(1, 48, 2 * ROWS_AT_ONCE + 3, 9), torch.rand(1, 48, 2 * ROWS_AT_ONCE + 3, 9)
    with torch.no_grad():
        nn.init.zeros_(head.across2.weight)
        nn.init.zeros_(head.across2.bias)
        assert torch.equal(head(colours, features), functional.pixel_shuffle(colours, 4))
        nn.init.normal_(head.across2.weight)
        joined = functional.pixel_shuffle(torch.cat([colours, head.beside(features)], 1), 4)
        whole = joined[:, :3] + head.across2(functional.leaky_relu(head.across1(joined), SLOPE))
        made = head(colours, features)
        assert torch.allclose(made, whole, atol=1e-4)  # in parts and at once
        colours[..., 4] += 1
        seen = (head(colours, features) - made).abs().amax((0, 1, 2)) > 1e-4
    assert seen.nonzero().flatten().tolist() == list(range(14, 22))  # two pixels beyond the one that changed


def test_the_detail_expert_starts_without_effect() -> None:
    torch.manual_seed(0)
    network = DetailedNetwork(CompactConfig())
    frames = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        nn.init.normal_(network.decoder.leave.weight, std=0.01)
        plain, _ = network(frames, 2, plain=True)
        assert torch.equal(network(frames, 2)[0], plain)
        for up in network.expert.up:
            nn.init.normal_(up, std=0.02)
        assert not torch.allclose(network(frames, 2)[0], plain, atol=1e-3)


def grown(network: nn.Module) -> nn.Module:
    for name, parameter in network.named_parameters():
        if ".up." in name:
            nn.init.normal_(parameter, std=0.02)
    return network


def test_the_strengths_of_both_experts_are_dials(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = grown(RestoringNetwork(CompactConfig()))
    write_folder(network.config, network.state_dict(), tmp_path)
    model = load(tmp_path, torch.device("cpu"), torch.float32)
    assert model.traits.restore(0.0) == 0 and model.traits.restore(1.0) == 1 and model.traits.restore(None) == 0
    name, frames = network.expert.names[0], torch.rand(1, 2, 3, 32, 32)

    def at(detail: float, restore: float) -> torch.Tensor:
        run_window(model, frames, Request(detail=detail, restore=restore))
        return model.network.get_parameter(name).clone()

    plain, detailed, whole = at(0, 0), at(1, 0), at(1, 1)
    assert torch.allclose(plain, network.get_parameter(name), atol=1e-3)
    assert not torch.allclose(plain, detailed, atol=1e-2) and not torch.allclose(detailed, whole, atol=1e-2)
    assert torch.equal(at(0, 1), plain) and torch.equal(at(1, 0), detailed)
    assert torch.allclose(at(0.5, 0), (plain + detailed) / 2, atol=1e-6)
    assert torch.allclose(at(1, 0.5), (detailed + whole) / 2, atol=1e-6)
    weights = dict(network.named_parameters())
    assert torch.allclose(whole, network.adapted(weights)[name], atol=1e-3)  # which is what the stage trains


@pytest.mark.parametrize(("detail", "restore", "strength"), [(1, 0, 0.3), (0, 1, 0.3), (1, 1, 0.1), (1, 0.5, 0.2)])
def test_what_is_restored_has_its_own_temporal_filter(
    tmp_path: Path, detail: float, restore: float, strength: float
) -> None:
    network = grown(RestoringNetwork(CompactConfig(temporal_filter=0.3, restored_temporal_filter=0.1)))
    assert network.decoder.temporal_filter == 0.1  # as it is trained
    frames = torch.rand(1, 2, 3, 32, 32)
    made = []
    for place, settings in enumerate(
        (network.config, CompactConfig(temporal_filter=strength, restored_temporal_filter=strength))
    ):
        write_folder(settings, network.state_dict(), tmp_path / str(place))
        model = load(tmp_path / str(place), torch.device("cpu"), torch.float32)
        for request in (Request(detail=1 - detail, restore=0.7), Request(detail=detail, restore=restore)):
            output = run_window(model, frames, request)
        made.append(output)
    assert torch.allclose(*made, atol=1e-5)


def test_weights_without_the_restoration_expert_have_no_such_dial(tmp_path: Path) -> None:
    network = grown(DetailedNetwork(CompactConfig()))
    write_folder(network.config, network.state_dict(), tmp_path)
    model = load(tmp_path, torch.device("cpu"), torch.float32)
    assert model.traits.restores is None and model.traits.restore(1.0) == 0


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [(CompactNetwork, {"detail", "restore"}), (DetailedNetwork, {"restore"}), (RestoringNetwork, set())],
)
def test_a_dial_without_an_expert_can_only_be_turned_off(tmp_path: Path, kind: type, lacks: set[str]) -> None:
    network = kind(CompactConfig())
    write_folder(network.config, network.state_dict(), tmp_path)
    for dial in ("detail", "restore"):
        opened = partial(load_model, find_model("compact"), tmp_path, torch.device("cpu"), torch.float32)
        assert opened(dials={dial: 0.0})
        if dial in lacks:
            with pytest.raises(ModelError, match=f"--{dial}=0.5: these weights have no expert") as caught:
                opened(dials={dial: 0.5})
            assert caught.value.hint is not None and f"Leave --{dial} out" in caught.value.hint
        else:
            assert opened(dials={dial: 0.5})


def test_only_the_restoration_expert_learns_in_its_stage() -> None:
    network = grown(RestoringNetwork(CompactConfig()))
    output, _ = network(torch.rand(1, 2, 3, 32, 32), 2)
    output.square().mean().backward()
    assert network.restorer.up[-1].grad is not None
    assert all(p.grad is None for n, p in network.named_parameters() if not n.startswith("restorer."))


def test_only_the_expert_learns_in_its_stage() -> None:
    network = DetailedNetwork(CompactConfig())
    output, _ = network(torch.rand(1, 2, 3, 32, 32), 2)
    output.square().mean().backward()
    assert network.expert.up[-1].grad is not None
    assert set(network.expert.names) == set(adapted_names(network))
    assert all(name.startswith(("denoiser.", "decoder.")) for name in network.expert.names)
