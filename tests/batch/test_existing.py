"""What a batch takes for its own, and what it never replaces."""

import json
import os
import shutil
import subprocess

import pytest

from stvsr_cli.batch.existing import NAME, Made
from stvsr_cli.batch.inputs import find_items
from stvsr_cli.media.read.count import measure
from tests.batch.test_batch import clip, run, touch, tree
from tests.clips import pattern

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("options", [(), ("--skip-existing",), ("--overwrite",), ("--skip-existing", "--overwrite")])
def test_an_input_is_never_a_target(tmp_path, options):
    clip(tmp_path / "a.flv", 8)
    clip(tmp_path / "a.mkv", 3)
    clip(tmp_path / "b.mp4", 3)
    touch(tmp_path / "notes.txt")
    before = contents(tmp_path)
    result = run(tmp_path, tmp_path, *options, "--scale", "1")
    assert result.exit_code == 7 and "a.mkv is an input too, and inputs are never replaced" in result.stderr
    assert contents(tmp_path) == before


def test_another_name_of_an_input_is_no_target_either(tmp_path):
    source = clip(tmp_path / "in" / "a.mp4")
    (tmp_path / "out").mkdir()
    os.link(source, tmp_path / "out" / "a.mp4")
    before = source.read_bytes()
    assert run(tmp_path / "in", tmp_path / "out", "--overwrite").exit_code == 7
    assert source.read_bytes() == before


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("options", [(), ("--no-record",)])
def test_what_was_made_is_known_again_with_a_record_or_without(tmp_path, suffix, options):
    clip(tmp_path / "in" / "a.mp4", 30)
    out = tmp_path / "out"
    template = ("--name-template", f"{{stem}}{suffix}")
    assert run(tmp_path / "in", out, *template, *options).exit_code == 0
    made = out / f"a{suffix}"
    assert Made(out).has(made)
    assert (out / NAME).exists() == (bool(options) or suffix == ".ts")
    result = run(tmp_path / "in", out, *template, "--skip-existing", "--fps-factor", "1")
    assert result.exit_code == 0 and measure(made).num_frames == 30  # not complete for another rate: made again
    touch(made)
    assert not Made(out).has(made) and run(tmp_path / "in", out, *template, "--skip-existing").exit_code == 7


def test_the_list_survives_a_line_that_was_cut_off(tmp_path):
    made = Made(tmp_path)
    made.add(touch(tmp_path / "a.ts", b"a"))
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text() + '{"file": "b')
    assert made.has(tmp_path / "a.ts") and not made.has(touch(tmp_path / "b.ts"))


def test_two_with_one_name_fail_alone_and_the_hint_names_a_template_that_works(tmp_path):
    for name in ("p/c/a.flv", "p/c/a.mkv", "p/c/z.mp4", "q/c/z.mp4", "p/c/other.mp4"):
        touch(tmp_path / name)
    inputs = [path for path in sorted(tmp_path.rglob("*.*")) if path.is_file()]
    items = find_items(inputs, tmp_path / "out", template="{stem}_x{suffix}")
    assert [item.source.name for item in items if item.problem is None] == ["other.mp4"]
    for problem in {str(item.problem) for item in items if item.problem is not None}:
        template = problem.split("'")[1]
        assert template.endswith("_x{suffix}")
        again = find_items([i.source for i in items if str(i.problem) == problem], tmp_path / "out", template=template)
        assert [item.problem for item in again] == [None] * len(again)


def test_a_looping_link_and_a_missing_file_are_a_line_each(tmp_path):
    clip(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "in" / "nothing.mp4").symlink_to("nowhere")
    result = run(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "r.json")
    assert result.exit_code == 7 and tree(tmp_path / "out") == ["a.mp4"]
    statuses = [(f["status"], f["exit_code"]) for f in json.loads((tmp_path / "r.json").read_text())["files"]]
    assert statuses == [("done", 0), ("failed", 3), ("failed", 3)]


def test_a_folder_that_cannot_be_looked_into_is_a_line(tmp_path, monkeypatch):
    for name in ("in/a.mp4", "in/locked/b.mp4", "in/x/c.mp4"):
        touch(tmp_path / name)
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    if IS_ROOT:  # who may look into everything
        monkeypatch.setattr(os, "scandir", denied)
    else:
        (tmp_path / "in" / "locked").chmod(0)
    items = find_items([tmp_path / "in"], tmp_path / "out", recursive=True)
    (tmp_path / "in" / "locked").chmod(0o755)
    assert [(item.source.name, item.problem is None) for item in items] == [
        ("a.mp4", True), ("c.mp4", True), ("locked", False)]  # fmt: skip
    assert "cannot be read: Permission denied" in str(items[2].problem)


def test_names_as_long_as_the_file_system_takes(tmp_path):
    name = "z" * 251 + ".mp4"
    clip(tmp_path / "a.mp4").rename(tmp_path / name)
    (tmp_path / "in").mkdir()
    (tmp_path / name).rename(tmp_path / "in" / name)
    assert run(tmp_path / "in", tmp_path / "out").exit_code == 0
    assert tree(tmp_path / "out") == [name]
    umlauts = "ö" * 125 + ".mkv"
    assert run(tmp_path / "in" / name, tmp_path / umlauts).exit_code == 0 and (tmp_path / umlauts).exists()


@pytest.mark.skipif(not IS_ROOT or shutil.which("mount") is None, reason="needs root, to mount a small disk")
def test_a_report_that_cannot_be_written_does_not_end_the_batch(tmp_path):
    for name in "abc":
        clip(tmp_path / "in" / f"{name}.mp4")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        (disk / "full").write_bytes(bytes(4096))
        result = run(tmp_path / "in", tmp_path / "out", "--report", disk / "r.json")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert result.exit_code == 0 and tree(tmp_path / "out") == ["a.mp4", "b.mp4", "c.mp4"]
    assert result.stderr.count("the report") == 2 and "No space left" in result.stderr


def test_pictures_of_a_batch_are_known_by_the_list(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(pattern(0, 32, 32)).save(tmp_path / "in" / "a.png")
    source = tmp_path / "in" / "a.png"
    out = tmp_path / "out"
    assert run(source, clip(tmp_path / "b.mp4"), out).exit_code == 0
    assert Made(out).has(out / "a.png") and Made(out).has(out / "b.mp4")
    (out / "a.png").write_bytes(b"mine")
    assert not Made(out).has(out / "a.png")
