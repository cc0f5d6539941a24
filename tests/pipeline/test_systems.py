"""The three systems through the real command line: the authors' numbers, and a real clip with sound in windows and tiles."""

import os
import subprocess
import sys
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from stvsr_cli.models.diffst import write_folder
from tests.clips import TESTS, make_video, read_frames
from tests.make_checkpoint import make_checkpoint
from tests.models.diffst.tiny import tiny as tiny_diffst
from tests.models.dloral.tiny import tiny_spec

PARITY = TESTS / "parity"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with a tiny checkpoint of each system."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("osdenhancer", "dloral"):
        make_checkpoint(PARITY / f"{name}.json", folder / name)
    (folder / "diffst").mkdir()
    write_folder(tiny_diffst(), folder / "diffst")
    make_checkpoint(tiny_spec(), folder / "small" / "dloral")
    return folder


def upscale(source, target, model, weights, *arguments):
    """Run the command line in its own process, on one thread and without any weights but those named."""
    command = [sys.executable, "-m", "stvsr_cli", "upscale", source, target, "--model", model, "--weights", weights]
    command += ["--device", "cpu", "--precision", "fp32", "--progress", "none", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "STVSR_WEIGHTS": str(target.parent / "none")}
    result = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


def expected_of(name):
    """The fixture's tensors and its metadata."""
    with safe_open(PARITY / f"{name}.safetensors", "pt") as file:
        metadata = file.metadata()
    return load_file(PARITY / f"{name}.safetensors"), metadata


def lossless(path, frames):
    """Write frames [T, 3, h, w] uint8 as a video that keeps them exactly."""
    pictures = [frame.permute(1, 2, 0).numpy() for frame in frames]
    return make_video(path, pictures, codec="ffv1", pix_fmt="bgr0")


def code_values(path):
    """The frames of a video, [T, 3, H, W], in code values."""
    return torch.from_numpy(np.stack(read_frames(path)[0])).movedim(-1, 1).float()


LOSSLESS = ("--cuts", "ignore", "--tile", "off", "--codec", "ffv1", "--pix-fmt", "gbrp")


def test_osdenhancer_gives_the_authors_frames(checkpoints, tmp_path):
    expected, metadata = expected_of("osdenhancer")
    source = lossless(tmp_path / "lr.mkv", expected["lr"])
    upscale(source, tmp_path / "out.mkv", "osdenhancer", checkpoints / "osdenhancer", *LOSSLESS, "--window", "5")
    stride = int(metadata["stride"])
    given = code_values(tmp_path / "out.mkv")
    assert torch.equal(given[-1], given[-2])  # the last frame is held
    given = given[:-1, :, ::stride, ::stride]
    assert given.shape == expected["out"].shape
    assert (given - expected["out"].float() * 255).abs().max() <= 1


def test_dloral_gives_the_authors_frames(checkpoints, tmp_path):
    expected, metadata = expected_of("dloral")
    source = lossless(tmp_path / "lr.mkv", expected["lr"])
    options = ("--fps-factor", "1", "--color-fix", "none", "--prompt", metadata["prompt"])
    upscale(source, tmp_path / "out.mkv", "dloral", checkpoints / "dloral", *LOSSLESS, *options)
    given = code_values(tmp_path / "out.mkv")
    assert given.shape[0] == len(expected["lr"])
    given = given[1:, :, ::4, ::4]  # the authors write no first frame
    assert given.shape == expected["out"].shape
    assert (given - expected["out"].float() * 255).abs().max() <= 1


def piece(path, width, height, rate, seconds):
    """A piece of a real film with its sound, made smaller."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "1", "-i", TESTS / "bunny.mp4"]
    command += ["-t", seconds, "-r", rate, "-vf", f"scale={width}:{height}", "-c:v", "libx264", "-crf", "12"]
    subprocess.run([str(c) for c in [*command, "-c:a", "copy", path]], check=True, capture_output=True)
    return path


def sound(path):
    """Times in seconds and bytes of the packets of the sound, without those that lie before the film."""
    with av.open(str(path)) as container:
        return [
            (p.pts * p.time_base, bytes(p))
            for p in container.demux(container.streams.audio[0])
            if p.size and p.pts >= 0
        ]


def check_clip(source, target, rate, factor):
    """All frames are there, at their times and in their size, and the sound is as it was."""
    before, times, _ = read_frames(source)
    after, new_times, durations = read_frames(target)
    assert len(after) == len(before) * factor
    assert after[0].shape == (before[0].shape[0] * 4, before[0].shape[1] * 4, 3)
    assert new_times == [times[0] + Fraction(i, rate * factor) for i in range(len(after))]
    assert set(durations) == {Fraction(1, rate * factor)}
    assert len({frame.tobytes() for frame in after}) > 1
    packets, kept = sound(source), sound(target)
    assert packets and [data for _, data in kept] == [data for _, data in packets]
    assert all(abs(a - b) < Fraction(1, 1000) for (a, _), (b, _) in zip(packets, kept, strict=True))


def plan_of(source, target, model, weights, *arguments):
    """What `--dry-run` says, by the first word of its lines."""
    command = [sys.executable, "-m", "stvsr_cli", "upscale", source, target, "--model", model, "--weights", weights]
    command += ["--device", "cpu", "--precision", "fp32", "--dry-run", *arguments]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    return {line.split()[0]: line for line in result.stdout.splitlines() if not line.startswith(" ")}


@pytest.mark.parametrize(
    ("model", "weights", "height", "rate", "window", "extra"),
    [
        ("osdenhancer", "osdenhancer", 16, 6, 5, ()),
        # every frame is enlarged to 512 pixels and retrieved from at 4096 positions, so tiny networks do not help
        pytest.param("dloral", "small/dloral", 64, 5, 4, ("--prompt", "a rabbit"), marks=pytest.mark.slow),
        ("diffst", "diffst", 16, 8, 5, ("--vae-tile", "64")),
    ],
)
def test_three_seconds_of_a_real_clip_come_out_in_windows_and_tiles(
    model, weights, height, rate, window, extra, checkpoints, tmp_path
):
    source = piece(tmp_path / "in.mp4", 72, height, rate, 3)
    options = ("--tile", "64", "--window", window, "--overlap", window // 2, "--preset", "ultrafast", *extra)
    said = plan_of(source, tmp_path / "out.mp4", model, checkpoints / weights, *options)
    assert int(said["windows"].split()[1]) > 3 and said["tiles"].split()[1:5] == ["2", "of", "64", "px,"]
    assert "GiB that it may take" in said["memory"]
    said = upscale(source, tmp_path / "out.mp4", model, checkpoints / weights, *options, "-v")
    assert f"{3 * rate} -> {6 * rate} frames" in said
    check_clip(source, tmp_path / "out.mp4", rate, 2)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["osdenhancer", "diffst"])
def test_three_seconds_at_the_full_rate(model, checkpoints, tmp_path):
    source = piece(tmp_path / "in.mp4", 72, 32, 25, 3)
    upscale(source, tmp_path / "out.mp4", model, checkpoints / model, "--tile", "64", "--window", "9")
    check_clip(source, tmp_path / "out.mp4", 25, 2)
