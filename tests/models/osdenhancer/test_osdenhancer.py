"""OSDEnhancer: what the authors' code gives, the sizes it takes, what it refuses, and the full-size shapes."""

import json
import re
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stvsr_cli.bench.random_models import COGVIDEOX_1_5_5B
from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.models import osdenhancer
from stvsr_cli.models.contract import Request
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.initial import Padding, initialise
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer
from tests.clips import PARITY
from tests.make_checkpoint import make_checkpoint
from tests.models.osdenhancer.chunks import chunk_starts, upscale_chunks

TRANSFORMER_FILE = "transformer/diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are slower on several threads, much slower on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def spec():
    return json.loads((PARITY / "osdenhancer.json").read_text())


@pytest.fixture(scope="module")
def folder(spec, tmp_path_factory):
    return make_checkpoint(spec, tmp_path_factory.mktemp("osdenhancer"))


@pytest.fixture(scope="module")
def model(folder):
    return osdenhancer.load(folder, CPU, torch.float32)


@torch.inference_mode()
def run(model, frames, request):
    init = model.initialise(frames, request)
    latent = model.encode(init, request)
    return model.decode(model.denoise(latent, model.condition(init, latent, request), request), init, request)


def clip(num_frames=2, height=4, width=4, *, batch=1):
    return torch.rand(batch, num_frames, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_it_agrees_with_the_authors_code_whole_and_in_chunks(model) -> None:
    expected = load_file(PARITY / "osdenhancer.safetensors")
    with safe_open(PARITY / "osdenhancer.safetensors", "pt") as file:
        stride = int(file.metadata()["stride"])
    frames = expected["lr"].float()[None] / 255
    chunks = list(upscale_chunks(model, torch.cat([frames] * 3, dim=1), Request(), length=9, overlap=1))
    assert [chunk.shape[1] for chunk in chunks] == [9, 8, 8, 4]
    joined = torch.cat(chunks, dim=1)[0, :, :, ::stride, ::stride]
    assert (joined - expected["out_chunked"].float()).abs().max() < 1e-3
    # the first chunk is the whole clip
    assert (joined[:9] - expected["out"].float()).abs().max() < 1e-3


def test_windows_of_a_stream_drop_the_second_copy_as_the_authors_chunks_do(model) -> None:
    frames = clip(9)
    runner = Runner(model, Request(), TileConfig(size_px=0, overlap_px=0))
    windows = WindowConfig(size=5, overlap=1)
    streamed = torch.stack(list(upscale_shot(runner, iter(frames[0]), windows)))
    chunked = torch.cat(list(upscale_chunks(model, frames, Request(), length=9, overlap=1)), dim=1)[0]
    assert streamed.shape == chunked.shape == (17, 3, 16, 16)
    assert torch.equal(streamed, chunked)


@pytest.mark.parametrize(
    ("num_frames", "height", "width", "factor"), [(1, 4, 4, 2), (3, 3, 5, 1), (2, 2, 7, 2), (2, 4, 4, 4)]
)
def test_every_size_and_factor_comes_out_exact(model, num_frames, height, width, factor) -> None:
    output = run(model, clip(num_frames, height, width), Request(fps_factor=factor))
    assert output.shape == (1, (num_frames - 1) * factor + 1, 3, 4 * height, 4 * width)
    assert output.dtype == torch.float32
    assert 0 <= output.min() < output.max() <= 1


def test_members_of_a_batch_do_not_influence_each_other_and_two_runs_agree(model) -> None:
    pair = clip(batch=2)
    together = run(model, pair, Request())
    torch.testing.assert_close(together[1:], run(model, pair[1:], Request()), rtol=0, atol=1e-4)
    assert torch.equal(together, run(model, pair, Request()))


def test_half_precision_stays_near_and_keeps_the_deformable_convolution_in_float32(model, folder) -> None:
    half = osdenhancer.load(folder, CPU, torch.bfloat16)
    kept = {name for name, parameter in half.vae.named_parameters() if parameter.dtype == torch.float32}
    assert kept == {name for name, _ in half.vae.named_parameters() if ".dcn_pack." in name} != set()
    assert all(parameter.dtype == torch.bfloat16 for parameter in half.transformer.parameters())
    difference = run(half, clip(), Request()) - run(model, clip(), Request())
    assert difference.abs().mean() < 0.02


def test_a_sampled_posterior_follows_the_seed(spec, tmp_path) -> None:
    make_checkpoint(spec, tmp_path)
    path = tmp_path / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["encoder.conv_out.conv.bias"][16:] = 0  # a posterior with variance one
    save_file(tensors, path)
    sampled = osdenhancer.load(tmp_path, CPU, torch.float32, posterior="sample")
    init = sampled.initialise(clip(), Request())
    with torch.inference_mode():
        first, again, other = (sampled.encode(init, Request(seed=seed)) for seed in (0, 0, 1))
        sampled.posterior = "mode"
        mode = sampled.encode(init, Request())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, mode)


def test_options_that_cannot_be_are_refused(model, folder) -> None:
    with pytest.raises(UsageError, match="posterior"):
        osdenhancer.load(folder, CPU, torch.float32, posterior="median")
    with pytest.raises(UsageError, match="detail"):
        model.initialise(clip(), Request(detail=0.5))
    with pytest.raises(ModelError, match="published folder"):
        osdenhancer.load(None, CPU, torch.float32)


def test_the_initial_video_blends_and_the_residual_is_zero_at_input_frames() -> None:
    frames = clip(3, 4, 6)
    init = initialise(frames, fps_factor=4, scale=4)
    assert init.video.shape == init.residual.shape == (1, 9, 3, 16, 24)
    assert not init.residual[:, ::4].any()
    for pair, step in ((0, 1), (0, 3), (1, 2)):
        left, right = init.video[:, 4 * pair], init.video[:, 4 * pair + 4]
        blend = (1 - step / 4) * left + step / 4 * right
        torch.testing.assert_close(init.video[:, 4 * pair + step], blend)
        torch.testing.assert_close(init.residual[:, 4 * pair + step], right - left)


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 16, 16), (2, 20, 36), (9, 44, 28), (10, 8, 17)])
def test_padding_fits_the_networks_and_is_removed_exactly(num_frames, height, width) -> None:
    video = torch.rand(1, 3, num_frames, height, width)
    padding = Padding.fit(num_frames, height, width, multiple_frames=8, multiple_px=16)
    padded = padding.add(video)
    assert (padded.shape[2] - 1) % 8 == padded.shape[3] % 16 == padded.shape[4] % 16 == 0
    assert padding.top <= padding.bottom <= padding.top + 1
    assert torch.equal(padding.remove(padded), video)


@pytest.mark.parametrize(
    ("num_frames", "length", "overlap"), [(5, 9, 1), (9, 9, 1), (29, 9, 1), (30, 17, 3), (18, 9, 0)]
)
def test_chunks_cover_every_frame_and_end_with_the_video(num_frames, length, overlap) -> None:
    starts = chunk_starts(num_frames, length, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, num_frames - length)
    assert all(start <= previous + length - overlap for previous, start in zip(starts, starts[1:], strict=False))


def test_an_overlap_as_long_as_the_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        chunk_starts(20, 9, 9)


def rewrite(spec, folder, change):
    """Write the checkpoint with its transformer's table of tensors changed."""
    tensors = dict(spec["safetensors"][TRANSFORMER_FILE])
    change(tensors)
    make_checkpoint(spec | {"safetensors": spec["safetensors"] | {TRANSFORMER_FILE: tensors}}, folder)
    return lambda: osdenhancer.load(folder, CPU, torch.float32)


@pytest.mark.parametrize(
    "name",
    [
        "transformer_blocks.1.attn1.to_k_TC_lora.lora_B.weight",
        "transformer_blocks.0.ff.net.2.base_layer.bias",
        "proj_out.lora_A.TE_lora.weight",
        "res_patch.res_ff0_proj.weight",
    ],
)
def test_a_missing_or_misshapen_tensor_is_refused_by_name(spec, tmp_path, name) -> None:
    plain = re.escape(name.replace(".base_layer", ""))
    with pytest.raises(ModelError, match=f"1 missing tensor: {plain}"):
        rewrite(spec, tmp_path, lambda tensors: tensors.pop(name))()
    with pytest.raises(ModelError, match=f"misshapen tensors?: {plain}"):
        rewrite(spec, tmp_path, lambda tensors: tensors.update({name: [3] * len(tensors[name])}))()


def test_an_unexpected_tensor_is_refused_by_name(spec, tmp_path) -> None:
    with pytest.raises(ModelError, match="1 unexpected tensor: more"):
        rewrite(spec, tmp_path, lambda tensors: tensors.update(more=[1]))()


def test_a_folder_without_all_its_files_is_refused(spec, tmp_path) -> None:
    make_checkpoint(spec, tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").unlink()
    with pytest.raises(ModelError, match="scheduler_config"):
        osdenhancer.load(tmp_path, CPU, torch.float32)


def test_the_merged_expert_takes_no_effect(spec, folder, model, tmp_path) -> None:
    make_checkpoint(spec, tmp_path)
    tensors = load_file(tmp_path / TRANSFORMER_FILE)
    save_file({n: 0 * t if "TE_lora" in n else t for n, t in tensors.items()}, tmp_path / TRANSFORMER_FILE)
    zeroed = osdenhancer.load(tmp_path, CPU, torch.float32).transformer.state_dict()
    assert all(torch.equal(zeroed[name], tensor) for name, tensor in model.transformer.state_dict().items())


def test_the_vae_decodes_in_tiles_without_a_seam_of_missing_pixels(spec, tmp_path, model) -> None:
    config = json.loads(spec["texts"]["vae/config.json"]) | {"sample_height": 96, "sample_width": 160}
    make_checkpoint(spec | {"texts": spec["texts"] | {"vae/config.json": json.dumps(config)}}, tmp_path)
    tiled = osdenhancer.load(tmp_path, CPU, torch.float32)
    assert tiled.vae.use_tiling
    assert run(tiled, clip(1, 13, 21), Request()).shape == (1, 1, 3, 52, 84)
    config["sample_height"] = 64  # whose tiles diffusers cannot join without a gap
    (tmp_path / "vae/config.json").write_text(json.dumps(config))
    assert not osdenhancer.load(tmp_path, CPU, torch.float32).vae.use_tiling


def test_the_full_size_is_the_base_model_and_the_papers_own_parts() -> None:
    with torch.device("meta"):
        base = CogVideoXTransformer3DModel(**COGVIDEOX_1_5_5B).state_dict()
        ours = ResidualGatedTransformer(**COGVIDEOX_1_5_5B).state_dict()
        vae = AutoencoderKLCogVideoX().state_dict()
        our_vae = BidirectionalAutoencoder().state_dict()
    own = {name for name in ours if "TC_lora" in name or name.startswith("res_patch.")}
    assert {name: tensor.shape for name, tensor in ours.items() if name not in own} == {
        name: tensor.shape for name, tensor in base.items()
    }
    assert len(own) == 42 * 6 * 2 + 4
    assert 5.5e9 < sum(tensor.numel() for tensor in base.values()) < 5.7e9
    width, rank = 3072, 128
    adapters = 42 * rank * (4 * 2 * width + 2 * 5 * width)
    embedding = (16 * 2 * 2 * 2 + 1) * 5 * width
    assert sum(ours[name].numel() for name in own) == adapters + embedding

    own = {name for name in our_vae if name.startswith("decoder.up_deformable_blocks.")}
    assert {n: t.shape for n, t in our_vae.items() if n not in own} == {n: t.shape for n, t in vae.items()}
    widths = [our_vae[f"decoder.up_deformable_blocks.{level}.align.offset_conv2.weight"].shape[0] for level in range(4)]
    assert widths == [512, 512, 256, 256]


def test_the_tiny_checkpoint_has_the_names_of_the_full_size(spec) -> None:
    with torch.device("meta"):
        ours = ResidualGatedTransformer(**(COGVIDEOX_1_5_5B | {"num_layers": 2}))
    published = spec["safetensors"][TRANSFORMER_FILE]
    in_effect = {name.replace(".base_layer.", ".") for name in published if "TE_lora" not in name}
    assert in_effect == set(ours.state_dict())


def test_gradients_reach_the_papers_own_parts(folder) -> None:
    trained = osdenhancer.load(folder, CPU, torch.float32)
    request = replace(Request(), fps_factor=2)
    for network in (trained.transformer, trained.vae.decoder):
        network.requires_grad_(True)
        network.enable_gradient_checkpointing() if network is trained.transformer else None
    init = trained.initialise(clip(), request)
    latent = trained.encode(init, request)
    clean = trained.denoise(latent, trained.condition(init, latent, request), request)
    trained.decode(clean, init, request).square().mean().backward()
    missing = [
        name
        for network in (trained.transformer, trained.vae.decoder)
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert missing == []


def test_memory_grows_with_the_window_and_covers_the_frames_it_holds(model) -> None:
    small, longer, larger = (model.window_bytes(*size, 2) for size in ((5, 20, 28), (17, 20, 28), (5, 40, 56)))
    assert small < longer
    assert small < larger
    assert small > 3 * 4 * 9 * 3 * 80 * 112
