from contextlib import nullcontext

import pytest
import torch

from stvsr_cli.errors import DeviceError, UsageError
from stvsr_cli.models.catalogue import MODELS
from stvsr_cli.models.fit import device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_names_of_devices():
    assert device.pick_device("cpu") == CPU
    assert device.pick_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "xpu", ""):
        with pytest.raises(UsageError, match="is not (known|supported)"):
            device.pick_device(name)


def test_an_apple_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no Apple GPU"):
        device.pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * 2**30)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2 * 2**30)
    mps = device.pick_device("mps")
    assert mps.type == "mps" and device.pick_precision("auto", mps) == torch.float32
    assert device.pick_precision("fp16", mps) == torch.float16
    assert device.usable_bytes(mps, 2**30) == int(0.8 * 8 * 2**30) - 2**30
    assert device.auto_batch(2**30, mps) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match="no CUDA device"):
        device.pick_device("cuda")


def test_precisions(monkeypatch):
    assert device.pick_precision("fp32", CPU) == torch.float32
    assert device.pick_precision("bf16", CPU) == torch.bfloat16
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    assert device.pick_precision("auto", CPU) == torch.float32
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    assert device.pick_precision("auto", CPU) == torch.bfloat16
    with pytest.raises(DeviceError, match="CPU"):
        device.pick_precision("fp16", CPU)
    with pytest.raises(UsageError, match="fp8"):
        device.pick_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("computes_bf16", "half", "wanted"),
    [(True, "bf16", torch.bfloat16), (True, "fp16", torch.float16), (False, "bf16", torch.float16)],
)
def test_cards_that_only_emulate_bf16_get_fp16(monkeypatch, computes_bf16, half, wanted):
    """Turing and Volta say that they support bfloat16, and mean that they emulate it."""
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes_bf16
    )
    assert device.pick_precision("auto", CUDA, half) == wanted
    assert device.pick_precision("bf16", CUDA, half) == torch.bfloat16


def test_the_models_run_as_their_authors_do():
    assert {name: entry.half for name, entry in MODELS.items()} == {
        "compact": "bf16", "linear": "bf16", "osdenhancer": "bf16", "dloral": "fp16", "diffst": "bf16"}  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.04 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_runs_out_in_many_words(error):
    assert device.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: device-side assert"),
        ValueError("CUDA out of memory"),
    ],
)
def test_other_failures_do_not_count(error):
    assert not device.is_out_of_memory(error)


def test_the_allocators_cache_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 80000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 9500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 500)
    assert device.usable_bytes(CUDA) == 8000
    assert device.usable_bytes(CUDA, 9000) == 0
    assert device.auto_batch(2000, CUDA) == 4


def test_batches_and_memory_on_a_cpu(tmp_path, monkeypatch):
    assert device.auto_batch(1, CPU) == 1
    whole = device.usable_bytes(CPU)
    assert whole is None or whole > 2**28
    limit = tmp_path / "memory.max"
    limit.write_text("1000\n")
    monkeypatch.setattr(device, "CGROUP_LIMIT", limit)
    assert device.usable_bytes(CPU) == 600
    limit.write_text("max\n")
    assert device.usable_bytes(CPU) >= whole
    assert device.pick_threads(3) == 3 and device.pick_threads(0) >= 1


@pytest.mark.gpu
def test_batches_and_memory_on_a_gpu():
    cuda = device.pick_device("cuda")
    assert device.usable_bytes(cuda) > 2**30
    assert device.auto_batch(2**20, cuda) == device.LARGEST_AUTO_BATCH
    assert device.auto_batch(2**60, cuda) == 1
    assert device.pick_precision("fp16", cuda) == torch.float16
