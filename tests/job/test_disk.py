"""Room on the disk is looked for before the start; what formats cannot hold is said."""

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stvsr_cli import Job, upscale
from stvsr_cli.cli import app
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import OutputError
from stvsr_cli.job.disk import beyond_limits, bits_per_pixel, check_space, estimate
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline.upscale import plan
from tests.clips import BUNNY, make_video, pattern
from tests.durable.test_resume import begun, clip, job_of, loaded

Usage = namedtuple("Usage", "total used free")


def with_free(monkeypatch, num_bytes):
    monkeypatch.setattr("stvsr_cli.job.disk.shutil.disk_usage", lambda folder: Usage(10**12, 0, num_bytes))


@pytest.mark.parametrize(
    "encoder",
    [
        EncoderConfig(),
        EncoderConfig(crf=28),
        EncoderConfig(codec="libx265", preset="fast"),
        EncoderConfig(codec="ffv1"),
    ],
    ids=lambda encoder: f"{encoder.codec} {encoder.crf}",
)
def test_the_estimate_is_enough_and_not_far_off(tmp_path, encoder):
    job = Job(input=BUNNY, output=tmp_path / "out.mkv", model="linear", encoder=encoder)
    found = estimate(job, plan(job, briefly=True).plan, keeps_journal=True)
    upscale(job)
    size = job.output.stat().st_size
    assert size <= found.output <= 4 * size
    assert found.journal <= found.output <= found.journal + BUNNY.stat().st_size


def test_too_little_room_ends_it_before_the_start(tmp_path, monkeypatch):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with_free(monkeypatch, 1000)
    for resume in ("auto", "never"):
        with pytest.raises(OutputError, match=r"needs about .* and 1\.0 KiB are free .*--no-space-check") as caught:
            upscale(job_of(source, target, resume=resume), loaded=loaded())
        assert caught.value.exit_code == 4
        assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
    upscale(job_of(source, target, check_space=False), loaded=loaded())
    assert target.exists()


def test_pictures_need_room_too_and_pipes_none(tmp_path, monkeypatch):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(4)])
    with_free(monkeypatch, 1000)
    job = Job(input=source, output=tmp_path / "pictures", model="linear", format="png")
    with pytest.raises(OutputError, match="needs about"):
        upscale(job, loaded=loaded())
    planned = plan(job_of(source, tmp_path / "o.mp4", check_space=False), loaded=loaded(), briefly=True).plan
    assert estimate(replace(job, output=Path("-")), planned, keeps_journal=False) is None
    assert estimate(job_of(source, tmp_path / "o.mp4"), replace(planned, num_frames=None), keeps_journal=True) is None


def test_what_an_earlier_run_left_counts_as_had(tmp_path, monkeypatch):
    source, target = begun(tmp_path)
    job = job_of(source, target, resume="force")
    planned = plan(job, loaded=loaded(), briefly=True).plan
    need = estimate(job, planned, keeps_journal=True).total
    left = sum(path.stat().st_size for path in journal_folder(target).iterdir())
    with_free(monkeypatch, need - left)
    check_space(job, planned, journal=journal_folder(target))
    with_free(monkeypatch, need - left - 1)
    with pytest.raises(OutputError):
        check_space(job, planned, journal=journal_folder(target))


def test_the_dry_run_says_how_much(tmp_path, monkeypatch):
    source = clip(tmp_path / "in.mp4")
    with_free(monkeypatch, 3 * 2**30)
    arguments = ["upscale", str(source), str(tmp_path / "out.mp4"), "--model", "linear", "--dry-run"]
    lines = CliRunner().invoke(app, arguments).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("disk")]
    assert "for the journal until it is done; 3.0 GiB are free" in line
    lines = CliRunner().invoke(app, [*arguments, "--resume", "never"]).stdout.splitlines()
    assert not any("journal" in line for line in lines)


def test_bits_follow_the_rate_factor():
    assert bits_per_pixel(EncoderConfig(codec="libx264", crf=23), "yuv420p") == pytest.approx(
        bits_per_pixel(EncoderConfig(codec="libx264"), "yuv420p") / 2
    )
    raw = EncoderConfig(codec="rawvideo")
    assert [bits_per_pixel(raw, name) for name in ("yuv420p", "yuv422p10le", "gbrp")] == [12, 32, 24]


@pytest.mark.parametrize(
    ("codec", "size", "rate", "said"),
    [
        ("libx264", (3840, 2160), 60, None),
        ("libx264", (3840, 2160), 120, "hardware"),
        ("libx264", (7680, 4320), 50, "libx265 or libsvtav1"),
        ("libx265", (3840, 2160), 120, None),
        ("libx265", (15360, 8640), 50, "highest level of HEVC"),
        ("libsvtav1", (16400, 100), 50, "highest level of AV1"),
        ("ffv1", (16400, 16400), 500, None),
    ],
)
def test_what_exceeds_a_format_is_said(codec, size, rate, said):
    line = beyond_limits(codec, *size, rate)
    assert (line is None) if said is None else said in line
