"""What a stage has trained runs: every stage of every model publishes a folder that an upscale takes."""

import json
from dataclasses import fields
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from stvsr_cli import Job, upscale
from stvsr_cli.cli import app
from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.compact import load
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.model import read_config as read_sizes
from stvsr_cli.train import run
from stvsr_cli.train.config import read_config
from stvsr_cli.weights.places import find_weights, read_sums, verify
from tests.clips import make_video, pattern, read_frames
from tests.train.test_train import RECIPES, cache, sources
from tests.train.tiny import STAGES, shrink, write_features, write_stage

__all__ = ["cache", "sources"]

CPU = torch.device("cpu")


def enlarged(model, weights):
    """The frames of a film of 24x16, two of them for compact and one for the others, upscaled with a folder of weights."""
    pictures = [pattern(index, width=24, height=16) for index in range(2 if model == "compact" else 1)]
    film, output = make_video(weights.with_suffix(".source.mp4"), pictures), weights.with_suffix(".mp4")
    upscale(
        Job(
            input=film,
            threads=1,
            output=output,
            model=model,
            weights=weights,
            device="cpu",
            precision="fp32",
            resume="never",
            fps_factor=1,
        )
    )
    return read_frames(output)[0]


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        ("compact", STAGES["compact"]),
        ("diffst", STAGES["diffst"]),
        ("osdenhancer", ("te",)),
        ("dloral", ("detail",)),
        pytest.param("osdenhancer", STAGES["osdenhancer"], marks=pytest.mark.slow),
        pytest.param("dloral", STAGES["dloral"], marks=pytest.mark.slow),
    ],
)
def test_every_stage_ends_with_a_folder_that_upscale_takes(
    model, stages, sources, cache, tmp_path, monkeypatch
) -> None:
    shrink(monkeypatch)
    torch.manual_seed(0)
    assert set(STAGES[model]) >= set(find_model(model).training.stages)
    before = ""
    for stage in stages:
        config = write_stage(tmp_path, model, stage, before)
        lines = []
        run(config, data=sources, out=tmp_path / "runs", cache=cache[1], report=lines.append)
        folder = tmp_path / "runs" / stage
        assert str(folder) in lines[-1] and f"--model {model}" in lines[-1]
        listed = {path.relative_to(folder).as_posix() for path in verify(folder)}
        assert listed == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS"}
        assert [frame.shape for frame in enlarged(model, folder)] == [(64, 96, 3)] * (2 if model == "compact" else 1)
        before = stage


def test_what_is_published_is_what_was_trained(sources, cache, tmp_path) -> None:
    """Tensors of training alone stay behind; settings and all others are the network's own."""
    config = write_stage(tmp_path, "compact", "autoencoder")
    run(config, data=sources, out=tmp_path, cache=cache[1])
    trained, shipped = (
        load_file(tmp_path / name) for name in ("autoencoder.safetensors", "autoencoder/model.safetensors")
    )
    assert {name for name in trained if name not in shipped} == {n for n in trained if n.startswith("target.")} != set()
    assert all(torch.equal(trained[name], tensor) for name, tensor in shipped.items())
    model = load(tmp_path / "autoencoder", CPU, torch.float32)
    assert model.network.config == CompactConfig(**{**read_config(config).network, "flow_widths": (8, 8, 8, 8)})


def test_a_stage_goes_on_with_the_switches_of_the_one_before(sources, cache, tmp_path) -> None:
    first = write_stage(tmp_path, "compact", "temporal")
    run(first, data=sources, out=tmp_path, cache=cache[1])
    second = write_stage(tmp_path, "compact", "decoder", "temporal")
    second.write_text(second.read_text().partition("[network]")[0] + '[data]\nsources = ["."]\nphoto_share = 0.0\n')
    run(second, data=sources, out=tmp_path, cache=cache[1])
    one, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("temporal", "decoder"))
    assert one == other and other["uses_temporal_expert"] is True and other["width"] == 16
    assert any(name.startswith("denoiser.temporal.") for name in load_file(tmp_path / "decoder" / "model.safetensors"))


def test_a_published_folder_that_is_damaged_is_refused(sources, cache, tmp_path) -> None:
    run(write_stage(tmp_path, "compact", "decoder"), data=sources, out=tmp_path, cache=cache[1])
    weights = tmp_path / "decoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"model.safetensors has been altered"):
        enlarged("compact", tmp_path / "decoder")


def test_a_second_run_takes_the_place_of_what_the_first_published(sources, cache, tmp_path) -> None:
    config = write_stage(tmp_path, "compact", "decoder")
    run(config, data=sources, out=tmp_path, cache=cache[1])
    first = read_sums(tmp_path / "decoder")
    (tmp_path / "decoder" / "left.json").write_text("{}")
    run(write_stage(tmp_path, "compact", "decoder", steps=3), data=sources, out=tmp_path, cache=cache[1])
    assert read_sums(tmp_path / "decoder").keys() == first.keys()
    assert read_sums(tmp_path / "decoder")["model.safetensors"] != first["model.safetensors"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_recipes_and_the_weights_that_ship_have_the_same_parts_on() -> None:
    shipped = read_sizes(find_weights("compact") / "config.json")
    switches = [field.name for field in fields(CompactConfig) if field.name.startswith("uses_")]
    assert {name: getattr(CompactConfig(), name) for name in switches} == {n: getattr(shipped, n) for n in switches}
    for path in (RECIPES / "compact").rglob("*.toml"):
        changed = {
            name for name, on in read_config(path).network.items() if name in switches and on != getattr(shipped, name)
        }
        assert changed == ({"uses_temporal_expert"} if path.stem == "temporal" else set())


def test_a_stage_whose_parts_are_switched_off_says_so(sources, cache, tmp_path) -> None:
    config = write_stage(tmp_path, "compact", "temporal")
    config.write_text(config.read_text().replace("uses_temporal_expert = true", "uses_temporal_expert = false"))
    with pytest.raises(UsageError, match="trains nothing"):
        run(config, data=sources, out=tmp_path, cache=cache[1])


def shrunk_recipes(folder, model):
    """The recipes that ship, with their losses and their order, at a tiny size."""
    for stage in find_model(model).training.stages:
        recipe = read_config(RECIPES / model / f"{stage}.toml")
        write_stage(
            folder / model, model, stage, recipe.start_from.removesuffix(".safetensors"), steps=1, losses=recipe.losses,
            perceptual_weights=recipe.perceptual_weights, validate_every=1, start_parts=recipe.start_parts, data={"sources": list(recipe.data.sources)},
        )  # fmt: skip


@pytest.mark.parametrize(
    "model", ["compact", *(pytest.param(name, marks=pytest.mark.slow) for name in ("osdenhancer", "dloral", "diffst"))]
)
def test_a_models_stages_run_in_order_by_one_command(model, sources, cache, tmp_path, monkeypatch) -> None:
    shrink(monkeypatch)
    (tmp_path / "recipes" / model).mkdir(parents=True)
    shrunk_recipes(tmp_path / "recipes", model)
    monkeypatch.setattr(import_module("stvsr_cli.cli.train"), "RECIPES", tmp_path / "recipes")
    write_features(sources / "squeezenet1_1.safetensors")
    options = ["--data", str(sources), "--out", str(tmp_path / "runs"), "--cache", str(cache[1]), "--device", "cpu"]
    result = CliRunner().invoke(app, ["train", "--model", model, *options])
    (sources / "squeezenet1_1.safetensors").unlink()
    assert result.exit_code == 0, result.stderr
    ready = [line for line in result.stderr.splitlines() if "is ready for" in line]
    assert [line.partition(" ")[0].rpartition("/")[2] for line in ready] == list(find_model(model).training.stages)
    assert enlarged(model, tmp_path / "runs" / find_model(model).training.stages[-1])


def test_models_without_training_are_told_those_with() -> None:
    result = CliRunner().invoke(app, ["train", "--model", "linear", "--data", "."])
    assert result.exit_code == 2 and "nothing to train" in result.stderr and "compact" in result.stderr


def test_the_readmes_command_runs_from_the_weights_that_ship(sources, tmp_path) -> None:
    """A folder of clips is all it takes: no weights of another stage, no features, no clips to validate with."""
    recipe = (RECIPES / "compact" / "one_step.toml").read_text()
    small = recipe.replace("batch = 4", "batch = 1").replace("crop_px = 192", "crop_px = 128")
    assert small != recipe
    (tmp_path / "one_step.toml").write_text(small)
    options = ["--data", str(sources), "--out", str(tmp_path / "runs"), "--device", "cpu", "--max-minutes", "0"]
    result = CliRunner().invoke(app, ["train", str(tmp_path / "one_step.toml"), *options])
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    for words in ("starts from the weights in", "loss latent is left out", "all clips and photos in it are taken",
                  "no perceptual distance", "nothing is validated", "is ready for"):  # fmt: skip
        assert words in said
    folder, shipped = tmp_path / "runs" / "one_step", find_weights("compact")
    assert read_sizes(folder / "config.json") == read_sizes(shipped / "config.json")
    one, other = load_file(shipped / "model.safetensors"), load_file(folder / "model.safetensors")
    experts = ("expert.", "restorer.")
    going_on = {name for name in one if not name.startswith(experts)}
    assert other.keys() >= going_on and not [
        name for name in other if name.startswith(("target.", "critic.", *experts))
    ]
    assert not torch.equal(one["decoder.leave.bias"], other["decoder.leave.bias"])
    assert max((one[n].float() - other[n].float()).abs().max() for n in going_on) < 0.01  # one step further, no more
    assert len(enlarged("compact", folder)) == 2


def test_a_stage_that_cannot_begin_from_what_ships_says_what_it_lacks(sources, tmp_path) -> None:
    options = ["--data", str(sources), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    result = CliRunner().invoke(app, ["train", "compact/diffusion", *options])
    assert result.exit_code == 5 and "autoencoder.safetensors" in result.stderr
    result = CliRunner().invoke(app, ["train", "diffst/flow", *options])
    assert result.exit_code == 5 and "vae.safetensors" in result.stderr
