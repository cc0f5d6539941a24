import hashlib
import os

import pytest

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.catalogue import MODELS, find_model
from stvsr_cli.models.entry import ModelOptions, flag_of
from stvsr_cli.models.registry import check_options
from stvsr_cli.weights import hashes
from stvsr_cli.weights import places as weights


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
    weights.add_sums(folder, {p.name: hashes.sha256(p) for p in folder.iterdir()})
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


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of some size that counts as one that has rested."""
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 5000)
    monkeypatch.setattr(hashes, "RESTED_NS", -1)
    return path


def reads(monkeypatch):
    """Count the files that are read."""
    read = []
    plain = hashes.sha256
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path.name) or plain(path))
    return read


def test_a_large_file_is_read_once_while_it_is_what_it_was(large, tmp_path, monkeypatch):
    read, remembered = reads(monkeypatch), hashes.Hashes(tmp_path / "cache")
    first = remembered.of(large)
    assert first == hashlib.sha256(large.read_bytes()).hexdigest()
    assert remembered.of(large) == first and hashes.Hashes(tmp_path / "cache").of(large) == first
    assert read == ["large.bin"]
    assert remembered.again(large) == first and len(read) == 2


def test_a_changed_file_is_read_again_whatever_its_time_says(large, tmp_path):
    remembered = hashes.Hashes(tmp_path / "cache")
    first, status, content = remembered.of(large), large.stat(), large.read_bytes()
    large.write_bytes(b"x" + content[1:])
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time
    assert remembered.of(large) != first
    other = tmp_path / "other.bin"
    other.write_bytes(b"y" + content[1:])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(large)
    assert remembered.of(large) == hashlib.sha256(b"y" + content[1:]).hexdigest()


def test_a_file_that_has_not_rested_is_not_remembered(large, tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "RESTED_NS", 10**12)
    read, remembered = reads(monkeypatch), hashes.Hashes(tmp_path / "cache")
    assert remembered.of(large) == remembered.of(large) and len(read) == 2


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"x": 3}'])
def test_a_damaged_memory_is_as_none(large, tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / hashes.NAME).write_text(content.replace("x", str(large)))
    assert hashes.Hashes(tmp_path / "cache").of(large) == hashlib.sha256(large.read_bytes()).hexdigest()
    (tmp_path / "file").write_text("no folder")
    assert hashes.Hashes(tmp_path / "file").of(large) == hashlib.sha256(large.read_bytes()).hexdigest()


def test_loading_does_not_read_unchanged_weights_again_but_verify_does(folders, large, monkeypatch):
    folder = put(folders["environment"], content=large.read_bytes())
    weights.add_sums(folder, {p.name: hashes.sha256(p) for p in folder.iterdir()})
    read = reads(monkeypatch)
    weights.verify(folder)
    weights.verify(folder)
    assert read == ["model.safetensors"]
    weights.verify(folder, again=True)
    assert len(read) == 2
    (folder / "model.safetensors").write_bytes(b"x" + large.read_bytes()[1:])
    with pytest.raises(ModelError, match="altered"):
        weights.verify(folder)


def test_diffst_may_have_its_base_in_a_folder_of_its_own(folders):
    needs = find_model("diffst").needs
    for name in ("diffst.json", "diffst.safetensors"):
        put(folders["home"], "diffst", name)
    folder = folders["home"] / "diffst"
    assert len(weights.lacking(folder, needs)) == 3
    for name in ("transformer/config.json", "vae/config.json", "vae/a.safetensors"):
        (folder / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "base" / name).write_bytes(b"{}")
    assert weights.lacking(folder, needs) == [] and weights.find_complete("diffst", needs) == folder


@pytest.mark.parametrize("name", sorted(MODELS))
def test_options_reach_only_models_that_have_them(name):
    entry = find_model(name)
    values = {"prompt": "a cat", "color_fix": "adain", "posterior": "mode", "base": "x", "vae_tile_px": 0,
              "aggregation": False, "guidance": False}  # fmt: skip
    for option, value in values.items():
        options = ModelOptions(**{option: value})
        if option in entry.options:
            assert check_options(entry, options, {}) == {option: value}
        else:
            with pytest.raises(UsageError, match=flag_of(option)):
                check_options(entry, options, {})
