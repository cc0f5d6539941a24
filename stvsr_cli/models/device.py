"""Device, precision and memory: what the model runs on."""

import logging
import os

import torch

from stvsr_cli.errors import DeviceError, UsageError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARE_OF_FREE_MEMORY = 0.8
"""Share of a CUDA device's free memory that batches may plan with."""


def pick_device(name: str) -> torch.device:
    """Return the device of a name: auto, cpu, cuda or cuda:N. Raises DeviceError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name!r} is not known.", hint="Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(f"--device {name!r} is not supported.", hint="Use auto, cpu, cuda or cuda:N.")
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available.", hint="Install a CUDA build of PyTorch, or use --device cpu.")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(
            f"there is no {name}, only {torch.cuda.device_count()} CUDA devices.", hint="Use a lower number."
        )
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the precision of a name; auto is the fastest that the device computes natively.

    Raises UsageError for an unknown name, DeviceError for fp16 on a CPU.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name!r} is not known.", hint=f"Use auto, {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is not computed on a CPU.", hint="Use --precision bf16 or fp32.")
    return PRECISIONS[name]


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


def pick_threads(requested: int) -> int:
    """Number of compute threads: as asked for, or one a core that this process may use."""
    return (
        requested or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else requested or os.cpu_count() or 1
    )


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a CUDA device; None on a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def auto_batch(window_bytes: int, device: torch.device) -> int:
    """Windows that fit into the device's free memory together; 1 on a CPU."""
    free = free_bytes(device)
    return 1 if free is None else max(1, min(8, int(free * SHARE_OF_FREE_MEMORY) // max(window_bytes, 1)))


def peak_bytes(device: torch.device) -> int:
    """Most memory in use so far: the device's on CUDA, the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
