"""OpenVINO is used where it can be, and what is said where it cannot."""

import pytest
import torch

from stvsr_cli.errors import DeviceError
from stvsr_cli.models import linear
from stvsr_cli.models.fit import openvino
from stvsr_cli.models.fit.openvino import use_openvino

CPU = torch.device("cpu")


class Able(linear.LinearModel):
    """Takes note of what it is told."""

    def __init__(self, error=None):
        super().__init__(CPU)
        self.told, self.error = None, error

    def use_openvino(self, *, in_8_bits):
        if self.error is not None:
            raise self.error
        self.told = in_8_bits


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(openvino, "PACKAGE", "json")


@pytest.mark.parametrize(
    ("dtype", "tiles", "asked", "in_8_bits", "said"),
    [
        (torch.bfloat16, True, "auto", False, "bfloat16 by OpenVINO"),
        (torch.bfloat16, False, "auto", True, "bfloat16 and int8 by OpenVINO"),
        (torch.bfloat16, False, "bf16", False, "bfloat16 by OpenVINO"),
        (torch.float32, False, "auto", True, "int8 by OpenVINO"),
        (torch.float32, True, "fp32", False, "float32 by OpenVINO"),
        (torch.float32, True, "int8", True, "int8 by OpenVINO"),
    ],
)
def test_the_precision_is_what_the_processor_or_the_user_wants(dtype, tiles, asked, in_8_bits, said, monkeypatch):
    model = Able()
    monkeypatch.setattr(openvino, "cpu_has_tiles", lambda: tiles)
    assert use_openvino(model, CPU, dtype, asked, wanted=True) == said
    assert model.told == in_8_bits


def test_without_it_pytorch_does_all(monkeypatch, caplog):
    model = Able()
    assert use_openvino(model, CPU, torch.float32, "auto", wanted=False) == "float32"
    assert use_openvino(linear.LinearModel(CPU), CPU, torch.float32, "auto", wanted=True) == "float32"
    monkeypatch.setattr(openvino, "PACKAGE", "no_such_package")
    assert use_openvino(model, CPU, torch.float32, "auto", wanted=True) == "float32"
    assert model.told is None and not caplog.messages


def test_one_that_is_broken_is_said_in_a_line(caplog):
    model = Able(RuntimeError("no plugin\nat line 5"))
    assert use_openvino(model, CPU, torch.float32, "auto", wanted=True) == "float32"
    assert caplog.messages == ["OpenVINO cannot be used, and PyTorch does its part: no plugin"]
    with pytest.raises(DeviceError, match="cannot be used: no plugin"):
        use_openvino(model, CPU, torch.float32, "int8", wanted=True)


def test_eight_bits_that_cannot_be_had_are_refused(monkeypatch):
    with pytest.raises(DeviceError, match="not for the model linear"):
        use_openvino(linear.LinearModel(CPU), CPU, torch.float32, "int8", wanted=True)
    with pytest.raises(DeviceError, match="--compile auto"):
        use_openvino(Able(), CPU, torch.float32, "int8", wanted=False)
    monkeypatch.setattr(openvino, "PACKAGE", "no_such_package")
    with pytest.raises(DeviceError, match="needs OpenVINO"):
        use_openvino(Able(), CPU, torch.float32, "int8", wanted=True)
