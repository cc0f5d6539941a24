"""DiffST: any size and length in one step, strict folders, adapters, and the full size."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models import diffst
from stvsr_cli.models.contract import Request
from stvsr_cli.models.diffst.adapters import is_factor
from stvsr_cli.models.diffst.config import FULL, SMALL, DiffSTConfig
from stvsr_cli.models.diffst.folder import read_base, write_folder
from stvsr_cli.models.diffst.network import DiffSTNetwork, new_network, plain_transformer
from stvsr_cli.models.step import run_window
from tests.models.diffst.tiny import OWN, TINY, clip, lively, tiny, write_wan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("diffst")
    write_folder(tiny(), path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return diffst.load(folder, CPU, torch.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_wan(tmp_path_factory.mktemp("wan"))


@pytest.mark.parametrize(
    ("num_frames", "height", "width", "factor"), [(1, 7, 40, 2), (3, 33, 17, 1), (2, 5, 9, 2), (3, 20, 16, 4)]
)
def test_every_size_and_factor_comes_out_exact(model, num_frames, height, width, factor) -> None:
    output = run_window(model, clip(num_frames, height, width), Request(fps_factor=factor))
    assert output.shape == (1, (num_frames - 1) * factor + 1, 3, 4 * height, 4 * width)
    assert output.dtype == torch.float32
    assert 0 <= output.min() < output.max() <= 1


def test_members_of_a_batch_do_not_influence_each_other_and_two_runs_agree(model) -> None:
    pair = clip(batch=2)
    together = run_window(model, pair, Request())
    torch.testing.assert_close(together[1:], run_window(model, pair[1:], Request()), rtol=0, atol=1e-4)
    assert torch.equal(together, run_window(model, pair, Request()))


@pytest.mark.parametrize("num_frames", [1, 2, 5, 6])
def test_the_autoencoder_sees_whole_chunks_and_the_padding_is_removed(model, num_frames) -> None:
    video = clip(num_frames, 16, 24)
    chunks = -(-(num_frames - 1) // 4)
    with torch.inference_mode():
        latent = model.network.encode(video)
        repeated = model.network.encode(
            torch.cat([video, video[:, -1:].expand(-1, 4 * chunks + 1 - num_frames, -1, -1, -1)], 1)
        )
        decoded = model.network.decode(latent, num_frames)
    assert latent.shape == (1, 1 + 2 * chunks, 4, 4, 6) == (1, *model._latent_size(num_frames, 16, 24)[:1], 4, 4, 6)
    assert torch.equal(latent, repeated)
    assert decoded.shape == video.shape


def test_the_latent_is_normalised_as_the_autoencoder_says(model) -> None:
    video = clip(5, 16, 16)
    with torch.inference_mode():
        raw = model.network.vae.encode((video * 2 - 1).transpose(1, 2)).latent_dist.mode().transpose(1, 2)
        latent = model.network.encode(video)
    mean, std = (torch.tensor(TINY.vae[name]).view(1, 1, -1, 1, 1) for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(latent, (raw - mean) / std)


def test_the_clean_latent_is_one_step_of_flow_matching(model) -> None:
    latent, tokens = torch.randn(1, 3, 4, 4, 4), torch.randn(1, 3, 24)
    with torch.inference_mode():
        velocity = model.network.transformer(latent.transpose(1, 2), torch.tensor([399]), tokens).sample.transpose(1, 2)
        clean = model.denoise(latent, tokens, Request())
    torch.testing.assert_close(clean, latent - 0.399 * velocity)
    assert velocity.abs().max() > 0


@pytest.mark.parametrize("factor", [2, 4])
def test_intermediate_frames_of_a_still_video_are_still_and_keyframes_are_kept(factor) -> None:
    torch.manual_seed(0)
    network = new_network(TINY).eval()  # its fusion starts as a plain weighting of the four warped keyframes
    still = clip(1, 32, 48).expand(-1, 3, -1, -1, -1)
    moving = clip(3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(network.initialise(moving, factor)[:, ::factor], moving)
        network.flow = lively(network.flow)
        for part in network.flow.modules():
            if isinstance(part, torch.nn.Conv2d) and part.out_channels == 2:
                part.weight.zero_()
                part.bias.zero_()
        init = network.initialise(still, factor)
    torch.testing.assert_close(init, still[:, :1].expand(-1, 2 * factor + 1, -1, -1, -1))


def test_context_aggregation_and_guidance_can_be_switched_off(folder, model) -> None:
    frames = clip(2, 16, 16)
    request = Request(fps_factor=4)
    without = diffst.load(folder, CPU, torch.float32, aggregation=False, guidance=False)
    blend = without.initialise(frames, request).frames
    torch.testing.assert_close(blend[:, 1], 0.75 * frames[:, 0] + 0.25 * frames[:, 1])
    with torch.inference_mode():
        assert not torch.equal(blend, model.initialise(frames, request).frames)
        latent = model.encode(model.initialise(frames, request), request)
        condition = without.condition(without.initialise(frames, request), latent, request)
        assert condition.shape == (1, 1, 24)
        assert not condition.any()
        guided = model.denoise(latent, model.condition(model.initialise(frames, request), latent, request), request)
        assert not torch.equal(guided, without.denoise(latent, condition, request))


def test_a_tile_is_guided_by_the_whole_frames(model) -> None:
    whole = clip(2, 24, 32)
    tile = whole[..., :16, :16].contiguous()
    assert model.traits.wants_context
    alone, told_itself, told = (run_window(model, tile, Request(context=context)) for context in (None, tile, whole))
    assert torch.equal(alone, told_itself)
    assert not torch.equal(alone, told)


def test_half_precision_stays_near(folder, model) -> None:
    half = diffst.load(folder, CPU, torch.bfloat16)
    parameters = dict(half.network.named_parameters())
    assert parameters["transformer.blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert parameters["transformer.blocks.0.scale_shift_table"].dtype == torch.float32
    assert parameters["transformer.condition_embedder.time_embedder.linear_1.weight"].dtype == torch.float32
    assert parameters["transformer.blocks.0.attn1.norm_q.weight"].dtype == torch.bfloat16
    assert parameters["vae.encoder.conv_in.weight"].dtype == torch.bfloat16
    assert parameters["aggregation.fuse.0.weight"].dtype == torch.float32
    difference = run_window(half, clip(), Request()) - run_window(model, clip(), Request())
    assert difference.abs().mean() < 0.03


def test_a_sampled_posterior_follows_the_seed_alone(folder, model) -> None:
    sampled = diffst.load(folder, CPU, torch.float32, posterior="sample")
    frames = clip(batch=2)
    init = sampled.initialise(frames, Request())
    with torch.inference_mode():
        first, again, other = (sampled.encode(init, Request(seed=seed)) for seed in (0, 0, 1))
        mode = model.encode(init, Request())
        alone = sampled.encode(sampled.initialise(frames[1:], Request()), Request())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, mode)
    torch.testing.assert_close(first[1:], alone, rtol=0, atol=1e-4)


def test_the_autoencoder_can_run_in_tiles(folder) -> None:
    tiled = diffst.load(folder, CPU, torch.float32, vae_tile_px=64)
    assert tiled.network.vae.use_tiling
    assert run_window(tiled, clip(1, 33, 20), Request()).shape == (1, 1, 3, 132, 80)


def test_options_that_cannot_be_are_refused(folder, model) -> None:
    with pytest.raises(UsageError, match="posterior"):
        diffst.load(folder, CPU, torch.float32, posterior="median")
    with pytest.raises(UsageError, match="multiple of 16"):
        diffst.load(folder, CPU, torch.float32, vae_tile_px=100)
    with pytest.raises(UsageError, match="detail"):
        model.initialise(clip(), Request(detail=0.5))
    with pytest.raises(ModelError, match="needs a folder"):
        diffst.load(None, CPU, torch.float32)


def copied(folder, path):
    write_folder(diffst.load(folder, CPU, torch.float32).network, path)
    return path


@pytest.mark.parametrize(
    "name",
    ["flow.finest.0.weight", "aggregation.fuse.0.bias", "guidance.tokens", "transformer.blocks.1.ffn.net.2.weight"],
)
def test_a_missing_or_misshapen_tensor_is_refused_by_name(folder, tmp_path, name) -> None:
    path = copied(folder, tmp_path) / "diffst.safetensors"
    tensors = load_file(path)
    plain = name.removeprefix("transformer.")
    save_file({n: t for n, t in tensors.items() if n != name}, path)
    with pytest.raises(ModelError, match=f"1 missing tensor: {plain}"):
        diffst.load(tmp_path, CPU, torch.float32)
    save_file(tensors | {name: torch.zeros(7)}, path)
    with pytest.raises(ModelError, match=f"1 misshapen tensor: {plain}"):
        diffst.load(tmp_path, CPU, torch.float32)
    save_file(tensors | {"more": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="1 unexpected tensor: more"):
        diffst.load(tmp_path, CPU, torch.float32)


def test_a_folder_of_another_version_or_without_all_its_files_is_refused(folder, tmp_path) -> None:
    copied(folder, tmp_path)
    config = json.loads((tmp_path / "diffst.json").read_text())
    (tmp_path / "diffst.json").write_text(json.dumps(config | {"speed": 3}))
    with pytest.raises(ModelError, match="unknown settings speed"):
        diffst.load(tmp_path, CPU, torch.float32)
    (tmp_path / "diffst.json").unlink()
    with pytest.raises(ModelError, match=r"diffst\.json"):
        diffst.load(tmp_path, CPU, torch.float32)


def test_networks_that_do_not_fit_are_refused() -> None:
    transformer = plain_transformer(TINY.transformer | {"in_channels": 8})
    with pytest.raises(ModelError, match="takes 8 channels"):
        DiffSTNetwork(OWN, transformer, AutoencoderKLWan(**TINY.vae))
    with pytest.raises(ModelError, match="patch_size"):
        DiffSTNetwork(
            OWN, plain_transformer(TINY.transformer | {"patch_size": (2, 2, 2)}), AutoencoderKLWan(**TINY.vae)
        )
    with pytest.raises(ModelError, match="timestep"):
        DiffSTConfig(timestep=0)


def test_a_folder_keeps_what_was_written(folder) -> None:
    network, read = tiny().eval(), diffst.load(folder, CPU, torch.float32).network
    assert network.state_dict().keys() == read.state_dict().keys()
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network.transformer.rope.freqs_cos, read.transformer.rope.freqs_cos)


@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_a_fine_tuned_base_comes_back_from_the_files_beside_it(base, tmp_path, finetune) -> None:
    torch.manual_seed(0)
    network = lively(read_base(base, replace(OWN, finetune=finetune))).eval()
    assert torch.equal(
        network.transformer.proj_out.weight,
        load_base_tensor(base / "transformer", "proj_out.weight"),
    )
    write_folder(network, tmp_path)
    for part in ("transformer", "vae"):
        shutil.rmtree(tmp_path / part)
    if finetune == "lora":
        (tmp_path / "base").symlink_to(base)
    else:
        for part in ("transformer", "vae"):
            (tmp_path / part).symlink_to(base / part)
    tuned = diffst.load(tmp_path, CPU, torch.float32)
    frames = clip()
    with torch.inference_mode():
        expected = network(frames, 2)[0].clamp(0, 1)
    torch.testing.assert_close(run_window(tuned, frames, Request()), expected)
    tokens, latent = torch.randn(1, 3, 24), torch.randn(1, 3, 4, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(tuned.denoise(latent, tokens, Request()), network.denoise(latent, tokens))


def load_base_tensor(folder, name):
    shard = json.loads(next(folder.glob("*.index.json")).read_text())["weight_map"][name]
    return load_file(folder / shard)[name]


def test_an_incomplete_adapter_is_refused(base, tmp_path) -> None:
    write_folder(read_base(base, replace(OWN, finetune="lora")), tmp_path)
    path = tmp_path / "diffst.safetensors"
    tensors = load_file(path)
    assert any(is_factor(name) for name in tensors)
    name = "transformer.blocks.0.attn2.to_k.lora_B.diffst.weight"
    save_file({n: t for n, t in tensors.items() if n != name}, path)
    with pytest.raises(ModelError, match=f"1 missing tensor: {name}"):
        diffst.load(tmp_path, CPU, torch.float32)


def test_the_full_size_is_wan_and_the_papers_own_parts() -> None:
    with torch.device("meta"):
        wan = WanTransformer3DModel(**FULL.transformer).state_dict()
        vae = AutoencoderKLWan().state_dict()
        ours = new_network(FULL).state_dict()
    assert sum(tensor.numel() for tensor in wan.values()) == 1_418_996_800
    assert sum(tensor.numel() for tensor in vae.values()) == 126_892_531
    assert list(wan["patch_embedding.weight"].shape) == [1536, 16, 1, 2, 2]
    assert list(wan["blocks.29.ffn.net.0.proj.weight"].shape) == [8960, 1536]
    replaced = {name for name in wan if name.startswith("condition_embedder.text_embedder.")}
    assert len(replaced) == 4
    expected = {f"transformer.{n}": t.shape for n, t in wan.items() if n not in replaced}
    expected |= {f"vae.{n}": t.shape for n, t in vae.items()}
    own = ("flow.", "aggregation.", "guidance.", "latents_")
    assert {name: tensor.shape for name, tensor in ours.items() if not name.startswith(own)} == expected
    assert list(ours["guidance.project.2.weight"].shape) == [1536, 1536]
    with torch.device("meta"):
        adapted = new_network(replace(FULL, own=replace(FULL.own, finetune="lora")))
    assert len([name for name in adapted.state_dict() if is_factor(name)]) == 30 * (4 + 4 + 2) * 2


def test_the_small_size_is_small_and_has_the_names_of_the_full_size() -> None:
    with torch.device("meta"):
        small = new_network(SMALL)
        num_layers = {"num_layers": SMALL.transformer["num_layers"]}
        full = new_network(replace(FULL, transformer=FULL.transformer | num_layers))
    assert sum(parameter.numel() for parameter in small.parameters()) < 15e6
    names = {name for name, _ in small.transformer.named_parameters()}
    assert names == {name for name, _ in full.transformer.named_parameters()}


def test_memory_grows_with_the_window_and_covers_the_frames_it_holds(model) -> None:
    small, longer, larger = (model.window_bytes(*size, 2) for size in ((5, 20, 28), (17, 20, 28), (5, 40, 56)))
    assert small < longer
    assert small < larger
    assert small > 2 * 4 * 9 * 3 * 80 * 112
