"""Recordings that were joined, or lost their signal: one clock for all streams, and only where a clock can jump."""

from pathlib import Path

import pytest

from stvsr_cli.media.read.probe import probe
from tests.clips import beep_times, flash_times, read_frames
from tests.media.write.test_mux import copy, ffmpeg
from tests.zoo import made, see

MARKS = (10, 60)
"""Frames of 100 that flash, and beep."""
CODECS = {
    "ts": ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-c:a", "mp2"),
    "mpg": ("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-q:v", "3", "-c:a", "mp2"),
    "flv": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac"),
}


def recording(path: Path, kind: str = "ts") -> Path:
    """Four seconds with two flashes that beep."""
    flash = "+".join(f"eq(N,{n})" for n in MARKS)
    beep = "+".join(f"between(t,{n / 25},{n / 25 + 0.02})" for n in MARKS)
    return made(
        path, "-f", "lavfi", "-i", f"nullsrc=s=64x48:r=25:d=4,geq=lum='16+220*({flash})':cb=128:cr=128,format=yuv420p",
        "-f", "lavfi", "-i", f"aevalsrc='0.7*sin(2*PI*1000*t)*({beep})':s=48000:d=4", *CODECS[kind],
    )  # fmt: skip


def moved(path: Path, target: Path, offset: float) -> bytes:
    """The bytes of a recording whose clock begins later."""
    return made(target, "-i", path, "-c", "copy", "-output_ts_offset", offset).read_bytes()


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
@pytest.mark.parametrize(
    ("kind", "offsets"),
    [("ts", (0, 36000)), ("ts", (36000, 5)), ("ts", (0, 7200, 0)), ("ts", (95440,)), ("ts", (0, 3.9)), ("mpg", (0, 0)),
     ("flv", (0, 3600))],
)  # fmt: skip
def test_a_clock_that_jumps_moves_all_streams(tmp_path: Path, kind: str, offsets: tuple, target: str) -> None:
    part, joined = recording(tmp_path / f"a.{kind}", kind), tmp_path / f"j.{kind}"
    parts = [moved(part, tmp_path / f"{n}.{kind}", o) if o else part.read_bytes() for n, o in enumerate(offsets)]
    joined.write_bytes(parts[0] + b"".join(data[13:] if kind == "flv" else data for data in parts[1:]))
    copy(joined, tmp_path / target, factor=1)
    _, times, _ = read_frames(tmp_path / target)
    assert len(times) == 100 * len(offsets)
    assert {round(float(b - a), 2) for a, b in zip(times[:-1], times[1:], strict=True)} == {0.04}
    flash, beep = flash_times(tmp_path / target), beep_times(tmp_path / target)
    assert len(flash) == len(beep) == 2 * len(offsets)
    assert flash == pytest.approx(beep, abs=0.04)


@pytest.mark.parametrize(("offset", "count", "end"), [(3.5, 187, 7.5), (8, 200, 12)])
def test_what_overlaps_is_cut_and_what_is_missing_stays_a_gap(
    tmp_path: Path, offset: float, count: int, end: float
) -> None:
    part, joined = recording(tmp_path / "a.ts"), tmp_path / "j.ts"
    joined.write_bytes(part.read_bytes() + moved(part, tmp_path / "b.ts", offset))
    info = probe(joined)
    copy(joined, tmp_path / "o.mkv", factor=1)
    _, times, _ = read_frames(tmp_path / "o.mkv")
    assert len(times) == pytest.approx(count, abs=3)
    assert float(times[-1]) == pytest.approx(end, abs=0.1)
    assert float(info.duration_s or 0) == pytest.approx(end, abs=0.1)
    flash, beep = flash_times(tmp_path / "o.mkv"), beep_times(tmp_path / "o.mkv")
    assert flash == pytest.approx(beep, abs=0.04)
    assert flash[-1] == pytest.approx(offset + 60 / 25, abs=0.1)


def test_subtitles_that_overlap_or_last_long_move_nothing(tmp_path: Path) -> None:
    begins = (0.2, 0.5, 1.2, 2.0, 3.0)
    cues = "".join(
        f"{n}\n00:00:0{b:.3f} --> 00:00:09,000\nLine {n}\n\n".replace(".", ",", 1) for n, b in enumerate(begins)
    )
    (tmp_path / "t.srt").write_text(cues)
    ffmpeg(tmp_path, "-i", recording(tmp_path / "a.ts"), "-i", "t.srt", "-map", "0:v", "-map", "1", "-c:v", "copy", "-c:s",
           "ass", "s.mkv")  # fmt: skip
    copy(tmp_path / "s.mkv", tmp_path / "o.mkv", factor=1)
    ffmpeg(tmp_path, "-i", "o.mkv", "-map", "0:s", "-c", "copy", "-f", "framecrc", "o.crc")
    stamps = [int(line.split(",")[1]) for line in (tmp_path / "o.crc").read_text().splitlines() if line[0] != "#"]
    assert [stamp / 1000 for stamp in stamps] == pytest.approx(begins, abs=0.03)


def test_a_wrong_default_duration_is_no_restart(tmp_path: Path) -> None:
    made(tmp_path / "a.mkv", "-i", recording(tmp_path / "a.ts"), "-map", "0:v", "-c", "copy")
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    at = data.find(b"\x23\xe3\x83")  # DefaultDuration
    size = data[at + 3] & 0x7F
    data[at + 4 : at + 4 + size] = (400_000_000).to_bytes(size, "big")
    (tmp_path / "a.mkv").write_bytes(data)
    copy(tmp_path / "a.mkv", tmp_path / "o.mp4", factor=1)
    times = see(tmp_path / "o.mp4").times
    assert len(times) == 100
    assert times[-1] == pytest.approx(3.96, abs=0.01)
    assert "Duration: 00:00:04.0" in see(tmp_path / "o.mp4").text
