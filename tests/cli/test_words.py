"""What the program says: options that it names exist, models that it names take them, numbers agree with each other."""

import ast
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stvsr_cli.cli import app, models
from stvsr_cli.cli.options import SINGLE
from stvsr_cli.models.catalogue import MODELS
from stvsr_cli.models.registry import takes
from stvsr_cli.weights.places import find_weights, weight_bytes
from tests.clips import ROOT

COMMAND = typer.main.get_command(app)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
OF_OTHERS = {"--query-gpu", "--format", "--force-reinstall", "--index-url", "--upgrade", "--help", "--count"}
"""Options of programs that are called, or named, and of every command."""
ODD = re.compile(r"gone on with|exclude each other|means? nothing to|belong into|to be had\b|works? on it\b")


def commands(command):
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands(inner)


def flags(command):
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


EVERY = {flag for command in commands(COMMAND) for flag in flags(command)} | OF_OTHERS
UPSCALE = {parameter.name: parameter for parameter in COMMAND.commands["upscale"].params}


def texts(path):
    """The texts in a module that are no docstrings, the parts of formatted ones joined."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in sorted((ROOT / "stvsr_cli").rglob("*.py"))])
def test_options_that_are_named_exist_and_the_words_are_english(path):
    for text in texts(path):
        named = {flag for flag in FLAG.findall(text) if not flag.endswith("-")}
        assert named <= EVERY, text
        assert not ODD.search(text), text


@pytest.mark.parametrize("path", [Path("README.md"), Path("weights/compact/README.md")], ids=str)
def test_options_in_the_papers_exist(path):
    named = set(FLAG.findall((ROOT / path).read_text()))
    benchmarks = {p for p in (ROOT / "tests" / "benchmark").glob("*.py")}
    others = {flag for p in benchmarks for flag in FLAG.findall(p.read_text())}
    assert named - EVERY - others <= {"--log-cli-level", "--head", "--block", "--port", "--ntasks-per-node"}


def test_options_of_single_models_name_the_models_that_take_them():
    single = {p.name: p for p in UPSCALE.values() if getattr(p, "rich_help_panel", None) == SINGLE}
    assert len(single) >= 6
    for name, parameter in {**single, "detail": UPSCALE["detail"]}.items():
        if name == "seed":
            continue
        field = "vae_tile_px" if name == "vae_tile" else name
        takers = [entry.name for entry in MODELS.values() if takes(entry, field)]
        assert f"({', '.join(takers)})" in parameter.help


@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if not entry.large])
@pytest.mark.parametrize("option", [("--prompt", "a cat"), ("--quantize", "int8"), ("--no-guidance",)])
def test_an_option_of_another_model_is_refused_with_the_models_that_have_it(tmp_path, model, option):
    (tmp_path / "in.mp4").write_bytes(b"something")
    arguments = ["upscale", str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), "--model", model, *option]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and f"{option[0]} is not an option of the model {model}" in result.stderr
    assert "Models that have it:" in result.stderr and "dloral" in result.stderr or option[0] == "--no-guidance"


def test_everyday_options_come_first_and_panels_follow_each_other():
    panels = [p.rich_help_panel for p in UPSCALE.values() if getattr(p, "rich_help_panel", None)]
    order = list(dict.fromkeys(panels))
    assert order[0] == "Size and time" and order.index(SINGLE) > order.index("Encoding")
    assert order.index("Memory and speed (advanced)") > order.index("Run")


def test_the_help_has_examples_and_choices():
    text = CliRunner().invoke(app, ["upscale", "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"}).stdout
    assert "Examples:" in text and "stvsr upscale in.mp4 out.mp4" in text
    for words in ("hold|ignore", "stretch|drop", "auto|never|force", "default: compact"):
        assert words in text


def test_the_models_fit_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setattr(models, "_on_terminal", lambda: True)
    text = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "80"}).stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 25
    assert all(name in text for name in MODELS)  # none is shortened


def test_the_size_of_the_weights_is_said_as_it_is():
    entry = MODELS["compact"]
    said = float(entry.size.removesuffix(" MB")) * 1e6
    assert said == pytest.approx(weight_bytes(find_weights("compact", entry.needs)), rel=0.02)
