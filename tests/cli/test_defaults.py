"""Where values come from: a configuration, a word of quality, another file's record; and what is given wins."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from stvsr_cli.cli import app
from stvsr_cli.cli.config import read
from stvsr_cli.cli.defaults import layers
from stvsr_cli.cli.like import PART, command_line, parameters
from stvsr_cli.cli.preview import SHARED
from stvsr_cli.errors import UsageError
from stvsr_cli.job.described import described
from stvsr_cli.job.job import Job
from stvsr_cli.job.quality import QUALITIES
from stvsr_cli.job.quality import settings as quality_settings
from stvsr_cli.job.record import UNSAID
from stvsr_cli.media.record import Record
from stvsr_cli.media.write.settings import DEFAULT_CRF, ENCODERS
from tests.clips import make_video, pattern

KNOWN = {("upscale",): {"crf", "scale", "encoder_option", "quality"}, ("models", "pull"): {"revision"}}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", [pattern(i, 64, 48) for i in range(3)])


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def made(target: Path) -> dict[str, str]:
    """The options in a file's record, and its model."""
    record = json.loads(run("info", target, "--json").stdout)["record"]
    return record["options"] | {"model": record["model"]}


def upscaled(clip: Path, name: str, *words: str | Path) -> dict[str, str]:
    target = clip.parent / name
    done = run(*(word for word in words if str(word).startswith("-c:")), "upscale", clip, target, "-q", *words)
    assert done.exit_code == 0, done.stderr
    return made(target)


def test_like_takes_what_a_file_was_made_with(clip: Path) -> None:
    words = ("--model", "linear", "--scale", "3/2", "--crf", "30", "--encoder-option", "tune=film", "--end", "0.08")
    first = upscaled(clip, "a.mkv", *words)
    assert first["scale"] == "3/2"
    again = upscaled(clip, "b.mp4", "--like", clip.parent / "a.mkv")
    assert again == {name: value for name, value in first.items() if name != "end"}
    other = upscaled(clip, "c.mkv", "--like", clip.parent / "a.mkv", "--height", "96", "--crf", "20")
    assert (other["height"], other["encoder crf"], other["encoder options"]) == ("96", "20", first["encoder options"])
    assert "scale" not in other


def test_like_needs_a_file_that_says_so(clip: Path) -> None:
    done = run("upscale", clip, clip.parent / "out.mkv", "--like", clip)
    assert done.exit_code == 3
    assert "does not say how it was made" in done.stderr
    assert run("upscale", clip, clip.parent / "out.mkv", "--like", clip.parent / "none.mkv").exit_code == 3


def test_info_tells_a_file_from_elsewhere(clip: Path) -> None:
    done = run("info", clip)
    assert done.exit_code == 0
    assert "64x48" in done.stdout and "not made by stvsr" in done.stdout
    assert run("info", clip.parent / "none.mp4").exit_code == 3


def test_a_record_becomes_a_command_line() -> None:
    options = {"scale": "3/2", "encoder codec": "ffv1", "options vae_tile_px": "0", "options guidance": "False"}
    record = Record(
        version="1", model="diffst", weights="", device="cuda", precision="bfloat16",
        options={**options, "start": "1/3", "encoder options": "(('a', 'b'), ('c', 'd'))", "width": "None"},
    )  # fmt: skip
    assert parameters(record)["precision"] == "bf16"
    assert " ".join(command_line(record)) == (
        "--model diffst --precision bf16 --scale 3/2 --codec ffv1 --vae-tile off --no-guidance --start 0.333333333 "
        "--encoder-option a=b --encoder-option c=d"
    )


def test_every_field_of_a_record_is_an_option() -> None:
    fields = described(Job(input=Path("in.mp4"), output=Path("out.mkv"))).keys() - UNSAID
    record = Record(version="1", model="compact", weights="", device="cpu", precision="float32")
    names = parameters(replace(record, options=dict.fromkeys(fields - PART, "()")))
    known = {p.name for p in typer.main.get_command(app).commands["upscale"].params}
    assert len(names) > 20
    assert not names.keys() - PART - known


def test_a_word_of_quality_and_what_overrides_it(clip: Path) -> None:
    draft = upscaled(clip, "d.mkv", "--quality", "draft")
    assert (draft["model"], draft["encoder crf"], draft["encoder preset"]) == ("linear", "23", "veryfast")
    own = upscaled(clip, "e.mkv", "--quality", "draft", "--crf", "40")
    assert (own["model"], own["encoder crf"]) == ("linear", "40")
    assert run("upscale", clip, clip.parent / "f.mkv", "--quality", "finest").exit_code == 2
    assert quality_settings("best", "libx264", "osdenhancer") == {"crf": 14, "preset": "slow"}
    assert layers({"quality": "draft", "model": "compact"}, {}, frozenset())["crf"] == 23


@given(st.sampled_from(sorted(DEFAULT_CRF)))
def test_better_words_never_cost_quality(codec: str) -> None:
    crfs = [quality_settings(word, codec).get("crf", DEFAULT_CRF[codec]) for word in QUALITIES]
    assert crfs == sorted(crfs, reverse=True)
    assert all(ENCODERS[codec].least <= crf <= ENCODERS[codec].most for crf in crfs)
    assert not quality_settings("best", "ffv1").keys() & {"crf", "preset"}


@pytest.mark.parametrize(("name", "crf"), [("a.webm", 28), ("a.mkv", 23)])
def test_a_word_means_what_the_container_takes(clip: Path, name: str, crf: int) -> None:
    assert upscaled(clip, name, "--quality", "draft", "--scale", "1")["encoder crf"] == str(crf)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["scale", "width", "height", "fit", "crf", "model"]), st.integers(2, 9), max_size=5)
)
def test_what_is_given_wins_and_has_no_rival(stronger: dict[str, int]) -> None:
    found = layers(dict(stronger), {"scale": 2, "crf": 30}, frozenset())
    assert not found.keys() & {"scale"} or not stronger.keys() & {"scale", "width", "height", "fit"}
    assert (found | stronger)["crf"] == stronger.get("crf", 30)


def test_defaults_from_the_nearest_file(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clip.parent / "stvsr.toml").write_text('[upscale]\nmodel = "linear"\ncrf = 33\nencoder-option = ["tune=film"]\n')
    inner = clip.parent / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(clip.parent / "nowhere"))
    options = upscaled(clip, "a.mkv")
    assert (options["model"], options["encoder crf"]) == ("linear", "33")
    assert upscaled(clip, "b.mkv", "--crf", "20")["encoder crf"] == "20"
    shown = run("--show-config").stdout
    assert "crf = 33" in shown and str(clip.parent / "stvsr.toml") in shown
    assert "no configuration" in run("--show-config", "--no-config").stdout


def test_the_projects_file_is_stronger_than_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, project = tmp_path / "config" / "stvsr", tmp_path / "project"
    user.mkdir(parents=True), project.mkdir()
    (user / "stvsr.toml").write_text("[upscale]\ncrf = 11\nthreads = 1\n")
    (project / "stvsr.toml").write_text("[upscale]\ncrf = 22\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(project)
    lines = [line for line in run("--show-config").stdout.splitlines() if not line.startswith("#")]
    assert [line.split("#")[0].strip() for line in lines] == ["[upscale]", "crf = 22", "threads = 1"]
    named = tmp_path / "other.toml"
    named.write_text("[compare]\nthreads = 3\n")
    assert "threads = 3" in run("--config", named, "--show-config").stdout
    assert run("--config", tmp_path / "none.toml", "doctor").exit_code == 2


def test_a_preview_shows_what_is_configured_for_the_whole_run(clip: Path) -> None:
    config, sheet = clip.parent / "some.toml", clip.parent / "sheet.png"
    config.write_text('[upscale]\nscale = 2\nmodel = "osdenhancer"\n[preview]\nmodel = ["linear"]\n')
    done = run("--config", config, "preview", clip, "-o", sheet, "--at", "0.04", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("linear: about")
    shared = {p.name for p in typer.main.get_command(app).commands["upscale"].params} & SHARED
    assert shared == SHARED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[upscale]\ncrv = 3\n", "Did you mean crf"),
        ("[upscal]\ncrf = 3\n", "there is no command upscal"),
        ("crf = 3\n", "Begin with"),
        ("[upscale\n", "TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "stvsr.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r".*") as caught:
        read(path, KNOWN)
    assert said in str(caught.value)
    assert run("--config", path, "man").exit_code == 2
