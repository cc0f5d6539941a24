"""How far many GPUs help: what the program does beside them is measured here, the rest is calculated.

    python -m tests.benchmark.scaling --fps 30 670         # what bounds 8, 64 and 1,000 GPUs of such speeds
    python -m tests.benchmark.scaling --pairs 3            # two workers of one core against one, on this machine

Measured, as processor time of one core, are the scan that finds the pieces, what is done for each piece that comes back
(checking it, putting it on disk to stay, the journal), joining, and what each file of a batch takes. `--fps` is what
one GPU makes, in output frames a second. The calculation gives the longest piece to whoever is free, as the pool does.
"""

import argparse
import heapq
import pickle
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from stvsr_cli import Job
from stvsr_cli.durable.journal import Journal
from stvsr_cli.durable.manifest import file_identity
from stvsr_cli.durable.segments import SegmentWriter
from stvsr_cli.engine.ray.cluster import RayConfig
from stvsr_cli.engine.ray.pieces import Made
from stvsr_cli.job.cutter import Cutter
from stvsr_cli.job.stretches import Stretches
from stvsr_cli.job.timeline import Timeline
from stvsr_cli.job.windows import WindowConfig
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.glances import Glance, chunks_of, joined_moments
from stvsr_cli.media.read.moments import Moment, moments
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.read.shots import Change
from stvsr_cli.media.write.mux import OutputFile, OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline import distributed
from stvsr_cli.pipeline.scan import CHUNK_FRAMES
from tests.clips import make_video, pattern

RATE, FACTOR, SEGMENT = 24, 2, 240
TIMELINE = Timeline(multiple=Fraction(FACTOR), factor=FACTOR)
WINDOWS = WindowConfig(size=17, overlap=4)
START_S = 20.0
"""Ray, PyTorch and the model, until the first piece begins."""
SHARED = 250 / CHUNK_FRAMES
"""Share of a chunk that is decoded twice where keyframes are 250 frames apart, as x264 lets them be."""
SHOT = 100
"""Frames of a shot: about four seconds, as films have them."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What the program itself takes, in seconds of one core."""

    scan: float
    """A source frame."""
    merge: float
    """A source frame, of what is found in chunks; the program's own core."""
    keep: float
    """A segment that has come back."""
    join: float
    """An output frame."""
    file: float
    """A file of a batch that is made in one piece."""


def film(path, width, height, count, shot=SHOT):
    """A clip of moving pictures, as x264 compresses it."""
    pictures = [pattern(i, width, height, 3)[:, :, [i // shot % 3, (i // shot + 1) % 3, 2]] for i in range(count)]
    return make_video(path, pictures, rate=RATE, options={"preset": "medium"})


def measured(width, height, scale):
    """The program's own stages for a video of a size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = film(folder / "in.mp4", width, height, SEGMENT // FACTOR)
        info = probe(source)
        known = []
        scan = spent(lambda: known.extend(moments(info, start=None, end=None, threads=1, mode="hold"))) / len(known)
        merge = spent(lambda: merged(info)) / len(known)
        keep, join = kept(folder, source, scale)
        file = spent(lambda: (probe(source), file_identity(source), distributed.check_target(folder / "x.mp4", source,
                                                                                             overwrite=False)))  # fmt: skip
    return Stages(scan=scan, merge=merge, keep=keep, join=join, file=file)


def spent(function):
    """Seconds of the processor that a call takes."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def merged(info):
    """Cut a video into chunks and put together what was found of them, as the program does beside the tasks."""
    chunks = chunks_of(info, 10**9)
    found = [Glance(1, 1, Change(0.1, 0.1)) for _ in chunks[0].stamps]
    list(joined_moments(chunks, pickle.loads(pickle.dumps([found])), mode="hold"))


def kept(folder, source, scale):
    """Seconds to keep a segment that has come back, and seconds to join an output frame."""
    info = probe(source)
    large = probe(film(folder / "large.mp4", info.width * scale, info.height * scale, SEGMENT // FACTOR))
    spec = OutputSpec(width=large.width, height=large.height, pix_fmt="yuv420p", time_base=info.time_base,
                      rate=info.average_rate, color=large.color)  # fmt: skip
    like = (folder / "out.mp4", info, spec, EncoderConfig(preset="veryfast"))
    stretch = next(
        Stretches(Cutter(windows=WINDOWS, batch=1, num_frames=SEGMENT), TIMELINE).of([Moment(0, 1, True, 0)])
    )
    with Journal(folder / "out.mp4", {}, in_order=False) as journal, OutputFile(*like, part=journal.part) as out:
        writer = SegmentWriter(journal.folder / "made.segment", *like)
        for frame in decode(large):
            writer.write(frame.picture, frame.pts, frame.duration)
        segment = writer.finish()
        made = Made(segment=segment, data=(journal.folder / segment.name).read_bytes())
        keep = spent(lambda: distributed.keep(made, stretch, journal))
        join = spent(lambda: journal.join_into(out)) / segment.num_frames
    return keep, join


def film_s(stages, num_frames, gpus, fps, scan_cores):
    """Seconds for one film, and what bounds it. scan_cores: 1: the program scans by itself."""
    scan = stages.scan if scan_cores == 1 else max(stages.merge, (1 + SHARED) * stages.scan / scan_cores)
    cutter = Cutter(windows=WINDOWS, batch=1, num_frames=SEGMENT)
    shots = (Moment(index, 1, index % SHOT == 0, 0) for index in range(num_frames))
    free = [START_S] * gpus
    finished = kept = busy = 0.0
    for stretch in Stretches(cutter, TIMELINE).of(shots):
        found = START_S + stretch.seen * scan
        work = FACTOR * stretch.num_seen / fps
        busy += work
        end = max(heapq.heappop(free), found) + work
        heapq.heappush(free, end)
        kept = max(kept, end) + stages.keep
        finished = max(finished, kept)
    join = num_frames * FACTOR * stages.join
    bounds = {"GPUs": START_S + busy / gpus, "scan": START_S + num_frames * scan,
              "start": 2 * START_S, "join": 2 * join}  # fmt: skip
    return finished + join, max(bounds, key=bounds.get)


def batch_s(stages, num_files, num_frames, gpus, fps):
    """Seconds for a batch of files in one piece each, and what bounds it."""
    work = FACTOR * num_frames / fps
    free = [START_S] * gpus
    for number in range(num_files):
        begin = max(heapq.heappop(free), START_S + number * stages.file)
        heapq.heappush(free, begin + work)
    bounds = {"GPUs": num_files * work / gpus, "program": num_files * stages.file, "start": START_S}
    return max(free), max(bounds, key=bounds.get)


def calculate(stages, speeds, counts, minutes, files, cores):
    """Print what a film and a batch take. cores: those that scan, for each GPU; 0: one in all."""
    frames = minutes * 60 * RATE
    one = f"film of {minutes} min"
    many = f"{files} clips of 10 s"
    print(
        f"{'a GPU makes':>12} {'GPUs':>6} | {one:>16} {'speed-up':>9}  bound by | {many:>20} {'speed-up':>9}  bound by"
    )
    for fps in speeds:
        alone = film_s(stages, frames, 1, fps, max(1, cores))[0]
        alone_batch = batch_s(stages, files, 10 * RATE, 1, fps)[0]
        for gpus in counts:
            seconds, bound = film_s(stages, frames, gpus, fps, max(1, cores * gpus))
            batch, why = batch_s(stages, files, 10 * RATE, gpus, fps)
            print(f"{fps:>8g} fps {gpus:>6} | {seconds:>14.0f} s {alone / seconds:>9.1f}  {bound:<8} | "
                  f"{batch:>18.0f} s {alone_batch / batch:>9.1f}  {why}")  # fmt: skip


def pairs(count, frames, width, height):
    """Time two workers of one core against one, in turns, on this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = film(folder / "in.mp4", width, height, frames, shot=30)
        job = Job(input=source, output=folder / "out.mp4", threads=1, device="cpu", overwrite=True, segment_frames=SEGMENT // 2,
                  encoder=EncoderConfig(preset="ultrafast", threads=1))  # fmt: skip
        spent = {1: [], 2: []}
        with distributed.workers(RayConfig(address="local", workers=2), job) as crew:
            while any(seat.facts is None for seat in crew.pool.seats):
                time.sleep(0.1)
            for number in range(count):
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    idle = crew.pool.seats[workers:]
                    facts = [seat.facts for seat in idle]
                    for seat in idle:
                        seat.facts = None
                    begin = time.perf_counter()
                    report = distributed.distribute(replace(job, output=folder / f"{workers}.mp4"), crew)
                    spent[workers].append(time.perf_counter() - begin)
                    for seat, fact in zip(idle, facts, strict=True):
                        seat.facts = fact
                    print(f"{workers} workers: {spent[workers][-1]:6.1f} s, {report.frames_out} frames", flush=True)
        ratios = [one / two for one, two in zip(spent[1], spent[2], strict=True)]
        print(f"speed-up of two: median {statistics.median(ratios):.2f}, each {[round(r, 2) for r in ratios]}")
        same = (folder / "1.mp4").read_bytes() == (folder / "2.mp4").read_bytes()
        print("the same bytes" if same else "NOT the same bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fps", type=float, nargs="+", default=[1, 30, 670], help="output frames a second of one GPU")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 1000])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 270), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--scan-cores", type=int, default=4, help="spare cores for each GPU; 0: one in all")
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--pairs", type=int, help="time so many pairs on this machine instead")
    parser.add_argument("--frames", type=int, default=240, help="source frames of the clip that pairs are timed with")
    arguments = parser.parse_args()
    width, height = arguments.size
    if arguments.pairs:
        pairs(arguments.pairs, arguments.frames, width, height)
        return
    stages = measured(width, height, arguments.scale)
    print(f"{width}x{height} to {width * arguments.scale}x{height * arguments.scale}, one core of this machine: "
          f"scan {stages.scan * 1e3:.2f} ms a source frame, of which {stages.merge * 1e3:.3f} ms stay where tasks scan, keep {stages.keep * 1e3:.1f} ms a segment, "
          f"join {stages.join * 1e3:.3f} ms a frame, {stages.file * 1e3:.1f} ms a file")  # fmt: skip
    calculate(stages, arguments.fps, arguments.gpus, arguments.minutes, arguments.files, arguments.scan_cores)


if __name__ == "__main__":
    main()
