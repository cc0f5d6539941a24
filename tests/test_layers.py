"""Data goes one way: a room imports only from rooms below it, and a module only from those its room may see."""

import ast

import pytest

from tests.clips import ROOT

PACKAGE = ROOT / "stvsr_cli"
ROOMS = ("cli", "doctor", "preview", "batch", "bench", "pipeline", "engine", "durable", "train", "job", "models", "compare", "color", "media", "quality", "weights",
         "runtime", "errors")  # fmt: skip
"""From the top of the house to its ground."""
SYSTEMS = {"models.compact", "models.osdenhancer", "models.dloral", "models.diffst"}
WITHIN = {
    **{name: {"models.dials", "models.contract", "models.step", "models.layers", name} for name in SYSTEMS},
    "models.layers": {"models.layers"},
    "models.dials": set(),
    "models.contract": {"models.dials"},
    "models.step": {"models.contract"},
    "models.fit": {"models.contract", "models.fit"},
    "models.linear": {"models.contract", "models.layers.insertion"},
    "models.interpolation": {"models.contract", "models.step", "models.compact", "models.layers.insertion"},
    "media.read": {"media.read", "media.ffmpeg", "media.images", "media.pyav", "media.y4m"},
    "job.windows": set(),
    "job.timeline": set(),
}
"""What these may import of their own room; all others may import the whole of it."""
PLAIN = ("errors", "weights", "runtime", "job.timeline", "job.windows")
"""These need no array library and no codec."""


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def is_module(dotted):
    path = PACKAGE.parent / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(path):
    """Names of the package's own modules that a file imports, without the package's name, and all outer ones."""
    own, outer = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [d for a in node.names if is_module(d := f"{node.module}.{a.name}")] or [node.module]
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
        if name not in ("__init__", "__main__"):
            yield pytest.param(name, path, id=name)


def test_every_folder_is_a_room():
    assert {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} == {
        "__init__", "__main__", *ROOMS}  # fmt: skip


@pytest.mark.parametrize(("name", "path"), modules())
def test_a_module_imports_only_from_rooms_below(name, path):
    own, outer = imports(path)
    room = ROOMS.index(name.split(".")[0])
    assert not {i for i in own if ROOMS.index(i.split(".")[0]) < room}
    part = max((known for known in WITHIN if within(name, known)), key=len, default=None)
    if part is not None:
        same = {i for i in own if within(i, ROOMS[room])}
        assert not {i for i in same if not any(within(i, allowed) for allowed in WITHIN[part])}
    if "imageio_ffmpeg" in outer:
        assert name == "media.ffmpeg"
    if "av" in outer:
        assert within(name, "media") or within(name, "train")
    if within(name, "media"):
        assert "torch" not in outer
    if any(within(name, plain) for plain in PLAIN):
        assert not outer & {"torch", "av", "numpy", "typer", "diffusers"}


def test_the_tests_of_media_run_where_there_is_no_torch():
    above = ROOMS[: ROOMS.index("media")]
    for path in (ROOT / "tests" / "media").rglob("*.py"):
        own, outer = imports(path)
        assert not {i for i in own if i.split(".")[0] in above and i != "job.timeline"}, path
        assert "torch" not in outer, path


def test_every_file_is_short_enough():
    lengths = {p.relative_to(PACKAGE): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {str(path): count for path, count in lengths.items() if count > 400}
