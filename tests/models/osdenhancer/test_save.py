"""OSDEnhancer's published folder: what is written is read back, in one file or shards, merged expert or none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stvsr_cli.models import osdenhancer
from stvsr_cli.models.osdenhancer.published import save_published
from tests.clips import PARITY
from tests.make_checkpoint import make_checkpoint

CPU = torch.device("cpu")
STEM = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return make_checkpoint(PARITY / "osdenhancer.json", tmp_path_factory.mktemp("osdenhancer"))


@pytest.fixture(scope="module")
def model(published):
    return osdenhancer.load(published, CPU, torch.float32)


def save(model, folder, **settings):
    parts = {"transformer": model.transformer, "vae": model.vae, "scheduler": model.scheduler, "prompt": model.prompt}
    save_published(folder, **parts, **settings)
    return folder


def spatial_of(published):
    tensors = load_file(published / "transformer" / f"{STEM}.safetensors")
    return {name: tensor for name, tensor in tensors.items() if "TE_lora" in name}


def check_same(model, again):
    for part in ("transformer", "vae"):
        before, after = (getattr(m, part).state_dict() for m in (model, again))
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(model.prompt, again.prompt)
    assert dict(model.scheduler.config) == dict(again.scheduler.config)


@pytest.mark.parametrize("shard_bytes", [10**9, 400_000])
def test_what_is_saved_is_read_back(model, tmp_path, shard_bytes):
    folder = save(model, tmp_path, shard_bytes=shard_bytes)
    shards = list((folder / "transformer").glob("*.safetensors"))
    assert (
        (len(shards) > 1) == (folder / "transformer" / f"{STEM}.safetensors.index.json").exists() == (shard_bytes < 1e9)
    )
    check_same(model, osdenhancer.load(folder, CPU, torch.float32))


def test_with_the_merged_experts_factors_the_file_is_the_published_one(published, model, tmp_path):
    folder = save(model, tmp_path, spatial=spatial_of(published))
    for file in (f"transformer/{STEM}.safetensors", f"vae/{STEM}.safetensors", "prompt_embeddings/empty.safetensors"):
        before, after = load_file(published / file), load_file(folder / file)
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    for file in ("transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        before, after = (json.loads((root / file).read_text()) for root in (published, folder))
        assert {n: v for n, v in before.items() if n != "_diffusers_version"}.items() <= after.items()
    check_same(model, osdenhancer.load(folder, CPU, torch.float32))


def test_a_prompt_with_a_batch_of_one_is_read(model, tmp_path):
    folder = save(model, tmp_path)
    path = folder / "prompt_embeddings" / "empty.safetensors"
    save_file({name: tensor[None].contiguous() for name, tensor in load_file(path).items()}, path)
    assert torch.equal(osdenhancer.load(folder, CPU, torch.float32).prompt, model.prompt)


def test_half_the_expert_is_not_saved(published, model, tmp_path):
    spatial = spatial_of(published)
    spatial.pop("proj_out.lora_B.TE_lora.weight")
    with pytest.raises(ValueError, match="both factors"):
        save(model, tmp_path, spatial=spatial)


def test_another_rank_of_the_merged_expert_is_read(published, model, tmp_path):
    spatial = {n: t[:3] if ".lora_A." in n else t[:, :3].contiguous() for n, t in spatial_of(published).items()}
    check_same(model, osdenhancer.load(save(model, tmp_path, spatial=spatial), CPU, torch.float32))


def test_what_computes_in_float32_is_saved_in_it(model, tmp_path):
    folder = save(model, tmp_path, dtype=torch.bfloat16)
    tensors = load_file(folder / "vae" / f"{STEM}.safetensors")
    assert {t.dtype for n, t in tensors.items() if ".dcn_pack." in n} == {torch.float32}
    assert {t.dtype for n, t in tensors.items() if ".dcn_pack." not in n} == {torch.bfloat16}
