"""Pictures in and out through the whole pipeline."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.errors import InputError, OutputError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.images import image_pix_fmt
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline.sources import reads_pictures
from stvsr_cli.pipeline.upscale import upscale
from tests.clips import make_video, pattern, picture, read_frames, sequence

LOSSLESS = EncoderConfig(codec="ffv1", pix_fmt="gbrp")


def read(path, format="rgb24"):
    with av.open(str(path), format="png_pipe" if path.suffix == ".png" else "jpeg_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format=format)


def made(source, target, **changes):
    base = {"input": Path(source), "output": Path(target), "model": "linear", "scale": Fraction(2),
            "encoder": EncoderConfig(preset="ultrafast")}  # fmt: skip
    return upscale(Job(**base | changes))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("source", ["in", "in/%03d.png"])
def test_pictures_become_a_video_with_the_rate_asked_for(tmp_path, source):
    sequence(tmp_path / "in")
    report = made(tmp_path / source, tmp_path / "out.mp4", fps=Fraction(24000, 1001))
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.num_frames) == (96, 64, 10)
    assert info.average_rate == Fraction(48000, 1001) and report.frames_in == 5
    assert read_frames(tmp_path / "out.mp4")[1] == [i * Fraction(1001, 48000) for i in range(10)]


def test_pictures_keep_their_pixels(tmp_path):
    sequence(tmp_path / "in", 3)
    made(tmp_path / "in", tmp_path / "same.mkv", scale=Fraction(1), fps_factor=1, encoder=LOSSLESS)
    found = read_frames(tmp_path / "same.mkv")[0]
    assert max(abs(a.astype(int) - pattern(i, 48, 32)).mean() for i, a in enumerate(found)) < 3


def test_a_video_becomes_numbered_pictures(tmp_path):
    source = make_video(tmp_path / "in.mkv", [pattern(i, 48, 32) for i in range(3)], codec="ffv1", pix_fmt="yuv444p")
    (tmp_path / "frames").mkdir()
    made(source, tmp_path / "frames" / "f%04d.png")
    assert names(tmp_path / "frames") == [f"f000{i}.png" for i in range(1, 7)]
    made(source, tmp_path / "out.mkv", encoder=LOSSLESS)
    for path, wanted in zip(sorted((tmp_path / "frames").iterdir()), read_frames(tmp_path / "out.mkv")[0], strict=True):
        assert abs(read(path).astype(int) - wanted).max() <= 1


def test_a_folder_of_pictures_becomes_a_folder_of_pictures(tmp_path):
    sequence(tmp_path / "in", 2, ".jpg")
    made(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == [f"00000{i}.jpg" for i in range(1, 5)]
    assert read(tmp_path / "out" / "000001.jpg").shape == (64, 96, 3)
    made(tmp_path / "in", tmp_path / "png", format="png", fps_factor=1)
    assert names(tmp_path / "png") == ["000001.png", "000002.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_picture_becomes_one_picture(tmp_path, suffix):
    source = picture(tmp_path / f"a{suffix}", pattern(0, 49, 33))
    report = made(source, tmp_path / f"b{suffix}")
    assert (report.frames_in, report.frames_out) == (1, 1)
    found = read(tmp_path / f"b{suffix}")
    assert found.shape == (66, 98, 3)
    made(source, tmp_path / "folder")
    assert names(tmp_path / "folder") == [f"a{suffix}"]
    small = found.reshape(33, 2, 49, 2, 3).mean((1, 3))
    assert abs(small - pattern(0, 49, 33)).mean() < 6


def test_several_pictures_are_a_batch_of_single_ones(tmp_path):
    for name in ("a.png", "b.png", "c.jpg"):
        picture(tmp_path / name, pattern(0, 32, 32))
    common = ["upscale", "--model", "linear", "--scale", "2", "-q"]

    def run(*arguments):
        return CliRunner().invoke(app, [*common, *map(str, arguments)]).exit_code

    assert run(tmp_path / "a.png", tmp_path / "c.jpg", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.png", "c.jpg"] and read(tmp_path / "out" / "c.jpg").shape == (64, 64, 3)
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    (tmp_path / "out" / "b.png").write_bytes(b"half a picture")
    assert run(f"{tmp_path}/*.png", tmp_path / "out", "--skip-existing") == 7  # it may be somebody else's
    assert (tmp_path / "out" / "b.png").read_bytes() == b"half a picture"
    assert run(f"{tmp_path}/*.png", tmp_path / "out", "--skip-existing", "--overwrite") == 0
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before
    assert read(tmp_path / "out" / "b.png").shape == (64, 64, 3)


def test_deep_pictures_stay_deep(tmp_path):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint16)[None, :, None] * 1024, (32, 64, 3))
    source = picture(tmp_path / "a.png", np.ascontiguousarray(ramp))
    made(source, tmp_path / "b.png", scale=Fraction(1))
    found = read(tmp_path / "b.png", "rgb48le")
    assert abs(found.astype(int) - ramp)[:, 4:-4].max() < 200
    assert image_pix_fmt(Path("a.jpg"), 10) == "gbrp"


def test_colours_survive_png_and_jpeg(tmp_path):
    chart = np.zeros((32, 64, 3), np.uint8)
    for i, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 30)]):
        chart[:, 16 * i : 16 * i + 16] = color
    for suffix in (".png", ".jpg"):
        made(picture(tmp_path / f"a{suffix}", chart), tmp_path / f"b{suffix}", scale=Fraction(1))
        found = read(tmp_path / f"b{suffix}").astype(int)
        for i in range(4):
            assert abs(found[16, 16 * i + 8] - chart[16, 16 * i + 8]).max() <= 6, suffix


def test_transparency_is_laid_on_black(tmp_path):
    rgba = np.full((32, 32, 4), 200, np.uint8)
    rgba[..., 3] = 0
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 32, 32, "rgba", Fraction(1, 25)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    (tmp_path / "a.png").write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    made(tmp_path / "a.png", tmp_path / "b.png")
    assert read(tmp_path / "b.png").max() == 0


def test_rotated_video_gives_upright_pictures(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(0, 48, 32)], rotation=90)
    made(source, tmp_path / "out", format="png", fps_factor=1)
    assert read(tmp_path / "out" / "000001.png").shape == (96, 64, 3)


def test_folders_with_videos_are_no_sequence(tmp_path):
    sequence(tmp_path / "in", 1)
    assert reads_pictures(tmp_path / "in")
    make_video(tmp_path / "in" / "a.mp4", [pattern(0, 32, 32)])
    assert not reads_pictures(tmp_path / "in")
    assert not reads_pictures(tmp_path)


def test_what_cannot_be_read_or_written(tmp_path):
    sequence(tmp_path / "in", 2)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    with pytest.raises(InputError, match="as a picture"):
        made(tmp_path / "broken.png", tmp_path / "out.png")
    with pytest.raises(InputError):
        made(tmp_path / "none" / "%d.png", tmp_path / "out.mp4")
    with pytest.raises(InputError):
        made(tmp_path / "none.png", tmp_path / "out.png")
    picture(tmp_path / "mixed" / "a.png", pattern(0, 16, 16))
    picture(tmp_path / "mixed" / "b.jpg", pattern(0, 16, 16))
    with pytest.raises(InputError, match="PNG and JPEG"):
        made(tmp_path / "mixed", tmp_path / "out.mp4")
    made(tmp_path / "in", tmp_path / "out")
    with pytest.raises(OutputError, match="exists"):
        made(tmp_path / "in", tmp_path / "out")
    made(tmp_path / "in", tmp_path / "out", overwrite=True)
    with pytest.raises(OutputError, match="folder"):
        made(tmp_path / "in", tmp_path / "none" / "%d.png")
    with pytest.raises(UsageError):
        made(tmp_path / "in", tmp_path / "out.mp4", fps=Fraction(0))
    assert not [p for p in tmp_path.rglob("*.part*")]


def test_pictures_from_the_command_line(tmp_path):
    sequence(tmp_path / "in", 2)
    common = ["upscale", "--model", "linear", "--scale", "2", "--preset", "ultrafast"]

    def run(*arguments):
        return CliRunner().invoke(app, [*common, *map(str, arguments)])

    assert run(tmp_path / "in", tmp_path / "a.mp4", "--fps", "10", "-q").exit_code == 0
    assert probe(tmp_path / "a.mp4").average_rate == 20
    assert run(tmp_path / "a.mp4", tmp_path / "frames", "--format", "jpg").exit_code == 0
    assert len(names(tmp_path / "frames")) == 8
    assert run(tmp_path / "in" / "001.png", tmp_path / "b.png").exit_code == 0
    assert run(tmp_path / "in" / "001.png", tmp_path / "in" / "001.png", "--overwrite").exit_code == 4
    assert run(tmp_path / "in", tmp_path / "c.mp4", "--dry-run").exit_code == 0 and not (tmp_path / "c.mp4").exists()
