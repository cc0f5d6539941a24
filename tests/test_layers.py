"""Data goes one way: a module imports only from those above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stvsr_cli"
MEDIA = {"media.probe", "media.decode", "media.shots", "media.encode", "media.companions", "media.mux"}
CORE = {"models.contract", "models.step", "models.stitch", "models.device", "models.registry", "models.linear",
        "models.fit", "models.memory", "models.offload", "models.quantize", "models.attention"}  # fmt: skip
SYSTEMS = {"models.compact", "models.osdenhancer", "models.dloral", "models.diffst"}
ABOVE = {
    "errors": set(),
    "watch": {"errors"},
    "ahead": {"watch"},
    "timeline": set(),
    "windows": {"errors"},
    "media": {"errors", "timeline", "watch", "media"},
    "color": {"media.probe", "media.decode"},
    "models.contract": set(),
    "models.step": {"models.contract"},
    "models.stitch": {"errors", "windows", "models.contract", "models.step"},
    "models.device": {"errors"},
    "models.offload": {"errors"},
    "models.quantize": {"errors"},
    "models.attention": {"errors"},
    "models.memory": {"models.contract", "models.offload"},
    "models.fit": {"errors", "models.contract", "models.offload", "models.quantize", "models.attention"},
    "models.linear": {"models.contract"},
    "models.layers": {"errors", "models.layers"},
    "models.interpolation": {"models.contract", "models.step", "models.linear", "models.compact"},
    "models.registry": {"errors", "models.contract", "models.fit", "models.linear", "models.interpolation", *SYSTEMS},
    **{name: {"errors", "windows", "models.contract", "models.step", "models.layers", name} for name in SYSTEMS},
    "hashes": set(),
    "weights": {"errors", "hashes"},
    "hub": {"errors", "models.registry", "hashes", "weights"},
    "plan": {"errors", "watch", "windows", "media", "models"},
    "manifest": {"errors", "media.segments"},
    "journal": {"errors", "media", "manifest"},
    "recorder": {"errors", "timeline", "windows", "media", "manifest", "journal"},
    "space": {"errors", "media", "plan"},
    "run": {"watch", "manifest", "timeline", "media", "color", "models", "plan", "ahead"},
    "pipeline": {"errors", "watch", "journal", "recorder", "manifest", "media", "models", "weights", "plan", "run", "space"},
    "pictures": {"journal", "recorder", "manifest", "media", "models", "pipeline", "plan", "run", "space"},
    "claims": set(),
    "inputs": {"errors", "media"},
    "batch": {"errors", "media", "models", "plan", "pipeline", "claims", "inputs", "ends"},
    "ends": {"errors", "media", "models", "plan", "pictures", "pipeline", "inputs", "watch"},
    "train": {"errors", "windows", "media", "color", "models", "weights", "quality", "train"},
    "quality": {"errors", "media", "color", "quality"},
    "cli": {"errors", "timeline", "windows", "media", "color", "models", "hashes", "weights", "hub", "plan", "space", "pipeline",
            "claims", "inputs", "batch", "ends", "train", "quality", "cluster", "cli"},
}  # fmt: skip


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def imports(path):
    """Names of the package's own modules that a file imports, without the package's name, and all outer ones."""
    own, outer = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            deeper = [f"{node.module}.{a.name}" for a in node.names if (PACKAGE.parent / node.module.replace(".", "/") / f"{a.name}.py").exists() or (PACKAGE.parent / node.module.replace(".", "/") / a.name).is_dir()]  # fmt: skip
            names = deeper or [node.module]
        else:
            continue
        for name in names:
            if within(name, "stvsr_cli"):
                own.add(name.removeprefix("stvsr_cli").lstrip("."))
            else:
                outer.add(name.split(".")[0])
    return own - {""}, outer


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "__main__", "media", "models", "models.layers", "quality"):
            yield pytest.param(name, path, id=name)


@pytest.mark.parametrize(("name", "path"), modules())
def test_a_module_imports_only_from_those_above_it(name, path):
    layer = max((known for known in ABOVE if within(name, known)), key=len, default=None)
    assert layer is not None, f"{name} has no place in the layers"
    own, outer = imports(path)
    below = sorted(i for i in own if not any(within(i, allowed) for allowed in ABOVE[layer]))
    assert not below
    if "av" in outer or "imageio_ffmpeg" in outer:
        assert within(name, "media") or within(name, "train")


@pytest.mark.parametrize("name", ["errors", "timeline", "watch", "windows", "hashes", "weights", "claims"])
def test_some_modules_need_nothing_but_the_standard_library(name):
    outer = imports(PACKAGE / f"{name}.py")[1]
    assert not outer & {"torch", "av", "numpy", "typer", "diffusers"}


def test_every_file_is_short_enough():
    lengths = {p.relative_to(PACKAGE): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {str(path): count for path, count in lengths.items() if count > 400}
