"""One window through each installed model."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from stvsr_cli.doctor.check import BAD, GOOD, Check
from stvsr_cli.errors import ModelError, StvsrError
from stvsr_cli.job.job import Job
from stvsr_cli.models.catalogue import MODELS
from stvsr_cli.models.contract import Request
from stvsr_cli.models.entry import ModelEntry
from stvsr_cli.models.step import run_window
from stvsr_cli.pipeline.loading import load
from stvsr_cli.weights.places import find_complete

SIDE_PX = 64
NUM_FRAMES = 4


def check_models(device: str, *, large_too: bool) -> Iterator[Check]:
    """Send one small window through each model whose weights are complete.

    large_too: also through large models on a CPU, which takes minutes and much memory.
    """
    for entry in MODELS.values():
        if entry.has_weights and find_complete(entry.name, entry.needs) is None:
            continue
        on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        if entry.large and on_cpu and not large_too:
            yield Check("model", f"{entry.name}, one window", GOOD, "not tried on a processor; --thorough tries it")
        else:
            yield _trial(entry, device)


def _trial(entry: ModelEntry, device: str) -> Check:
    name = f"{entry.name}, one window"
    begin = time.perf_counter()
    try:
        loaded = load(Job(input=Path(), output=Path(), model=entry.name, device=device, resume="never"))
        frames = _moving().to(loaded.device)
        loading, begin = time.perf_counter() - begin, time.perf_counter()
        output = run_window(loaded.model, frames, Request(detail=loaded.model.traits.detail))
        seconds = time.perf_counter() - begin
    except StvsrError as error:
        return Check("model", name, BAD, error.message, error.hint or "", type(error))
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return Check(
            "model", name, BAD, why, "Install the program again; if that does not help, report this line.", ModelError
        )
    side = loaded.model.traits.scale * SIDE_PX
    expected = (1, 2 * NUM_FRAMES - 1, 3, side, side)
    if tuple(output.shape) != expected or not bool(torch.isfinite(output).all()):
        return Check("model", name, BAD, "it does not give valid pictures", "Fetch its weights again.", ModelError)
    dtype = loaded.precision
    return Check("model", name, GOOD, f"{seconds:.1f} s on {loaded.device} in {dtype}, {loading:.1f} s to load")


def _moving() -> Tensor:
    """A window of stripes that move, [1, T, 3, h, w]."""
    x = torch.arange(SIDE_PX) - 2 * torch.arange(NUM_FRAMES)[:, None]
    stripes = 0.5 + 0.4 * torch.sin(x / 5)
    return stripes[None, :, None, None, :].expand(1, -1, 3, SIDE_PX, -1).contiguous()
