"""Device, precision and memory: what the model runs on."""

import logging
import os
from pathlib import Path

import torch

from stvsr_cli.errors import DeviceError, UsageError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""Types by name; of int8, what all is in that is not made by OpenVINO."""
SHARE_OF_FREE_MEMORY = 0.8
"""Share of a CUDA device's free memory that windows and batches may plan with."""
SHARE_OF_MACHINE_MEMORY = 0.6
"""Share of the machine's memory that a window may plan with on a CPU."""
LARGEST_AUTO_BATCH = 8
"""More windows at once gain no speed and cost delay."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The memory limit of a container."""


DEVICES_HINT = "Use auto, cpu, cuda, cuda:N or mps."
OUT_OF_MEMORY = (
    "can't allocate memory",  # PyTorch on a CPU, Linux and macOS
    "DefaultCPUAllocator: not enough memory",  # Windows
    "CUDA out of memory",
    "CUDA error: out of memory",
    "MPS backend out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE: they allocate outside PyTorch
    "ALLOCATION_FAILED",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_{HOST,DEVICE}_ALLOCATION_FAILED
)
"""What errors say when memory runs out and the error has no type of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory, or the machine's, ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def free_cache(device: torch.device) -> None:
    """Give back the memory that PyTorch keeps for later use on a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def pick_device(name: str) -> torch.device:
    """Return the device of a name: auto, cpu, cuda, cuda:N or mps. Raises DeviceError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name!r} is not known.", hint=DEVICES_HINT) from error
    if device.type == "cpu":
        return device
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("no Apple GPU is available.", hint="It needs macOS on Apple silicon; use --device cpu.")
        return device
    if device.type != "cuda":
        raise UsageError(f"--device {name!r} is not supported.", hint=DEVICES_HINT)
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available.", hint="Install a CUDA build of PyTorch, or use --device cpu.")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(
            f"there is no {name}, only {torch.cuda.device_count()} CUDA devices.", hint="Use a lower number."
        )
    return device


def pick_precision(name: str, device: torch.device, half: str = "bf16") -> torch.dtype:
    """Return the precision of a name; auto is the fastest that the device computes natively.

    half: bf16 or fp16, in which a model's authors run it on a GPU. Cards that only emulate bfloat16 (Volta, Turing) get
    fp16; Apple's get fp32. Raises UsageError for an unknown name, DeviceError for fp16 on a CPU.
    """
    if name == "auto":
        if device.type == "cuda":
            return PRECISIONS[half] if half == "fp16" or cuda_has_bf16(device) else torch.float16
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name!r} is not known.", hint=f"Use auto, {', '.join(PRECISIONS)}.")
    if name == "int8" and device.type != "cpu":
        raise DeviceError(f"int8 does not run on {device}.", hint="Use --precision auto, or --device cpu.")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 does not run on a CPU.", hint="Use --precision bf16 or fp32.")
    return PRECISIONS[name]


def cuda_has_bf16(device: torch.device) -> bool:
    """Whether a CUDA device multiplies bfloat16 by itself."""
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


def cpu_has_tiles() -> bool:
    """Whether the CPU multiplies whole tiles of bfloat16 at once (AMX), as fast as 8-bit integers without them."""
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
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

    waiting: bytes of weights that will come to the device, or that a CPU's memory in all must hold. On a GPU a share of
    what is free now, PyTorch's own cache included; on a CPU a share of what the machine, or the container, has in all, so
    that the plan does not depend on what else runs.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
        return max(0, int(free * SHARE_OF_FREE_MEMORY) - waiting)
    if device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(0, int(free * SHARE_OF_FREE_MEMORY) - waiting)
    total = total_bytes(device)
    return None if total is None else max(0, int(total * SHARE_OF_MACHINE_MEMORY) - waiting)


def total_bytes(device: torch.device) -> int | None:
    """Memory that a device has in all, whoever uses it: the same at every run. None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return min(total, int(limit)) if limit.isdigit() else total


def auto_batch(window_bytes: int, device: torch.device, waiting: int = 0) -> int:
    """Windows, or tiles, that fit into a CUDA device's free memory together; 1 elsewhere. waiting: see `usable_bytes`."""
    usable = usable_bytes(device, waiting) if device.type == "cuda" else None
    return 1 if usable is None else max(1, min(LARGEST_AUTO_BATCH, usable // max(window_bytes, 1)))


def peak_bytes(device: torch.device) -> int:
    """Most memory in use so far: the device's on CUDA, the process's on a CPU; on Apple's GPUs what is in use now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
