"""The memory plan: what a model's weights and one window need on the device, part by part, before the first frame."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from stvsr_cli.models.contract import HalvingModel, OneStepModel, PartedModel
from stvsr_cli.models.fit.offload import resident_bytes

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes on the device."""

    weights: Mapping[str, int]
    """By part: of its weights while it runs."""
    window: Mapping[str, int]
    """By part: of one window beyond the weights while it runs."""
    offloaded: bool = False
    """Whether only the weights of the part that runs are there; else all are."""

    @property
    def resident(self) -> int:
        """Most weights there at once."""
        return (max if self.offloaded else sum)([0, *self.weights.values()])

    @property
    def total(self) -> int:
        """Most bytes there at once."""
        return max((self.weights_during(part) + size for part, size in self.window.items()), default=self.resident)

    def weights_during(self, part: str) -> int:
        """Bytes of the weights that are there while a part runs."""
        return self.weights.get(part, 0) if self.offloaded else self.resident


def window_bytes(model: OneStepModel, size: tuple[int, int, int, int], *, halved: bool = False) -> int:
    """Return an upper estimate of the bytes one window needs beyond the weights.

    size: as `plan_memory` takes it. halved: with `Request.halved`, of a `HalvingModel`.
    """
    if halved and isinstance(model, HalvingModel):
        return model.halved_window_bytes(*size)
    return model.window_bytes(*size)


def plan_memory(
    model: OneStepModel,
    num_frames: int,
    height_px: int,
    width_px: int,
    fps_factor: int,
    *,
    halved: bool = False,
    offload: str = "none",
) -> MemoryPlan:
    """Return the plan of a model for windows of a size in input frames and pixels; halved: as `window_bytes` has it."""
    size = (num_frames, height_px, width_px, fps_factor)
    if isinstance(model, PartedModel):
        return MemoryPlan(
            weights=resident_bytes(model.parts, offload), window=model.stage_bytes(*size), offloaded=offload != "none"
        )
    networks = [value for value in vars(model).values() if isinstance(value, nn.Module)]
    held = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    return MemoryPlan(weights={"weights": held}, window={"window": window_bytes(model, size, halved=halved)})


def memory_lines(plan: MemoryPlan, usable: int | None) -> list[str]:
    """Say what a plan comes to: in all, and by part. usable: bytes that weights and a window may take together."""
    of = "" if usable is None else f" of {_size(usable)} that it may take"
    weights = f"weights {_size(plan.resident)}" + (", those not in use in main memory" if plan.offloaded else "")
    lines = [f"{_size(plan.total)} in all{of}: {weights}, one window {_size(max(plan.window.values()))}"]
    if set(plan.window) == {"window"}:
        return lines
    for part in dict.fromkeys([*plan.weights, *plan.window]):
        kinds = (("weights", plan.weights.get(part)), ("one window", plan.window.get(part)))
        lines.append(f"{part}: " + ", ".join(f"{kind} {_size(size)}" for kind, size in kinds if size is not None))
    return lines


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB else f"{num_bytes / 2**20:.0f} MiB"
