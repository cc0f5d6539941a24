"""Ends `stvsr upscale` in every way there is, goes on, and compares with a run that nothing ended.

Run it with `python -m tests.crash_matrix`, or `python -m tests.crash_matrix --short` for a few of the cases. Each case is
a process of its own, which is killed, interrupted, or meets a fault; then the same command runs again, and the
decoded frames, their times and the sound must be those of the uninterrupted run. Exits with 1 if any case fails.
"""

import argparse
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av.error

from stvsr_cli import cli
from stvsr_cli.journal import journal_folder
from stvsr_cli.media import segments
from stvsr_cli.models.linear import LinearModel
from tests.test_resume import clip, content

MOMENTS = ("segment", "segment written", "manifest", "manifest written", "join", "joined", "renamed",
           "segments removed")  # fmt: skip
RANDOM_KILLS = 10
SHORT = ("kill at segment written", "kill at manifest", "kill at joined", "kill at renamed", "kill after 0.", "full disk",
         "SIGINT once")  # fmt: skip
NUM_FRAMES = 160


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


def begin_fault(name: str) -> None:
    """Put a fault into this process. Called in the child only."""
    if name.startswith("kill at "):
        logger = logging.getLogger("stvsr_cli.journal")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(KillAt(name.removeprefix("kill at ")))
    elif name == "model exception":
        LinearModel.decode = failing(LinearModel.decode, 12, RuntimeError("the model broke"))
    elif name == "encoder error":
        segments.to_av = failing(segments.to_av, 100, av.error.InvalidDataError(1, "the encoder broke"))
    elif name == "decoder error":
        from stvsr_cli import run

        run.to_rgb = failing(run.to_rgb, 90, av.error.InvalidDataError(1, "the decoder broke"))
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


def run_case(name: str, source: Path, whole: object, folder: Path, rng: random.Random, seconds: float) -> str:
    """Run one case. Returns what is wrong, or nothing."""
    folder.mkdir()
    target = folder / "out.mp4"
    arguments = ["upscale", str(source), str(target), *SETTINGS]
    mounted = name == "full disk"
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        code = end_it(name, arguments, folder, rng, seconds)
        if code == 0 and not name.startswith(("kill after", "SIG")):
            return "it was not ended"
        if target.exists() and code != 0 and name not in ("kill at renamed", "kill at segments removed"):
            if not name.startswith("kill after"):
                return "the output is there although the run ended early"
        kept = len(list(folder.glob("*.stvsr/*.segment")))
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        if code != 0:
            again = wait(start(arguments, ""))
            if again:
                return f"going on ended with {again}"
        if content(target) != whole:
            return "the output differs"
        if journal_folder(target).exists() or len(list(folder.iterdir())) != 1:
            return "something is left beside the output"
        say(f"ok    {name}: exit code {code}, {kept} segments kept")
        return ""
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


SETTINGS = ["--model", "linear", "--preset", "ultrafast", "--segment-frames", "16", "--window", "3", "--threads", "1",
            "--progress", "none", "--no-space-check"]  # fmt: skip


def main() -> int:
    """Run the matrix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a few cases only")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = [f"kill after {rng.uniform(0.05, 1):.2f}" for _ in range(RANDOM_KILLS)]
    cases += [f"kill at {moment}" for moment in MOMENTS]
    cases += ["SIGTERM", "SIGINT once", "SIGINT twice", "model exception", "encoder error", "decoder error"]
    cases += ["largest file", *(["full disk"] if os.geteuid() == 0 else [])]
    if options.short:
        cases = [c for c in cases if c.startswith(SHORT) and (not c.startswith("kill after") or c == cases[0])]
    root = Path(tempfile.mkdtemp(prefix="stvsr-crash-"))
    failed = 0
    try:
        source = clip(root / "in.mp4", count=NUM_FRAMES, audio_s=6.4)
        begin = time.perf_counter()
        if wait(start(["upscale", str(source), str(root / "whole.mp4"), *SETTINGS], "")):
            raise SystemExit("the uninterrupted run failed")
        seconds = time.perf_counter() - begin
        whole = content(root / "whole.mp4")
        for number, name in enumerate(cases):
            wrong = run_case(name, source, whole, root / str(number), rng, seconds)
            if wrong:
                failed += 1
                say(f"WRONG {name}: {wrong}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    say(f"{len(cases) - failed} of {len(cases)} cases passed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
