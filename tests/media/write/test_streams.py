"""One stream never ends a job: what a container refuses is converted or left out, with a line, before the work."""

from fractions import Fraction
from pathlib import Path

import pytest

from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.mux import supported_codecs
from stvsr_cli.media.write.streams import plan_streams
from tests.clips import BUNNY, beep_times
from tests.media.write.test_mux import copy, ffmpeg
from tests.zoo import made, see

PICTURE = (
    "-f",
    "lavfi",
    "-i",
    "testsrc=s=64x48:r=25:d=2",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-pix_fmt",
    "yuv420p",
)


def with_sound(path: Path, *options: str, rate: int = 48000, layout: str = "stereo") -> Path:
    """Two seconds of picture, and a tone."""
    tone = f"sine=r={rate}:d=2,aformat=channel_layouts={layout}"
    return made(path, *PICTURE[:4], "-f", "lavfi", "-i", tone, *PICTURE[4:], *options)


@pytest.mark.parametrize(
    ("name", "options", "rate", "layout", "target", "becomes"),
    [
        ("a.mkv", ("-c:a", "truehd", "-strict", "-2"), 48000, "stereo", ".mov", "aac"),
        ("a.mkv", ("-c:a", "flac"), 48000, "stereo", ".mov", "aac"),
        ("a.mkv", ("-c:a", "flac"), 48000, "stereo", ".mp4", ""),
        ("a.mov", ("-c:a", "pcm_s16le"), 22254, "mono", ".mp4", "24000 Hz"),
        ("a.mov", ("-c:a", "pcm_s16le"), 48000, "5.1.4", ".mp4", "7.1"),
        ("a.mkv", ("-c:a", "pcm_s16le"), 192000, "stereo", ".webm", "libopus of 48000 Hz"),
        ("a.mp4", ("-c:a", "aac"), 48000, "5.1", ".avi", "ac3"),
        ("a.mp4", ("-c:a", "aac"), 44100, "stereo", ".avi", "libmp3lame"),
        ("a.mkv", ("-c:a", "dca", "-strict", "-2"), 48000, "stereo", ".ts", ""),
        ("a.avi", ("-c:a", "ac3"), 48000, "stereo", ".avi", "libmp3lame"),
    ],
)  # fmt: skip
def test_sound_is_converted_to_what_can_be_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
    name: str, options: tuple[str, ...], rate: int, layout: str, target: str, becomes: str,
) -> None:  # fmt: skip
    path = with_sound(tmp_path / name, *options, rate=rate, layout=layout)
    copy(path, tmp_path / f"o{target}", factor=1)
    after = see(tmp_path / f"o{target}")
    assert after.kinds("Audio") == 1
    assert (becomes in caplog.text) if becomes else ("converted" not in caplog.text)
    made(tmp_path / "o.crc", "-i", tmp_path / f"o{target}", "-map", "0:a", "-f", "framecrc")
    lines = [line.split(",") for line in (tmp_path / "o.crc").read_text().splitlines() if line[0] != "#"]
    base = next(line for line in (tmp_path / "o.crc").read_text().splitlines() if line.startswith("#tb"))
    length = sum(int(line[3]) for line in lines) * Fraction(base.split()[-1])
    assert float(length) == pytest.approx(2, abs=0.1)


def test_sound_whose_layout_changes_is_kept(tmp_path: Path) -> None:
    data = b""
    for number, layout in enumerate(("stereo", "5.1")):
        part = with_sound(tmp_path / f"{number}.ts", "-c:a", "ac3", "-output_ts_offset", str(2 * number), layout=layout)
        data += part.read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    copy(tmp_path / "a.ts", tmp_path / "o.webm", factor=1)
    made(tmp_path / "o.wav", "-i", tmp_path / "o.webm", "-vn", "-ac", "1", "-c:a", "pcm_s16le")
    assert (tmp_path / "o.wav").stat().st_size / 2 / 48000 == pytest.approx(4, abs=0.1)


def test_beeps_stay_in_their_places_through_a_conversion(tmp_path: Path) -> None:
    tone = "aevalsrc='0.7*sin(2*PI*1000*t)*(between(t,0.5,0.52)+between(t,1.5,1.52))':s=22050:d=2"
    path = made(tmp_path / "a.mov", *PICTURE[:4], "-f", "lavfi", "-i", tone, *PICTURE[4:], "-c:a", "pcm_s16le")
    copy(path, tmp_path / "o.mp4", factor=1)
    assert beep_times(tmp_path / "o.mp4") == pytest.approx([0.5, 1.5], abs=0.01)
    copy(path, tmp_path / "p.mp4", factor=1, start=Fraction(1))
    assert beep_times(tmp_path / "p.mp4") == pytest.approx([0.5], abs=0.01)


@pytest.mark.parametrize("target", ["o.mkv", "o.mp4"])
def test_cues_of_a_part_are_clipped_to_it(tmp_path: Path, target: str) -> None:
    (tmp_path / "t.srt").write_text("".join(
        f"{n}\n00:00:0{a},000 --> 00:00:0{b},000\n{text}\n\n"
        for n, (a, b, text) in enumerate([(0, 1, "Gone"), (0, 3, "Long"), (3, 4, "Late"), (4, 9, "Cut"), (7, 8, "After")])
    ))  # fmt: skip
    made(tmp_path / "v.mkv", *PICTURE[:2], "-i", "testsrc=s=64x48:r=25:d=9", *PICTURE[4:], "-g", "50")
    ffmpeg(tmp_path, "-i", "v.mkv", "-i", "t.srt", "-c:v", "copy", "-c:s", "srt", "s.mkv")
    copy(tmp_path / "s.mkv", tmp_path / target, factor=1, start=Fraction(2), end=Fraction(5))
    made(tmp_path / "o.srt", "-i", tmp_path / target, "-map", "0:s")
    text = (tmp_path / "o.srt").read_text()
    found = [line.replace(",", ".").split(" --> ") for line in text.splitlines() if " --> " in line]
    seconds = [[float(moment.split(":")[-1]) for moment in pair] for pair in found]
    assert [word for word in ("Gone", "Long", "Late", "Cut", "After") if word in text] == ["Long", "Late", "Cut"]
    assert seconds == [pytest.approx(pair, abs=0.005) for pair in ([0, 1], [1, 2], [2, 3])]


def test_cues_of_one_moment_keep_it(tmp_path: Path) -> None:
    cues = "".join(f"Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,Line {n}\n" for n in range(60))
    head = "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
    form = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    (tmp_path / "t.ass").write_text(head + form + cues)
    ffmpeg(tmp_path, "-i", BUNNY, "-i", "t.ass", "-c", "copy", "s.mkv")
    copy(tmp_path / "s.mkv", tmp_path / "o.mkv", factor=1)
    ffmpeg(tmp_path, "-i", "o.mkv", "-map", "0:s", "-c", "copy", "-f", "framecrc", "o.crc")
    stamps = [int(line.split(",")[1]) for line in (tmp_path / "o.crc").read_text().splitlines() if line[0] != "#"]
    assert stamps == [500] * 60


def test_creation_time_is_kept(tmp_path: Path) -> None:
    ffmpeg(tmp_path, "-i", BUNNY, "-c", "copy", "-metadata", "creation_time=2015-03-01T10:00:00Z", "s.mp4")
    copy(tmp_path / "s.mp4", tmp_path / "o.mp4", factor=1)
    assert see(tmp_path / "o.mp4").text.count("2015-03-01T10:00:00") >= 1


@pytest.mark.parametrize(("target", "action"), [("o.mp4", "copy"), ("o.mkv", "drop"), ("o.gif", "drop")])
def test_a_data_track_is_copied_or_named(tmp_path: Path, target: str, action: str) -> None:
    path = tmp_path / "a.mp4"
    (tmp_path / "t.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nDATA DATA\n")
    ffmpeg(tmp_path, "-i", BUNNY, "-i", "t.srt", "-map", "0:v", "-map", "1", "-c:v", "copy", "-c:s", "mov_text", path)
    data = path.read_bytes().replace(b"tx3g", b"gpmd").replace(b"sbtl", b"meta").replace(b"text", b"meta")
    path.write_bytes(data)
    info = probe(path)
    (stream,) = info.streams
    assert (stream.kind, stream.tag) == ("data", "gpmd")
    (plan,) = plan_streams(info, *supported_codecs(tmp_path / target))
    assert plan.action == action
    assert plan.why or action == "copy"
