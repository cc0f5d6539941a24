"""A dry run makes the checks of the run, counts what decodes, and says how long it takes."""

import os

import pytest
import torch
from typer.testing import CliRunner

from stvsr_cli import Job
from stvsr_cli.cli import app
from stvsr_cli.cli.dry_run import plan_lines
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models import linear
from stvsr_cli.pipeline import rehearsal
from stvsr_cli.pipeline.sinks import choose_sink
from stvsr_cli.pipeline.upscale import plan
from tests.clips import make_video, pattern

QUICK = ("--model", "linear", "--preset", "ultrafast", "--scale", "2")


def clip(path, count=20):
    return make_video(path, [pattern(i, 32, 32) for i in range(count)])


def dry(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), *QUICK, "--dry-run"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--start", "99"), 3, "no frame at or after --start"),
        (("--model", "nosuch"), 5, "nosuch"),
        (("--prompt", "a cat"), 2, "--prompt is not an option"),
        (("--encoder-option", "nosuch=1"), 2, "nosuch"),
        (("--codec", "nosuch"), 4, "nosuch"),
    ],
)
def test_it_ends_as_the_run_would(tmp_path, arguments, code, said):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    options = [*QUICK, *arguments] if "--model" not in arguments else [*QUICK[2:], *arguments]
    run = CliRunner().invoke(app, ["upscale", str(source), str(target), *options])
    rehearsed = CliRunner().invoke(app, ["upscale", str(source), str(target), *options, "--dry-run"])
    assert (run.exit_code, rehearsed.exit_code) == (code, code)
    assert said in run.stderr and said in rehearsed.stderr
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_frames_are_counted_and_the_time_is_told(tmp_path):
    result = dry(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", "--start", "0.2", "--end", "0.6")
    assert result.exit_code == 0, result.stderr
    assert "64x64, 50 fps, 20 frames" in result.stdout
    assert "time      about" in result.stdout and "by a short trial" in result.stdout
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_a_file_whose_header_promises_more_than_there_is(tmp_path):
    whole = clip(tmp_path / "whole.mkv", 200).read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) // 4])
    result = dry(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "64x64" in line]
    frames = int(line.rpartition(", ")[2].split()[0])
    assert 10 < frames < 250
    run = CliRunner().invoke(app, ["upscale", str(tmp_path / "in.mkv"), str(tmp_path / "out.mp4"), *QUICK])
    assert f"{frames} frames" in run.stderr


@pytest.mark.parametrize(("writing_s", "said"), [(0.5, []), (2.5, ["--preset superfast keeps up"])])
def test_a_card_that_would_wait_for_the_encoder_is_told(tmp_path, monkeypatch, writing_s, said):
    monkeypatch.setattr(rehearsal, "_estimate", lambda *_: (1.0, writing_s))
    # no tensor is made there; any device is one that works by itself
    loaded = Loaded(linear.load(torch.device("cpu")), torch.device("meta"), torch.float32, 0.0)
    encoder = EncoderConfig(codec="libx264", preset="faster")
    job = Job(input=clip(tmp_path / "in.mp4"), output=tmp_path / "out.mp4", model="linear", encoder=encoder)
    lines = plan_lines(plan(job, loaded=loaded))
    assert [line.rpartition("; ")[2] for line in lines if line.startswith("warning")] == said
    assert all(len(line) <= 80 for line in lines if line.startswith("warning"))


def test_a_trial_of_the_encoder_alone_has_frames_for_all_its_threads(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(rehearsal.SegmentWriter, "write", lambda self, *item: written.append(item))
    monkeypatch.setattr(rehearsal.SegmentWriter, "finish", lambda self: None)
    job = Job(input=clip(tmp_path / "in.mp4"), output=tmp_path / "out.mp4", model="linear")
    rehearsed = plan(job, briefly=True)
    output = torch.rand(5, 3, 128, 128)
    for on_cpu, count in ((True, 5), (False, rehearsal.ENCODED_FOR_CARD)):
        written.clear()
        assert rehearsal._writing_s(rehearsed.job, rehearsed.plan, choose_sink(job), output, on_cpu=on_cpu) > 0
        assert len(written) == count and len({number for _, number, _ in written}) == count


def test_videos_alike_are_tried_once(tmp_path, monkeypatch):
    tried = []
    estimate = rehearsal._estimate
    monkeypatch.setattr(rehearsal, "_estimate", lambda *all: tried.append(1) or estimate(*all))
    loaded = Loaded(linear.LinearModel(torch.device("cpu")), torch.device("cpu"), torch.float32, 0.0)
    speeds = {}
    found = [
        plan(Job(input=clip(tmp_path / f"{n}.mp4", n), output=tmp_path / "out.mp4", model="linear"), loaded=loaded,
             briefly=True, speeds=speeds)
        for n in (10, 20, 40)
    ]  # fmt: skip
    assert len(tried) == 1 and len(speeds) == 1
    assert found[2].seconds == pytest.approx(2 * found[1].seconds)
