"""Damaged videos through the real command line: each gives an output that probes clean, or one line and its code.

`python -m tests.fuzz --count 2000 [--seed N]` makes clips in many containers and codecs, damages them (bits flipped,
ends cut off, pieces zeroed, repeated, or taken from another clip), and upscales each in a process of its own with the
linear model. What fails is kept in `--keep`. Exits with 1 if a file makes the program crash, hang, print a traceback,
end with an undocumented code, take more memory than the bound, or leave something behind.
"""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import torch

from stvsr_cli import cli
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import InputError, OutputError
from tests.clips import make_video, pattern
from tests.crash_matrix import say

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CLIPS = {
    "h264.mp4": [],
    "h264.mkv": ["-c", "copy"],
    "h264.flv": ["-c:v", "copy", "-c:a", "copy"],
    "h264.ts": ["-c", "copy"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=none", "-preset", "ultrafast", "-c:a", "copy"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-c:a", "libopus"],
    "vp8.webm": ["-c:v", "libvpx", "-cpu-used", "8", "-c:a", "libvorbis"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-c:a", "libmp3lame"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-c:a", "mp2"],
    "interlaced.ts": ["-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-c:a", "mp2"],
    "prores.mov": ["-c:v", "prores_ks", "-c:a", "pcm_s16le"],
    "mjpeg.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p", "-c:a", "pcm_s16le"],
    "ffv1.nut": ["-c:v", "ffv1", "-c:a", "flac"],
    "wmv2.asf": ["-c:v", "wmv2", "-c:a", "wmav2"],
    "palette.gif": ["-an"],
    "raw.y4m": ["-an", "-pix_fmt", "yuv420p"],
}
"""Clips by name, and how they are made from the first."""
OPTIONS = ["--model", "linear", "--scale", "2", "--preset", "ultrafast", "--threads", "1", "--progress", "none"]
SOUND = re.compile(
    r"\[(aac|vorbis|Vorbis parser|opus|mp2|mp3|mp3float|flac|wmav2|pcm_s16le) @|\s*Last message repeated"
)
"""What FFmpeg says of sound that it looks at on opening a file."""
CODES = (InputError.exit_code, OutputError.exit_code)
"""How the program may end on a damaged file, beside well."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a file may take at most."""

    seconds: float
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the program ended on a file."""

    code: int
    seconds: float
    num_bytes: int
    wrong: str
    line: str
    """What it said at last."""


def make_clips(folder: Path) -> list[Path]:
    """The undamaged clips: 12 frames of 48x32 with sound."""
    first = make_video(folder / "h264.mp4", [pattern(4 * i, 48, 32) for i in range(12)], audio_s=0.5,
                       options={"preset": "ultrafast", "g": "4"})  # fmt: skip
    for name, options in CLIPS.items():
        if options:
            subprocess.run([FFMPEG, "-v", "error", "-y", "-i", first, *options, folder / name], check=True)
    return [folder / name for name in CLIPS]


def damaged(data: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    """How a file is damaged, and what becomes of it. other: a file to take a piece from."""
    kind = rng.choice(("bits", "bits", "header", "cut", "zeros", "repeat", "splice", "join"))
    changed, size = bytearray(data), len(data)
    begin = rng.randrange(size)
    length = rng.randrange(1, max(2, size // 4))
    if kind in ("bits", "header"):
        reach = size if kind == "bits" else min(size, 600)
        for _ in range(rng.choice((1, 2, 4, 16, 64))):
            changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[begin:]
    elif kind == "zeros":
        changed[begin : begin + length] = bytes(len(changed[begin : begin + length]))
    elif kind == "repeat":
        changed[begin:begin] = changed[begin : begin + length]
    elif kind == "splice":
        start = rng.randrange(len(other))
        changed[begin : begin + length] = other[start : start + length]
    else:
        changed[begin:] = other[rng.randrange(len(other)) :]
    return kind, bytes(changed)


def run(source: Path, target: Path, bounds: Bounds) -> Outcome:
    """Upscale a file in a fork of this process, and judge how that ends."""
    log, begin = source.with_name("log"), time.monotonic()
    child = os.fork()
    if child == 0:
        _upscale(source, target, log, bounds)
    status, usage, hung = None, None, False
    while status is None:
        done, ended, spent = os.wait4(child, os.WNOHANG)
        if done:
            status, usage = ended, spent
        elif not hung and time.monotonic() - begin > bounds.seconds:
            hung = True
            os.kill(child, signal.SIGKILL)
        else:
            time.sleep(0.005)
    seconds, code = time.monotonic() - begin, os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    wrong = f"it hung for {bounds.seconds:g} s" if hung else judged(code, text, target)
    num_bytes = usage.ru_maxrss * 1024
    if not wrong and num_bytes > bounds.num_bytes:
        wrong = f"it took {num_bytes / 2**20:.0f} MiB"
    return Outcome(code, seconds, num_bytes, wrong, (text.strip().splitlines() or [""])[-1])


def _upscale(source: Path, target: Path, log: Path, bounds: Bounds) -> None:
    """Be the command line, in the child; never returns."""
    code = 99
    try:
        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(number, 1)
        os.dup2(number, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (4 * bounds.num_bytes, 4 * bounds.num_bytes))
        sys.argv = ["stvsr", "upscale", str(source), str(target), *OPTIONS]
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def judged(code: int, text: str, target: Path) -> str:
    """What is wrong with how the program ended, or nothing. text: what it printed."""
    errors = [line for line in text.splitlines() if line.startswith("stvsr: error:")]
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    if "Traceback" in text:
        return "a traceback"
    if code == 0:
        return "an error though it ended well" if errors else probed(target)
    if code not in CODES:
        return f"exit code {code}"
    if len(errors) != 1:
        return f"{len(errors)} lines of error"
    if target.exists():
        return "an output though it failed"
    kept = journal_folder(target).name
    left = [p.name for p in target.parent.iterdir() if p.name.startswith((".", target.name)) and p.name != kept]
    return f"left behind: {', '.join(left)}" if left else ""


def probed(target: Path) -> str:
    """What FFmpeg itself finds wrong with an output, or nothing. Sound that was damaged is copied as it was."""
    # Each frame at a tick of its own: times are ours to look at, and FFmpeg would round them to the mean rate.
    command = [FFMPEG, "-v", "error", "-xerror", "-i", target, "-map", "0:v:0", "-vf", "setpts=N/25/TB", "-r", "25",
               "-f", "null", "-"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not SOUND.match(line)]
    if done.returncode or lines:
        return f"the output does not probe clean: {' '.join(lines)[:200]}"
    return ""


def main() -> int:
    """Damage and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to run one again")
    parser.add_argument("--seconds", type=float, default=60, help="after which a run hangs")
    parser.add_argument("--mib", type=int, default=1024, help="most memory of a run")
    parser.add_argument("--keep", type=Path, help="folder for the files on which the program failed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    __import__("stvsr_cli.pipeline.work")  # so that forks need not
    bounds = Bounds(options.seconds, options.mib * 2**20)
    root = Path(tempfile.mkdtemp(prefix="stvsr-fuzz-"))
    codes: Counter[int] = Counter()
    failed, slowest, largest = 0, 0.0, 0
    try:
        clips = make_clips(root)
        for number in range(options.first, options.first + options.count):
            rng = random.Random(f"{options.seed} {number}")
            chosen, other = rng.sample(clips, 2)
            kind, data = damaged(chosen.read_bytes(), other.read_bytes(), rng)
            folder = root / "run"
            folder.mkdir()
            source = folder / f"in{chosen.suffix}"
            source.write_bytes(data)
            outcome = run(source, folder / f"out{rng.choice(('.mp4', '.mkv'))}", bounds)
            codes[outcome.code] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.num_bytes)
            if outcome.wrong:
                failed += 1
                say(f"WRONG {number}: {chosen.name} {kind}: {outcome.wrong} | {outcome.line}")
                if options.keep is not None:
                    options.keep.mkdir(exist_ok=True)
                    shutil.copy(source, options.keep / f"{options.seed}-{number}{chosen.suffix}")
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    found = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
    say(f"{options.count - failed} of {options.count} files passed: {found}; "
        f"slowest {slowest:.1f} s, most memory {largest / 2**20:.0f} MiB")  # fmt: skip
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
