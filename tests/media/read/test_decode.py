"""Probing and decoding: exact times, odd files, broken files."""

import functools
import http.server
import logging
import os
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from tests.clips import BUNNY, make_video, pattern


def clip(path: Path, count: int = 10, size: tuple[int, int] = (64, 48), **options: object) -> Path:
    return make_video(path, [pattern(i, *size) for i in range(count)], **options)


def test_a_real_clip_is_described() -> None:
    info = probe(BUNNY)
    assert (info.width, info.height, info.num_frames) == (320, 180, 50)
    assert info.average_rate == 25
    assert info.duration_s == 2
    assert [stream.kind for stream in info.streams] == ["audio"]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_constant_rates_stay_exact(tmp_path: Path, rate: Fraction) -> None:
    info = probe(clip(tmp_path / "a.mp4", rate=rate))
    frames = list(decode(info))
    assert [frame.index for frame in frames] == list(range(10))
    assert all(frame.duration * info.time_base == 1 / rate for frame in frames)
    assert info.average_rate == rate


def test_variable_rate_keeps_every_moment(tmp_path: Path) -> None:
    stamps = [0, 40, 70, 150, 155, 300, 333]
    path = clip(tmp_path / "v.mp4", len(stamps), stamps=stamps, time_base=Fraction(1, 1000))
    info = probe(path)
    frames = list(decode(info))
    assert [round(frame.pts * info.time_base * 1000) for frame in frames] == stamps
    assert all(a.pts + a.duration == b.pts for a, b in zip(frames[:-1], frames[1:], strict=True))


@pytest.mark.parametrize("size", [(63, 47), (65, 33), (16, 16)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    info = probe(clip(tmp_path / "o.mkv", 2, size, codec="ffv1", pix_fmt="yuv420p"))
    picture = next(decode(info)).picture
    assert picture.planes[0].shape == size[::-1]
    assert picture.planes[1].shape == tuple(-(-side // 2) for side in size[::-1])


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    info = probe(clip(tmp_path / "t.mkv", 2, pix_fmt="yuv420p10le", codec="libx264"))
    picture = next(decode(info)).picture
    assert info.bit_depth == picture.bit_depth == 10
    assert picture.planes[0].dtype == np.uint16
    assert picture.planes[0].max() > 255


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "target"),
    [("rgb24", "png", "gbrp"), ("rgba", "png", "gbrp"), ("gray", "ffv1", "gray"), ("yuvj420p", "mjpeg", "yuv420p"),
     ("yuv411p", "ffv1", "yuv422p"), ("yuv444p12le", "ffv1", "yuv444p10le")],
)  # fmt: skip
def test_other_pixel_formats_become_planar(tmp_path: Path, pix_fmt: str, codec: str, target: str) -> None:
    suffix = "mov" if codec == "png" else "mkv"
    info = probe(clip(tmp_path / f"p.{suffix}", 2, pix_fmt=pix_fmt, codec=codec))
    picture = next(decode(info)).picture
    assert picture.pix_fmt == target
    assert picture.planes[0].shape == (48, 64)
    assert picture.color.is_full_range == (pix_fmt in ("rgb24", "rgba", "yuvj420p", "gray"))


def test_rotation_and_aspect_are_read(tmp_path: Path) -> None:
    info = probe(clip(tmp_path / "r.mp4", 3, rotation=90, aspect=Fraction(4, 3)))
    assert abs(info.rotation) == 90
    assert info.sample_aspect_ratio == Fraction(4, 3)
    assert (info.width, info.height) == (64, 48)


def test_a_part_begins_and_ends_where_asked(tmp_path: Path) -> None:
    info = probe(clip(tmp_path / "s.mp4", 50))
    frames = list(decode(info, start=Fraction(1, 2), end=Fraction(13, 10)))
    first, last = frames[0], frames[-1]
    assert first.pts * info.time_base == Fraction(1, 2)
    assert (last.pts + last.duration) * info.time_base == Fraction(13, 10)
    assert sum(frame.duration for frame in frames) * info.time_base == Fraction(4, 5)
    with pytest.raises(InputError, match="--start"):
        list(decode(info, start=Fraction(5)))


def test_a_damaged_frame_is_bridged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = clip(tmp_path / "d.mp4", 30, options={"crf": "12", "g": "1"})
    data = bytearray(path.read_bytes())
    middle = data.find(b"mdat") + 8000
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    info = probe(path)
    with caplog.at_level(logging.WARNING):
        frames = list(decode(info))
    end = frames[-1].pts + frames[-1].duration
    assert 28 <= len(frames) <= 30
    assert end * info.time_base == pytest.approx(30 / 25, abs=0.05)
    assert "damaged" in caplog.text


def test_a_truncated_file_gives_what_it_holds(tmp_path: Path) -> None:
    path = clip(tmp_path / "c.mkv", 60, (128, 96))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = list(decode(probe(path)))
    assert 5 < len(frames) < 60


def test_inputs_that_are_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (tmp_path / "script.ffconcat").write_text(f"ffconcat version 1.0\nfile '{BUNNY}'\n")
    (tmp_path / "session.sdp").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    )
    (tmp_path / "art.ans").write_text("text is no video\n" * 100)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "nothing.mp4": "No such file",
        "empty.mp4": "empty",
        "text.mp4": "cannot be read",
        "list.m3u8": "cannot be read",
        "script.ffconcat": "cannot be read",
        "session.sdp": "cannot be read",
        "art.ans": "cannot be read",
        "pipe": "pipe",
        ".": "folder",
    }.items():
        with pytest.raises(InputError, match=words) as failure:
            probe(tmp_path / name)
        assert failure.value.hint
    with pytest.raises(InputError, match="not a local file"):
        probe("http://example.org/video.mp4")
    with pytest.raises(InputError, match="device"):
        probe("/dev/zero")


def test_sound_without_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    whole = clip(tmp_path / "w.mp4", 5, audio_s=0.5)
    with av.open(str(whole)) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(InputError, match="no video stream, only audio"):
        probe(path)


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "100%d.mp4", "-.mp4", "\udcff.mp4"])
def test_names_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(BUNNY, name)
    assert probe(name).num_frames == 50
    assert sum(1 for _ in decode(probe(Path(name)))) == 50


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing."""


def test_a_url_is_read_only_if_allowed() -> None:
    handler = functools.partial(Quiet, directory=str(BUNNY.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = Path(f"http://127.0.0.1:{server.server_port}/{BUNNY.name}")
        with pytest.raises(InputError, match="not a local file"):
            probe(url)
        info = probe(url, allow_url=True)
        assert info.num_frames == sum(1 for _ in decode(info)) == 50
        server.shutdown()
    with pytest.raises(InputError, match="cannot be read"):
        probe(url, allow_url=True)


def test_another_video_stream_must_exist() -> None:
    with pytest.raises(InputError, match="1 video streams, no number 3"):
        probe(BUNNY, video_stream=3)
