"""Where the FFmpeg binary is looked for, and what is done where there is none."""

import shutil
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from stvsr_cli.errors import OutputError
from stvsr_cli.media import ffmpeg
from stvsr_cli.media.health import binary_version
from stvsr_cli.media.read.banner import Banner, read_banner
from stvsr_cli.media.vmaf import has_vmaf
from stvsr_cli.media.write.loop import check_loop
from tests.clips import make_video


def none_found() -> str:
    raise RuntimeError("No ffmpeg exe could be found.")


@pytest.fixture(params=["named wrongly", "not installed"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No binary: the variable names none, or imageio-ffmpeg and the path have none."""
    if request.param == "named wrongly":
        monkeypatch.setenv(ffmpeg.NAMED, str(tmp_path / "nothing"))
    else:
        monkeypatch.delenv(ffmpeg.NAMED, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none_found)
    has_vmaf.cache_clear()
    yield request.param
    has_vmaf.cache_clear()


def test_the_named_binary_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "my-ffmpeg"
    own.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv(ffmpeg.NAMED, str(own))
    assert ffmpeg.find_ffmpeg() == str(own)
    assert binary_version()[1] == str(own)


def test_the_path_is_searched_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ffmpeg.NAMED, raising=False)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none_found)
    (tmp_path / "ffmpeg").symlink_to(shutil.which("true") or "/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ffmpeg.find_ffmpeg() == str(tmp_path / "ffmpeg")


def test_what_can_be_done_without_is_done(missing: str, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2)
    assert ffmpeg.find_ffmpeg() is None
    assert read_banner(clip) == Banner()
    assert not has_vmaf()


def test_what_cannot_says_so_in_one_line(missing: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--clip needs the FFmpeg binary") as error:
        check_loop(tmp_path / "loop.gif")
    assert error.value.hint and "\n" not in str(error.value)
    assert (ffmpeg.NAMED in str(error.value)) == (missing == "named wrongly")
    with pytest.raises(FileNotFoundError):
        binary_version()
