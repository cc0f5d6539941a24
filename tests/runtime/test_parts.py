"""Files are there whole or not at all, and what a killed process left behind is removed by the next."""

import os
import subprocess
import sys

import pytest

from stvsr_cli.runtime.parts import MAX_NAME_BYTES, part_path, publish, remove_orphans, replacing, write_whole
from tests.clips import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from stvsr_cli.runtime.parts import part_path
for name in sys.argv[1:]:
    part_path(Path(name)).write_bytes(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_writing(*targets):
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, targets)], cwd=ROOT)
    assert done.returncode < 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "a.json"
    write_whole(target, "one")
    with replacing(target) as part:
        part.write_text("two")
        assert target.read_text() == "one" and part.parent == tmp_path
    assert target.read_text() == "two" and names(tmp_path) == ["a.json"]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "a.json"
    write_whole(target, "one")
    with pytest.raises(KeyError), replacing(target) as part:
        part.write_text("tw")
        raise KeyError
    assert target.read_text() == "one" and names(tmp_path) == ["a.json"]


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path):
    target, part = tmp_path / "a", part_path(tmp_path / "a")
    part.write_bytes(b"mine")
    target.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        publish(part, target, overwrite=False)
    assert target.read_bytes() == b"theirs" and part.exists()
    target.unlink()
    publish(part, target, overwrite=False)
    assert target.read_bytes() == b"mine" and not part.exists()


@pytest.mark.parametrize("stem", ["a", "x" * 250, "ü" * 125])
def test_names_are_new_and_fit(tmp_path, stem):
    target = tmp_path / f"{stem}.mp4"
    parts = {part_path(target) for _ in range(20)}
    assert len(parts) == 20
    for part in parts:
        assert len(os.fsencode(part.name)) <= MAX_NAME_BYTES and part.name.startswith(".")
        part.write_bytes(b"")


@pytest.mark.parametrize("name", ["out.mp4", f"{'x' * 250}.mp4", "plain"])
def test_parts_of_the_gone_are_removed_and_no_others(tmp_path, name):
    target, other = tmp_path / name, tmp_path / "other.mp4"
    killed_while_writing(target, other)
    mine = part_path(target)
    for path in (mine, target, tmp_path / f".{name[:200]}.part"):
        path.write_bytes(b"")
    assert len(names(tmp_path)) == 5
    remove_orphans(target)
    assert len(names(tmp_path)) == 4 and mine.exists() and target.exists()
    remove_orphans(other)
    assert len(names(tmp_path)) == 3


def test_parts_of_numbered_pictures_are_removed(tmp_path):
    killed_while_writing(tmp_path / "a_00001.png", tmp_path / "a_00002.png", tmp_path / "b_00001.png")
    remove_orphans(tmp_path / "a_%05d.png")
    assert len(names(tmp_path)) == 1 and "b_00001.png" in names(tmp_path)[0]


def test_parts_of_another_machine_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    part = part_path(tmp_path / "a")
    part.write_bytes(b"")
    monkeypatch.undo()
    monkeypatch.setattr("stvsr_cli.runtime.parts._runs", lambda pid, begun: False)
    remove_orphans(tmp_path / "a")
    assert part.exists()
