"""What a model's entry in the table says: what it is for, takes and needs, how it is loaded, how it is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stvsr_cli.models.dials import Dial
from stvsr_cli.weights.hub import Source

if TYPE_CHECKING:
    import torch

    from stvsr_cli.models.contract import OneStepModel


ColorFix = Literal["adain", "wavelet", "none"]
Posterior = Literal["mode", "sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Options that only some models have; None leaves a model's own default."""

    prompt: str | None = None
    """Text that the video is described by (dloral)."""
    color_fix: ColorFix | None = None
    """Whose colours the result takes (dloral)."""
    posterior: Posterior | None = None
    """Which latent the autoencoder's posterior gives (osdenhancer, dloral, diffst)."""
    base: Path | None = None
    """Folder of the base model, where it is not beside the weights (dloral)."""
    vae_tile_px: int | None = None
    """Side, in output pixels, of the autoencoder's tiles; 0: whole frames (osdenhancer, dloral, diffst)."""
    aggregation: bool | None = None
    """Whether in-between frames come from context aggregation; False: blends (diffst)."""
    guidance: bool | None = None
    """Whether the whole video guides the transformer; False: nothing does (diffst)."""


FLAGS = {"vae_tile_px": "vae-tile", "aggregation": "no-aggregation", "guidance": "no-guidance"}
"""Flags of options, where they are not their names."""


def flag_of(option: str) -> str:
    """The command line's flag for a field of `ModelOptions`."""
    return "--" + FLAGS.get(option, option.replace("_", "-"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """What a loader is given."""

    weights: Path | None
    """File or folder; None only for a model without."""
    device: "torch.device"
    """Where the model will run."""
    place: "torch.device"
    """Where the weights of a large model are read to; the device itself, unless they are to wait elsewhere."""
    dtype: "torch.dtype"
    """What it computes in."""
    between: Path | None = None
    """The compact model's weights, which make in-between frames for a model that is spatial only."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """By name: the options that were given."""

    @property
    def path(self) -> Path:
        """The weights of a model that does not run without. Raises ValueError if there are none."""
        if self.weights is None:
            raise ValueError("no weights were given")
        return self.weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a model is trained."""

    module: str
    """Module whose `build` makes a stage. Named and not imported: training stands above the models, and uses them."""
    stages: tuple[str, ...]
    """The stages of its recipes, in the order in which they build on each other."""
    start: str = ""
    """File of the model's own weights that a stage can go on from where those of the stage before are not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model by name."""

    name: str
    summary: str
    purpose: str
    """What for, in a few words."""
    licence: str
    load: Callable[[Loading], "OneStepModel"]
    """Loads it; its code is imported then."""
    training: Training | None = None
    """None: there is nothing to train."""
    size: str = "none"
    """Of its weights on disk."""
    memory: str
    """What it takes to run it."""
    origin: str
    """Where the weights come from."""
    source: Source | None = None
    """What of it can be fetched."""
    by_hand: str = ""
    """What else must be done to get the weights, where fetching does not do everything."""
    needs: tuple[str, ...] = ()
    """Patterns of the files without which it does not run, alternatives parted by |; empty: no weights."""
    options: frozenset[str] = frozenset()
    """Fields of `ModelOptions` that it takes."""
    dials: tuple[Dial, ...] = ()
    """Which strengths change its result."""
    detail_at_load: bool = False
    """Whether the detail strength is merged into the weights on loading."""
    half: str = "bf16"
    """bf16 or fp16: what it is computed in on a GPU unless the user says otherwise."""
    large: bool = False
    """Whether --offload, --quantize and --attention are for it."""
    spatial_only: bool = False
    """Whether in-between frames must be made before it, which the compact model's weights do where they are given."""

    @property
    def has_weights(self) -> bool:
        """Whether it needs any."""
        return bool(self.needs)

    @property
    def flags(self) -> list[str]:
        """The command line's flags for the options that it takes."""
        return sorted(flag_of(option) for option in (*self.options, *self.dials))
