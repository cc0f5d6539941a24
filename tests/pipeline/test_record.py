"""What a run writes says how it was made, and nothing else does."""

import av
import pytest

from stvsr_cli.job.job import Job
from stvsr_cli.media.record import read_record
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline.upscale import upscale
from tests.clips import make_video, pattern


def clip(path, **more):
    return make_video(path, [pattern(i, 32, 32) for i in range(3)], **more)


def made(source, target, **changes):
    codec = "libvpx-vp9" if target.suffix == ".webm" else "libx264"
    options = {"model": "linear", "precision": "fp32", "encoder": EncoderConfig(codec=codec), **changes}
    upscale(Job(input=source, output=target, **options))
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".nut"])
def test_the_record_comes_back_and_the_users_comment_stays(tmp_path, suffix):
    source = clip(tmp_path / "in.mkv", metadata={"comment": "a day\nby the sea", "title": "Sea"})
    target = made(source, tmp_path / f"out{suffix}", cuts="ignore", fps_factor=1)
    record = read_record(target)
    assert (record.model, record.weights, record.device, record.precision) == ("linear", "", "cpu", "float32")
    assert record.options["cuts"] == "ignore" and record.options["fps_factor"] == "1"
    assert "input" not in record.options and str(tmp_path) not in record.as_json()
    with av.open(str(target)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
    assert tags["comment"].startswith("a day\nby the sea") and tags["title"] == "Sea"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_without_a_record_nothing_is_said_not_even_what_the_input_carried(tmp_path, suffix):
    first = made(clip(tmp_path / "in.mkv"), tmp_path / f"first{suffix}")
    assert read_record(first) is not None
    second = made(first, tmp_path / f"second{suffix}", scale=1, record=False)
    assert read_record(second) is None
    with av.open(str(second)) as container:
        assert "stvsr" not in str(container.metadata).lower().replace("stvsr-", "")


def test_a_record_replaces_the_one_that_came_with_the_input(tmp_path):
    first = made(clip(tmp_path / "in.mkv"), tmp_path / "first.mp4", scale=2)
    second = made(first, tmp_path / "second.mp4", scale=1)
    assert read_record(second).options["scale"] == "1"
    with av.open(str(second)) as container:
        assert container.metadata["comment"].count("stvsr ") == 1
