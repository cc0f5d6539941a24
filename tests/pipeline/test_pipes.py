import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.errors import InputError, OutputError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.pipes import PipeClosed
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline import loading
from stvsr_cli.pipeline.upscale import upscale
from tests.clips import beep_times, make_video, pattern, read_frames

PIPE = Path("-")
QUICK = EncoderConfig(preset="ultrafast")
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@contextmanager
def redirected(number, handle):
    """Let a descriptor of this process be a file or pipe."""
    before = os.dup(number)
    os.dup2(handle.fileno(), number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)


def made(source, target, **changes):
    """Upscale with - at either end: source and target are the files that standard input and output stand for."""
    base = {"input": source, "output": target, "model": "linear", "encoder": QUICK, "scale": Fraction(2)}
    return upscale(Job(**base | changes))


def to_pipe(source, target, **changes):
    with open(target, "wb") as handle, redirected(1, handle):
        return made(source, PIPE, **changes)


def from_pipe(source, target, **changes):
    with open(source, "rb") as handle, redirected(0, handle):
        return made(PIPE, target, **changes)


def ffmpeg(*arguments, **options):
    return subprocess.run([FFMPEG, "-v", "error", *map(str, arguments)], check=True, capture_output=True, **options)


def moving(count=6, width=48, height=32):
    return [pattern(i, width, height) for i in range(count)]


def raw_frames(path):
    return [f.picture.planes for f in decode(probe(path))]


@pytest.mark.parametrize("format", [None, "matroska", "nut", "mpegts"])
def test_containers_come_out_whole_with_their_sound(tmp_path, format):
    source = make_video(tmp_path / "in.mp4", moving(25), audio_s=1.0, beeps_s=[0.5])
    report = to_pipe(source, tmp_path / "out", format=format)
    pictures, times, _ = read_frames(tmp_path / "out")
    assert len(pictures) == report.frames_out == 50 and pictures[0].shape == (64, 96, 3)
    steps = np.diff([float(t) for t in times])
    assert np.allclose(steps, 0.02, atol=1e-3)
    assert abs(beep_times(tmp_path / "out")[0] - float(times[0]) - 0.5) < 0.05
    assert probe(tmp_path / "out").container.split(",")[0] == (format or "matroska")


def test_a_container_comes_in_with_its_sound(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(25), audio_s=1.0, beeps_s=[0.5])
    from_pipe(source, tmp_path / "out.mp4")
    assert len(read_frames(tmp_path / "out.mp4")[0]) == 50
    assert abs(beep_times(tmp_path / "out.mp4")[0] - 0.5) < 0.05


@pytest.mark.parametrize(
    ("rate", "aspect", "pix_fmt", "tag", "color_range"),
    [
        (Fraction(30000, 1001), Fraction(4, 3), "yuv420p", b"C420mpeg2", None),
        (Fraction(24), None, "yuv422p", b"C422", None),
        (Fraction(25), None, "yuv444p", b"C444", (1, 2)),
        (Fraction(50), None, "yuv420p10le", b"C420p10 XYSCSS=420P10", None),
    ],
)
def test_the_header_of_y4m_says_what_comes(tmp_path, rate, aspect, pix_fmt, tag, color_range):
    source = make_video(tmp_path / "in.mp4", moving(3), rate=rate, aspect=aspect, pix_fmt=pix_fmt, color=color_range)
    to_pipe(source, tmp_path / "out.y4m", format="y4m")
    header = (tmp_path / "out.y4m").read_bytes().split(b"\n")[0]
    doubled = 2 * rate
    assert header.startswith(f"YUV4MPEG2 W96 H64 F{doubled.numerator}:{doubled.denominator} Ip ".encode())
    assert tag in header and (b"A4:3" if aspect else b"A1:1") in header.split()
    assert (b"XCOLORRANGE=FULL" if color_range else b"XCOLORRANGE=LIMITED") in header
    info = probe(tmp_path / "out.y4m")
    assert (info.pixel_format.replace("yuvj", "yuv"), info.average_rate) == (pix_fmt, doubled)
    assert len(read_frames(tmp_path / "out.y4m")[0]) == 6


def test_y4m_holds_exactly_the_frames_a_lossless_file_holds(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving())
    made(source, tmp_path / "out.mkv", encoder=EncoderConfig(codec="ffv1"), format=None)
    to_pipe(source, tmp_path / "out.y4m", format="y4m")
    for a, b in zip(raw_frames(tmp_path / "out.mkv"), raw_frames(tmp_path / "out.y4m"), strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
def test_y4m_in_equals_the_file_in(tmp_path, pix_fmt):
    source = make_video(tmp_path / "in.mkv", moving(), pix_fmt=pix_fmt, codec="ffv1", rate=Fraction(24000, 1001))
    strict = ("-strict", "-1") if "10" in pix_fmt else ()
    ffmpeg("-i", source, *strict, tmp_path / "in.y4m")
    lossless = EncoderConfig(codec="ffv1")
    report = from_pipe(tmp_path / "in.y4m", tmp_path / "a.mkv", encoder=lossless)
    twin = made(source, tmp_path / "b.mkv", encoder=lossless)
    assert report.frames_in == 6 and report.output.average_rate == twin.output.average_rate
    for a, b in zip(raw_frames(tmp_path / "a.mkv"), raw_frames(tmp_path / "b.mkv"), strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))
    times = [read_frames(tmp_path / name)[1] for name in ("a.mkv", "b.mkv")]
    assert all(abs(x - y) <= Fraction(1, 1000) for x, y in zip(*times, strict=True))  # Matroska counts milliseconds


def test_a_part_of_y4m(tmp_path):
    ffmpeg("-i", make_video(tmp_path / "in.mp4", moving(10)), tmp_path / "in.y4m")
    report = from_pipe(tmp_path / "in.y4m", tmp_path / "out.mkv", start=Fraction(1, 5), end=Fraction(8, 25))
    assert (report.frames_in, report.frames_out) == (3, 6)
    assert read_frames(tmp_path / "out.mkv")[1][0] == 0
    with pytest.raises(InputError, match="no frame at or after --start"):
        from_pipe(tmp_path / "in.y4m", tmp_path / "late.mkv", start=Fraction(9))


def test_y4m_streams(tmp_path):
    """The first frame comes out while the input is still open."""
    source = tmp_path / "in.y4m"
    ffmpeg("-i", make_video(tmp_path / "in.mp4", moving(60)), source)
    data = source.read_bytes()
    half = data[: len(data) // 2]
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    first = threading.Event()
    received = []

    def feed():
        with os.fdopen(in_write, "wb") as handle:
            handle.write(half)
            handle.flush()
            if not first.wait(60):
                return
            handle.write(data[len(half) :])

    def drain():
        with os.fdopen(out_read, "rb") as handle:
            while part := handle.read1(1 << 16):
                received.append(part)
                if sum(map(len, received)) > 10000:
                    first.set()

    threads = [threading.Thread(target=feed), threading.Thread(target=drain)]
    for thread in threads:
        thread.start()
    with os.fdopen(in_read, "rb") as i, os.fdopen(out_write, "wb") as o, redirected(0, i), redirected(1, o):
        report = made(PIPE, PIPE, format="y4m")
    for thread in threads:
        thread.join()
    assert first.is_set() and report.frames_out == 120
    (tmp_path / "out.y4m").write_bytes(b"".join(received))
    assert len(read_frames(tmp_path / "out.y4m")[0]) == 120


def test_variable_rate_becomes_constant_in_y4m_and_keeps_time(tmp_path):
    stamps = [0, 10, 15, 40, 42, 90]
    source = make_video(tmp_path / "in.mp4", moving(6), stamps=stamps, time_base=Fraction(1, 100))
    to_pipe(source, tmp_path / "out.y4m", format="y4m", fps_factor=1)
    info, wanted = probe(tmp_path / "out.y4m"), probe(source).duration_s
    count = len(read_frames(tmp_path / "out.y4m")[0])
    assert abs(count / info.average_rate - wanted) <= 2 / info.average_rate


def test_rotated_video_stands_upright_in_y4m(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(2), rotation=90)
    to_pipe(source, tmp_path / "out.y4m", format="y4m")
    info = probe(tmp_path / "out.y4m")
    assert (info.width, info.height) == (64, 96)
    ffmpeg("-i", source, "-vf", "scale=64:96:flags=bicubic", tmp_path / "wanted.y4m")
    found, wanted = read_frames(tmp_path / "out.y4m")[0][0], read_frames(tmp_path / "wanted.y4m")[0][0]
    assert abs(found.astype(int) - wanted).mean() < 6


def test_a_reader_that_goes_ends_it(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(60), audio_s=1.0)
    before = threading.active_count()
    for format in ("y4m", "matroska"):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as handle, redirected(1, handle), pytest.raises(PipeClosed):
            made(source, PIPE, format=format)
    assert threading.active_count() == before


def test_nothing_but_data_goes_to_standard_output(tmp_path, monkeypatch):
    load = loading.load

    def chatty(job):
        sys.stdout.write("a library says hello")
        os.write(1, b"and another, from C")
        return load(job)

    monkeypatch.setattr(loading, "load", chatty)
    to_pipe(make_video(tmp_path / "in.mp4", moving(2)), tmp_path / "out.y4m", format="y4m")
    frame = 96 * 64 * 3 // 2 + len(b"FRAME\n")
    data = (tmp_path / "out.y4m").read_bytes()
    assert len(data) == data.index(b"\n") + 1 + 4 * frame


def test_named_pipes_are_read_once(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(3))
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(source.read_bytes()))
    feeder.start()
    assert made(tmp_path / "pipe", tmp_path / "out.mp4").frames_out == 6
    feeder.join()


@pytest.mark.parametrize(
    "content", [b"", b"not a video " * 100, b"YUV4MPEG2 nonsense\n", b"YUV4MPEG2 W4 H4 F25:1\nFRA"]
)
def test_what_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(InputError, match="standard input"):
        from_pipe(tmp_path / "in", tmp_path / "out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_broken_end_of_y4m_ends_the_video_there(tmp_path):
    ffmpeg("-i", make_video(tmp_path / "in.mp4", moving(6)), tmp_path / "in.y4m")
    data = (tmp_path / "in.y4m").read_bytes()
    (tmp_path / "in.y4m").write_bytes(data[:-500])
    assert from_pipe(tmp_path / "in.y4m", tmp_path / "out.mkv").frames_in in (5, 6)


def test_what_pipes_cannot_do(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(2))
    for options, error in (({"format": "mp4"}, UsageError), ({"format": "png"}, UsageError)):
        with pytest.raises(error):
            to_pipe(source, tmp_path / "out", **options)
    with pytest.raises(OutputError, match="gbrp"):
        to_pipe(source, tmp_path / "out", format="y4m", encoder=EncoderConfig(pix_fmt="gbrp"))
    for arguments in (("-", source, "-"), (source, "-", "--report", tmp_path / "r.json"), (source, "o.mp4", "--input-fps", "25"),
                      (source, "o.mp4", "--format", "nut"), (source, "-", "--input-fps", "25")):  # fmt: skip
        result = CliRunner().invoke(app, ["upscale", "--model", "linear", *map(str, arguments)])
        assert result.exit_code == 2, arguments


def test_the_shell_pipelines(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(100))
    upscale = f"'{sys.executable}' -m stvsr_cli upscale - - --model linear --format y4m --progress none -q"
    feed = f"'{FFMPEG}' -v error -i '{source}' -f yuv4mpegpipe -"
    whole = f"set -o pipefail; {feed} | {upscale} | '{FFMPEG}' -v error -i - '{tmp_path}/out.mp4'"
    done = subprocess.run(["bash", "-c", whole], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.num_frames, info.average_rate) == (192, 128, 200, 50)
    part = f"cat '{tmp_path}/in.y4m' | {upscale} | head -c 1000; exit ${{PIPESTATUS[1]}}"
    ffmpeg("-i", source, tmp_path / "in.y4m")
    done = subprocess.run(["bash", "-c", part], capture_output=True, check=False)
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 1000, b"")


@pytest.mark.parametrize("format", [None, "y4m"])
def test_y4m_files_are_written(tmp_path, format):
    source = make_video(tmp_path / "in.mp4", moving(6), rate=Fraction(24000, 1001), audio_s=0.2)
    report = made(source, tmp_path / "out.y4m", format=format)
    assert report.frames_out == 12
    to_pipe(source, tmp_path / "piped.y4m", format="y4m")
    assert (tmp_path / "out.y4m").read_bytes() == (tmp_path / "piped.y4m").read_bytes()
    assert probe(tmp_path / "out.y4m").average_rate == Fraction(48000, 1001)
    with pytest.raises(OutputError, match="exists already"):
        made(source, tmp_path / "out.y4m")
    with pytest.raises(UsageError, match="YUV4MPEG2, not nut"):
        made(source, tmp_path / "other.y4m", format="nut")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.y4m", "piped.y4m"]


def test_a_y4m_file_that_fails_leaves_nothing(tmp_path, monkeypatch):
    source = make_video(tmp_path / "in.mp4", moving(6))
    monkeypatch.setattr("stvsr_cli.engine.handover.picture_in", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made(source, tmp_path / "out.y4m")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_pipes_and_pictures_from_python(tmp_path):
    from stvsr_cli import upscale

    source = make_video(tmp_path / "in.mp4", moving(3))
    with (
        open(source, "rb") as read,
        redirected(0, read),
        open(tmp_path / "out.mkv", "wb") as write,
        redirected(1, write),
    ):
        report = upscale(Job(input=PIPE, output=PIPE, model="linear", encoder=QUICK))
    assert report.frames_out == 6 == len(read_frames(tmp_path / "out.mkv")[0])
    (tmp_path / "big").mkdir()
    upscale(Job(input=source, output=tmp_path / "big" / "%d.png", model="linear"))
    assert sorted(p.name for p in (tmp_path / "big").iterdir()) == [f"{i}.png" for i in range(1, 7)]
