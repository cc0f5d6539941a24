"""Whether a model uses OpenVINO on a processor, and in which precision; PyTorch alone does where it is not there."""

import importlib.util
import logging

import torch

from stvsr_cli.errors import DeviceError
from stvsr_cli.models.contract import OneStepModel, OpenVinoModel
from stvsr_cli.models.fit.device import cpu_has_tiles

logger = logging.getLogger(__name__)

PACKAGE = "openvino"


def use_openvino(model: OneStepModel, device: torch.device, dtype: torch.dtype, asked: str, *, wanted: bool) -> str:
    """Let a model use OpenVINO where it can and the package is installed. Returns in words what it computes in.

    asked: the job's precision; auto is 8 bits but on a processor that multiplies tiles of bfloat16. wanted: whether it may
    at all. Raises DeviceError if 8 bits are asked for and cannot be had.
    """
    plain = str(dtype).removeprefix("torch.")
    installed = importlib.util.find_spec(PACKAGE) is not None
    able = device.type == "cpu" and isinstance(model, OpenVinoModel)
    if asked == "int8" and not (wanted and installed and able):
        raise _no_int8(model, device, able=able, installed=installed)
    if not (wanted and installed and able) or not isinstance(model, OpenVinoModel):
        return plain
    half = dtype == torch.bfloat16
    in_8_bits = asked == "int8" or (asked == "auto" and not (half and cpu_has_tiles()))
    try:
        model.use_openvino(in_8_bits=in_8_bits)
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if asked == "int8":
            raise DeviceError(f"OpenVINO cannot be used: {first}.", hint="Use another --precision.") from error
        logger.warning("OpenVINO cannot be used, and PyTorch does its part: %s", first)
        return plain
    named = plain if not in_8_bits else f"{plain} and int8" if half else "int8"
    return f"{named} by OpenVINO"


def _no_int8(model: OneStepModel, device: torch.device, *, able: bool, installed: bool) -> DeviceError:
    if not able:
        return DeviceError(
            f"int8 is not for the model {model.traits.name} on {device}.", hint="Use it with compact on a CPU."
        )
    if not installed:
        return DeviceError("int8 needs OpenVINO.", hint="Run: pip install 'stvsr[openvino]'")
    return DeviceError("int8 needs --compile auto, which uses OpenVINO.", hint="Leave --compile out.")
