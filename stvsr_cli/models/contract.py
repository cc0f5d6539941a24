"""What a model is: its traits, and the five verbs of one-step diffusion.

A window of a video goes through `initialise -> encode -> condition -> denoise -> decode`, in that
order and once each (`models/step.py` does that). Everything between the verbs belongs to the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from stvsr_cli.models.dials import Dial

Init = TypeVar("Init")
Latent = TypeVar("Latent")
Condition = TypeVar("Condition")


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    name: str
    """Name on the command line."""
    scale: int = 4
    """Spatial factor of the network itself; other sizes are resampled from it, or from half of it: see `HalvingModel`."""
    multiple_px: int = 1
    """Input width and height must be multiples of this; the caller pads by replication and removes it exactly."""
    minimum_px: int = 1
    """Smallest input side the model takes; the caller pads up to it."""
    window: int = 7
    """Default source frames per call."""
    longer_windows: tuple[int, ...] = ()
    """Lengths that are taken instead where memory is ample, rising: fewer frames are made twice."""
    overlap: int = 2
    """Default source frames two neighbouring windows share."""
    minimum_window: int = 1
    """Fewest source frames per call; a shorter shot is padded by repeating its last frame."""
    join: Literal["discard", "crossfade"] = "crossfade"
    """How the shared frames of two windows become one: each half from the window in which it lies deeper, or a fade."""
    tile_px: int = 0
    """Default tile side in input pixels; 0: whole frames."""
    tile_overlap_px: int = 16
    """Input pixels two tiles share: at least what the receptive field needs, blended by a ramp."""
    detail: float = 1.0
    """Strength of the detail expert unless the user says otherwise."""
    restores: tuple[float, float] | None = None
    """From what degradation of the input on the restoration expert acts, and from what on wholly, in [0, 1]; None: there is none."""
    lacks: tuple[Dial, ...] = ()
    """Dials of which these weights have no expert."""
    denoiser: str = ""
    """Which of a `PartedModel`'s parts is the denoiser, whose linear layers may be quantized."""
    any_moment: bool = False
    """Whether the model heeds `Request.moments`; others make frames at even steps only."""
    wants_context: bool = False
    """Whether `Request.context` must hold the whole frames of the window while a tile is processed."""

    def restore(self, degradation: float | None) -> float:
        """The `Request.restore` that an input asks for, in tenths. degradation: in [0, 1]; None: it is not known."""
        if self.restores is None or degradation is None:
            return 0.0
        least, most = self.restores
        return round(min(max((degradation - least) / (most - least), 0.0), 1.0), 1)

    def factor(self, request: "Request") -> int:
        """How many times as wide and high as the input the frames are that a request asks for."""
        return self.scale // 2 if request.halved else self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked of a model for one window."""

    fps_factor: int = 2
    """Output frames per input interval, at even steps."""
    moments: tuple[tuple[Fraction, ...], ...] | None = None
    """Where output frames lie in each of the T - 1 input intervals, in (0, 1), rising; None: as `fps_factor` says."""
    detail: float = 1.0
    """Strength of the detail expert in [0, 1]; 0 is faithful, 1 is full."""
    restore: float = 0.0
    """Strength of the restoration expert beside the detail expert, in [0, 1]; 1 is for input that was strongly degraded."""
    halved: bool = False
    """Whether frames of half the model's scale are wanted; of a `HalvingModel` only."""
    seed: int = 0
    """Seed of this call's own generator, for models that sample; equal seeds give equal output."""
    context: Tensor | None = None
    """The window's whole frames, [B, T, 3, h, w] in [0, 1], where `Traits.wants_context` and tiles are in use."""

    def num_outputs(self, num_frames: int) -> int:
        """Output frames that a model makes of so many input frames."""
        if self.moments is None:
            return (num_frames - 1) * self.fps_factor + 1
        return num_frames + sum(len(moments) for moments in self.moments)


class OneStepModel(Protocol[Init, Latent, Condition]):
    """A one-step space-time super-resolution network, loaded on a device.

    Input frames are [B, T, 3, h, w], RGB, float32 in [0, 1], on the model's device. The result of `decode` is
    [B, (T - 1) * fps_factor + 1, 3, scale * h, scale * w], float32, RGB in [0, 1], where frame `k * fps_factor` is
    input frame k; with `Request.moments`, each input frame and after it as many as its interval has moments; with
    `Request.halved`, half as high and wide. Members of a batch never influence each other.
    """

    traits: Traits

    def initialise(self, frames: Tensor, request: Request) -> Init:
        """Return the initial video: intermediate frames inserted, still without new detail."""
        ...

    def encode(self, init: Init, request: Request) -> Latent:
        """Return the initial video's latent, which stands for the noisy latent."""
        ...

    def condition(self, init: Init, latent: Latent, request: Request) -> Condition:
        """Return everything else the denoiser looks at."""
        ...

    def denoise(self, latent: Latent, condition: Condition, request: Request) -> Latent:
        """Return the clean latent from one evaluation of the network."""
        ...

    def decode(self, latent: Latent, init: Init, request: Request) -> Tensor:
        """Return the output frames."""
        ...

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Return an upper estimate of the bytes one window of this size needs beyond the weights."""
        ...


@runtime_checkable
class RegionModel(Protocol):
    """A model that spends its time in a few calls, each of which compiles to one graph."""

    @property
    def regions(self) -> list[tuple[nn.Module, str]]:
        """The calls: methods by their modules and names, which take tensors and return one."""
        ...


@runtime_checkable
class HalvingModel(Protocol):
    """A model that makes frames of half its scale for less work and memory than reducing its own takes."""

    def halved_window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Return what `window_bytes` comes to with `Request.halved`."""
        ...


@runtime_checkable
class OpenVinoModel(Protocol):
    """A model that can hand what costs most on a processor to OpenVINO."""

    def use_openvino(self, *, in_8_bits: bool) -> None:
        """Do so from now on, in the model's own type or in 8 bits. Raises what OpenVINO does where it cannot be used."""
        ...


@runtime_checkable
class PartedModel(Protocol):
    """A model whose networks are used one after the other, so that not all need lie on the device at once."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The networks by name. What the model holds besides them is small, and lies on the device."""
        ...

    def stage_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> Mapping[str, int]:
        """Return the bytes in use beyond the weights while each part runs; `frames` stands for work on pixels alone.

        The largest of them is `window_bytes`.
        """
        ...
