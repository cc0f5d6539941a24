"""--crop-bars: the picture is what it is without the bars, the bars are black, and the frame stays as it was."""

import logging
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from stvsr_cli import Job, upscale
from stvsr_cli.cli import app
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import Interrupted, UsageError
from stvsr_cli.job.size import find_size
from stvsr_cli.media.images import encoded
from stvsr_cli.media.read.bars import with_bars
from stvsr_cli.media.read.decode import Picture, decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.record import read_record
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline import distributed
from tests.clips import BUNNY, make_video, pattern
from tests.durable.test_resume import loaded
from tests.engine.ray.stand_in import crew

LOSSLESS = {"crf": "0", "preset": "ultrafast"}
SIZE = (64, 40)
"""Of the picture."""


def clip(path: Path, bars: tuple[int, int, int, int], count: int = 6, intro: int = 0, **more) -> Path:
    """A moving pattern with bars at left, top, right and bottom; before it an intro without."""
    left, top, right, bottom = bars
    inside = [
        np.pad(pattern(i, *SIZE).clip(60, 255), ((top, bottom), (left, right), (0, 0))) for i in range(intro, count)
    ]
    whole = [pattern(i, SIZE[0] + left + right, SIZE[1] + top + bottom).clip(60, 255) for i in range(intro)]
    return make_video(path, [*whole, *inside], options=LOSSLESS, **more)


def job_of(source: Path, target: Path, **changes) -> Job:
    return Job(
        **{"input": source, "output": target, "model": "linear", "encoder": EncoderConfig(codec="ffv1")} | changes
    )


def made(source: Path, target: Path, **changes) -> list[Picture]:
    upscale(job_of(source, target, **changes))
    return [frame.picture for frame in decode(probe(target))]


def parts(picture: Picture, box) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The planes inside a box of the frame, and the samples outside of it."""
    inside, outside = [], []
    for plane in picture.planes:
        step = picture.planes[0].shape[0] // plane.shape[0]
        rows, columns = (slice(a // step, (a + b) // step) for a, b in ((box.top, box.height), (box.left, box.width)))
        rest = np.ones(plane.shape, bool)
        rest[rows, columns] = False
        inside.append(plane[rows, columns])
        outside.append(plane[rest])
    return inside, outside


@given(
    bars=st.tuples(*[st.sampled_from([0, 8, 12, 22])] * 4).filter(any),
    asked=st.sampled_from(
        [{"scale": Fraction(2)}, {"scale": Fraction(4)}, {"scale": Fraction(1)}, {"scale": Fraction(2), "tile": 48}]
    ),
    pix_fmt=st.sampled_from(["yuv420p", "yuv420p10le", "yuv444p"]),
    full=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_picture_is_what_it_is_without_bars(tmp_path_factory, bars, asked, pix_fmt, full) -> None:
    folder = tmp_path_factory.mktemp("bars")
    source = clip(folder / "in.mp4", bars, 3, pix_fmt=pix_fmt, color=(1, 2 if full else 1))
    kept = made(source, folder / "kept.mkv", **asked)
    removed = made(source, folder / "removed.mkv", crop_bars="remove", **asked)
    plain = find_size(probe(source), job_of(source, folder / "x.mkv", **asked))
    size = find_size(with_bars(probe(source)), job_of(source, folder / "x.mkv", **asked))
    assert (size.width, size.height) == (plain.width, plain.height) and len(kept) == len(removed) == 6
    unit = 4 if "10" in pix_fmt else 1
    for ours, alone in zip(kept, removed, strict=True):
        assert ours.planes[0].shape == (plain.height, plain.width)
        inside, outside = parts(ours, size.picture)
        assert all(np.array_equal(a, b) for a, b in zip(inside, alone.planes, strict=True))
        for number, samples in enumerate(outside):
            assert set(samples) == {128 * unit if number else (0 if full else 16 * unit)}


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({"height": 160}, (160, 128)),
        ({"width": 192}, (240, 192)),
        ({"width": 256, "height": 160}, (160, 128)),
        ({"width": 256, "height": 160, "fit_mode": "pad"}, (160, 256)),
        ({"width": 256, "height": 160, "fit_mode": "crop"}, (160, 256)),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_sizes_are_those_of_the_frame_with_its_bars(tmp_path: Path, asked, shape, mode: str) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 3)
    pictures = made(source, tmp_path / "out.mkv", crop_bars=mode, fps_factor=1, **asked)
    assert pictures[0].planes[0].shape == shape
    middle = pictures[0].planes[0][shape[0] // 2, shape[1] // 2]
    assert middle > 40


@pytest.mark.parametrize(
    ("asked", "shape"), [({"height": 80}, (80, 128)), ({"width": 256, "height": 200, "fit_mode": "pad"}, (200, 256))]
)
def test_sizes_are_those_of_the_picture_where_bars_are_removed(tmp_path: Path, asked, shape) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 3)
    pictures = made(source, tmp_path / "out.mkv", crop_bars="remove", fps_factor=1, **asked)
    assert pictures[0].planes[0].shape == shape


def test_off_leaves_them_to_the_model(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 3)
    upscale(job_of(source, tmp_path / "off.mkv", crop_bars="off"))
    assert next(decode(probe(tmp_path / "off.mkv"))).picture.planes[0].shape == (320, 256)


def test_what_an_intro_shows_in_the_bars_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 60, intro=2)
    plain = made(source, tmp_path / "off.mkv", crop_bars="off", scale=2)
    kept = made(source, tmp_path / "auto.mkv", scale=2)
    for number in (0, 1, 2, 3):  # two frames of the intro, and what comes after each
        apart = np.abs(kept[number].planes[0].astype(int) - plain[number].planes[0])
        assert apart[:36].mean() < 4 or number == 3, number
        assert kept[number].planes[0][:36].mean() > 60
    assert set(kept[4].planes[0][:40].ravel()) == {16}


def test_what_is_lost_by_removing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 400)
    info = with_bars(probe(source), "remove")
    assert info.bars == (0, 20, 0, 20)
    other = clip(tmp_path / "other.mp4", (0, 20, 0, 20), 3, intro=1)
    from stvsr_cli.pipeline import sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sources,
            "with_bars",
            lambda info, mode: replace(
                info, width=64, height=40, crop=(0, 20, 0, 20), bars=(0, 20, 0, 20), puts_bars_back=False
            ),
        )
        made(other, tmp_path / "out.mkv", crop_bars="remove")
    assert "at 0.00 s there is picture in the bars, which is cut off" in caplog.text


def test_a_run_goes_on_with_the_same_bars(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", (8, 12, 8, 12), 60)
    asked = {"scale": Fraction(1), "segment_frames": 12, "window": 3}
    whole = made(source, tmp_path / "whole.mkv", **asked)
    stop, job = threading.Event(), job_of(source, tmp_path / "out.mkv", **asked)
    with pytest.raises(Interrupted):
        upscale(job, progress=lambda progress: progress.done >= 40 and stop.set(), stop=stop)
    assert journal_folder(job.output).exists()
    upscale(job)
    rest = [frame.picture for frame in decode(probe(job.output))]
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(whole, rest, strict=True))


@pytest.mark.parametrize("mode", ["auto", "remove"])
@pytest.mark.parametrize("count", [6, 80])
def test_workers_make_the_same(tmp_path: Path, mode: str, count: int) -> None:
    source = clip(tmp_path / "in.mp4", (8, 12, 8, 12), count, intro=2 if count > 6 and mode == "auto" else 0)
    asked = {"scale": Fraction(1), "segment_frames": 12, "window": 3, "crop_bars": mode,
             "encoder": EncoderConfig(preset="ultrafast")}  # fmt: skip
    upscale(job_of(source, tmp_path / "whole.mp4", **asked), loaded=loaded())
    job = job_of(source, tmp_path / "out.mp4", **asked)
    workers = crew(job)
    distributed.distribute(job, workers)
    assert bool(workers.pool.made) == (count > 6)
    assert job.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        picture = np.pad(pattern(i, *SIZE).clip(60, 255), ((20, 20), (0, 0), (0, 0)))
        (folder / f"{i:03d}.png").write_bytes(encoded(picture, ".png"))
    for mode, shape in (("auto", (160, 128)), ("remove", (80, 128))):
        target = tmp_path / f"{mode}.png"
        upscale(job_of(folder / "000.png", target, crop_bars=mode, scale=Fraction(2)))
        upscale(job_of(folder, tmp_path / f"{mode}.mkv", crop_bars=mode, scale=Fraction(2)))
        assert (probe(tmp_path / f"{mode}.mkv").height, probe(tmp_path / f"{mode}.mkv").width) == shape
        shown = next(decode(probe(tmp_path / f"{mode}.mkv"))).picture
        assert (set(shown.planes[0][:40].ravel()) == {16 if shown.pix_fmt.startswith("yuv") else 0}) == (mode == "auto")


def run(*words: str | Path):
    return CliRunner().invoke(app, ["upscale", *map(str, words), "--model", "linear"])


def test_the_dry_run_the_record_and_a_batch(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20))
    said = run(source, tmp_path / "out.mp4", "--dry-run").stdout
    assert "bars      20 and 20 px above and below: put back" in said and "64x80, 25 fps" in said
    assert "256x320" in said
    said = run(source, tmp_path / "out.mp4", "--dry-run", "--crop-bars", "remove").stdout
    assert "px above and below: removed" in said and "256x160" in said
    out = tmp_path / "out"
    assert run(source, f"{out}/", "--crop-bars", "remove", "--name-template", "{stem}_{scale}{suffix}").exit_code == 0
    target = out / "in_4.mp4"
    assert (probe(target).width, probe(target).height) == (256, 160)
    assert read_record(target).options["crop_bars"] == "remove"
    again = run(source, f"{out}/", "--crop-bars", "remove", "--name-template", "{stem}_{scale}{suffix}",
                "--skip-existing")  # fmt: skip
    assert again.exit_code == 0 and "skipped" in again.stderr
    liked = run(source, tmp_path / "liked.mp4", "--like", target)
    assert liked.exit_code == 0 and probe(tmp_path / "liked.mp4").height == 160


def test_a_stream_is_not_looked_ahead_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20))
    command = [sys.executable, "-m", "stvsr_cli", "upscale"]
    quick = ["--model", "linear", "--scale", "1", "-v"]
    upscale(job_of(source, tmp_path / "in.y4m", scale=Fraction(1), fps_factor=1, crop_bars="off"))
    data = (tmp_path / "in.y4m").read_bytes()
    done = subprocess.run([*command, "-", tmp_path / "auto.mkv", *quick], input=data, capture_output=True)
    assert done.returncode == 0 and b"black bars are not looked for" in done.stderr
    refused = subprocess.run(
        [*command, "-", tmp_path / "remove.mkv", *quick, "--crop-bars", "remove"], input=data, capture_output=True
    )
    assert refused.returncode == UsageError.exit_code and b"read only once" in refused.stderr
    held = subprocess.run(
        [*command, "-", tmp_path / "held.mkv", *quick, "--crop-bars", "remove"],
        input=source.read_bytes(), capture_output=True,
    )  # fmt: skip
    assert held.returncode == 0 and probe(tmp_path / "held.mkv").height == 40


def test_repeats_keep_what_is_in_the_bars(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", (0, 20, 0, 20), 40)
    pictures = made(source, tmp_path / "out.mkv", repeats="smooth", scale=Fraction(1), fps_factor=1)
    assert len(pictures) == 40 and set(pictures[5].planes[0][:20].ravel()) == {16}


def test_a_video_without_bars_is_as_without_the_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        auto = made(BUNNY, tmp_path / "auto.mkv", scale=Fraction(1), fps_factor=1)
    off = made(BUNNY, tmp_path / "off.mkv", scale=Fraction(1), fps_factor=1, crop_bars="off")
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(auto, off, strict=True))
    assert "black bars" not in caplog.text
