"""The compact network behind the five verbs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.compact.codec import CARD_PIXELS_AT_ONCE
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.denoiser import Conditions
from stvsr_cli.models.compact.expert import Expert
from stvsr_cli.models.compact.network import CompactNetwork, Initialised, Latent
from stvsr_cli.models.compact.openvino_pixels import OpenVinoPixels, calibrated, patterns
from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.dials import Dial
from stvsr_cli.models.layers.checkpoint import load_strict, read_tensors
from stvsr_cli.models.layers.held import hold_weights
from stvsr_cli.models.layers.insertion import keyframe_places
from stvsr_cli.models.layers.settings import refuse_unknown

EXPERT, RESTORER = "expert.", "restorer."
"""Prefixes of the tensors of the detail expert and of the restoration expert; weights may come without them."""
DIALS: tuple[Dial, ...] = ("detail", "restore")
"""Set the strengths of the two."""
RESTORES = (0.15, 0.45)
"""From what degradation of the input on the restoration expert acts, and from what on wholly."""
SINCE = ("decoder.head.",)
"""Parts that weights made before them lack; without weights of their own they change nothing."""
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
BYTES_PER_FRAME_PX, BYTES_PER_PX = 550, 7200
"""Measured bytes in use at once: per input pixel of each output frame, and per input pixel once (bfloat16, CPU)."""
FLOAT_BYTES = 4
KEPT_BYTES = 48
"""Per input pixel of each output frame: the frames, the keyframes and what they differ by, and motion, in float32."""
PROPAGATION_COPIES = 6.3
"""Most features alive at once while they are propagated."""
FLOAT32_MORE = 1.5
"""How much more float32 takes; the output frames are float32 in any case."""


class CompactModel:
    """Space-time super-resolution by the compact network; see `contract.OneStepModel`."""

    def __init__(
        self,
        network: CompactNetwork,
        experts: Sequence[Expert],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """experts: none, that for detail, or that and the one for restoration."""
        config = network.config
        self.traits = Traits(
            name="compact",
            scale=config.scale,
            multiple_px=config.multiple_px,
            minimum_px=config.multiple_px * 2,
            window=9,
            longer_windows=(17, 33),
            overlap=2,
            minimum_window=1,
            join="crossfade",
            tile_px=0,
            tile_overlap_px=32,
            detail=config.detail,
            restores=RESTORES if len(experts) > 1 else None,
            lacks=DIALS[len(experts) :],
            any_moment=True,
            wants_context=config.uses_guidance,
        )
        self.network = network
        self._changes = [expert.changes() for expert in experts]
        self._plain = {n: network.get_parameter(n).clone() for changes in self._changes[:1] for n in changes}
        self._shares = (0.0,) * len(experts)
        self._pixels: OpenVinoPixels | None = None
        hold_weights(network, dtype)
        self.device, self.dtype = device, dtype

    def _set_experts(self, detail: float, restore: float) -> None:
        """Merge the experts at their strengths, if they are not merged so already."""
        shares = (detail, detail * restore)[: len(self._changes)]
        if shares == self._shares:
            return
        for name, weight in self._plain.items():
            merged = weight.clone()
            for share, changes in zip(shares, self._changes, strict=True):
                merged += share * changes[name].view_as(weight)
            self.network.get_parameter(name).data.copy_(merged)
        config, restored = self.network.config, sum(shares[1:])
        self.network.decoder.temporal_filter = config.temporal_filter + restored * (
            config.restored_temporal_filter - config.temporal_filter
        )
        self._shares = shares
        if self._pixels is not None:
            self._pixels = self._on_openvino(in_8_bits=self._pixels.in_8_bits)

    def use_openvino(self, *, in_8_bits: bool) -> None:
        """See `contract.OpenVinoModel`: from now on the pixels are made there."""
        self._set_experts(self.network.config.detail, 0.0)
        self._pixels = self._on_openvino(in_8_bits=in_8_bits)

    def _on_openvino(self, *, in_8_bits: bool) -> OpenVinoPixels:
        """The decoder's end with the weights as they are; in 8 bits, calibrated on patterns."""
        if not in_8_bits:
            return OpenVinoPixels(self.network.decoder, self.dtype, {})
        with torch.inference_mode(), self._autocast():
            init = self.network.initialise(patterns(), 2)
            x = self.network.carried(init, init.frames[:, ::2])
            ranges = calibrated(self.network.decoder, self.dtype, init.frames.flatten(0, 1), x)
        return OpenVinoPixels(self.network.decoder, self.dtype, ranges)

    @property
    def regions(self) -> list[tuple[nn.Module, str]]:
        """See `contract.RegionModel`: the pixels, a step of both recurrent passes, the flow's similarities."""
        decoder = self.network.decoder
        return [
            (decoder, "pixels"), (decoder, "halved_pixels"), (decoder.backward_pass, "step"), (decoder.forward_pass, "step"),
            (self.network.flow, "similarity"),
        ]  # fmt: skip

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def initialise(self, frames: Tensor, request: Request) -> Initialised:
        """Insert intermediate frames by flow and fusion; frames: [B, T, 3, h, w] in [0, 1]."""
        self._set_experts(request.detail, request.restore)
        with self._autocast():
            frames = frames.to(self.device, torch.float32)
            return self.network.initialise(frames, request.fps_factor, request.moments)

    def encode(self, init: Initialised, request: Request) -> Latent:
        """Latents on 1/8 of the output grid."""
        with self._autocast():
            return self.network.encode(init)

    def condition(self, init: Initialised, latent: Latent, request: Request) -> Conditions:
        """The motion residual, the flow, and global tokens of the whole frames."""
        if request.moments is None:
            keyframes = init.frames[:, :: request.fps_factor]
        else:
            keyframes = init.frames[:, keyframe_places(request.moments)]
        context = keyframes if request.context is None else request.context.to(self.device, torch.float32)
        with self._autocast():
            return self.network.condition(init, context)

    def denoise(self, latent: Latent, condition: Conditions, request: Request) -> Latent:
        """One evaluation of the denoiser."""
        with self._autocast():
            return self.network.denoise(latent, condition)

    def decode(self, latent: Latent, init: Initialised, request: Request) -> Tensor:
        """Output frames [B, T', 3, scale * h, scale * w] in [0, 1], or halved."""
        with self._autocast():
            if self._pixels is None:
                return self.network.decode(latent, init, halved=request.halved).clamp_(0, 1)
            x = self.network.decoder.carried(latent.sample, latent.features, init.motion)
            pixels = self._pixels(init.frames.flatten(0, 1), x, halve=request.halved).unflatten(
                0, init.frames.shape[:2]
            )
            return self.network.decoder.filtered(pixels, init.motion).clamp_(0, 1)

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Upper estimate of the bytes one window needs beyond the weights."""
        return self._window_bytes((num_frames - 1) * fps_factor + 1, height_px, width_px, self.traits.scale)

    def halved_window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """See `contract.HalvingModel`."""
        return self._window_bytes((num_frames - 1) * fps_factor + 1, height_px, width_px, self.traits.scale // 2)

    def _window_bytes(self, count: int, height_px: int, width_px: int, scale: int) -> int:
        if self.device.type != "cpu":
            return self.card_bytes(count, height_px, width_px, scale)
        more = FLOAT32_MORE if self.dtype == torch.float32 else 1
        spared = 3 * FLOAT_BYTES * (self.traits.scale**2 - scale**2)
        return int((count * (BYTES_PER_FRAME_PX - spared) + BYTES_PER_PX) * height_px * width_px * more)

    def card_bytes(self, count: int, height_px: int, width_px: int, scale: int) -> int:
        """Bytes in use at once on a card for so many output frames of a scale, as counted over the tensors.

        Most are there while the decoder makes its pixels: what was made before and the output, for every frame; and what
        is made of the frames that go into one call. Or else while it propagates.
        """
        config, size = self.network.config, self.dtype.itemsize
        height, width = (-(-side // config.multiple_px) * config.multiple_px for side in (height_px, width_px))
        features = config.width * size // config.latent_stride**2
        kept = KEPT_BYTES + 2 * (config.latent_channels * size // config.latent_stride**2 + features)
        output = 3 * FLOAT_BYTES * scale**2
        full_size = 2 * (3 + config.pixel_channels) + config.pixel_width + 16  # channels of all that is held
        at_work = size * (full_size * config.scale**2 + 2 * config.output_width)
        at_once = min(count, max(1, CARD_PIXELS_AT_ONCE // (height * width)))
        made = output * count if at_once < count else 0  # one call's output is counted in it
        pixels = count * features + made + at_once * at_work
        return height * width * (count * kept + max(pixels, int(count * PROPAGATION_COPIES * features)))


def load(weights: Path, device: torch.device, dtype: torch.dtype) -> CompactModel:
    """Load the compact model from a folder with `model.safetensors` and `config.json`, or from the file itself.

    Raises ModelError if a file is missing or does not fit.
    """
    folder = weights if weights.is_dir() else weights.parent
    network = CompactNetwork(read_config(folder / CONFIG_FILE))
    tensors = read_tensors(weights / WEIGHTS_FILE if weights.is_dir() else weights)
    own = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith((EXPERT, RESTORER))}
    new = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(SINCE)}
    load_strict(network, new | own, what="the compact model")
    network.eval().requires_grad_(False)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return CompactModel(network, list(_experts(network, tensors, device)), device, dtype)


def _experts(network: CompactNetwork, tensors: Mapping[str, Tensor], device: torch.device) -> Iterator[Expert]:
    """The experts that weights come with. Raises ModelError if one does not fit."""
    for prefix, what in ((EXPERT, "detail"), (RESTORER, "restoration")):
        given = {name.removeprefix(prefix): t.float() for name, t in tensors.items() if name.startswith(prefix)}
        if not given:
            return
        expert = Expert(network, network.config.detail_rank).to(device)
        places = [str(place) for place, name in enumerate(expert.names) if name.startswith(SINCE)]
        new = {name: tensor for name, tensor in expert.state_dict().items() if name.rpartition(".")[2] in places}
        load_strict(expert, new | given, what=f"the compact model's {what} expert", device=device)
        yield expert.requires_grad_(False)


def write_folder(config: CompactConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a folder that `load` reads, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.detach().half().contiguous().cpu() for name, tensor in tensors.items()}
    save_file(half, folder / WEIGHTS_FILE)
    write_config(config, folder / CONFIG_FILE)


def write_config(config: CompactConfig, path: Path) -> None:
    """Write a configuration that `load` reads."""
    path.write_text(json.dumps(asdict(config), indent=1) + "\n")


def read_config(path: Path) -> CompactConfig:
    """Read what `write_config` wrote; without a file, the default. Raises ModelError if it is damaged."""
    if not path.exists():
        return CompactConfig()
    try:
        table = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path}: {error}.", hint="Restore the file that came with the weights.") from error
    refuse_unknown(table, CompactConfig, f"{path}: unknown settings", ModelError, hint="It belongs to another version.")
    table["flow_widths"] = tuple(table.get("flow_widths", CompactConfig().flow_widths))
    return CompactConfig(**table)
