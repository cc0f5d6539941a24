"""The system and the device: Python, PyTorch, processor, memory, cards."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from stvsr_cli import __version__
from stvsr_cli.doctor.check import BAD, GOOD, WARNING, Check
from stvsr_cli.errors import DeviceError
from stvsr_cli.models.fit.device import CGROUP_LIMIT, cpu_has_bf16, pick_threads

OLDEST_PYTHON = (3, 11)
SMALL_MEMORY = 4 * 2**30
"""Bytes of main memory below which full windows are tiled small."""
SMALL_CARD = 4 * 2**30
EXTRAS = {
    "cv2": ("opencv-python-headless", "flicker in `stvsr compare`, and training"),
    "transformers": ("transformers", "the model dloral"),
    "torchao": ("torchao", "--quantize"),
    "flash_attn": ("flash-attn", "--attention flash"),
}
"""Modules that only some uses need: their package, and for what."""
DRIVER = Path("/proc/driver/nvidia/version")


def check_system() -> Iterator[Check]:
    """Look at Python, the program, PyTorch and what may be installed beside."""
    python = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield Check("system", "Python", GOOD, f"{python} on {platform.system()} {platform.machine()}")
    else:
        yield Check("system", "Python", BAD, python, "Install Python 3.11 or newer.")
    yield Check("system", "stvsr", GOOD, __version__)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Check("system", "PyTorch", GOOD, f"{torch.__version__}, {build}")
    for module, (package, purpose) in EXTRAS.items():
        if find_spec(module) is None:
            yield Check("system", package, GOOD, f"not installed; only needed for {purpose}")
        else:
            yield Check("system", package, GOOD, _version(package))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed"


def check_device() -> Iterator[Check]:
    """Look at the processor, the memory and every card."""
    yield Check("device", "processor", GOOD, _processor())
    total, free = memory()
    if total is not None and free is not None:
        said = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of it free"
        if total < SMALL_MEMORY:
            yield Check("device", "memory", WARNING, said, "Frames are cut into small tiles, which is slower.")
        else:
            yield Check("device", "memory", GOOD, said)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _card(number)
        return
    driver = driver_version()
    if driver is None:
        yield Check("device", "graphics card", GOOD, "no NVIDIA card; the processor does the work")
    elif torch.version.cuda is None:
        advice = "Install PyTorch with CUDA: pip install --force-reinstall torch, or see pytorch.org."
        yield Check("device", "graphics card", WARNING, f"a card with driver {driver}, but PyTorch has no CUDA", advice)
    else:
        advice = f"Update the driver: PyTorch wants CUDA {torch.version.cuda}. `nvidia-smi` says what it supports."
        yield Check("device", "graphics card", WARNING, f"driver {driver}, but PyTorch finds no card", advice)


def _processor() -> str:
    name = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    native = "bf16 is native" if cpu_has_bf16() else "no native bf16, so that fp32 is used"
    return f"{name}, {pick_threads(0)} cores, {native}"


def memory() -> tuple[int | None, int | None]:
    """Bytes of main memory in all, within the container's limit, and free; None where that is not known."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None, None
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = os.sysconf("SC_AVPHYS_PAGES") * page if "SC_AVPHYS_PAGES" in os.sysconf_names else total
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        free = int(lines.get("MemAvailable", f"{free // 1024} kB").split()[0]) * 1024
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    total = min(total, int(limit)) if limit.isdigit() else total
    return total, min(free, total)


def driver_version() -> str | None:
    """The version of NVIDIA's driver, or None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "(version unknown)" if DRIVER.exists() else None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "(version unknown)" if DRIVER.exists() else None
    return said[0] if said else None


def _card(number: int) -> Check:
    name = f"cuda:{number}"
    try:
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        torch.ones(8, device=name).sum().item()
    except RuntimeError as error:
        why = (str(error).splitlines() or ["?"])[0]
        return Check("device", name, BAD, why, "Use --device cpu, or see whether `nvidia-smi` works.", DeviceError)
    major, minor = torch.cuda.get_device_capability(number)
    native = "bf16" if torch.cuda.is_bf16_supported() else "fp16, no bf16"
    said = (
        f"{properties.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {native}, compute {major}.{minor}, "
        f"driver {driver_version() or 'unknown'}, CUDA {torch.version.cuda}"
    )
    if free < SMALL_CARD:
        return Check(
            "device", name, WARNING, said, "Little memory is free: end what else uses the card, or expect tiles."
        )
    return Check("device", name, GOOD, said)
