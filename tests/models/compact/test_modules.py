"""The compact network's modules one by one: each can be left out, starts without effect, and sees what it should."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stvsr_cli.engine.stitch import Runner
from stvsr_cli.job.windows import TileConfig
from stvsr_cli.models.compact.alignment import DeformableAlignment
from stvsr_cli.models.compact.codec import Propagation, _as_frames
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.guidance import GuidedAttention, VideoGuidance
from stvsr_cli.models.compact.model import CompactModel
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.compact.pixels import in_eights
from stvsr_cli.models.compact.retrieval import FrameRetrieval
from stvsr_cli.models.compact.temporal import TemporalExpert
from stvsr_cli.models.contract import Request

WHOLE = CompactConfig(
    uses_residual=True, uses_alignment=True, uses_guidance=True, uses_temporal_expert=True, uses_retrieval=True
)
"""Every module switched on, those too that are off in the weights that ship."""
SWITCHES = (
    "uses_residual", "uses_aggregation", "uses_alignment", "uses_guidance", "uses_temporal_expert", "uses_retrieval",
    "uses_denoiser",
)  # fmt: skip


def awake(module: nn.Module) -> nn.Module:
    """Give layers that start at zero something to do."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return module


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_module_can_be_left_out_and_matters_when_awake(switch: str) -> None:
    frames = torch.rand(1, 3, 3, 32, 48)
    torch.manual_seed(0)
    whole = awake(CompactNetwork(WHOLE)).eval()
    without = CompactNetwork(replace(WHOLE, **{switch: False})).eval()
    shared = {name: tensor for name, tensor in whole.state_dict().items() if name in without.state_dict()}
    without.load_state_dict(shared)
    assert len(shared) < len(whole.state_dict())
    with torch.no_grad():
        output, changed = whole(frames, 2)[0], without(frames, 2)[0]
    assert output.shape == changed.shape
    assert not torch.allclose(output, changed, atol=1e-5)


def test_everything_learns() -> None:
    network = awake(CompactNetwork(WHOLE))
    output, _ = network(torch.rand(1, 3, 3, 32, 32), 2)
    output.square().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_tokens_do_not_depend_on_order_of_windows_or_size_but_on_the_video() -> None:
    torch.manual_seed(0)
    guidance = VideoGuidance(4, 16).eval()
    flat = torch.rand(1, 1, 3, 1, 1)
    with torch.no_grad():
        small, large = guidance(flat.expand(1, 3, 3, 40, 72)), guidance(flat.expand(1, 5, 3, 64, 64))
        other = guidance((1 - flat).expand(1, 3, 3, 40, 72))
    assert torch.allclose(small, large, atol=1e-4)
    assert not torch.allclose(small, other, atol=1e-2)


def test_guided_attention_reads_each_videos_own_tokens() -> None:
    torch.manual_seed(0)
    attention = awake(GuidedAttention(8, 16, 4)).eval()
    x, tokens = torch.rand(4, 8, 12, 20), torch.rand(2, 3, 16)  # two videos of two frames
    with torch.no_grad():
        both = attention(x, tokens)
        first = attention(x[:2], tokens[:1])
    assert torch.allclose(both[:2], first, atol=1e-6)


def test_tiles_see_the_tokens_of_the_whole_frame() -> None:
    torch.manual_seed(0)
    model = CompactModel(awake(CompactNetwork(WHOLE)).eval(), (), torch.device("cpu"), torch.float32)
    seen: list[torch.Tensor] = []
    inner = model.network.guidance
    assert inner is not None
    inner.register_forward_hook(lambda module, given, tokens: seen.append(tokens))
    frames = torch.rand(1, 2, 3, 64, 160)
    Runner(model, Request(), TileConfig(size_px=96, overlap_px=32)).run(frames)
    Runner(model, Request(), TileConfig(size_px=0, overlap_px=0)).run(frames)
    assert len(seen) > 2
    assert all(torch.allclose(tokens, seen[-1], atol=1e-5) for tokens in seen)


def test_retrieval_adds_nothing_where_nothing_is_similar_and_keeps_the_first_frame() -> None:
    torch.manual_seed(0)
    retrieval = awake(FrameRetrieval(8, 4)).eval()
    x, flow = torch.rand(3, 8, 8, 16), torch.zeros(1, 2, 2, 8, 16)
    with torch.no_grad():
        found = retrieval(x, flow)
        assert torch.equal(found[0], x[0])
        assert not torch.allclose(found[1:], x[1:])
        retrieval.threshold.bias.fill_(50.0)  # a threshold of 1: no cosine is above it
        retrieval.out.bias.zero_()
        assert torch.allclose(retrieval(x, flow), x, atol=1e-5)
        assert torch.equal(retrieval(x[:1], flow[:, :0]), x[:1])


def test_retrieval_does_not_grow_with_the_frame() -> None:
    torch.manual_seed(0)
    retrieval = awake(FrameRetrieval(8, 4)).eval()
    flat = torch.rand(1, 8, 1, 1)
    with torch.no_grad():
        small = retrieval(flat.expand(2, 8, 8, 8), torch.zeros(1, 1, 2, 8, 8))
        large = retrieval(flat.expand(2, 8, 32, 16), torch.zeros(1, 1, 2, 32, 16))
    assert torch.allclose(small[1, :, 0, 0], large[1, :, 0, 0], atol=1e-5)


def test_retrieval_finds_along_the_motion_what_lies_near() -> None:
    """What one position holds in the frame before is found where the flow leads there, and nowhere beyond the margin."""
    torch.manual_seed(0)
    retrieval = FrameRetrieval(2, 2).eval()
    with torch.no_grad():
        for layer in (retrieval.query, retrieval.key, retrieval.value, retrieval.out):
            layer.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
            layer.bias.zero_()
        x = torch.zeros(2, 2, 24, 24)
        x[:, 0] = 1.0  # everything is of one kind
        x[0, :, 3, 20] = torch.tensor([0.0, 5.0])  # but one position before
        x[1, :, 3, 4] = torch.tensor([0.0, 1.0])  # and one now, 16 positions to the left of it
        still = torch.zeros(1, 1, 2, 24, 24)
        moved = still.clone()
        moved[:, :, 0] = 16.0
        assert retrieval(x, still)[1, 1, 3, 4] == pytest.approx(1.0)
        assert retrieval(x, moved)[1, 1, 3, 4] > 4.0


def test_the_temporal_expert_is_silent_where_nothing_moves() -> None:
    torch.manual_seed(0)
    expert = awake(TemporalExpert([8, 12], 12, 4)).eval()
    residual = torch.zeros(2, 12, 8, 8)
    residual[1, :, :4] = 0.5
    gates = expert.gates(residual)
    with torch.no_grad():
        fine = expert.adapters[0](torch.rand(2, 8, 8, 8), gates[0])
        middle = expert.adapters[1](torch.rand(2, 12, 4, 4), gates[1])
    for added in (fine, middle):
        half = added.shape[-2] // 2
        assert not added[0].any()
        assert bool(added[1, :, :half].any())
        assert not added[1, :, half:].any()


def test_alignment_follows_the_flow() -> None:
    """A state that moved by two positions is found again where the flow says."""
    torch.manual_seed(0)
    alignment = awake(DeformableAlignment(6, 8, 4)).eval()
    nn.init.zeros_(alignment.sample.offset.weight)
    nn.init.zeros_(alignment.coarse_sample.offset.weight)
    state, features = torch.rand(1, 8, 16, 16), torch.zeros(1, 6, 16, 16)
    moved = state.roll(2, 3)  # moved(x) = state(x - 2)
    still, flow = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2.0
    with torch.no_grad():
        # the guide sees the state where it lies: silence it, so that only the flow tells where to sample
        nn.init.zeros_(alignment.attention.project_out.weight)
        here, there = alignment(features, state, still), alignment(features, moved, flow)
    assert torch.allclose(here[..., 4:-6, 4:-6], there[..., 4:-6, 4:-6], atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_shot_begins_as_if_its_first_frame_had_stood_still_before(steps: int) -> None:
    torch.manual_seed(0)
    settled = Propagation(8, 8, num_blocks=1, settling_steps=steps)
    cold = Propagation(8, 8, num_blocks=1)
    cold.load_state_dict(settled.state_dict())
    features = torch.randn(2, 3, 8, 6, 10)
    flows = torch.rand(2, 2, 2, 6, 10)
    longer = torch.cat([features[:, :1].expand(-1, steps, -1, -1, -1), features], 1)
    still = torch.zeros(2, steps, 2, 6, 10)
    with torch.no_grad():
        states, all_states = settled(features, flows), cold(longer, torch.cat([still, flows], 1))
        assert len(states) == 3
        assert torch.allclose(torch.stack(states), torch.stack(all_states[steps:]), atol=1e-5)
        assert not torch.allclose(states[0], cold(features, flows)[0], atol=1e-2)


@pytest.mark.parametrize("outputs", [3, 8, 13])
def test_outputs_of_zero_beside_a_convolutions_own_change_nothing(outputs: int) -> None:
    layer = nn.Conv2d(16, outputs, 3, padding=1)
    x = torch.rand(2, 16, 9, 11)
    made = in_eights(layer, x)
    assert made.shape[1] % 8 == 0 and not made[:, outputs:].any()
    torch.testing.assert_close(made[:, :outputs], layer(x))


def test_states_are_joined_as_convolutions_take_them() -> None:
    states = [torch.rand(2, 8, 4, 6).contiguous(memory_format=torch.channels_last) for _ in range(3)]
    joined = _as_frames(states)
    assert torch.equal(joined, torch.stack(states, 1).flatten(0, 1))
    assert joined.is_contiguous(memory_format=torch.channels_last)
