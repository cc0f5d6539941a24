"""Any frame rate, through real files: what is shown when, how much of it, and what becomes of the sound."""

import logging
from dataclasses import replace
from fractions import Fraction
from math import ceil

import av
import numpy as np
import pytest
import torch

from stvsr_cli import Job, upscale
from stvsr_cli.errors import UsageError
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.linear import LinearModel
from tests.clips import beep_times, flash_times, make_video, pattern, read_frames, sequence

LOSSLESS = EncoderConfig(codec="libx264", crf=0, pix_fmt="yuv444p", preset="ultrafast")
SPEED = 80
"""Levels of gray by which a clip brightens in a second."""
CLOSE = 2.5 / SPEED
"""By how much the time that a brightness tells may be off, in seconds: levels are whole, and go through a codec twice."""


def job_of(source, target, **changes):
    plain = {"model": "linear", "scale": Fraction(1), "encoder": EncoderConfig(preset="ultrafast")}
    return Job(**{"input": source, "output": target, **plain, **changes})


def brightening(path, times, base):
    """A clip whose brightness tells the time."""
    pictures = [np.full((32, 48, 3), round(40 + SPEED * float(time)), np.uint8) for time in times]
    stamps = [round(time / base) for time in times]
    return make_video(path, pictures, rate=1 / base, stamps=stamps, time_base=base, options={"qp": "0"})


def shown_times(path):
    """Of each frame, when it is shown and which time its brightness tells."""
    pictures, times, _ = read_frames(path)
    return [(time, (picture.mean() - 40) / SPEED) for picture, time in zip(pictures, times, strict=True)]


def even(count, rate):
    return [Fraction(k) / rate for k in range(count)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Fraction(24), Fraction(60)),
        (Fraction(25), Fraction(60000, 1001)),
        (Fraction(24000, 1001), Fraction(60)),
        (Fraction(30000, 1001), Fraction(24000, 1001)),
        (Fraction(25), Fraction(9)),
        (Fraction(10), Fraction(240)),
        (Fraction(25), Fraction(25)),
    ],
)
def test_frames_are_made_at_their_exact_times(tmp_path, source, target):
    clip = brightening(tmp_path / "in.mp4", even(26, source), 1 / source)
    report = upscale(job_of(clip, tmp_path / "out.mp4", target_fps=target, encoder=LOSSLESS))
    shown = shown_times(tmp_path / "out.mp4")
    assert report.output.average_rate == target
    assert [time for time, _ in shown] == even(ceil(26 / source * target), target)
    last = Fraction(25) / source
    assert all(abs(told - min(time, last)) < CLOSE for time, told in shown)
    assert abs(report.output.duration_s - 26 / source) < 1 / target


@pytest.mark.parametrize("target", [Fraction(60), Fraction(7)])
def test_a_variable_rate_becomes_constant(tmp_path, target):
    times = [Fraction(t, 1000) for t in (0, 33, 67, 150, 160, 171, 400, 433, 467, 500)]
    clip = brightening(tmp_path / "in.mkv", times, Fraction(1, 1000))
    upscale(job_of(clip, tmp_path / "out.mp4", target_fps=target, cuts="ignore", encoder=LOSSLESS))
    shown = shown_times(tmp_path / "out.mp4")
    assert [time for time, _ in shown] == even(len(shown), target)
    assert all(abs(told - min(time, times[-1])) < CLOSE for time, told in shown)


def test_a_variable_rate_stays_so_in_multiples(tmp_path):
    stamps = [0, 10, 15, 40, 42, 90, 95, 100]
    clip = brightening(tmp_path / "in.mp4", [Fraction(t, 100) for t in stamps], Fraction(1, 100))
    upscale(job_of(clip, tmp_path / "out.mp4", fps_factor=Fraction(5, 2), cuts="ignore", encoder=LOSSLESS))
    shown = shown_times(tmp_path / "out.mp4")
    wanted = [np.interp(n / 2.5, range(8), stamps) / 100 for n in range(18)]
    assert len(shown) == 20
    assert [float(time) for time, _ in shown[:18]] == pytest.approx(wanted)
    assert all(abs(told - min(time, 1)) < CLOSE for time, told in shown)


def test_a_long_pause_is_held(tmp_path):
    times = [*even(5, Fraction(25)), Fraction(2), Fraction(51, 25)]
    clip = brightening(tmp_path / "in.mp4", times, Fraction(1, 25))
    upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(50), encoder=LOSSLESS))
    shown = shown_times(tmp_path / "out.mp4")
    pause = [told for time, told in shown if times[4] <= time < 2]
    assert len(pause) == 92 and max(pause) - min(pause) < 0.5 / SPEED


def test_no_frame_is_made_across_a_cut(tmp_path):
    """At 60 from 24: of the frames between the last one of a shot and the cut, each shows the former."""
    looks = [np.full((32, 48, 3), 30, np.uint8)] * 7 + [pattern(3, 48, 32)] * 7
    clip = make_video(tmp_path / "in.mp4", looks, rate=24, options={"qp": "0"})
    upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(60), encoder=LOSSLESS))
    pictures, times, _ = read_frames(tmp_path / "out.mp4")
    for picture, time in zip(pictures, times, strict=True):
        assert abs(picture.astype(int) - looks[int(time * 24)].astype(int)).mean() <= 4


def test_a_model_with_factors_of_its_own_shows_the_nearest(tmp_path, caplog):
    model = LinearModel(torch.device("cpu"))
    model.traits = replace(model.traits, any_moment=False, name="stiff")
    loaded = Loaded(model, torch.device("cpu"), torch.float32, 0.0)
    clip = brightening(tmp_path / "in.mp4", even(13, Fraction(24)), Fraction(1, 24))
    upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(60), encoder=LOSSLESS), loaded=loaded)
    shown = shown_times(tmp_path / "out.mp4")
    assert [time for time, _ in shown] == even(ceil(13 * 2.5), Fraction(60))
    told = [min(12, k + m / 4) for k in range(0, 13, 2) for m in (0, 2, 3, 5, 6)][
        : len(shown)
    ]  # of 0, .4, .8, 1.2, 1.6
    assert [value for _, value in shown] == pytest.approx([time / 24 for time in told], abs=CLOSE)
    assert caplog.text.count("at quarters of the way only") == 1
    caplog.clear()
    upscale(job_of(clip, tmp_path / "twice.mp4", encoder=LOSSLESS), loaded=loaded)
    assert "of the way" not in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".ts", ".gif", ".y4m"])
def test_containers_take_a_rate(tmp_path, suffix):
    clip = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(25)], audio_s=1.0)
    encoder = EncoderConfig() if suffix == ".gif" else EncoderConfig(preset="ultrafast")
    job = job_of(clip, tmp_path / f"out{suffix}", target_fps=Fraction(40), encoder=encoder)
    assert upscale(job).frames_out == 40
    info = probe(tmp_path / f"out{suffix}")
    assert abs(float(info.average_rate) - 40) < 0.5 or suffix == ".gif"  # whose times are hundredths
    _, times, _ = read_frames(tmp_path / f"out{suffix}")
    assert [float(t - times[0]) for t in times] == pytest.approx([k / 40 for k in range(40)], abs=0.01)


@pytest.mark.parametrize("asked", [{"fps_factor": 4}, {"target_fps": Fraction(20)}, {"target_fps": Fraction(100)}])
def test_a_part_becomes_a_gif(tmp_path, asked):
    """Its rate, of 50 at most, is constant from the part's begin on."""
    clip = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(50)])
    report = upscale(job_of(clip, tmp_path / "out.gif", start=Fraction(1), encoder=EncoderConfig(), **asked))
    times = read_frames(tmp_path / "out.gif")[1]
    rate = min(50, asked.get("target_fps", 100))
    assert report.frames_out == len(times)
    assert [float(time) for time in times] == pytest.approx([k / rate for k in range(len(times))], abs=0.02)
    assert abs(len(times) - rate) <= 4


def test_avi_takes_a_multiple_in_part(tmp_path):
    clip = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(20)])
    report = upscale(job_of(clip, tmp_path / "out.avi", fps_factor=Fraction(5, 2)))
    assert (report.frames_out, report.output.average_rate) == (50, Fraction(125, 2))


def test_pictures_have_two_rates(tmp_path):
    sequence(tmp_path / "in", 10)
    job = job_of(tmp_path / "in", tmp_path / "out.mp4", fps=Fraction(10), target_fps=Fraction(24))
    assert upscale(job).frames_out == 24
    assert read_frames(tmp_path / "out.mp4")[1] == even(24, Fraction(24))


def test_a_part_begins_at_its_own_first_frame(tmp_path):
    clip = brightening(tmp_path / "in.mp4", even(25, Fraction(25)), Fraction(1, 25))
    part = {"start": Fraction(1, 5), "end": Fraction(4, 5)}
    upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(60), encoder=LOSSLESS, **part))
    shown = shown_times(tmp_path / "out.mp4")
    assert [time for time, _ in shown] == even(36, Fraction(60))
    assert all(abs(told - min(time + Fraction(1, 5), Fraction(19, 25))) < CLOSE for time, told in shown)


def test_more_than_can_be_made_is_refused(tmp_path):
    clip = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(4)], rate=5)
    with pytest.raises(UsageError, match="is 48 frames for each of the input's 5 a second; 32 are the most"):
        upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(240)))
    with pytest.raises(UsageError, match="2 times slower"):
        upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(120), slow_motion=2))


@pytest.mark.parametrize(("slower", "factor"), [(2, 2), (4, 4), (2, 4), (3, 3), (Fraction(3, 2), Fraction(3, 2))])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_slow_motion_stretches_picture_and_sound(tmp_path, slower, factor, resume, caplog):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(50)], audio_s=2.0, beeps_s=(0.5, 1.4))
    asked = {"slow_motion": slower, "fps_factor": factor, "resume": resume}
    report = upscale(job_of(source, tmp_path / "out.mp4", **asked))
    times = read_frames(tmp_path / "out.mp4")[1]
    assert times == [k * slower / (25 * Fraction(factor)) for k in range(int(50 * factor))]
    assert report.output.duration_s == 2 * slower
    assert sound_s(tmp_path / "out.mp4") == pytest.approx(2 * slower, abs=0.06)
    beeps = beep_times(tmp_path / "out.mp4")  # which may come twice: a moment is made longer by repeating its like
    near = [[float(b - wanted * slower) for b in beeps if abs(b - wanted * slower) < 0.15] for wanted in (0.5, 1.4)]
    assert all(near) and len(near[0]) + len(near[1]) == len(beeps)
    assert "times as long" in caplog.text


def sound_s(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts", ".avi"])
def test_slow_sound_keeps_step_in_all_containers(tmp_path, suffix):
    flashes = [np.full((32, 48, 3), 255 if i in (15, 40) else 16, np.uint8) for i in range(60)]
    source = make_video(tmp_path / "in.mp4", flashes, audio_s=2.4, beeps_s=(0.6, 1.6))
    job = job_of(source, tmp_path / f"out{suffix}", slow_motion=2, target_fps=Fraction(50), cuts="ignore")
    upscale(job)
    flash, beep = flash_times(job.output), beep_times(job.output)
    assert len(flash) == len(beep) == 2
    assert [a - b for a, b in zip(flash, beep, strict=True)] == pytest.approx([0, 0], abs=0.06)
    assert beep[1] - beep[0] == pytest.approx(2.0, abs=0.05)


def test_slow_motion_of_a_part(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(50)], audio_s=2.0, beeps_s=(0.5, 1.4))
    part = {"start": Fraction(1), "end": Fraction(8, 5)}
    report = upscale(job_of(source, tmp_path / "out.mkv", slow_motion=2, **part))
    assert report.output.num_frames == 30 and report.output.duration_s == pytest.approx(1.2, abs=0.07)
    assert beep_times(tmp_path / "out.mkv") == pytest.approx([0.8], abs=0.05)


@pytest.mark.parametrize(("rate", "layout"), [(48000, "stereo"), (44100, "5.1"), (8000, "mono")])
def test_slow_sound_keeps_its_pitch(tmp_path, rate, layout):
    source = make_video(tmp_path / "bare.mp4", [pattern(i, 48, 32) for i in range(50)])
    tone(source, tmp_path / "in.mkv", rate, layout)
    upscale(job_of(tmp_path / "in.mkv", tmp_path / "out.mkv", slow_motion=3, fps_factor=3))
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.audio[0]
        assert stream.layout.name == layout
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])
    assert len(wave) / stream.rate == pytest.approx(6, abs=0.1)
    peak = np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * stream.rate / len(wave)
    assert peak == pytest.approx(440, abs=3)


def tone(source, target, rate, layout):
    """Write a video with two seconds of a tone of 440 Hz beside it."""
    with av.open(str(source)) as read, av.open(str(target), "w") as out:
        video = out.add_stream_from_template(read.streams.video[0])
        sound = out.add_stream("flac", rate=rate)
        sound.codec_context.layout = layout
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        count = av.AudioLayout(layout).nb_channels
        wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.int16)
        for first in range(0, len(wave), 1000):
            data = np.repeat(wave[first : first + 1000], count)[None]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


def test_slow_sound_can_be_left_out(tmp_path, caplog):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(12)], audio_s=0.5)
    report = upscale(job_of(source, tmp_path / "out.mp4", slow_motion=2, slow_sound="drop"))
    assert not report.output.streams and "time is stretched" in caplog.text
    caplog.clear()
    report = upscale(job_of(source, tmp_path / "same.mp4", slow_sound="drop"))  # nothing is stretched
    assert [stream.kind for stream in report.output.streams] == ["audio"]


def test_subtitles_and_chapters_are_stretched(tmp_path):
    source = make_video(
        tmp_path / "bare.mp4", [pattern(i, 48, 32) for i in range(50)], chapters=[(0, 1, "one"), (1, 2, "two")]
    )
    (tmp_path / "in.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,000\nHello\n\n2\n00:00:01,200 --> 00:00:01,800\nWorld\n"
    )
    with av.open(str(source)) as read, av.open(str(tmp_path / "in.srt")) as text:
        with av.open(str(tmp_path / "in.mkv"), "w") as out:
            out.set_chapters(read.chapters())
            streams = [out.add_stream_from_template(one) for one in (read.streams.video[0], text.streams[0])]
            for container, stream in zip((read, text), streams, strict=True):
                for packet in container.demux(container.streams[0]):
                    if packet.dts is not None:
                        packet.stream = stream
                        out.mux(packet)
    upscale(job_of(tmp_path / "in.mkv", tmp_path / "out.mkv", slow_motion=2))
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.subtitles[0]
        cues = [(p.pts * p.time_base, p.duration * p.time_base) for p in container.demux(stream) if p.size]
        chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in container.chapters()]
    assert cues == [(1, 1), (Fraction(12, 5), Fraction(6, 5))]
    assert chapters == [(0, 2), (2, 4)]


def test_the_log_says_nothing_of_what_is_usual(tmp_path, caplog):
    clip = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(9)], audio_s=0.3)
    with caplog.at_level(logging.WARNING):
        upscale(job_of(clip, tmp_path / "out.mp4", target_fps=Fraction(60)))
    assert not caplog.records
