"""Every kind of file through the whole pipeline, its results read by the ffmpeg binary and not by our own reader."""

import logging
from fractions import Fraction
from pathlib import Path

import pytest

from stvsr_cli.errors import InputError
from stvsr_cli.job.job import Job
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline.upscale import upscale
from tests.media.read.test_picture import captioned
from tests.zoo import FAST, FFMPEG, Seen, ffmpeg, made, see, source

FFV1 = ("-c:v", "ffv1")


def run(path: Path, target: Path, **settings: object) -> Seen:
    """Upscale a file by two. Returns what the output is."""
    job = Job(input=path, output=target, model="linear", scale=Fraction(2), resume="never", threads=1,
              encoder=EncoderConfig(preset="ultrafast", threads=1), **settings)  # fmt: skip
    upscale(job)
    return see(target)


def check_times(before: Seen, after: Seen) -> None:
    """Every frame came out at its own moment, counted from the first, and another midway to the next."""
    assert len(after.times) == 2 * len(before.times) > 0
    ours = [time - after.times[0] for time in after.times]
    theirs = [time - before.times[0] for time in before.times]
    assert ours[::2] == pytest.approx(theirs, abs=0.0021)
    assert ours[1:-1:2] == pytest.approx(
        [(a + b) / 2 for a, b in zip(theirs[:-1], theirs[1:], strict=True)], abs=0.0021
    )


PLAIN = {
    "one frame": ("a.mp4", source(count=1), FAST, "128x96"),
    "two frames": ("a.mp4", source(count=2), FAST, "128x96"),
    "three frames": ("a.mp4", source(count=3), FAST, "128x96"),
    "16x16": ("a.mp4", source(size="16x16", count=3), FAST, "32x32"),
    "HD": ("a.mp4", source(size="1920x1080", count=1), FAST, "3840x2160"),
    "4K": ("a.mp4", source(size="3840x2160", count=1), FAST, "7680x4320"),
    "odd size": ("a.mkv", source(size="35x27", count=3), FFV1, "70x54"),
    "29.97": ("a.mp4", source(rate="30000/1001"), FAST, "59.94 fps"),
    "drop frame": ("a.mov", source(rate="30000/1001"), (*FAST, "-timecode", "01:00:00;02"), "01:00:00;02"),
    "variable rate": ("a.mp4", source(",setpts='(N+0.3*mod(N,3))/25/TB'"), (*FAST, "-fps_mode", "vfr"), "128x96"),
    "late start": ("a.mkv", source(), (*FAST, "-output_ts_offset", "1000"), "128x96"),
    "negative start": ("a.mov", source(), (*FAST, "-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled"), "128x96"),
    "large start": ("a.ts", source(), (*FAST, "-output_ts_offset", "90000"), "128x96"),
    "anamorphic": ("a.mp4", source(",setsar=16/11"), FAST, "SAR 16:11"),
    "full range": ("a.mp4", source(",scale=out_range=pc"), (*FAST, "-color_range", "pc"), "yuvj420p(pc"),
    "yuvj": ("a.avi", source(), ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"), "yuvj420p(pc"),
    "4:2:2": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv422p"), "yuv422p"),
    "4:4:4": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv444p"), "yuv444p"),
    "4:1:1": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv411p"), "128x96"),
    "gray": ("a.mkv", source(), (*FFV1, "-pix_fmt", "gray"), "128x96"),
    "10 bit": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv420p10le"), "yuv420p10le"),
    "10 bit 4:2:2": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv422p10le"), "yuv422p10le"),
    "10 bit 4:4:4": ("a.mkv", source(), (*FFV1, "-pix_fmt", "yuv444p10le"), "yuv444p10le"),
    "10 bit gray": ("a.mkv", source(), (*FFV1, "-pix_fmt", "gray10le"), "128x96"),
    "palette GIF": ("a.gif", source(rate="10"), (), "20 fps"),
    "alpha": ("a.mov", source(",format=rgba,colorchannelmixer=aa=0.5"), ("-c:v", "png"), "128x96"),
    "HDR10": ("a.mkv", source(",format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"), FFV1,
              "bt2020nc/bt2020/smpte2084"),
    "HLG": ("a.mkv", source(",format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"), FFV1,
              "bt2020nc/bt2020/arib-std-b67"),
    "interlaced": ("a.mp4", source(",interlace", count=20), (*FAST, "-flags", "+ilme+ildct"), "128x96"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k == "4K" else k for k in PLAIN])
def test_frames_times_and_tags(tmp_path: Path, kind: str) -> None:
    name, begin, rest, words = PLAIN[kind]
    path = made(tmp_path / name, *begin, *rest)
    after = run(path, tmp_path / "o.mov")
    check_times(see(path), after)
    assert words in after.text


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_change_of_size_loses_no_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str) -> None:
    both = b""
    for number, size in enumerate(("64x48", "96x64")):
        part = made(tmp_path / f"{number}.ts", *source(size=size, count=20), "-c:v", codec, "-pix_fmt", "yuv420p",
                    "-output_ts_offset", 0.8 * number)  # fmt: skip
        both += part.read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(both)
    after = run(path, tmp_path / "o.mp4")
    assert len(after.times) == 80
    assert [round(b - a, 3) for a, b in zip(after.times[:-1], after.times[1:], strict=True)] == [0.02] * 79
    assert "128x96" in after.text
    assert caplog.text.count("changes to 96x64 on its way") == 1
    with pytest.raises(InputError, match=r"96x64, more than 3072 pixels|64x48, more than") as failure:
        run(path, tmp_path / "p.mp4", max_pixels=64 * 48)
    assert "--max-pixels" in (failure.value.hint or "")
    assert not (tmp_path / "p.mp4").exists()


@pytest.mark.parametrize(("container", "target"), [("mp4", "mp4"), ("mkv", "mkv"), ("mkv", "mp4"), ("mp4", "mov")])
def test_sound_is_whole_and_in_step(tmp_path: Path, container: str, target: str) -> None:
    sound = ("-f", "lavfi", "-i", "sine=r=48000:d=1", "-c:a", "aac", "-shortest")
    path = made(tmp_path / f"a.{container}", *source(count=25), *sound, *FAST)
    run(path, tmp_path / f"o.{target}")
    whole = made(tmp_path / f"c.{target}", "-i", path, "-c", "copy")
    found = []
    for file in (tmp_path / f"o.{target}", whole):
        made(file.with_suffix(".crc"), "-i", file, "-map", "0:a", "-c", "copy", "-f", "framecrc")
        lines = [line.split(",") for line in file.with_suffix(".crc").read_text().splitlines() if line[0] != "#"]
        found.append([(line[1].strip(), line[-1 if len(line) < 7 else 5].strip()) for line in lines])
    assert len(found[0]) == len(found[1])
    assert [crc for _, crc in found[0]] == [crc for _, crc in found[1]]
    assert found[0][0][0] == found[1][0][0]


def test_everything_beside_the_video_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nHello\n")
    (tmp_path / "f.ttf").write_bytes(b"no real font" * 10)
    (tmp_path / "m.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One\n")
    tone = ("-f", "lavfi", "-i", "sine=r=48000:d=0.4")
    path = made(tmp_path / "a.mkv", *source(), *tone, *tone, "-i", tmp_path / "s.srt", "-i", tmp_path / "m.txt",
                "-map", 0, "-map", 1, "-map", 2, "-map", 3, "-map_metadata", 4, *FAST, "-c:a", "aac", "-c:s", "srt",
                "-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra", "-disposition:s:0", "forced",
                "-attach", tmp_path / "f.ttf", "-metadata:s:t", "mimetype=font/ttf")  # fmt: skip
    after = run(path, tmp_path / "o.mkv")
    assert (after.kinds("Video"), after.kinds("Audio"), after.kinds("Subtitle"), after.kinds("Attachment")) == (
        1,
        2,
        1,
        1,
    )
    assert all(word in after.text for word in ("(deu)", "(fra)", "(forced)", "One", "font/ttf"))


def test_an_edit_list_hides_what_it_hid(tmp_path: Path) -> None:
    whole = made(tmp_path / "w.mp4", *source(count=30), *FAST, "-g", "25", "-bf", "0")
    path = made(tmp_path / "a.mp4", "-ss", "0.4", "-i", whole, "-c", "copy")  # from the keyframe at 0, hidden up to 0.4
    before = see(path)
    assert len(before.times) == 20
    check_times(before, run(path, tmp_path / "o.mp4"))


def test_cover_art_is_kept(tmp_path: Path) -> None:
    cover = made(tmp_path / "c.png", *source(size="32x32", count=1), "-frames:v", 1)
    path = made(tmp_path / "a.mp4", *source(), "-i", cover, "-map", 0, "-map", 1, *FAST, "-c:v:1", "copy",
                "-disposition:v:1", "attached_pic")  # fmt: skip
    after = run(path, tmp_path / "o.mp4")
    assert after.kinds("Video") == 2
    assert "(attached pic)" in after.text and "32x32" in after.text
    check_times(see(path), after)


@pytest.mark.parametrize(("kind", "pts"), [("jump", "N/25/TB+gte(N\\,5)*100/TB"), ("repeat", "(N-eq(N\\,5))/25/TB")])
def test_timestamps_that_jump_or_repeat(tmp_path: Path, kind: str, pts: str) -> None:
    path = made(tmp_path / "a.nut", *source(f",setpts='{pts}'"), "-c:v", "ffv1", "-fps_mode", "passthrough",
                "-enc_time_base", "1/1000")  # fmt: skip
    before, after = see(path), run(path, tmp_path / "o.mkv")
    assert len(before.times) == 10
    assert len(after.times) == 20
    assert sorted(after.times) == list(after.times)
    if kind == "jump":
        check_times(before, after)


def test_the_second_video_is_chosen(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", *source(), *source(size="32x32"), "-map", 0, "-map", 1, *FAST)
    after = run(path, tmp_path / "o.mp4", video_stream=1)
    assert "64x64" in after.streams[0]
    check_times(see(path, "0:v:1"), after)


def test_interlacing_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = made(tmp_path / "a.mp4", *source(",interlace", count=20), *FAST, "-flags", "+ilme+ildct")
    with caplog.at_level(logging.WARNING):
        run(path, tmp_path / "o.mp4")
    assert caplog.text.count("deinterlaced") == 1
    assert Path(FFMPEG).exists() and "progressive" in ffmpeg("-i", tmp_path / "o.mp4")


EASILY_LOST = {(90, True, "mkv"), (270, False, "mov")}
"""Orientations that the other containers are tried with each time; the rest of them is slow."""


def corners(path: Path) -> list[int]:
    """Brightness of the corners of the first frame, as ffmpeg turns it for show."""
    raw = path.with_suffix(".raw")
    ffmpeg("-i", path, "-frames:v", 1, "-vf", "scale=2:2:flags=area,format=gray", "-f", "rawvideo", raw)
    return list(raw.read_bytes())


@pytest.mark.parametrize(
    ("turn", "flip", "target"),
    [
        pytest.param(
            turn, flip, target,
            marks=() if target == "mp4" or (turn, bool(flip), target) in EASILY_LOST else pytest.mark.slow,
        )
        for turn in (0, 90, 180, 270)
        for flip in ((), ("-display_hflip",))
        for target in ("mp4", "mkv", "mov")
    ],
)  # fmt: skip
def test_all_eight_orientations(tmp_path: Path, turn: int, flip: tuple[str, ...], target: str) -> None:
    chain = "geq=lum='40+60*gt(X,W/2)+100*gt(Y,H/2)':cb=128:cr=128"
    flat = made(tmp_path / "f.mp4", *source(f",format=yuv420p,{chain}", count=2), *FAST)
    path = made(tmp_path / "a.mp4", "-display_rotation", turn, *flip, "-i", flat, "-c", "copy")
    after = run(path, tmp_path / f"o.{target}")
    assert corners(tmp_path / f"o.{target}") == pytest.approx(corners(path), abs=4)
    assert "128x96" in after.text  # the frames themselves stay as they were


@pytest.mark.parametrize("container", ["mkv", "ts", "mov", "flv", "avi"])
def test_what_is_made_goes_through_other_containers_and_back(tmp_path: Path, container: str) -> None:
    tone = ("-f", "lavfi", "-i", "sine=r=48000:d=1.6", "-c:a", "aac")
    path = made(tmp_path / "a.mp4", *source(count=40), *tone, "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p")
    first = run(path, tmp_path / "b.mp4")
    passed = made(tmp_path / f"c.{container}", "-i", tmp_path / "b.mp4", "-c", "copy")
    after = run(passed, tmp_path / "d.mkv")
    assert (len(first.times), len(after.times)) == (80, 160)
    steps = [b - a for a, b in zip(after.times[:-1], after.times[1:], strict=True)]
    assert steps == pytest.approx([0.01] * 159, abs=0.0011)
    assert after.kinds("Audio") == 1


@pytest.mark.parametrize(("factor", "left"), [(1, 6), (Fraction(5, 2), 6), (Fraction(1, 2), 0)])
def test_captions_are_whole_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, factor: Fraction | int, left: int
) -> None:
    job = Job(input=captioned(tmp_path), output=tmp_path / "o.mp4", model="linear", fps_factor=factor)
    upscale(job)
    assert sum(frame.picture.beside is not None for frame in decode(probe(job.output))) == left
    assert ("captions are left out" in caplog.text) == (left == 0)
