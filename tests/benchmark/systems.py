"""One window of each system with random weights: seconds by stage, frames per second, memory, and the ratio to its floor.

    python -m tests.benchmark.systems --size full                 # 480x270, 25 -> 49 frames, bf16, on a GPU
    python -m tests.benchmark.systems --size tiny --device cpu    # a rehearsal: the same code in a minute

The floor is the number of operations of matrix products, convolutions and attention (`torch.utils.flop_counter`) over
the rate at which this device multiplies large matrices in the same precision.
"""

import argparse
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from stvsr_cli.models.contract import Request
from stvsr_cli.models.fit.asked import Fit
from stvsr_cli.models.fit.device import PRECISIONS, peak_bytes, pick_device
from stvsr_cli.models.fit.fit import fit_model, loading_device, offload_on
from stvsr_cli.models.fit.memory import plan_memory
from tests.benchmark import live_memory
from tests.benchmark.full_size import build

SYSTEMS = ("osdenhancer", "dloral", "diffst")
WINDOWS = {"full": (25, 270, 480), "tiny": (3, 16, 32)}
"""Source frames, height and width."""
FPS_FACTOR = 2
VERBS = ("initialise", "encode", "condition", "denoise", "decode")


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device, dtype):
    """Operations per second of the product of two square matrices."""
    side, times = (8192, 20) if device.type == "cuda" else (1024, 3)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    a @ b
    synchronise(device)
    begin = time.perf_counter()
    for _ in range(times):
        a @ b
    synchronise(device)
    return 2 * side**3 * times / (time.perf_counter() - begin)


@torch.inference_mode()
def one_window(model, frames, device):
    """Seconds by verb, and the number of output frames."""
    request, seconds = Request(fps_factor=FPS_FACTOR), {}

    def timed(verb, *inputs):
        begin = time.perf_counter()
        result = getattr(model, verb)(*inputs, request)
        synchronise(device)
        seconds[verb] = time.perf_counter() - begin
        return result

    init = timed("initialise", frames)
    latent = timed("encode", init)
    condition = timed("condition", init, latent)
    clean = timed("denoise", latent, condition)
    return seconds, timed("decode", clean, init).shape[1]


def alive_bytes(model, frames, device):
    """Most bytes of tensors that are alive during one window, weights included."""
    weights = [tensor for part in model.parts.values() for tensor in [*part.parameters(), *part.buffers()]]
    beyond = live_memory.peak_bytes(lambda: one_window(model, frames, device), weights)
    return beyond + sum(tensor.nbytes for tensor in weights)


def measure(name, size, device, dtype, fit, window):
    """The row of one system."""
    model = build(name, size, loading_device(fit, device), dtype)
    fit_model(model, fit, device)
    frames = torch.rand(1, window[0], 3, *window[1:], device=device)
    with FlopCounterMode(display=False) as counter:  # this pass warms up, too
        one_window(model, frames, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, num_frames = one_window(model, frames, device)
    peak = peak_bytes(device) if device.type == "cuda" else alive_bytes(model, frames, device)
    total = sum(seconds.values())
    floor = counter.get_total_flops() / matrix_rate(device, dtype)
    return {
        **{f"{verb} s": seconds[verb] for verb in VERBS},
        "total s": total,
        "frames/s": num_frames / total,
        "peak GiB": peak / 2**30,
        "planned GiB": plan_memory(model, *window, FPS_FACTOR, offload=offload_on(fit, device)).total / 2**30,
        "TFLOP": counter.get_total_flops() / 1e12,
        "floor s": floor,
        "total / floor": total / floor,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--model", choices=SYSTEMS, action="append", help="may be repeated; all by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="bf16")
    parser.add_argument("--window", type=int, nargs=3, metavar=("FRAMES", "HEIGHT", "WIDTH"))
    parser.add_argument("--offload", default="none")
    parser.add_argument("--quantize", default="none")
    parser.add_argument("--attention", default="sdpa")
    arguments = parser.parse_args()
    device, dtype = pick_device(arguments.device), PRECISIONS[arguments.precision]
    fit = Fit(offload=arguments.offload, quantize=arguments.quantize, attention=arguments.attention)
    window = tuple(arguments.window or WINDOWS[arguments.size])
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{what}, {arguments.precision}; {window[0]} frames of {window[2]}x{window[1]}, {arguments.size} size")
    for name in arguments.model or SYSTEMS:
        row = measure(name, arguments.size, device, dtype, fit, window)
        print(f"{name:<12}" + "  ".join(f"{title} {value:.3g}" for title, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
