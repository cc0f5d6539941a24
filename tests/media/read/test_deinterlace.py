"""Interlaced video: found by flags and by pictures, made whole frame by frame, at the times it had."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.deinterlace import Scan, decide, look, with_fields
from stvsr_cli.media.read.probe import Fields, probe
from tests.clips import BUNNY, make_video, pattern

X264 = ("-c:v", "libx264", "-crf", "4", "-flags", "+ilme+ildct")


def moving(path: Path, rate: int = 50, count: int = 60) -> Path:
    """Whole frames that move fast enough for fields to differ."""
    return make_video(path, [pattern(i, 128, 96, 3) for i in range(count)], rate=rate, codec="ffv1")


def filtered(source: Path, target: Path, filters: str, *codec: str) -> Path:
    """A video through filters of the ffmpeg binary."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(source), "-vf", filters]
    subprocess.run([*command, *(codec or ("-c:v", "ffv1")), str(target)], check=True)
    return target


def luma(path: Path) -> list[np.ndarray]:
    return [frame.picture.planes[0].astype(int) for frame in decode(probe(path))]


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize("marked", [True, False])
def test_fields_become_the_frames_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str, marked: bool
) -> None:
    whole = moving(tmp_path / "w.mkv")
    codec = (*X264, "-x264-params", f"{first}=1") if marked else ()
    lie = "" if marked else ",setfield=prog"
    source = filtered(whole, tmp_path / "i.mkv", f"interlace=scan={first}:lowpass=off{lie}", *codec)
    info = with_fields(probe(source))
    assert info.fields == Fields(parity=first, only_flagged=marked)
    assert len(caplog.records) == 1
    assert f"deinterlaced, {'top' if first == 'tff' else 'bottom'} field first" in caplog.text
    frames, combed = list(decode(info)), list(decode(probe(source)))
    assert len(frames) == 30
    assert [(f.pts, f.duration) for f in frames] == [(f.pts, f.duration) for f in combed]
    truth = luma(whole)[::2]  # the moment of each first field
    faults = [np.abs(f.picture.planes[0] - t)[4:-4].mean() for f, t in zip(frames[1:-1], truth[1:-1], strict=True)]
    before = [np.abs(f.picture.planes[0] - t)[4:-4].mean() for f, t in zip(combed[1:-1], truth[1:-1], strict=True)]
    assert max(faults) < 3 < min(before)


def test_whole_frames_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert with_fields(probe(BUNNY)).fields is None
    assert not caplog.records
    marked = filtered(moving(tmp_path / "w.mkv"), tmp_path / "m.mkv", "setfield=tff", *X264, "-x264-params", "tff=1")
    assert probe(marked).interlaced
    assert with_fields(probe(marked)).fields is None
    assert "its frames are progressive" in caplog.text


def test_off_and_on_have_the_last_word(tmp_path: Path) -> None:
    source = filtered(moving(tmp_path / "w.mkv"), tmp_path / "i.mkv", "interlace")
    assert with_fields(probe(source), "off").fields is None
    fields = with_fields(probe(BUNNY), "on").fields
    assert fields is not None and not fields.only_flagged
    with pytest.raises(ValueError, match="auto, off, on"):
        with_fields(probe(BUNNY), "maybe")


def test_pulldown_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = filtered(moving(tmp_path / "w.mkv", 24, 72), tmp_path / "t.mkv", "telecine")
    info = with_fields(probe(source))
    assert look(info).is_telecine
    assert "3:2 pulldown in its pictures, which is kept" in caplog.text
    assert len(caplog.records) == 1
    assert len(list(decode(info))) == 90


def test_pulldown_by_flags_is_noted_by_its_times() -> None:
    times = (4505, 3003) * 10
    assert Scan(0, 21, ("progressive",) * 21, times).is_soft_telecine
    assert decide(Scan(0, 21, ("progressive",) * 21, times)) is None
    assert not Scan(0, 21, ("progressive",) * 21, (3003, 3004) * 10).is_soft_telecine


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_frame_is_lost_of_a_few(tmp_path: Path, count: int) -> None:
    whole = moving(tmp_path / "w.mkv", count=2 * count)
    source = filtered(whole, tmp_path / "i.mkv", "interlace", *X264)
    assert len(list(decode(with_fields(probe(source), "on")))) == count


def test_a_part_is_as_in_the_whole(tmp_path: Path) -> None:
    source = filtered(moving(tmp_path / "w.mkv"), tmp_path / "i.mkv", "interlace", *X264, "-g", "5")
    info = with_fields(probe(source))
    whole = list(decode(info))
    for number in (5, 7, 10):
        start = (whole[number].pts - info.start_pts) * info.time_base
        part = list(decode(info, start=start))
        assert len(part) == len(whole) - number
        for a, b in zip(part, whole[number:], strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a.picture.planes, b.picture.planes, strict=True))
