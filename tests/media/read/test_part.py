"""Parts of a video: every container, every kind of keyframe, whole frames; and frames that have no times of their own."""

import itertools
from fractions import Fraction
from pathlib import Path

import pytest

from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.part import snapped
from stvsr_cli.media.read.probe import held_base, probe
from tests.clips import BUNNY
from tests.media.write.test_mux import copy
from tests.zoo import made, see

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "4", "-bf", "3", "-x264-params", "scenecut=0")
KINDS = {
    "open groups in ts": ("a.ts", (*X264[:-1], "scenecut=0:open-gop=1:keyint=50")),
    "open groups in mkv": ("a.mkv", (*X264[:-1], "scenecut=0:open-gop=1:keyint=50")),
    "mp4": ("a.mp4", (*X264, "-g", "50")),
    "flv": ("a.flv", (*X264, "-g", "50")),
    "one keyframe in ts": ("a.ts", (*X264, "-g", "999")),
    "intra refresh": ("a.ts", (*X264, "-g", "50", "-intra-refresh", "1")),
    "mpg": ("a.mpg", ("-c:v", "mpeg2video", "-bf", "2", "-g", "30", "-q:v", "1")),
    "avi": ("a.avi", ("-c:v", "mpeg4", "-bf", "2", "-g", "50", "-q:v", "1")),
}


def counted(path: Path, *codec: str, count: int = 120, rate: str = "25", sound: bool = False) -> Path:
    """A video whose frame n has brightness 20 + n."""
    tone = ("-f", "lavfi", "-i", "sine=r=48000", "-shortest", "-c:a", "aac") if sound else ()
    picture = f"nullsrc=s=64x48:r={rate},trim=end_frame={count},geq=lum='20+N':cb=128:cr=128,format=yuv420p"
    return made(path, "-f", "lavfi", "-i", picture, *tone[:4], *codec, *tone[4:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_begins_with_the_frame_that_is_shown(tmp_path: Path, kind: str) -> None:
    name, codec = KINDS[kind]
    info = probe(counted(tmp_path / name, *codec))
    for asked in ("0.5", "2.0", "3.14", "4.1"):
        start, _ = snapped(info, Fraction(asked), None)
        frames = list(itertools.islice(decode(info, start=start), 3))
        begin = int((Fraction(asked) + info.origin - info.start_pts * info.time_base) * 25 + Fraction(1, 10))
        assert [int(f.picture.planes[0][24, 8]) - 20 for f in frames] == pytest.approx(
            [begin, begin + 1, begin + 2], abs=0
        )
        assert {frame.duration * info.time_base for frame in frames} == {Fraction(1, 25)}


def test_a_constant_rate_stays_constant(tmp_path: Path) -> None:
    info = probe(counted(tmp_path / "a.mp4", *X264, count=48, rate="24000/1001"))
    start, end = snapped(info, Fraction(1), Fraction(3, 2))
    assert (start, end) == (24 * Fraction(1001, 24000), 36 * Fraction(1001, 24000))
    frames = list(decode(info, start=start, end=end))
    assert len(frames) == 12
    assert {frame.duration * info.time_base for frame in frames} == {Fraction(1001, 24000)}


def test_a_frame_that_lasts_long_is_cut_where_asked(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", "-f", "lavfi", "-i", "testsrc=s=64x48:r=25,trim=end_frame=20,setpts='if(gt(N,9),N+100,N)/25/TB'",
                "-c:v", "ffv1", "-fps_mode", "vfr")  # fmt: skip
    info = probe(path)
    assert snapped(info, Fraction(2), Fraction(3)) == (2, 3)
    assert [frame.duration * info.time_base for frame in decode(info, start=Fraction(2), end=Fraction(3))] == [1]


def test_the_sound_of_a_part_begins_with_it(tmp_path: Path) -> None:
    path = counted(tmp_path / "a.ts", *X264, "-g", "999", sound=True)
    info = probe(path)
    start, _ = snapped(info, Fraction(3), None)
    copy(path, tmp_path / "o.mkv", factor=1, start=start or Fraction(0))
    seen = see(tmp_path / "o.mkv")
    assert seen.times[0] == 0
    made(tmp_path / "o.crc", "-i", tmp_path / "o.mkv", "-map", "0:a", "-c", "copy", "-f", "framecrc")
    lines = [line.split(",") for line in (tmp_path / "o.crc").read_text().splitlines() if line[0] != "#"]
    assert 0 <= int(lines[0][1]) <= 22
    assert len(lines) * 1024 / 48000 == pytest.approx(1.8, abs=0.1)


@pytest.mark.parametrize("codec", [X264, ("-c:v", "mpeg4", "-bf", "2", "-q:v", "1")])
def test_frames_without_stamps_are_even(tmp_path: Path, codec: tuple[str, ...]) -> None:
    whole = counted(tmp_path / "a.mp4", *codec, "-g", "25", sound=True)
    path = made(tmp_path / "a.avi", "-i", whole, "-c", "copy")
    info = probe(path)
    frames = list(decode(info))
    assert [int(frame.picture.planes[0][24, 8]) - 20 for frame in frames] == list(range(120))
    assert {frame.duration * info.time_base for frame in frames} == {Fraction(1, 25)}


def test_empty_frames_do_not_count(tmp_path: Path) -> None:
    counted(tmp_path / "a.mp4", *X264, count=48, rate="24")
    path = made(tmp_path / "a.avi", "-i", tmp_path / "a.mp4", "-c:v", "libx264", "-preset", "veryfast", "-bf", "2",
                "-fps_mode", "passthrough", "-enc_time_base", "1/120")  # fmt: skip
    info = probe(path)
    assert info.average_rate == 24
    frames = list(decode(info))
    assert len(frames) == 48
    assert {frame.duration * info.time_base for frame in frames} == {Fraction(1, 24)}


def test_time_bases_fit_what_ffmpeg_holds(tmp_path: Path) -> None:
    for base in (Fraction(1, 10**9), Fraction(1, 90000), Fraction(1001, 2**31 - 1)):
        held = held_base(base) / 4
        assert max(held.numerator, held.denominator) < 2**31
        assert (held == base / 4) == (4 * base.denominator < 2**31)
    path = made(
        tmp_path / "a.nut", "-i", BUNNY, "-frames:v", 5, "-c:v", "ffv1", "-enc_time_base", "1/1000000000", "-an"
    )
    assert probe(path).time_base.denominator * 4 < 2**31
    copy(path, tmp_path / "o.mkv", factor=4)
    times = see(tmp_path / "o.mkv").times
    assert len(times) == 20
    assert times == pytest.approx([n / 100 for n in range(20)], abs=0.001)
