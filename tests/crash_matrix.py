"""Ends `stvsr upscale` in every way there is, goes on, and compares with a run that nothing ended.

Run it with `python -m tests.crash_matrix`, or with `--short` for a few of the cases, or with `--model compact`. Each case
is a process of its own, which is killed, interrupted, or meets a fault. No more may be lost than the segment in work;
then the same command runs again, and the decoded frames, their times and the sound must be those of the uninterrupted
run. Exits with 1 if any case fails.
"""

import argparse
import logging
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av.error

from stvsr_cli import cli
from stvsr_cli.durable import segments
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.durable.manifest import read_manifest
from stvsr_cli.media.write import packets
from stvsr_cli.models.compact.model import CompactModel
from stvsr_cli.models.linear import LinearModel
from tests.durable.test_resume import clip, content

MOMENTS = ("segment", "segment written", "manifest", "manifest written", "join", "joined", "renamed",
           "segments removed")  # fmt: skip
RANDOM_KILLS = 10
SHORT = ("kill at manifest written", "kill at joined", "kill after 0.", "full disk", "SIGINT once", "damaged input",
         "closed pipe")  # fmt: skip
NUM_FRAMES = {"linear": 320, "compact": 40}
LARGEST_SEGMENT = 24
"""Most output frames of a segment under `SETTINGS`: 16, and what it takes to the next window."""
WRITTEN = mmap.mmap(-1, 8)
"""Frames that were encoded, counted by the child."""


def say(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class KillAt(logging.Handler):
    """Kills the process when the journal reaches a moment for the second time, or the first where there is one."""

    def __init__(self, moment: str) -> None:
        super().__init__(logging.DEBUG)
        self.left, self.line = (2 if moment.startswith(("segment", "manifest")) else 1), f"journal: {moment}"
        if moment == "segments removed":
            self.left = 1

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self.line:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def failing(function, after: int, error: Exception):
    """The function, which raises from a call on."""
    calls = 0

    def wrapped(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return function(*arguments, **options)

    return wrapped


def hanging(function, after: int):
    """The function, which takes forever from a call on."""
    calls = 0

    def wrapped(*arguments):
        nonlocal calls
        calls += 1
        if calls > after:
            time.sleep(1000)
        return function(*arguments)

    return wrapped


def counting(function):
    """The function, which counts its calls in `WRITTEN`."""

    def wrapped(*arguments):
        function(*arguments)
        WRITTEN[:] = (int.from_bytes(WRITTEN, "little") + 1).to_bytes(8, "little")

    return wrapped


def begin_fault(name: str) -> None:
    """Put a fault into this process. Called in the child only."""
    WRITTEN[:] = bytes(8)
    segments.SegmentWriter.write = counting(segments.SegmentWriter.write)
    if name == "damaged input":
        name = "kill at segment"
    if name.startswith("kill at "):
        logger = logging.getLogger("stvsr_cli.durable.journal")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(KillAt(name.removeprefix("kill at ")))
    elif name == "model exception":
        for model in (LinearModel, CompactModel):
            model.decode = failing(model.decode, 12, RuntimeError("the model broke"))
    elif name == "hanging model":
        for model in (LinearModel, CompactModel):
            model.decode = hanging(model.decode, 12)
    elif name == "encoder error":
        error = av.error.ExternalError(1, "the encoder broke")
        packets.PacketEncoder._packet = failing(packets.PacketEncoder._packet, 60, error)
    elif name == "decoder error":
        from stvsr_cli.engine import handover as run

        run.to_rgb = failing(run.to_rgb, 30, av.error.InvalidDataError(1, "the decoder broke"))
    elif name == "largest file":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


def start(arguments: list[str], fault: str) -> int:
    """Run the command line in a fork with a fault; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        begin_fault(fault)
        sys.argv = ["stvsr", *arguments]
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_it(name: str, arguments: list[str], folder: Path, rng: random.Random, seconds: float) -> int:
    """Run the command so that it ends early. Returns its exit code."""
    child = start(arguments, name)
    number = {"SIGTERM": signal.SIGTERM, "SIGINT once": signal.SIGINT, "SIGINT twice": signal.SIGINT}.get(name)
    if name.startswith("kill after "):
        time.sleep(float(name.removeprefix("kill after ")) * seconds)
        number = signal.SIGKILL
    elif number is not None:
        while not list(folder.glob("*.stvsr/*.segment")):
            time.sleep(0.002)
    if number is not None:
        os.kill(child, number)
    if name == "SIGINT twice":
        time.sleep(0.02)
        os.kill(child, number)
    return wait(child)


def run_case(name: str, clips: "Clips", folder: Path, rng: random.Random) -> str:
    """Run one case. Returns what is wrong, or nothing."""
    folder.mkdir()
    target = folder / "out.mp4"
    source, whole = clips.damaged if name == "damaged input" else clips.intact
    arguments = ["upscale", str(source), str(target), *clips.settings]
    mounted = name == "full disk"
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        timeout = ["--stall-timeout", "2"] if name == "hanging model" else []
        code = end_it(name, [*arguments, *timeout], folder, rng, clips.seconds)
        is_late = name in ("kill at renamed", "kill at segments removed") or name.startswith("kill after")
        if code == 0 and not name.startswith(("kill after", "SIG")):
            return "it was not ended"
        if name in CODES and code != CODES[name]:
            return f"its exit code is {code}"
        if target.exists() and code != 0 and not is_late:
            return "the output is there although the run ended early"
        found = read_manifest(journal_folder(target))
        kept = sum(segment.num_frames for segment, _ in found.segments) if found is not None else 0
        lost = int.from_bytes(WRITTEN, "little") - kept
        if not target.exists() and lost > LARGEST_SEGMENT:
            return f"{lost} frames are lost, more than a segment"
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        was_done = target.exists() and not journal_folder(target).exists()  # killed between its last step and its end
        if code != 0 and not was_done:
            again = wait(start(arguments, ""))
            if again:
                return f"going on ended with {again}"
        if content(target) != whole:
            return "the output differs"
        if journal_folder(target).exists() or len(list(folder.iterdir())) != 1:
            return "something is left beside the output"
        say(f"ok    {name}: exit code {code}, {kept} frames kept, {max(lost, 0)} lost")
        return ""
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def close_pipe(clips: "Clips", folder: Path) -> str:
    """Let the reader of standard output go after some bytes. Returns what is wrong, or nothing."""
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "stvsr_cli",
        "upscale",
        str(clips.intact[0]),
        "-",
        "--format",
        "y4m",
        *clips.settings,
    ]
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    head = process.stdout.read(100_000)
    process.stdout.close()
    errors = process.stderr.read()
    if process.wait() or errors:
        return f"exit code {process.returncode}: {errors.decode()}"
    if len(head) < 100_000 or not whole.startswith(head):
        return "what was read is not the beginning of the whole"
    say(f"ok    closed pipe: exit code 0, {len(whole)} bytes cut to {len(head)}")
    return ""


@dataclass(frozen=True, slots=True)
class Clips:
    """What the cases work on."""

    intact: tuple[Path, object]
    """A video, and what an uninterrupted run makes of it."""
    damaged: tuple[Path, object]
    """Likewise one that cannot be decoded in its middle."""
    settings: list[str]
    seconds: float
    """How long an uninterrupted run takes."""


def make_clips(root: Path, model: str) -> Clips:
    """Make the videos and run each once to its end."""
    settings = ["--model", model, *SETTINGS]
    count = NUM_FRAMES[model]
    intact = clip(root / "in.mp4", count=count, audio_s=count / 25)
    damaged, data = root / "damaged.mp4", bytearray(intact.read_bytes())
    begin = data.index(b"mdat") + 4
    middle = begin + (len(data) - begin) // 3
    data[middle : middle + 1500] = bytes(1500)
    damaged.write_bytes(data)
    made = []
    for source in (damaged, intact):
        target, start_s = root / f"whole_{source.name}", time.perf_counter()
        if wait(start(["upscale", str(source), str(target), *settings], "")):
            raise SystemExit("the uninterrupted run failed")
        made.append((source, content(target)))
    if made[0][1] == made[1][1]:
        raise SystemExit("the damage does not show")
    return Clips(made[1], made[0], settings, time.perf_counter() - start_s)


CODES = {"hanging model": 8, "encoder error": 4, "full disk": 4, "largest file": 4, "SIGTERM": 130, "SIGINT twice": 130}
"""Exit codes that cases must have."""
SETTINGS = ["--preset", "ultrafast", "--segment-frames", "16", "--window", "3", "--threads", "1",
            "--progress", "none", "--no-space-check"]  # fmt: skip


def main() -> int:
    """Run the matrix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a few cases only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", choices=tuple(NUM_FRAMES), default="linear")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = [f"kill after {rng.uniform(0.05, 1):.2f}" for _ in range(RANDOM_KILLS)]
    cases += [f"kill at {moment}" for moment in MOMENTS]
    cases += [
        "SIGTERM",
        "SIGINT once",
        "SIGINT twice",
        "model exception",
        "hanging model",
        "encoder error",
        "decoder error",
    ]
    cases += ["damaged input", "largest file", *(["full disk"] if os.geteuid() == 0 else []), "closed pipe"]
    if options.short:
        cases = [c for c in cases if c.startswith(SHORT) and (not c.startswith("kill after") or c == cases[0])]
    root = Path(tempfile.mkdtemp(prefix="stvsr-crash-"))
    failed = 0
    try:
        clips = make_clips(root, options.model)
        for number, name in enumerate(cases):
            folder = root / str(number)
            wrong = close_pipe(clips, folder) if name == "closed pipe" else run_case(name, clips, folder, rng)
            if wrong:
                failed += 1
                say(f"WRONG {name}: {wrong}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    say(f"{len(cases) - failed} of {len(cases)} cases passed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
