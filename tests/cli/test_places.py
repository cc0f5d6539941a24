"""Run where users have no home and no name."""

import os
import shutil
import subprocess
import sys

import pytest

from stvsr_cli.media.read.count import measure
from tests.clips import ROOT, make_video, pattern


def without_home(*arguments, **options):
    """Run as a user that the system does not know, without HOME."""
    environment = {n: v for n, v in os.environ.items() if n != "HOME" and not n.startswith("XDG_")}
    unknown = ["unshare", "-U", "--map-user=12345", "--map-group=12345"]
    command = [*unknown, sys.executable, "-m", "stvsr_cli", *map(str, arguments)]
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


def can_unshare():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-U", "--map-user=12345", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs unshare, and user namespaces")
@pytest.mark.parametrize("model", ["linear", "compact"])
def test_an_unknown_user_without_a_home(tmp_path, model):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 32, 32) for i in range(2)])
    done = without_home("upscale", source, tmp_path / "out.mp4", "--model", model, "--scale", "1")
    assert done.returncode == 0, done.stderr
    assert measure(tmp_path / "out.mp4").num_frames == 4
    assert "a home folder" in without_home("--show-config").stdout
    assert without_home("models", "list").returncode == 0
