"""Encoding and muxing: exact times, everything beside the video, nothing under the final name unless whole."""

import logging
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from stvsr_cli.errors import OutputError
from stvsr_cli.job.timeline import Timeline
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.media.write.encode import choose_pix_fmt, encoders, find_encoder
from stvsr_cli.media.write.mux import OutputFile, OutputSpec, check_target
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.runtime.workers import Worker
from tests.clips import BUNNY, beep_times, flash_times, make_video, pattern, read_frames

LOSSLESS = EncoderConfig(codec="ffv1")


def spec_of(info: VideoInfo, factor: int, config: EncoderConfig, **changes: object) -> OutputSpec:
    settings: dict[str, object] = {
        "width": info.width, "height": info.height, "pix_fmt": choose_pix_fmt(config, info),
        "time_base": info.time_base / factor, "rate": info.average_rate * factor, "color": info.color,
    }  # fmt: skip
    return OutputSpec(**{**settings, **changes})


def copy(
    source: Path,
    target: Path,
    *,
    factor: int = 2,
    config: EncoderConfig | None = None,
    overwrite: bool = False,
    start: Fraction = Fraction(0),
    end: Fraction | None = None,
) -> VideoInfo:
    """Write every frame `factor` times, with everything else that the source holds."""
    info, config = probe(source), config or EncoderConfig(preset="ultrafast")
    spec = spec_of(info, factor, config, start=start, end=end)
    timeline = Timeline(multiple=Fraction(factor), factor=factor)
    with OutputFile(target, info, spec, config, overwrite=overwrite) as out:
        for frame in decode(info, start=start or None, end=end):
            for slot in timeline.slots(frame.index, frame.pts, frame.duration):
                out.write(frame.picture, slot.pts, slot.duration)
    return probe(target)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_rate_and_duration(tmp_path: Path, suffix: str) -> None:
    result = copy(BUNNY, tmp_path / f"o{suffix}")
    assert result.num_frames == 100
    assert result.average_rate == 50
    assert result.duration_s == 2
    assert [stream.kind for stream in result.streams] == ["audio"]
    assert not list(tmp_path.glob(".*part*"))


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(50)])
def test_rates_are_doubled_exactly(tmp_path: Path, rate: Fraction) -> None:
    source = make_video(tmp_path / "a.mp4", [pattern(i, 64, 48) for i in range(12)], rate=rate)
    result = copy(source, tmp_path / "o.mp4")
    _, times, _ = read_frames(tmp_path / "o.mp4")
    assert result.average_rate == 2 * rate
    assert times == [i / (2 * rate) for i in range(24)]
    assert result.duration_s == 12 / rate


def test_variable_rate_stays_variable(tmp_path: Path) -> None:
    stamps = [0, 40, 70, 150, 155, 300, 333]
    pictures = [pattern(i, 64, 48) for i in range(len(stamps))]
    source = make_video(tmp_path / "v.mp4", pictures, stamps=stamps, time_base=Fraction(1, 1000))
    copy(source, tmp_path / "o.mp4")
    _, times, _ = read_frames(tmp_path / "o.mp4")
    assert times[::2] == [Fraction(s, 1000) for s in stamps]
    assert times[1:-1:2] == [Fraction(a + b, 2000) for a, b in zip(stamps[:-1], stamps[1:], strict=True)]


@pytest.mark.parametrize("audio_start_s", [0.0, 0.25])
@pytest.mark.parametrize("video_start", [0, 7])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_flash_and_beep_stay_together(tmp_path: Path, audio_start_s: float, video_start: int, suffix: str) -> None:
    flashes = {25, 60}
    pictures = [np.full((48, 64, 3), 240 if i in flashes else 16, np.uint8) for i in range(75)]
    source = make_video(
        tmp_path / "s.mp4", pictures, stamps=[i + video_start for i in range(75)], time_base=Fraction(1, 25),
        audio_s=3.0, audio_start_s=audio_start_s,
        beeps_s=[(f + video_start) / 25 - audio_start_s for f in sorted(flashes)],
    )  # fmt: skip
    copy(source, tmp_path / f"o{suffix}")
    for path in (source, tmp_path / f"o{suffix}"):
        flash, beep = flash_times(path), beep_times(path)
        assert len(flash) == len(beep) == 2
        assert np.allclose(flash, beep, atol=1 / 50)


def test_a_part_keeps_its_sound(tmp_path: Path) -> None:
    pictures = [np.full((48, 64, 3), 240 if i == 50 else 16, np.uint8) for i in range(100)]
    source = make_video(tmp_path / "s.mp4", pictures, audio_s=4.0, beeps_s=[2.0])
    copy(source, tmp_path / "o.mp4", start=Fraction(3, 2), end=Fraction(3))
    assert flash_times(tmp_path / "o.mp4") == pytest.approx([0.5], abs=1e-6)
    assert beep_times(tmp_path / "o.mp4") == pytest.approx([0.5], abs=1 / 50)
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert float(container.duration / av.time_base) == pytest.approx(1.5, abs=0.05)


def test_tags_chapters_and_languages_travel(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "s.mkv", [pattern(i, 64, 48) for i in range(50)], audio_s=2.0, metadata={"title": "Holiday"},
        chapters=[(0.0, 1.0, "One"), (1.0, 2.0, "Two")],
    )  # fmt: skip
    for suffix in (".mkv", ".mp4"):
        copy(source, tmp_path / f"o{suffix}")
        with av.open(str(tmp_path / f"o{suffix}")) as container:
            assert container.metadata.get("title") == "Holiday"
            assert [c["metadata"]["title"] for c in container.chapters()] == ["One", "Two"]
            assert container.streams.audio[0].language == "deu"


def test_sound_that_does_not_fit_is_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_video(
        tmp_path / "s.mkv", [pattern(i, 64, 48) for i in range(50)], audio_s=2.0, audio_codec="pcm_s16le", beeps_s=[1.0]
    )
    with caplog.at_level(logging.WARNING):
        result = copy(source, tmp_path / "o.mp4")
    assert result.streams[0].codec == "aac"
    assert "pcm_s16le becomes aac" in caplog.text
    assert beep_times(tmp_path / "o.mp4") == pytest.approx([1.0], abs=1 / 50)


def ffmpeg(folder: Path, *arguments: object) -> None:
    """Run the ffmpeg binary in a folder, for what PyAV has no way to make."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True)


def with_subtitles(path: Path, codec: str, tmp_path: Path) -> Path:
    """Add two lines of text to a clip."""
    make_video(tmp_path / "plain.mkv", [pattern(i, 64, 48) for i in range(50)])
    (tmp_path / "t.srt").write_text(
        "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,100 --> 00:00:01,800\nWorld\n"
    )
    ffmpeg(tmp_path, "-i", "plain.mkv", "-i", "t.srt", "-c:v", "copy", "-c:s", codec, "-metadata:s:s:0", "language=fra",
           path)  # fmt: skip
    return path


def subtitle_texts(path: Path) -> list[tuple[float, str]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        assert stream.language == "fra"
        packets = [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]
    return [
        (time, data.decode("utf-8", "ignore")) for time, data in packets if any(w in data for w in (b"Hello", b"World"))
    ]


@pytest.mark.parametrize(("codec", "source", "target"), [
    ("srt", "s.mkv", "o.mkv"), ("ass", "s.mkv", "o.mp4"), ("mov_text", "s.mp4", "o.mkv"), ("mov_text", "s.mp4", "o.mp4"),
])  # fmt: skip
def test_subtitles_travel(tmp_path: Path, codec: str, source: str, target: str) -> None:
    copy(with_subtitles(tmp_path / source, codec, tmp_path), tmp_path / target)
    texts = subtitle_texts(tmp_path / target)
    assert [round(time, 2) for time, _ in texts] == [0.2, 1.1]
    assert "Hello" in texts[0][1]
    assert "World" in texts[1][1]


def test_color_rotation_and_aspect_are_written(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "s.mp4", [pattern(i, 64, 48) for i in range(4)], rotation=90, aspect=Fraction(4, 3), color=(1, 1)
    )
    before, after = probe(source), copy(source, tmp_path / "o.mp4")
    assert (after.color.matrix, after.color.range) == (before.color.matrix, before.color.range) == (1, 1)
    assert after.rotation == before.rotation != 0
    assert after.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("color", [(1, 1), (5, 1), (1, 2), (5, 2)])
def test_pixels_come_back_bit_for_bit(tmp_path: Path, color: tuple[int, int]) -> None:
    source = make_video(tmp_path / "s.mkv", [pattern(i, 64, 48) for i in range(3)], codec="ffv1", color=color)
    copy(source, tmp_path / "o.mkv", factor=1, config=LOSSLESS)
    for a, b in zip(decode(probe(source)), decode(probe(tmp_path / "o.mkv")), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.picture.planes, b.picture.planes, strict=True))


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        copy(BUNNY, target)
    assert target.read_bytes() == b"precious"
    assert copy(BUNNY, target, overwrite=True).num_frames == 100
    with pytest.raises(OutputError, match="input itself"):
        check_target(BUNNY, BUNNY, overwrite=True)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target, info = tmp_path / "o.mkv", probe(BUNNY)
    frame = next(decode(info))
    with pytest.raises(OutputError, match="exists already"):
        with OutputFile(target, info, spec_of(info, 1, LOSSLESS), LOSSLESS) as out:
            out.write(frame.picture, 0, 512)
            target.write_bytes(b"someone else's")
    assert target.read_bytes() == b"someone else's"
    assert os.listdir(tmp_path) == ["o.mkv"]


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    info = probe(BUNNY)
    with pytest.raises(RuntimeError, match="model"):
        with OutputFile(tmp_path / "o.mp4", info, spec_of(info, 1, EncoderConfig()), EncoderConfig()) as out:
            out.write(next(decode(info)).picture, 0, 512)
            raise RuntimeError("the model failed")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("target", "config", "words"), [
    ("nowhere/o.mp4", EncoderConfig(), "does not exist"),
    ("o.xyz", EncoderConfig(), "suffix '.xyz'"),
    ("o.mp4", EncoderConfig(codec="h999"), "'h999'"),
    ("o.mp4", EncoderConfig(pix_fmt="gbrp10le"), "does not take --pix-fmt"),
    ("o.webm", EncoderConfig(codec="libx264"), "webm"),
])  # fmt: skip
def test_outputs_that_cannot_be(tmp_path: Path, target: str, config: EncoderConfig, words: str) -> None:
    with pytest.raises(OutputError, match=words) as failure:
        copy(BUNNY, tmp_path / target, config=config)
    assert failure.value.hint
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    info = probe(BUNNY)
    out = OutputFile(tmp_path / "o.mkv", info, spec_of(info, 1, LOSSLESS), LOSSLESS)
    out._part.symlink_to(full)
    with pytest.raises(OutputError, match="disk is full"):
        with out:
            for frame in decode(info):
                out.write(frame.picture, frame.pts, frame.duration)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a:b.mp4", "100%03d.mkv", "é" * 125 + ".mkv", "-.mov", "\udcfe.nut"])
def test_any_name_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    copy(BUNNY, Path(name), factor=1, end=Fraction(1, 5))
    assert os.listdir(tmp_path) == [name]
    assert len(read_frames(Path(os.path.abspath(name)))[0]) == 5


def test_a_container_of_constant_rate_has_the_rate(tmp_path: Path) -> None:
    result = copy(BUNNY, tmp_path / "o.avi")
    assert result.average_rate == 50
    assert len(read_frames(tmp_path / "o.avi")[0]) == result.num_frames == 100


def test_a_folder_that_vanishes_is_said(tmp_path: Path) -> None:
    folder, info = tmp_path / "f", probe(BUNNY)
    folder.mkdir()
    with pytest.raises(OutputError, match="cannot be finished|failed") as failure:
        with OutputFile(folder / "o.mkv", info, spec_of(info, 1, LOSSLESS), LOSSLESS) as out:
            out.write(next(decode(info)).picture, 0, 512)
            out._verify = lambda: shutil.rmtree(folder)
    assert failure.value.hint


@pytest.mark.parametrize("target", ["o.mp4", "o.mov", "o.mkv"])
def test_a_timecode_track_is_no_obstacle(tmp_path: Path, target: str) -> None:
    ffmpeg(tmp_path, "-i", BUNNY, "-c", "copy", "-timecode", "01:00:00:00", "s.mov")
    result = copy(tmp_path / "s.mov", tmp_path / target)
    assert result.num_frames in (100, 101)
    assert "audio" in [stream.kind for stream in result.streams]


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
def test_the_video_keeps_its_own_tags(tmp_path: Path, target: str) -> None:
    ffmpeg(tmp_path, "-i", BUNNY, "-c", "copy", "-metadata:s:v:0", "language=swe", "-metadata:s:v:0", "title=Angle 2",
           "-disposition:v:0", "default+original", "s.mkv")  # fmt: skip
    copy(tmp_path / "s.mkv", tmp_path / target, factor=1, end=Fraction(1, 5))
    with av.open(str(tmp_path / target)) as container:
        video = container.streams.video[0]
        assert video.language == "swe"
        assert "Angle 2" in video.metadata.values()
        assert video.disposition & av.stream.Disposition.default


def test_x264_works_at_several_frames_at_once(tmp_path: Path) -> None:
    config = EncoderConfig(codec="libx264", preset="ultrafast", threads=4)
    made = copy(BUNNY, tmp_path / "o.mkv", factor=1, config=config)
    settings = made.path.read_bytes().split(b"x264 - core", 1)[1][:2000]
    assert b" threads=4" in settings and b"sliced_threads=0" in settings and made.num_frames == 50


def test_encoders_are_listed() -> None:
    names = encoders()
    assert {"libx264", "ffv1"} <= set(names)
    assert find_encoder("libx264").name == "libx264"
    with pytest.raises(OutputError, match="aac"):
        find_encoder("aac")


def test_a_worker_raises_in_its_caller() -> None:
    def fail(item: int) -> None:
        raise ValueError(f"bad {item}")

    worker: Worker[int] = Worker(fail, "test")
    with pytest.raises(ValueError, match="bad 1"):
        worker.put(1)
        worker.close()


def test_uneven_times_with_reordered_frames_pass_the_check(tmp_path):
    stamps = [0, 1, 2, 30, 31, 33, 34, 90, 91, 92, 100, 130, 131, 132, 133, 134, 200, 201, 202, 203, 204, 290, 300]
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(len(stamps))], stamps=stamps,
                        time_base=Fraction(1, 100))  # fmt: skip
    info = probe(source)
    spec = OutputSpec(width=64, height=64, pix_fmt="yuv420p", time_base=info.time_base, rate=info.average_rate,
                      color=info.color)  # fmt: skip
    with OutputFile(tmp_path / "out.mp4", info, spec, EncoderConfig(preset="veryfast")) as out:
        for frame in decode(info):
            out.write(frame.picture, frame.pts, frame.duration)
    assert read_frames(tmp_path / "out.mp4")[1] == [Fraction(s, 100) for s in stamps]


@pytest.mark.parametrize("order", ["video first", "sound first"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_joined_streams_go_on_where_they_were(tmp_path: Path, suffix: str, order: str) -> None:
    pictures = [np.full((48, 64, 3), 240 if i == 30 else 16, np.uint8) for i in range(50)]
    sound_s = 2.0 if order == "video first" else 1.9
    part = make_video(tmp_path / "part.ts", pictures, audio_s=sound_s, beeps_s=[30 / 25])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 3)
    copy(joined, tmp_path / f"o{suffix}")
    _, times, _ = read_frames(tmp_path / f"o{suffix}")
    assert len(times) == 300
    assert times[-1] - times[0] == pytest.approx(6 - 1 / 50, abs=0.04)
    flash, beep = flash_times(tmp_path / f"o{suffix}"), beep_times(tmp_path / f"o{suffix}")
    assert len(flash) == len(beep) == 3
    assert np.allclose(flash, beep, atol=1 / 50)


def test_sound_in_a_transport_stream_is_copied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy(BUNNY, tmp_path / "o.ts")
    assert "becomes" not in caplog.text
    with av.open(str(BUNNY)) as before, av.open(str(tmp_path / "o.ts")) as after:
        packets = [bytes(p) for p in before.demux(audio=0) if p.size]
        copied = [bytes(p) for p in after.demux(audio=0) if p.size]
    assert len(copied) >= len(packets) - 1  # one that ends before the video begins is left out
    assert [data[7:] for data in copied] == packets[-len(copied) :]  # after an ADTS header of 7 bytes


@pytest.mark.parametrize("source", ["s.mp4", "s.mkv"])
@pytest.mark.parametrize(("target", "holds"), [("o.mp4", True), ("o.mkv", True), ("o.mov", False)])
def test_a_cover_travels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, target: str, holds: bool
) -> None:
    ffmpeg(tmp_path, "-i", BUNNY, "-frames:v", 1, "-s", "32x18", "c.png")
    if source.endswith("mp4"):
        ffmpeg(tmp_path, "-i", BUNNY, "-i", "c.png", "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1",
               "attached_pic", source)  # fmt: skip
    else:
        ffmpeg(tmp_path, "-i", BUNNY, "-attach", "c.png", "-metadata:s:t", "mimetype=image/png", "-c", "copy", source)
    result = copy(tmp_path / source, tmp_path / target)
    assert result.num_frames in (100, 101)
    assert [s.cover for s in result.streams] == [False, True][: 1 + holds]
    assert ("no cover picture" in caplog.text) == (not holds)
    if holds:
        with av.open(str(tmp_path / target)) as container:
            stream = next(s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic)
            assert bytes(next(container.demux(stream))) == (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize("target", ["o.mkv", "o.mp4", "o.webm"])
def test_damaged_sound_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str) -> None:
    copy(BUNNY, tmp_path / "s.ts", factor=1)
    data = bytearray((tmp_path / "s.ts").read_bytes())
    marks = [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] & 0xF6 == 0xF0]  # ADTS headers
    for mark in marks[5:60:4]:
        data[mark + 2 : mark + 6] = b"\xff\x00\xff\x00"
    (tmp_path / "s.ts").write_bytes(data)
    config = EncoderConfig(codec="libvpx-vp9", options=(("cpu-used", "8"),)) if target == "o.webm" else None
    result = copy(tmp_path / "s.ts", tmp_path / target, factor=1, config=config)
    assert len(read_frames(tmp_path / target)[0]) == 50
    assert [stream.kind for stream in result.streams] == ["audio"]
    assert "damaged parts are left out" in caplog.text


def test_announced_sound_that_is_not_there_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy(BUNNY, tmp_path / "s.ts", factor=1)
    data = (tmp_path / "s.ts").read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    pids = [(p[1] & 0x1F) << 8 | p[2] for p in packets]
    (tmp_path / "s.ts").write_bytes(b"".join(p for p, pid in zip(packets, pids, strict=True) if pid != 0x101))
    result = copy(tmp_path / "s.ts", tmp_path / "o.mkv", factor=1)
    assert (len(read_frames(tmp_path / "o.mkv")[0]), result.streams) == (50, ())
    assert "nothing in it can be read" in caplog.text


@pytest.mark.parametrize("place", ["left", "center", "topleft"])
def test_the_place_of_chroma_is_kept(tmp_path: Path, place: str) -> None:
    number = ("left", "center", "topleft").index(place)
    options = {"crf": "12", "preset": "ultrafast", "x264-params": f"chromaloc={number}"}
    source = make_video(tmp_path / "s.mp4", [pattern(i, 64, 48) for i in range(3)], options=options)
    assert probe(source).color.siting == place
    assert copy(source, tmp_path / "o.mp4").color.siting == place
