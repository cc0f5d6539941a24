"""The end of the decoder on OpenVINO, for processors: the same network, in float32, bfloat16 or 8-bit integers.

Output pixels are nine tenths of the decoder's work, and each frame's are made by itself, so that one static graph does
for all. What is computed at the end on colours, where 8 bits would show, stays in PyTorch and in float32.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SLOPE, ResidualBlock
from stvsr_cli.models.compact.codec import INPUT_GAIN, Decoder, halved

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What OpenVINO is told to compute in; with 8-bit integers, that is what lies between the convolutions."""
EIGHT_BITS = 256
NARROW = 8
"""Convolutions with fewer channels on either side stay in floating point: in 8 bits they gain nothing, and are the colours' own."""
CLIPPED = 0.7
"""Share of the largest magnitude found at which 8 bits end: what is rare beyond it costs less than coarser steps for all."""
REFINING = "refine."
"""The convolutions that are in 8 bits beside bfloat16: two thirds of the work for a third of the error's energy."""
TRIED_PX = 32
"""Side of the frame that is tried first."""


class OpenVinoPixels:
    """Makes output pixels as `Decoder.pixels` does, each frame by one thread, as many frames at once as there are threads."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype, ranges: Mapping[str, float]) -> None:
        """Take a decoder with its weights as they are now, and try it. dtype: float32 or bfloat16.

        ranges: for 8-bit convolutions, the largest magnitude of what each gets; see `calibrated`. Without, all is dtype.
        """
        self.in_8_bits = bool(ranges)
        self._decoder, self._dtype, self._ranges = decoder, dtype, ranges
        self._compiled: dict[tuple[int, int, int], Any] = {}
        with torch.inference_mode():
            self(
                torch.zeros(1, 3, TRIED_PX, TRIED_PX),
                torch.zeros(1, decoder.enter.out_channels, *[TRIED_PX // decoder.stride] * 2),
            )

    def __call__(self, frames: Tensor, x: Tensor, *, halve: bool = False) -> Tensor:
        """frames: [N, 3, h, w] in [0, 1]; x: [N, width, ., .]. Returns [N, 3, scale * h, scale * w], unclamped, float32.

        halve: as `Decoder.halved_pixels` does.
        """
        scale = self._decoder.scale // (2 if halve else 1)
        output = frames.new_empty(len(frames), 3, *(scale * side for side in frames.shape[-2:]))
        for i, added in enumerate(self._added(frames, x)):
            self._decoder.enlarged(frames[i : i + 1], halved(added) if halve else added, output[i : i + 1])
        return output

    def _added(self, frames: Tensor, x: Tensor) -> Iterator[Tensor]:
        """Yield what `Decoder.added` makes of each frame, [1, 3, scale * h, scale * w]; it is overwritten later."""
        requests = self._requests(*frames.shape[-2:])
        centred = _centred(frames)
        working: deque[Any] = deque()
        for i in range(len(frames)):
            if len(working) == len(requests):
                yield _result(working[0])
                working.rotate(-1)
            else:
                working.append(requests[i])
            working[-1].start_async([centred[i : i + 1], x[i : i + 1].float().contiguous().numpy()])
        for request in working:
            yield _result(request)

    def _requests(self, height: int, width: int) -> list[Any]:
        """One more than there are threads: a result is read while others are made."""
        threads = torch.get_num_threads()
        found = self._compiled.get((height, width, threads))
        if found is None:
            model = _Graph(self._decoder, self._ranges).model(height, width)
            compiled = _compiled(model, HINTS[self._dtype], threads)
            found = self._compiled[height, width, threads] = [
                compiled.create_infer_request() for _ in range(threads + 1)
            ]
        return found


def patterns() -> Tensor:
    """Frames to calibrate with, [1, 3, 3, 96, 96] in [0, 1]: noise of several grains, edges and ramps, at half contrast.

    What the convolutions get of them is about 1.4 times as large as of real clips. At full contrast it is twice that,
    and 8 bits too coarse for what is common.
    """
    generator = torch.Generator().manual_seed(0)
    frames = torch.zeros(3, 3, 96, 96)
    for i, grain in enumerate((1, 2, 4, 12)):
        noise = torch.rand(3, 3, 24 // grain, 96 // grain, generator=generator)
        frames[:, :, 24 * i : 24 * i + 24] = functional.interpolate(noise, (24, 96), mode="nearest")
    ramp = torch.linspace(0, 1, 48)
    frames[..., 48:] = (0.5 * frames[..., 48:] + 0.5 * ramp).round(decimals=1)
    return 0.25 + 0.5 * frames[None]


def calibrated(decoder: Decoder, dtype: torch.dtype, frames: Tensor, x: Tensor) -> dict[str, float]:
    """Where 8 bits end for what the decoder's convolutions get, by name: of all beside float32, else of those that refine.

    frames, x: as `Decoder.added` takes them.
    """
    graph = _Graph(decoder, {})
    model = graph.model(*frames.shape[-2:], with_inputs=True)
    request = _compiled(model, HINTS[torch.float32], 1).create_infer_request()
    found = dict.fromkeys(graph.inputs, 0.0)
    for frame, features in zip(frames.split(1), x.split(1), strict=True):
        request.infer([_centred(frame), features.float().contiguous().numpy()])
        for name, tensor in zip(found, request.output_tensors[1:], strict=True):
            found[name] = max(found[name], float(np.abs(tensor.data).max()))
    begins = "" if dtype == torch.float32 else REFINING
    return {name: CLIPPED * most for name, most in found.items() if name.startswith(begins)}


def _compiled(model: Any, hint: str, threads: int) -> Any:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    return openvino.Core().compile_model(model, "CPU", settings)


def _centred(frames: Tensor) -> np.ndarray:
    return (INPUT_GAIN * (frames.float() - 0.5)).contiguous().numpy()


def _result(request: Any) -> Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor(0).data)


class _Graph:
    """`Decoder.added` in OpenVINO's operations, for one frame."""

    def __init__(self, decoder: Decoder, ranges: Mapping[str, float]) -> None:
        from openvino import opset13

        self._ops, self._decoder, self._ranges = opset13, decoder, ranges
        self._names = {id(layer): name for name, layer in decoder.named_modules()}
        self.inputs: dict[str, Any] = {}
        """What each convolution gets, by its name."""

    def model(self, height: int, width: int, *, with_inputs: bool = False) -> Any:
        """The graph for frames [1, 3, height, width]. with_inputs: what convolutions get is given out, too."""
        import openvino

        ops, decoder = self._ops, self._decoder
        head, stride = decoder.head, decoder.stride
        features = decoder.enlarge.in_channels
        frame = ops.parameter([1, 3, height, width], np.float32)
        x = first = ops.parameter([1, features, height // stride, width // stride], np.float32)
        x = self._blocks(x, decoder.blocks)
        x = ops.depth_to_space(self._conv(x, decoder.enlarge), "depth_first", stride)
        if decoder.look is not None:
            x = ops.add(x, self._conv(frame, decoder.look))
        x = self._blocks(self._rectified(x), decoder.refine)
        x = self._rectified(self._conv(x, decoder.detail))
        leaving = self._conv(x, decoder.leave)
        joined = ops.concat([leaving, self._conv(x, head.beside)], 1)
        hidden = self._rectified(self._conv(self._shuffled(joined), head.across1))
        # shuffled again: a slice of what is shuffled above would keep all of it in float32
        added = ops.add(self._shuffled(leaving), self._conv(hidden, head.across2))
        return openvino.Model([added, *(self.inputs.values() if with_inputs else ())], [frame, first])

    def _blocks(self, x: Any, blocks: nn.Sequential) -> Any:
        for block in blocks:
            if not isinstance(block, ResidualBlock):
                raise TypeError(f"{type(block).__name__} is no residual block")
            x = self._ops.add(self._conv(self._rectified(self._conv(x, block.conv1)), block.conv2), x)
        return x

    def _shuffled(self, x: Any) -> Any:
        return self._ops.depth_to_space(x, "depth_first", self._decoder.head.scale)

    def _rectified(self, x: Any) -> Any:
        return self._ops.prelu(x, self._constant([SLOPE]))

    def _conv(self, x: Any, layer: nn.Conv2d) -> Any:
        ops, name, margin = self._ops, self._names[id(layer)], layer.kernel_size[0] // 2
        weight = layer.weight.detach().float().numpy()
        kernel = self._constant(weight)
        self.inputs[name] = x
        if name in self._ranges and min(weight.shape[:2]) > NARROW:
            top = max(self._ranges[name], 1e-6)
            x = self._in_8_bits(x, -top, top * 127 / 128, EIGHT_BITS)
            widest = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), 1e-9)  # one scale an output channel
            kernel = self._in_8_bits(kernel, -widest, widest, EIGHT_BITS - 1)
        made = ops.convolution(x, kernel, [1, 1], [margin, margin], [margin, margin], [1, 1])
        if layer.bias is None:
            return made
        return ops.add(made, self._constant(layer.bias.detach().float().numpy().reshape(1, -1, 1, 1)))

    def _in_8_bits(self, x: Any, low: Any, high: Any, levels: int) -> Any:
        bounds = (self._constant(low), self._constant(high))
        return self._ops.fake_quantize(x, *bounds, *bounds, levels)

    def _constant(self, values: Any) -> Any:
        return self._ops.constant(np.ascontiguousarray(values, dtype=np.float32))
