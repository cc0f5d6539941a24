import pytest
import torch

from stvsr_cli.errors import DeviceError, UsageError
from stvsr_cli.models.fit import device

CPU = torch.device("cpu")


def test_names_of_devices():
    assert device.pick_device("cpu") == CPU
    assert device.pick_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "mps", ""):
        with pytest.raises(UsageError):
            device.pick_device(name)


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
