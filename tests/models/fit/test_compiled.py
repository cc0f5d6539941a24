"""Regions compile to one graph each, compute the same, and give way to what they were."""

import logging

import pytest
import torch

from stvsr_cli.bench.random_models import build
from stvsr_cli.models.contract import Request
from stvsr_cli.models.fit.compiled import WORTH_PX, compile_regions, plain_regions, wants_compile
from stvsr_cli.models.step import run_window

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FRAMES = torch.rand(1, 3, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def compact():
    return build("compact", "tiny", CPU, torch.float32)


@pytest.fixture(autouse=True)
def _fresh():
    yield
    torch._dynamo.reset()


def made(model):
    with torch.inference_mode():
        halved = run_window(model, FRAMES, Request(halved=True))
        return torch.cat([part.flatten() for part in (halved, run_window(model, FRAMES, Request()))])


def test_each_region_is_one_graph_without_a_break():
    model = compact()
    wanted, seen = made(model), []

    def backend(graph, example_inputs):
        seen.append(graph)
        return graph.forward

    def explained(module, name):
        plain = getattr(module, name)

        def region(*arguments):
            found = torch._dynamo.explain(plain)(*arguments)
            assert found.graph_count == 1 and found.graph_break_count == 0, (name, found.break_reasons)
            seen.append(name)
            return plain(*arguments)

        return region

    for module, name in model.regions:
        setattr(module, name, explained(module, name))
    assert torch.equal(made(model), wanted)
    assert set(seen) == {"pixels", "halved_pixels", "step", "similarity"}


def test_what_is_compiled_computes_the_same():
    model = compact()
    wanted = made(model)
    assert compile_regions(model, backend="aot_eager") == 5
    assert compile_regions(model, backend="aot_eager") == 5  # once is enough
    assert (made(model) - wanted).abs().max() < 1e-5
    plain_regions(model)
    assert torch.equal(made(model), wanted)


def test_what_cannot_be_compiled_runs_as_it_is(caplog):
    def refuses(graph, example_inputs):
        raise RuntimeError("no compiler here")

    model = compact()
    wanted = made(model)
    compile_regions(model, backend=refuses)
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        assert torch.equal(made(model), wanted) and torch.equal(made(model), wanted)
    assert len(caplog.messages) == 5 and all("runs as it is" in message for message in caplog.messages)


def test_memory_that_runs_out_is_not_the_compilers_fault():
    def runs_out(graph, example_inputs):
        def run(*arguments):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return run

    model = compact()
    compile_regions(model, backend=runs_out)
    with pytest.raises(torch.OutOfMemoryError):
        made(model)


@pytest.mark.parametrize(
    ("kind", "device", "num_px", "wanted"),
    [
        ("auto", CUDA, WORTH_PX, True),
        ("auto", CUDA, WORTH_PX - 1, False),
        ("auto", CUDA, None, False),
        ("auto", CPU, WORTH_PX, False),
        ("on", CPU, 1, True),
        ("off", CUDA, WORTH_PX, False),
    ],
)
def test_only_long_runs_on_a_card_compile_by_themselves(monkeypatch, kind, device, num_px, wanted):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert wants_compile(kind, device, num_px) is wanted
    if kind == "auto":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert not wants_compile(kind, device, num_px)


def test_a_model_without_regions_says_so(caplog):
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        assert compile_regions(build("linear", "tiny", CPU, torch.float32)) == 0
    assert caplog.messages == ["--compile does nothing for the model linear"]
