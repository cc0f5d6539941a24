"""Device, precision and memory: what the model runs on."""

import logging
import os
from pathlib import Path

import torch

from stvsr_cli.errors import DeviceError, UsageError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARE_OF_FREE_MEMORY = 0.8
"""Share of a CUDA device's free memory that windows and batches may plan with."""
SHARE_OF_MACHINE_MEMORY = 0.6
"""Share of the machine's memory that a window may plan with on a CPU."""
LARGEST_AUTO_BATCH = 8
"""More windows at once gain no speed and cost delay."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The memory limit of a container."""


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
    if requested:
        return requested
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_bytes(device: torch.device, waiting: int = 0) -> int | None:
    """Memory that a window may plan with; None where that is not known.

    waiting: bytes of weights that will come to the device, or that a CPU's memory in all must hold. On CUDA a share of what is free now; on a CPU a share of what the machine, or the container, has in all, so that
    the plan does not depend on what else runs.
    """
    if device.type == "cuda":
        return max(0, int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE_MEMORY) - waiting)
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return max(0, int(min(total, int(limit) if limit.isdigit() else total) * SHARE_OF_MACHINE_MEMORY) - waiting)


def auto_batch(window_bytes: int, device: torch.device, waiting: int = 0) -> int:
    """Windows, or tiles, that fit into a CUDA device's free memory together; 1 on a CPU. waiting: see `usable_bytes`."""
    usable = usable_bytes(device, waiting) if device.type == "cuda" else None
    return 1 if usable is None else max(1, min(LARGEST_AUTO_BATCH, usable // max(window_bytes, 1)))


def peak_bytes(device: torch.device) -> int:
    """Most memory in use so far: the device's on CUDA, the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
