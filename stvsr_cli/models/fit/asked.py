"""How a large model is to fit a small device, as people ask for it."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from stvsr_cli.errors import UsageError

Offload = Literal["none", "model", "sequential"]
Quantize = Literal["none", "int8", "fp8"]
Attention = Literal["sdpa", "auto", "flash", "sage"]
KINDS = {"offload": Offload, "quantize": Quantize, "attention": Attention}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Options for small devices, of models that have parts."""

    offload: Offload = "none"
    """Which weights wait in main memory until they are used: no network's, all but one network's, all but a block's."""
    quantize: Quantize = "none"
    """How the denoiser's weights are kept."""
    attention: Attention = "sdpa"
    """Which kernel computes attention."""

    def __post_init__(self) -> None:
        for name in KINDS:
            check_kind(name, getattr(self, name))

    @property
    def given(self) -> list[str]:
        """Names of the options that differ from their defaults."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]


def check_kind(name: str, kind: str) -> None:
    """Raise UsageError for a value that the option of a name does not have."""
    kinds = get_args(KINDS[name])
    if kind not in kinds:
        raise UsageError(f"--{name} {kind!r} is not known.", hint=f"Use {', '.join(kinds)}.")
