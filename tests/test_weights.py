import pytest

from stvsr_cli import weights
from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.registry import MODELS, ModelOptions, check_options, find_model


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A machine without any weights: environment, checkout, package and cache are empty folders."""
    places = {name: tmp_path / name for name in ("environment", "checkout", "shipped", "home")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setenv(weights.ENVIRONMENT, str(places["environment"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(places["home"]))
    monkeypatch.setattr(weights, "CHECKOUT", places["checkout"])
    monkeypatch.setattr(weights, "SHIPPED", places["shipped"])
    return places | {"home": weights.cache_folder()}


def put(folder, model="compact", name="model.safetensors", content=b"numbers"):
    (folder / model).mkdir(parents=True, exist_ok=True)
    (folder / model / name).write_bytes(content)
    return folder / model


def test_places_are_searched_in_order(folders):
    for place in ("home", "shipped", "checkout", "environment"):
        newest = put(folders[place])
        assert weights.find_weights("compact") == newest


def test_absent_weights_are_a_model_error_that_says_where_to_put_them(folders):
    with pytest.raises(ModelError, match="no weights") as caught:
        weights.find_weights("compact")
    assert str(folders["environment"] / "compact") in str(caught.value)


def test_a_card_alone_is_no_weights(folders):
    put(folders["checkout"], name="README.md")
    with pytest.raises(ModelError):
        weights.find_weights("compact")


def test_altered_and_missing_files_are_found(folders):
    folder = put(folders["checkout"])
    put(folders["checkout"], name="config.json", content=b"{}")
    weights.write_sums(folder)
    assert {p.name for p in weights.verify(folder)} == {"model.safetensors", "config.json"}
    (folder / "model.safetensors").write_bytes(b"Numbers")
    with pytest.raises(ModelError, match="altered"):
        weights.verify(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="missing"):
        weights.verify(folder)


def test_without_checksums_nothing_is_checked(folders):
    assert weights.verify(put(folders["checkout"])) == []


def test_an_unknown_model_is_told_the_known_ones():
    with pytest.raises(ModelError, match="compact"):
        find_model("kompakt")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_options_reach_only_models_that_have_them(name):
    entry = find_model(name)
    for option, value in {"prompt": "a cat", "color_fix": "adain", "posterior": "mode", "base": "x"}.items():
        options = ModelOptions(**{option: value})
        if option in entry.options:
            assert check_options(entry, options, None) == {option: value}
        else:
            with pytest.raises(UsageError, match=option.replace("_", "-")):
                check_options(entry, options, None)
