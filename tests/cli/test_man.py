"""The manual page holds every option, and what shells complete is what options take."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stvsr_cli.cli import EXIT_CODES, app
from stvsr_cli.cli.man import page

ROOT = typer.main.get_command(app)


def commands(command: Any) -> list[Any]:
    inner = getattr(command, "commands", {}).values()
    return [c for sub in inner for c in commands(sub)] or [command]


def test_every_option_of_every_command_is_there() -> None:
    text = "\n".join(page(ROOT, EXIT_CODES)).replace("\\-", "-")
    flags = {flag for command in commands(ROOT) for p in command.params for flag in p.opts if flag.startswith("--")}
    assert len(flags) > 60
    assert not {flag for flag in flags if f"\\fB{flag}\\fR" not in text}
    assert ".SS stvsr models pull" in text
    assert ".B 130\ninterrupted" in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_it_is_a_page(tmp_path: Path) -> None:
    text = CliRunner().invoke(app, ["man"]).stdout
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=80n"], input=text, capture_output=True, text=True, check=True
    )
    text = re.sub(".\x08", "", done.stdout)  # struck twice for bold
    assert "NAME" in text and "EXIT STATUS" in text
    assert not done.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("stvsr upscale --model ", {"compact", "linear"}),
        ("stvsr upscale --codec libx", {"libx264", "libx265"}),
        ("stvsr upscale --quality ", {"draft", "fast", "good", "best"}),
        ("stvsr models show d", {"dloral", "diffst"}),
        ("stvsr upscale --pix-fmt yuv422", {"yuv422p", "yuv422p10le"}),
    ],
)
def test_values_are_completed(words: str, offered: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(words.split()) - (not words.endswith(" "))
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(count))
    done = CliRunner().invoke(app, [], prog_name="stvsr", env={"_STVSR_COMPLETE": "complete_bash"})
    assert offered <= set(done.stdout.split())
