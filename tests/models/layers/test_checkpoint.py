"""Strict loading: what is refused, and what the refusal names."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.checkpoint import load_strict, read_pickle, read_tensors


def tensors():
    return {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3), "1.weight": torch.ones(1, 3)}


def module():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))


def test_a_file_and_a_folder_with_one_file_read_the_same(tmp_path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    torch.save(tensors(), tmp_path / "model.pt")
    for path in (tmp_path, tmp_path / "model.safetensors", tmp_path / "model.pt"):
        assert all(torch.equal(tensor, tensors()[name]) for name, tensor in read_tensors(path).items())


@pytest.mark.parametrize("with_index", [True, False])
def test_shards_are_one_checkpoint(tmp_path, with_index) -> None:
    names = list(tensors())
    shards = {f"model-0000{number}-of-00002.safetensors": part for number, part in ((1, names[:2]), (2, names[2:]))}
    for shard, part in shards.items():
        save_file({name: tensors()[name] for name in part}, tmp_path / shard)
    if with_index:
        index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert set(read_tensors(tmp_path / "model.safetensors.index.json")) == set(names)
    assert set(read_tensors(tmp_path)) == set(names)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="shards"):
        read_tensors(tmp_path)


def test_an_index_cannot_point_outside_its_folder(tmp_path) -> None:
    save_file(tensors(), tmp_path / "elsewhere.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    index = {"weight_map": dict.fromkeys(tensors(), "../elsewhere.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="not beside it"):
        read_tensors(folder)


def test_what_is_absent_damaged_or_ambiguous_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="No checkpoint"):
        read_tensors(tmp_path / "absent.safetensors")
    with pytest.raises(ModelError, match="no safetensors"):
        read_tensors(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(tmp_path)
    save_file(tensors(), tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="neither one checkpoint"):
        read_tensors(tmp_path)
    (tmp_path / "half.pt").write_bytes(b"\x80\x02half")
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(tmp_path / "half.pt")
    torch.save({"step": 3}, tmp_path / "values.pt")
    with pytest.raises(ModelError, match="not a flat table"):
        read_tensors(tmp_path / "values.pt")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_runs_no_code(tmp_path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weight": Malicious(tmp_path / "written")}, protocol=2))
    with pytest.raises(ModelError, match="refused"):
        read_pickle(tmp_path / "model.pkl")
    assert not (tmp_path / "written").exists()


def test_loading_into_an_empty_module_gives_it_the_tensors() -> None:
    with torch.device("meta"):
        empty = module()
    load_strict(
        empty,
        {
            "old.0.weight": tensors()["0.weight"],
            "0.bias": tensors()["0.bias"],
            "1.weight": tensors()["1.weight"],
            "x.y": torch.ones(1),
        },
        what="test",
        ignore=("x.",),
        renames=((r"^old\.", ""),),
        dtype=torch.bfloat16,
        keep_float32=("1.",),
    )
    assert [parameter.dtype for parameter in empty.parameters()] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert torch.equal(empty[1].weight, tensors()["1.weight"])


def test_faults_are_named_by_kind_and_five_at_most() -> None:
    with pytest.raises(ModelError, match=r"test has 2 missing tensors: 0\.weight, 1\.weight\."):
        load_strict(module(), {"0.bias": torch.zeros(3)}, what="test")
    surplus = tensors() | {f"more.{number}": torch.zeros(1) for number in range(7)}
    with pytest.raises(ModelError, match=r"7 unexpected tensors: .*more\.4, and 2 more\."):
        load_strict(module(), surplus, what="test")
    with pytest.raises(ModelError, match=r"1 misshapen tensor: 0\.bias \[4\] \(expected \[3\]\)"):
        load_strict(module(), tensors() | {"0.bias": torch.zeros(4)}, what="test")
    with pytest.raises(ModelError, match=r"0\.bias twice"):
        load_strict(module(), tensors() | {"z.0.bias": torch.zeros(3)}, what="test", renames=((r"^z\.", ""),))
