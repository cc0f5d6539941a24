"""DLoRAL: parity with the published code, and the properties of its parts at tiny sizes."""

import hashlib
import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from stvsr_cli.bench.random_models import SD21_UNET, SD21_VAE
from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models import dloral
from stvsr_cli.models.contract import Request
from stvsr_cli.models.dloral.base import build_unet, build_vae, load_vae
from stvsr_cli.models.dloral.prompt import embed_prompt
from stvsr_cli.models.dloral.published import EXPERTS, PARTS, convert, merged_weights, read_checkpoint
from stvsr_cli.models.layers.insertion import insert_mixtures
from stvsr_cli.models.step import run_window
from tests.clips import PARITY
from tests.make_checkpoint import make_checkpoint
from tests.models.dloral.tiny import TINY_UNET, TINY_VAE, adapted_unet, shapes, tiny_spec

CPU, FLOAT = torch.device("cpu"), torch.float32
SPATIAL = Request(fps_factor=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Waiting for other threads would cost tiny networks more than it gains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint in the published layout with tiny networks."""
    return make_checkpoint(tiny_spec(), tmp_path_factory.mktemp("dloral"))


def load_tiny(folder, **options):
    options = {"process_px": 64, "color_fix": "none"} | options
    return dloral.load(folder, CPU, FLOAT, **options)


@pytest.fixture(scope="module")
def model(tiny):
    return load_tiny(tiny)


def video(num_frames, height, width, batch=1):
    return torch.rand(batch, num_frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def run(model, frames, **request):
    return run_window(model, frames, replace(SPATIAL, **request))


# parity with the published code


@pytest.fixture(scope="module")
def expected():
    """What the authors' code gives for a pair of frames, every fourth pixel of it; of step 1, every fifth from 1."""
    return load_file(PARITY / "dloral.safetensors")


def test_a_pair_of_frames_is_what_the_published_code_gives(expected, tmp_path):
    folder = make_checkpoint(PARITY / "dloral.json", tmp_path)
    model = dloral.load(folder, CPU, FLOAT, prompt="a street, ", color_fix="none")
    with torch.inference_mode():
        init = model.initialise(expected["lr"][None].float() / 255, SPATIAL)
        step_one = (init.video[0] * 255).round()
        assert torch.equal(step_one[..., 1::5, 1::5], expected["upscaled_input"].float())
        latent = model.encode(init, SPATIAL)
        condition = model.condition(init, latent, SPATIAL)
        second = replace(
            condition, aligned=[x[:, 1:] for x in condition.aligned], fused=[x[:, 1:] for x in condition.fused]
        )
        clean = model.denoise(latent[:, 1:], second, SPATIAL)
        output = model.decode(clean, replace(init, video=init.video[:, 1:]), SPATIAL)
    assert (output[0, ..., ::4, ::4] - expected["out"].float()).abs().max() < 1e-3


# the checkpoint


def test_merged_weights_compute_what_peft_computes(tiny):
    checkpoint = read_checkpoint(tiny / "model.pkl")
    adapted = adapted_unet()
    adapted.load_state_dict(checkpoint.unet, strict=True)
    plain = build_unet(TINY_UNET)
    latent, prompt = torch.randn(1, 8, 8, 8), torch.randn(1, 5, 32)
    names = [f"default_{part}_{expert}" for expert in EXPERTS for part in PARTS]
    for detail in (1.0, 0.3, 0.0):
        plain.load_state_dict(merged_weights(checkpoint, plain, detail), strict=True, assign=True)
        adapted.set_adapters(names, [detail] * len(PARTS) + [1.0] * len(PARTS))
        with torch.inference_mode():
            wanted, given = (unet(latent, 1, prompt, return_dict=False)[0] for unet in (adapted, plain))
        torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-4)


def rewritten(folder, target, change):
    """A copy of the checkpoint with its tree changed, beside the same base."""
    tree = torch.load(folder / "model.pkl", weights_only=True)
    change(tree)
    target.mkdir()
    (target / "base").symlink_to(folder / "base")
    torch.save(tree, target / "model.pkl")
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("state_dict_bpp"), "lacks state_dict_bpp"),
        (lambda tree: tree["state_dict_unet"].pop("conv_out.base_layer.bias"), "1 missing tensor: conv_out"),
        (lambda tree: tree["state_dict_unet"].update(extra=torch.zeros(1)), "1 unexpected tensor: extra"),
        (lambda tree: tree["unet_lora_others_modules_quality"].clear(), "unexpected tensors: mid_block"),
        (lambda tree: tree.update(lora_rank_unet_quality=4), "has rank 3"),
        (lambda tree: tree["state_dict_bpp"].pop("cross_attn_module.proj_out.bias"), "missing tensor: attention.proj"),
        (lambda tree: tree["state_dict_bpp"].update({"spynet.more": torch.zeros(1)}), "unexpected tensor: spynet.more"),
        (
            lambda tree: tree["state_dict_unet"].update({"conv_norm_out.weight": torch.zeros(3)}),
            "misshapen tensor: conv_norm_out.weight",
        ),
    ],
)
def test_a_faulty_checkpoint_is_refused(tiny, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        load_tiny(rewritten(tiny, tmp_path / "faulty", change))


def test_layers_that_take_no_effect_may_be_absent_or_present(tiny, tmp_path):
    def change(tree):
        retrieval = tree["state_dict_bpp"]
        retrieval["spynet.mean"] = torch.zeros(1, 3, 1, 1)
        for name in [name for name in retrieval if name.startswith("feat_extract.")]:
            del retrieval[name]

    changed, plain = load_tiny(rewritten(tiny, tmp_path / "other", change)), load_tiny(tiny)
    weights = zip(changed.retrieval.state_dict().items(), plain.retrieval.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in weights)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code from a checkpoint ran",))


def test_a_pickle_runs_no_code(tiny, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"state_dict_unet": Bomb()}, protocol=2))
    with pytest.raises(ModelError, match="cannot be read"):
        dloral.load(path, CPU, FLOAT, base=tiny / "base")


def test_the_converted_checkpoint_holds_the_same(tiny, tmp_path):
    checkpoint = read_checkpoint(tiny / "model.pkl")
    convert(checkpoint, tmp_path / "model.safetensors")
    again = read_checkpoint(tmp_path / "model.safetensors")
    assert again.targets == checkpoint.targets and again.ranks == checkpoint.ranks
    for part in ("unet", "retrieval"):
        before, after = getattr(checkpoint, part), getattr(again, part)
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_absent_is_said(tiny, tmp_path):
    for weights, base, message in (
        (None, None, "needs its weights"),
        (tmp_path, None, "holds no model.pkl"),
        (tiny / "model.pkl", None, "needs its base model"),
        (tiny, tmp_path / "nowhere", "No base model"),
    ):
        with pytest.raises(ModelError, match=message):
            dloral.load(weights, CPU, FLOAT, base=base)


@pytest.mark.parametrize("options", [{"color_fix": "sepia"}, {"detail": 2.0}, {"latent_tile": 8, "latent_overlap": 8}])
def test_options_out_of_range_are_refused(tiny, options):
    with pytest.raises(UsageError):
        load_tiny(tiny, **options)


# the model


@pytest.mark.parametrize("size", [(16, 24), (17, 19), (20, 37)])
def test_output_is_exactly_four_times_the_input(model, size):
    output = run(model, video(2, *size))
    assert output.shape == (1, 2, 3, 4 * size[0], 4 * size[1])
    assert output.isfinite().all() and 0 <= output.min() and output.max() <= 1


def test_windows_that_share_one_frame_give_the_whole_clip(model):
    frames = video(5, 16, 16)
    whole = run(model, frames)
    parts = torch.cat([run(model, frames[:, :3]), run(model, frames[:, 2:])[:, 1:]], dim=1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    assert not torch.equal(run(model, frames[:, 2:])[:, 0], whole[:, 2])  # the lead lacks its predecessor


def test_frames_not_paired_look_at_themselves_alone(tiny):
    frames = video(3, 16, 16)
    alone = torch.cat([run(load_tiny(tiny), frame) for frame in frames.split(1, dim=1)], dim=1)
    torch.testing.assert_close(run(load_tiny(tiny, paired=False), frames), alone, atol=1e-5, rtol=0)


def test_members_of_a_batch_do_not_influence_each_other(model):
    frames = video(2, 16, 16, batch=2)
    torch.testing.assert_close(run(model, frames)[1:], run(model, frames[1:]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2, 4])
def test_in_between_frames_come_before_the_network(tiny, model, factor):
    frames = video(2, 16, 16)
    output = run(model, frames, fps_factor=factor)
    torch.testing.assert_close(output, run(model, insert_mixtures(frames, factor)), atol=1e-5, rtol=0)
    nearest = load_tiny(tiny, inserter=lambda x, f: torch.cat([x[:, :1].expand(-1, f, -1, -1, -1), x[:, 1:]], 1))
    assert run(nearest, frames, fps_factor=factor).shape[1] == factor + 1


def test_detail_scales_the_detail_expert(tiny, model):
    frames = video(2, 16, 16)
    full, none = run(model, frames), run(load_tiny(tiny, detail=0.0), frames)
    assert (full - none).abs().max() > 1e-3
    fresh = load_tiny(tiny)
    assert torch.equal(run(fresh, frames, detail=0.0), none)
    assert torch.equal(run(fresh, frames), full)


def test_the_prompt_takes_effect(tiny, model):
    assert not torch.equal(load_tiny(tiny, prompt="a cat").prompt, model.prompt)


def test_the_base_may_lie_elsewhere(tiny, model, tmp_path):
    shutil.copy(tiny / "model.pkl", tmp_path / "model.pkl")
    apart = load_tiny(tmp_path / "model.pkl", base=tiny / "base")
    assert torch.equal(run(apart, video(1, 16, 16)), run(model, video(1, 16, 16)))


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_the_colour_fix_brings_the_output_nearer_to_the_inputs_colours(tiny, model, method):
    frames = video(1, 16, 16) * 0.3
    wanted = frames.mean((-2, -1))
    plain, fixed = (run(m, frames).mean((-2, -1)) for m in (model, load_tiny(tiny, color_fix=method)))
    assert (fixed - wanted).abs().mean() < 0.5 * (plain - wanted).abs().mean()


def test_text_encoders_of_before_transformers_5_are_read(tiny, tmp_path):
    tensors = load_file(tiny / "base/text_encoder/model.safetensors")
    old = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    (tmp_path / "config.json").symlink_to(tiny / "base/text_encoder/config.json")
    save_file(old, tmp_path / "model.safetensors")
    before, after = (
        embed_prompt("a cat", tiny / "base/tokenizer", folder / "model.safetensors")
        for folder in (tmp_path, tiny / "base/text_encoder")
    )
    assert before.shape == (1, 77, 32) and torch.equal(before, after)


def test_the_sampled_posterior_follows_the_seed(tiny):
    sampling, frames = load_tiny(tiny, posterior="sample"), video(1, 16, 16)
    sampling.codec.vae.quant_conv.bias[4:] = 0.0  # a posterior with variance
    assert torch.equal(run(sampling, frames, seed=1), run(sampling, frames, seed=1))
    assert not torch.equal(run(sampling, frames, seed=1), run(sampling, frames, seed=2))


def test_latent_tiles_join_without_a_seam(tiny, model):
    frames = video(2, 24, 40)
    whole = run(model, frames)
    tiled = run(load_tiny(tiny, latent_tile=8, latent_overlap=4), frames)
    assert tiled.shape == whole.shape and (tiled - whole).abs().mean() < 0.1
    assert torch.equal(
        run(load_tiny(tiny, latent_tile=11, latent_overlap=0), video(2, 16, 16)), run(model, video(2, 16, 16))
    )


def test_bfloat16_stays_near(tiny, model):
    frames = video(2, 16, 16)
    half = dloral.load(tiny, CPU, torch.bfloat16, process_px=64, color_fix="none")
    assert next(half.retrieval.flow.parameters()).dtype == FLOAT
    output = run(half, frames)
    assert output.dtype == FLOAT and (output - run(model, frames)).abs().mean() < 0.05


# full size


def digest(module):
    lines = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes(module).items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def test_the_full_size_networks_are_stable_diffusion_21s():
    unet, vae = build_unet(SD21_UNET), build_vae(SD21_VAE)
    assert all(parameter.is_meta for network in (unet, vae) for parameter in network.parameters())
    widening = 320 * 4 * 3 * 3
    assert sum(parameter.numel() for parameter in unet.parameters()) == 865_910_724 + widening
    assert sum(parameter.numel() for parameter in vae.parameters()) == 83_653_863
    assert len(unet.state_dict()) == 686 and digest(unet) == "260a6bfe18a5f461"
    assert len(vae.state_dict()) == 248 and digest(vae) == "a8eb7356226250e7"
    assert list(unet.conv_in.weight.shape) == [320, 8, 3, 3]


def test_attention_names_of_before_diffusers_018_are_read(tiny, tmp_path):
    tensors = load_file(tiny / "base/vae/diffusion_pytorch_model.safetensors")
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new_part, old_part in old.items():
        tensors = {name.replace(new_part, old_part): tensor for name, tensor in tensors.items()}
    (tmp_path / "config.json").write_text(json.dumps(TINY_VAE))
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    assert isinstance(load_vae(tmp_path, CPU, FLOAT), AutoencoderKL)


def test_the_memory_estimate_grows_with_the_window(model):
    small, long, large = (model.window_bytes(*window) for window in ((2, 64, 64, 1), (8, 64, 64, 1), (2, 256, 256, 1)))
    assert 0 < small < long and small < large
