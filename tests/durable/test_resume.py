"""A run that ends early and goes on gives what an uninterrupted one gives, frame for frame and bit for bit."""

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction

import av
import pytest
import torch

from stvsr_cli import Job, upscale
from stvsr_cli.durable import journal, recorder
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import Interrupted, OutputError, UsageError
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.record import read_record
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models import linear
from stvsr_cli.runtime.parts import part_path
from tests.clips import ROOT, make_video, pattern

QUICK = EncoderConfig(preset="ultrafast")
WINDOWED = {"segment_frames": 12, "window": 3}
CASES = {
    "windows": {"segment_frames": 12, "window": 3},
    "overlap": {"segment_frames": 10, "window": 5, "overlap": 3},
    "batch": {"segment_frames": 10, "window": 3, "overlap": 2, "batch": 2},
    "shots": {"segment_frames": 16, "window": 3},
    "hidden cuts": {"segment_frames": 6, "cuts": "ignore", "fps_factor": 1, "window": 3},
    "rate": {"segment_frames": 12, "window": 3, "target_fps": Fraction(60)},
    "rate, batch": {"segment_frames": 10, "window": 4, "overlap": 2, "batch": 2, "target_fps": Fraction(60000, 1001)},
    "low rate": {"segment_frames": 4, "window": 3, "overlap": 2, "target_fps": Fraction(9)},
    "multiple": {"segment_frames": 12, "window": 5, "overlap": 3, "fps_factor": Fraction(5, 2)},
    "slower": {"segment_frames": 12, "window": 3, "fps_factor": 3, "slow_motion": 3},
    "slower, at a rate": {"segment_frames": 12, "window": 3, "target_fps": Fraction(24), "slow_motion": Fraction(3, 2)},
    "part": {"segment_frames": 8, "start": Fraction(1, 5), "end": Fraction(13, 10), "fps_factor": 4, "window": 3},
}


class Failing(linear.LinearModel):
    """The linear model, with a crossfade, which fails at a call."""

    def __init__(self, at=10**9):
        super().__init__(torch.device("cpu"))
        self.traits = replace(self.traits, join="crossfade")
        self.at, self.calls = at, 0

    def initialise(self, frames, request):
        self.calls += 1
        if self.calls > self.at:
            raise RuntimeError("the model broke")
        return super().initialise(frames, request)


def clip(path, count=40, audio_s=1.6):
    """Shots of 4, 13 and more frames, at an uneven rate, with sound."""
    looks = [0] * 4 + [1] * 13 + [2] * count
    pictures = [pattern(7 * i + 50 * look, 48, 32)[:, :, [look, (look + 1) % 3, 2 - look]] // (1 + look)
                for i, look in enumerate(looks[:count])]  # fmt: skip
    stamps = [4 * i + (i % 3 == 0) for i in range(count)]
    return make_video(path, pictures, stamps=stamps, time_base=Fraction(1, 100), audio_s=audio_s, beeps_s=(0.3, 1.2))


def job_of(source, target, **changes):
    return Job(**{"input": source, "output": target, "model": "linear", "encoder": QUICK} | changes)


def loaded(model=None):
    return Loaded(model or Failing(), torch.device("cpu"), torch.float32, 0.0, "weights")


def content(path):
    """Hashes of the decoded frames, their times, and the sound's packets."""
    with av.open(str(path)) as container:
        video = [(hashlib.sha256(f.to_ndarray().tobytes()).hexdigest(), f.pts, f.time_base)
                 for f in container.decode(video=0)]  # fmt: skip
    with av.open(str(path)) as container:
        sound = [(p.pts, bytes(p)) for p in container.demux(audio=0) if p.size]
    return video, sound


@pytest.mark.parametrize(("name", "suffix"), [*((name, ".mp4") for name in CASES), ("windows", ".mkv")])
def test_going_on_after_every_failure_changes_nothing(tmp_path, name, suffix):
    source = clip(tmp_path / "in.mp4")
    whole = upscale(job_of(source, tmp_path / f"whole{suffix}", **CASES[name]), loaded=loaded())
    target = tmp_path / f"out{suffix}"
    kept = []
    for at in (2, 9, 12, 10**9):
        model = Failing(at=at)
        try:
            report = upscale(job_of(source, target, **CASES[name]), loaded=loaded(model))
            break
        except RuntimeError:
            folder = journal_folder(target)
            manifest = json.loads((folder / "manifest.json").read_text()) if folder.exists() else {"segments": []}
            kept.append(len(manifest["segments"]))
            assert not target.exists()
    assert kept == sorted(kept) and kept[-1] >= 1
    assert content(target) == content(tmp_path / f"whole{suffix}")
    assert (report.frames_in, report.frames_out, report.num_shots) == (
        whole.frames_in, whole.frames_out, whole.num_shots
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in.mp4", f"out{suffix}", f"whole{suffix}"])


class Patient(Failing):
    """Fails at a call, and takes longer windows where there is memory."""

    def __init__(self, at=10**9):
        super().__init__(at)
        self.traits = replace(self.traits, window=3, longer_windows=(6,))


@pytest.mark.parametrize("first", ["local", "ray"])
def test_windows_stay_as_long_as_they_were_where_memory_has_become_short(tmp_path, first, monkeypatch):
    from stvsr_cli.pipeline import distributed
    from tests.engine.ray.stand_in import crew

    room = 10**10
    monkeypatch.setattr("stvsr_cli.pipeline.loading.usable_bytes", lambda device, waiting=0: room)
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "whole.mp4", segment_frames=12), loaded=loaded(Patient()))
    job = job_of(source, tmp_path / "out.mp4", segment_frames=12)
    with pytest.raises(RuntimeError):
        if first == "ray":
            distributed.distribute(job, crew(job, most=2, model=Patient()))
        else:
            upscale(job, loaded=loaded(Patient(at=5)))
    assert json.loads((journal_folder(job.output) / "manifest.json").read_text())["pinned"]["window"] == 6
    room = 10**6
    upscale(job, loaded=loaded(Patient()))
    assert content(job.output) == content(tmp_path / "whole.mp4")
    assert read_record(job.output).options == read_record(tmp_path / "whole.mp4").options


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1", "libvpx-vp9", "libsvtav1"])
def test_every_encoder_goes_on(tmp_path, codec):
    presets = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}
    options = (("x265-params", "log-level=none"),) if codec == "libx265" else ()
    encoder = EncoderConfig(codec=codec, preset=presets.get(codec), options=options)
    source = clip(tmp_path / "in.mp4", count=22, audio_s=0.8)
    changes = {"encoder": encoder, "segment_frames": 8, "scale": Fraction(2), "window": 2}
    upscale(job_of(source, tmp_path / "whole.mkv", **changes), loaded=loaded())
    with pytest.raises(RuntimeError):
        upscale(job_of(source, tmp_path / "out.mkv", **changes), loaded=loaded(Failing(at=14)))
    assert journal_folder(tmp_path / "out.mkv").exists()
    upscale(job_of(source, tmp_path / "out.mkv", **changes), loaded=loaded())
    assert content(tmp_path / "out.mkv") == content(tmp_path / "whole.mkv")


def test_the_default_preset_gives_the_same_twice(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(7 * i, 48, 32) for i in range(24)], audio_s=0.8)
    for name in "abcd":
        upscale(job_of(source, tmp_path / f"{name}.mp4", encoder=EncoderConfig(), segment_frames=8, window=2))
    assert len({(tmp_path / f"{name}.mp4").read_bytes() for name in "abcd"}) == 1


def test_with_one_segment_the_journal_does_not_show(tmp_path):
    source = clip(tmp_path / "in.mp4")
    upscale(job_of(source, tmp_path / "kept.mp4"), loaded=loaded())
    upscale(job_of(source, tmp_path / "plain.mp4", resume="never"), loaded=loaded())
    assert content(tmp_path / "kept.mp4") == content(tmp_path / "plain.mp4")


def begun(tmp_path, **changes):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(RuntimeError):
        upscale(job_of(source, target, **WINDOWED, **changes), loaded=loaded(Failing(at=17)))
    assert journal_folder(target).exists()
    return source, target


def test_other_settings_are_named(tmp_path):
    source, target = begun(tmp_path)
    encoder = EncoderConfig(preset="ultrafast", crf=30)
    with pytest.raises(UsageError, match=r"encoder crf was None, is 30; .*|fps_factor was 2, is 4") as caught:
        upscale(job_of(source, target, **WINDOWED, encoder=encoder, fps_factor=4), loaded=loaded())
    assert "encoder crf" in str(caught.value) and "fps_factor" in str(caught.value)
    with pytest.raises(UsageError, match="weights was weights, is other"):
        upscale(job_of(source, target, **WINDOWED), loaded=Loaded(Failing(), torch.device("cpu"), torch.float32, 0.0, "other"))  # fmt: skip
    assert journal_folder(target).exists()


def test_another_input_is_named(tmp_path):
    source, target = begun(tmp_path)
    clip(source, count=41)
    with pytest.raises(UsageError, match="input size was"):
        upscale(job_of(source, target, **WINDOWED), loaded=loaded())
    upscale(job_of(source, target, **WINDOWED, resume="force"), loaded=loaded())
    assert len(content(target)[0]) == 82
    assert not journal_folder(target).exists()


def test_without_a_journal_nothing_is_kept(tmp_path):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(RuntimeError):
        upscale(job_of(source, target, **WINDOWED, resume="never"), loaded=loaded(Failing(at=17)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize("harm", ["cut", "changed", "gone", "strange"])
def test_a_damaged_segment_is_made_again(tmp_path, harm, caplog):
    source, target = begun(tmp_path)
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    folder = journal_folder(target)
    segment = sorted(folder.glob("*.segment"))[1]
    data = segment.read_bytes()
    if harm == "gone":
        segment.unlink()
    else:
        segment.write_bytes({"cut": data[:-9], "changed": data[:-1] + b"!", "strange": b"else"}[harm])
    part_path(folder / "000099.segment").write_bytes(b"left over")
    upscale(job_of(source, target, **WINDOWED), loaded=loaded())
    assert content(target) == content(tmp_path / "whole.mp4")
    assert "damaged" in caplog.text


def test_a_broken_manifest_is_no_traceback(tmp_path):
    source, target = begun(tmp_path)
    (journal_folder(target) / "manifest.json").write_text('{"format": 1, "segments": [')
    with pytest.raises(UsageError, match="--resume force"):
        upscale(job_of(source, target, **WINDOWED), loaded=loaded())


def test_the_stop_finishes_the_segment_in_work(tmp_path):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    stop = threading.Event()
    stop.set()
    for done in (16, 32):
        with pytest.raises(Interrupted, match=f"after {done} frames"):
            upscale(job_of(source, target, segment_frames=16, cuts="ignore", window=3), loaded=loaded(), stop=stop)
    stop.clear()
    upscale(job_of(source, target, segment_frames=16, cuts="ignore", window=3), loaded=loaded(), stop=stop)
    upscale(job_of(source, tmp_path / "whole.mp4", segment_frames=16, cuts="ignore", window=3), loaded=loaded())
    assert content(target) == content(tmp_path / "whole.mp4")


@pytest.mark.parametrize(
    "moment", ["segment", "segment written", "manifest", "manifest written", "join", "joined", "renamed",
               "segments removed"]
)  # fmt: skip
def test_failures_at_each_moment_of_the_journal(tmp_path, moment, monkeypatch):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    upscale(job_of(source, tmp_path / "whole.mp4", **WINDOWED), loaded=loaded())
    seen = []

    def reached(name):
        seen.append(name)
        if name == moment and seen.count(name) == min(3, {"manifest": 3, "segment": 3}.get(name, 1)):
            raise OutputError("fault")

    for module in (journal, recorder):
        monkeypatch.setattr(module, "reached", reached)
    with pytest.raises(OutputError, match="fault"):
        upscale(job_of(source, target, **WINDOWED), loaded=loaded())
    monkeypatch.undo()
    assert target.exists() == (moment in ("renamed", "segments removed"))
    upscale(job_of(source, target, **WINDOWED), loaded=loaded())
    assert content(target) == content(tmp_path / "whole.mp4")
    assert not journal_folder(target).exists()


def test_two_processes_do_not_write_one_journal(tmp_path):
    source, target = begun(tmp_path)
    with journal._locked(journal_folder(target), target), pytest.raises(OutputError, match="another process"):
        upscale(job_of(source, target, **WINDOWED), loaded=loaded())


@pytest.mark.parametrize("options", [("--short",), pytest.param((), marks=pytest.mark.slow)])
def test_the_crash_matrix_passes(options):
    command = [sys.executable, "-m", "tests.crash_matrix", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
