"""A video made in pieces, backwards, is the local engine's, bit for bit; what fails goes on from any pieces there are."""

import json
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from stvsr_cli import upscale
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import Interrupted, OutputError, UsageError
from stvsr_cli.media.write.encode import EncoderConfig
from stvsr_cli.pipeline import distributed, scan
from tests.clips import make_video, pattern
from tests.durable.test_resume import CASES, Failing, clip, content, job_of, loaded
from tests.engine.ray.stand_in import crew, look_here

WINDOWED = {"segment_frames": 12, "window": 3}
NUM_SEGMENTS = 7
"""Of the clip with these settings."""


@pytest.mark.parametrize(
    ("name", "ship"), [*((name, "never") for name in CASES), ("batch", "always"), ("part", "always"), ("shots", "auto")]
)
def test_pieces_give_what_one_run_gives(tmp_path, name, ship):
    source = clip(tmp_path / "in.mp4")
    whole = upscale(job_of(source, tmp_path / "whole.mp4", **CASES[name]), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **CASES[name])
    workers = crew(job, ship=ship)
    shown = []
    report = distributed.distribute(job, workers, progress=shown.append)
    assert len(workers.pool.made) > 2 and workers.pool.made != sorted(workers.pool.made)
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert (report.frames_in, report.frames_out, report.num_shots) == (
        whole.frames_in, whole.frames_out, whole.num_shots
    )  # fmt: skip
    assert shown[-1].phase == "finish" and shown[-1].done == whole.frames_out and shown[-1].workers == {"here": 1.0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


class Stiff(Failing):
    """A model that makes frames at even steps only."""

    def __init__(self, at=10**9):
        super().__init__(at)
        self.traits = replace(self.traits, any_moment=False)


@pytest.mark.parametrize("name", ["rate", "rate, batch", "low rate", "multiple"])
def test_frames_nearest_to_their_times_are_the_same_in_pieces(tmp_path, name):
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "whole.mp4", **CASES[name]), loaded=loaded(Stiff()))
    job = job_of(source, tmp_path / "out.mp4", **CASES[name])
    distributed.distribute(job, crew(job, model=Stiff()))
    again = job_of(source, tmp_path / "again.mp4", **CASES[name])
    with pytest.raises(RuntimeError):
        upscale(again, loaded=loaded(Stiff(at=9)))
    upscale(again, loaded=loaded(Stiff()))
    assert content(tmp_path / "whole.mp4") == content(job.output) == content(again.output)


@pytest.mark.parametrize("ship", ["never", "always"])
def test_a_small_file_is_one_piece(tmp_path, ship):
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "whole.mp4"), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4")
    workers = crew(job, ship=ship)
    report = distributed.distribute(job, workers)
    assert not workers.pool.made and report.output.path == job.output
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_run_goes_on_from_segments_out_of_order(tmp_path):
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **WINDOWED)
    with pytest.raises(RuntimeError, match="the cluster broke"):
        distributed.distribute(job, crew(job, most=3))
    manifest = json.loads((journal_folder(job.output) / "manifest.json").read_text())
    assert len(manifest["ahead"]) == 3 and not manifest["segments"] and not job.output.exists()
    harmed = journal_folder(job.output) / next(iter(manifest["ahead"].values()))["name"]
    harmed.write_bytes(harmed.read_bytes()[:-1])
    workers = crew(job)
    distributed.distribute(job, workers)
    assert len(workers.pool.made) == NUM_SEGMENTS - 2
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("first", ["local", "ray"])
def test_either_engine_goes_on_after_the_other(tmp_path, first):
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **WINDOWED)
    if first == "local":
        with pytest.raises(RuntimeError):
            upscale(job, loaded=loaded(Failing(at=17)))
        workers = crew(job)
        distributed.distribute(job, workers)
        assert 0 < len(workers.pool.made) < NUM_SEGMENTS
    else:
        with pytest.raises(RuntimeError):
            distributed.distribute(job, crew(job, most=3))
        upscale(job, loaded=loaded())
    assert content(job.output) == content(tmp_path / "whole.mp4")
    assert not journal_folder(job.output).exists()


def test_the_stop_keeps_what_is_made(tmp_path):
    source = clip(tmp_path / "in.mp4")
    job = job_of(source, tmp_path / "out.mp4", **WINDOWED)
    stop = threading.Event()
    with pytest.raises(Interrupted, match="are kept in"):
        distributed.distribute(job, crew(job, most=2, stop=stop), stop=stop)
    assert len(list(journal_folder(job.output).glob("*.segment"))) == 2
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    distributed.distribute(job, crew(job))
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


class Hungry(Failing):
    """A model that runs out of memory with more than one window."""

    def initialise(self, frames, request):
        if frames.shape[0] > 1:
            raise RuntimeError("can't allocate memory")
        return super().initialise(frames, request)


def test_out_of_memory_halves_the_batch_and_nothing_else(tmp_path):
    source = clip(tmp_path / "in.mp4")
    changes = {"segment_frames": 10, "window": 3, "overlap": 2, "batch": 4}
    upscale(job_of(source, tmp_path / "whole.mp4", **changes), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **changes)
    workers = crew(job, model=Hungry())
    distributed.distribute(job, workers)
    assert workers.pool.seats[0].halvings == 2
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("changes", [{"resume": "never"}, {"input": "-"}, {"output": "out.png"}])
def test_what_is_no_file_is_refused(tmp_path, changes):
    job = job_of(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    changed = {name: Path(value) if name != "resume" else value for name, value in changes.items()}
    with pytest.raises(UsageError, match="--engine ray"):
        distributed.distribute(replace(job, **changed), crew(job))


def test_an_output_that_exists_is_left(tmp_path):
    job = job_of(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    job.output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        distributed.distribute(job, crew(job))
    assert job.output.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", ".mp4", {"g": "8", "bf": "3", "x264-params": "open-gop=1"}),
        ("libx265", ".mkv", {"x265-params": "log-level=error:keyint=8:open-gop=1"}),
        ("mpeg2video", ".ts", {"g": "6", "bf": "2"}),
        pytest.param("libvpx-vp9", ".mkv", {"g": "8", "auto-alt-ref": "1"}, marks=pytest.mark.slow),
        pytest.param("mpeg4", ".avi", {"g": "5", "bf": "2"}, marks=pytest.mark.slow),
        pytest.param("ffv1", ".mkv", {}, marks=pytest.mark.slow),
        pytest.param("mjpeg", ".avi", {}, marks=pytest.mark.slow),
    ],
)
def test_packets_of_every_kind_travel(tmp_path, codec, suffix, options):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    pictures = [pattern(7 * i, 64, 48) for i in range(40)]
    source = make_video(tmp_path / f"in{suffix}", pictures, codec=codec, options=options, pix_fmt=pix_fmt)
    changes = {"segment_frames": 12, "window": 3, "encoder": EncoderConfig(preset="ultrafast"), "scale": Fraction(1)}
    upscale(job_of(source, tmp_path / "whole.mkv", **changes), loaded=loaded())
    for ship in ("never", "always"):
        job = job_of(source, tmp_path / f"{ship}.mkv", **changes)
        workers = crew(job, ship=ship)
        distributed.distribute(job, workers)
        assert len(workers.pool.made) > 2
        assert packets(job.output) == packets(tmp_path / "whole.mkv")


@pytest.mark.parametrize("ship", ["never", "always"])
def test_a_scan_in_chunks_finds_the_same(tmp_path, ship, monkeypatch, caplog):
    pictures = [pattern(7 * i, 64, 48)[:, :, [0, 1, 2] if i < 31 else [2, 0, 1]] for i in range(60)]
    source = make_video(tmp_path / "in.mp4", pictures, options={"g": "12", "bf": "2", "preset": "ultrafast"})
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **WINDOWED)
    looked = []

    def looks(info, chunks, identity, send):
        for chunk, found in zip(chunks, look_here(info, chunks, identity, send), strict=True):
            looked.append(len(chunk.stamps))
            yield found

    monkeypatch.setattr(scan, "CHUNK_FRAMES", 10)
    distributed.distribute(job, replace(crew(job, ship=ship), looks=looks))
    assert len(looked) > 3 and sum(looked) > 60
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def packets(path):
    """The video's packets, with their times."""
    with av.open(str(path)) as container:
        return [(packet.pts, packet.dts, bytes(packet)) for packet in container.demux(video=0)]


def on_twos(path, count=60):
    """Shots of 9, 20 and more frames in which pictures repeat twice, three times, or not."""
    shown = [i - i % (2 if i < 9 else 3 if i < 29 else 1 + i % 2) for i in range(count)]
    looks = [0 if i < 9 else 1 if i < 29 else 2 for i in range(count)]
    pictures = [pattern(3 * i + 90 * look, 48, 32)[:, :, [look, (look + 1) % 3, 2 - look]] // (1 + look)
                for i, look in zip(shown, looks, strict=True)]  # fmt: skip
    return make_video(path, pictures, options={"crf": "12", "preset": "ultrafast", "g": "7"})


@pytest.mark.parametrize("name", ["windows", "overlap", "batch", "part", "hidden cuts"])
@pytest.mark.parametrize("ship", ["never", "always"])
def test_repeats_are_made_anew_as_the_local_engine_does(tmp_path, name, ship, caplog):
    source = on_twos(tmp_path / "in.mp4")
    asked = {**CASES[name], "repeats": "auto" if name == "windows" else "smooth", "segment_frames": 8}
    upscale(job_of(source, tmp_path / "whole.mp4", **asked), loaded=loaded())
    said = [line for line in caplog.messages if "made anew" in line]
    job = job_of(source, tmp_path / "out.mp4", **asked)
    workers = crew(job, ship=ship)
    distributed.distribute(job, workers)
    assert len(workers.pool.made) > 2
    assert [line for line in caplog.messages if "made anew" in line] == said * 2 and " 0 of" not in said[0]
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    upscale(job_of(source, tmp_path / "kept.mp4", **asked | {"repeats": "keep"}), loaded=loaded())
    assert (tmp_path / "kept.mp4").read_bytes() != job.output.read_bytes()


def test_either_engine_goes_on_with_repeats(tmp_path):
    source = on_twos(tmp_path / "in.mp4")
    asked = {"repeats": "smooth", **WINDOWED}
    upscale(job_of(source, tmp_path / "whole.mp4", **asked), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **asked)
    with pytest.raises(RuntimeError):
        distributed.distribute(job, crew(job, most=3))
    upscale(job, loaded=loaded())
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
