"""What pixels are: crop, colour by what players assume, range and shape that change, transparency beside."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.media.read.banner import parse_banner
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import UNSPECIFIED, ColorTags, probe
from tests.clips import make_video, pattern
from tests.media.write.test_mux import copy
from tests.zoo import made, see, source

LUMA = "nullsrc=s=64x48:r=10:d=1,geq=lum='{}':cb=128:cr=128,format={}"


@pytest.mark.parametrize(("size", "matrix"), [((1280, 544), 1), ((960, 720), 1), ((720, 576), 6), ((640, 480), 6)])
def test_untagged_video_is_read_as_players_read_it(size: tuple[int, int], matrix: int) -> None:
    assert ColorTags().resolved_matrix(*size) == matrix
    assert ColorTags(matrix=9).resolved_matrix(*size) == 9


def test_a_matrix_of_rgb_on_other_samples_is_none(tmp_path: Path) -> None:
    plain = made(tmp_path / "p.mp4", *source(count=2), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    path = made(tmp_path / "a.mp4", "-i", plain, "-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=0")
    info = probe(path)
    assert info.color.matrix == UNSPECIFIED
    assert info.color.resolved_matrix(info.width, info.height) == 6


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
def test_gray_that_does_not_say_is_full(tmp_path: Path, pix_fmt: str) -> None:
    path = made(tmp_path / "a.avi", "-f", "lavfi", "-i", LUMA.format("4*X", pix_fmt), "-c:v", "ffv1")
    assert probe(path).color.is_full_range


def test_the_container_crops(tmp_path: Path) -> None:
    said = "  Stream #0:0: Video: h264, yuv420p(tv, left), 64x64\n    Side data:\n      Frame Cropping: 2/4/8/6\n"
    assert parse_banner(said).crops == {0: (2, 8, 4, 6)}
    info = probe(make_video(tmp_path / "a.mkv", [pattern(0, 64, 48)], codec="ffv1", pix_fmt="yuv420p"))
    whole = next(decode(info)).picture
    crop = (2, 8, 4, 6)
    part = next(decode(replace(info, crop=crop, width=64 - 6, height=48 - 14))).picture
    assert np.array_equal(part.planes[0], whole.planes[0][8:42, 2:60])
    assert np.array_equal(part.planes[1], whole.planes[1][4:21, 1:30])


def test_a_data_track_is_known_by_its_letters() -> None:
    said = "  Stream #0:0[0x1](und): Video: h264 (High)\n  Stream #0:1[0x2](eng): Data: bin_data (gpmd / 0x646D7067), 0 kb/s\n"
    assert parse_banner(said + "  Stream #0:2[0x104]: Data: klv ([6][0][0][0] / 0x0006)\n").data == {
        1: "gpmd",
        2: "klv",
    }


def test_a_range_that_changes_is_followed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = b""
    for number, pixels in enumerate(("yuv420p", "yuvj420p")):
        part = made(tmp_path / f"{number}.ts", "-f", "lavfi", "-i", LUMA.format("40+2*X", pixels), "-c:v", "libx264", "-crf",
                    "4", "-bf", "0", "-color_range", ("tv", "pc")[number], "-output_ts_offset", number)  # fmt: skip
        data += part.read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    frames = list(decode(probe(tmp_path / "a.ts")))
    assert [frame.picture.color.is_full_range for frame in frames] == [False] * 10 + [True] * 10
    assert caplog.text.count("range changes to full") == 1


def test_the_shape_of_pixels_that_changes_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = b""
    for number, aspect in enumerate(("1/1", "16/11")):
        part = made(tmp_path / f"{number}.ts", *source(f",setsar={aspect}"), "-c:v", "mpeg2video", "-output_ts_offset",
                    0.4 * number)  # fmt: skip
        data += part.read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    assert len(list(decode(probe(tmp_path / "a.ts")))) == 20
    assert caplog.text.count("pixel aspect changes to") == 1


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_beside_the_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str) -> None:
    path = made(tmp_path / "a.webm", *source(",format=yuva420p,geq=lum=200:cb=128:cr=128:a='255*lt(X,32)'", count=3),
                "-c:v", codec, "-auto-alt-ref", "0", "-b:v", "1M")  # fmt: skip
    with caplog.at_level(logging.WARNING):
        frames = list(decode(probe(path)))
    assert len(frames) == 3
    luma = frames[1].picture.planes[0]
    assert luma[:, :28].mean() == pytest.approx(200, abs=4)
    assert luma[:, 36:].mean() == pytest.approx(16, abs=2)
    assert caplog.text.count("laid over black") == 1


def test_sizes_are_of_what_is_shown(tmp_path: Path) -> None:
    turned = probe(make_video(tmp_path / "r.mp4", [pattern(0, 96, 64)] * 2, rotation=90))
    assert turned.shown_size == (64, 96)
    wide = probe(make_video(tmp_path / "w.mp4", [pattern(0, 72, 64)] * 2, aspect=Fraction(4, 3)))
    assert wide.shown_size == (96, 64)


def captioned(tmp_path: Path) -> Path:
    """A video of six frames, each with closed captions."""
    caption = bytes([0xB5, 0x00, 0x31]) + b"GA94" + bytes([0x03, 0x41, 0xFF, 0xFC, 0x94, 0x20, 0xFF])
    plain = made(tmp_path / "p.mp4", *source(count=6), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0")
    raw = made(tmp_path / "p.h264", "-i", plain, "-c", "copy", "-bsf:v", "h264_mp4toannexb").read_bytes()
    unit = b"\x00\x00\x00\x01\x06\x04" + bytes([len(caption)]) + caption + b"\x80"
    for mark in (b"\x00\x00\x01\x65", b"\x00\x00\x01\x41"):
        raw = raw.replace(mark, unit + mark)
    (tmp_path / "c.h264").write_bytes(raw)
    return made(tmp_path / "a.mp4", "-i", tmp_path / "c.h264", "-c", "copy")


def test_captions_are_carried_to_the_encoder(tmp_path: Path) -> None:
    path = captioned(tmp_path)
    assert all(frame.picture.beside is not None for frame in decode(probe(path)))
    copy(path, tmp_path / "o.mp4", factor=1)
    after = list(decode(probe(tmp_path / "o.mp4")))
    assert len(after) == 6 and all(frame.picture.beside is not None for frame in after)
    assert see(tmp_path / "o.mp4").times
