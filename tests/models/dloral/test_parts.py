"""The parts of DLoRAL: resampling, retrieval, adapters, tiles, colours."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.models.dloral import pillow, vae
from stvsr_cli.models.dloral.color_fix import fix_colors
from stvsr_cli.models.dloral.initial import enlarged_size, initialise, restore_size
from stvsr_cli.models.dloral.tiles import blend, gaussian_weights, grid, ramp_weights
from stvsr_cli.models.dloral.vae import FrameCodec
from stvsr_cli.models.layers.insertion import insert_mixtures
from stvsr_cli.models.layers.lora import merge
from stvsr_cli.models.layers.retrieval import FrameRetrieval, thresholded_attention
from stvsr_cli.models.layers.spynet import SPyNet

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Waiting for other threads would cost tiny networks more than it gains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def video(num_frames, height, width, batch=1):
    return torch.rand(batch, num_frames, 3, height, width, generator=torch.Generator().manual_seed(0))


# step 1


@pytest.mark.parametrize(("kernel", "name"), [(pillow.bicubic, "BICUBIC"), (pillow.lanczos, "LANCZOS")])
@pytest.mark.parametrize(
    ("before", "after"), [((9, 13), (36, 52)), ((33, 20), (32, 16)), ((5, 7), (5, 28)), ((1, 2), (9, 3))]
)
def test_resampling_is_pillows_to_the_bit(kernel, name, before, after):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    wanted = np.asarray(image.fromarray(pixels).resize(after[::-1], getattr(image.Resampling, name)))
    given = pillow.resize(torch.from_numpy(pixels).permute(2, 0, 1), after, kernel)
    assert np.array_equal(given.permute(1, 2, 0).numpy(), wanted)


def test_resampling_refuses_more_than_8_bits():
    with pytest.raises(ValueError, match="uint8"):
        pillow.resize(torch.rand(3, 4, 4), (8, 8), pillow.bicubic)


def test_short_sides_are_enlarged_in_proportion():
    assert enlarged_size(128, 300, 128) == (128, 300)
    assert enlarged_size(64, 100, 128) == (128, 200)
    assert min(enlarged_size(49, 77, 128)) == int(128 / 49 * 49)


@pytest.mark.parametrize("size", [(16, 24), (17, 19), (9, 30)])
def test_the_initial_video_suits_the_vae(size):
    init = initialise(video(2, *size), fps_factor=1, scale=4, multiple_px=8, process_px=64)
    height, width = init.video.shape[-2:]
    assert height % 8 == width % 8 == 0 and min(height, width) >= 56
    assert init.size == (4 * size[0], 4 * size[1])
    assert torch.equal(init.video * 255, (init.video * 255).round())


def test_the_size_is_restored_as_pillow_does_it():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    wanted = np.asarray(image.fromarray(pixels).resize((50, 40), image.Resampling.BICUBIC))
    frames = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    restored = restore_size(frames, (40, 50))[0].permute(1, 2, 0) * 255
    assert np.array_equal(restored.round().numpy(), wanted)
    assert restore_size(frames, (64, 80)) is frames


def test_linear_blending_keeps_every_frame():
    frames = video(3, 4, 5, batch=2)
    dense = insert_mixtures(frames, 4)
    assert dense.shape == (2, 9, 3, 4, 5)
    assert torch.equal(dense[:, ::4], frames)
    torch.testing.assert_close(dense[:, 1], frames[:, 0] * 0.75 + frames[:, 1] * 0.25)
    assert torch.equal(insert_mixtures(frames[:, :1], 4), frames[:, :1])


# layers


def test_attention_in_blocks_is_the_whole():
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, n, 8, generator=g) for n in (50, 41, 41))
    threshold = torch.randn(3, 50, 1, generator=g)
    whole = (query @ key.transpose(1, 2) - threshold).relu() @ value
    for block_bytes in (1, 3 * 41 * 4 * 7, 2**20):
        blocks = thresholded_attention(query, key, value, threshold, block_bytes=block_bytes)
        torch.testing.assert_close(blocks, whole)


def test_retrieval_adds_nothing_where_nothing_is_similar():
    retrieval = FrameRetrieval(4, heads=2, dim=8).requires_grad_(False)
    retrieval.threshold_fc.bias.fill_(1e6)
    retrieval.proj_out.bias.zero_()
    features = torch.randn(2, 4, 6, 5)
    assert torch.equal(retrieval(features, torch.randn(2, 4, 6, 5)), features)


@pytest.mark.parametrize("size", [(32, 64), (9, 40)])
def test_flow_has_the_frames_size(size):
    flow = SPyNet().eval()(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()


def test_half_an_adapter_is_refused():
    with pytest.raises(ModelError, match="half of the adapter a on x"):
        merge({"x.base_layer.weight": torch.zeros(2, 2), "x.lora_A.a.weight": torch.zeros(1, 2)}, {"a": 1}, what="it")


# tiles and colours


@pytest.mark.parametrize(("height", "width", "side", "overlap"), [(100, 97, 96, 32), (20, 7, 8, 3), (64, 300, 96, 32)])
def test_tiles_cover_everything_and_blend_to_the_same(height, width, side, overlap):
    x = torch.rand(2, 3, height, width)
    tiles = grid(height, width, side, overlap)
    assert {(tile.height, tile.width) for tile in tiles} == {(min(side, height, width),) * 2}
    for weights in (
        gaussian_weights(tiles[0].height, tiles[0].width, CPU),
        ramp_weights(tiles[0].height, tiles[0].width, overlap, CPU),
    ):
        torch.testing.assert_close(blend(((tile, tile.crop(x)) for tile in tiles), weights, (height, width)), x)


class LocalVae:
    """A stand-in whose every latent sees its own pixels only, so that tiles must change nothing."""

    config = {"block_out_channels": [1] * 4, "scaling_factor": 0.5}
    dtype = torch.float32

    def __init__(self):
        self.largest_px = 0

    def encode(self, frame, return_dict):
        self.largest_px = max(self.largest_px, *frame.shape[-2:])
        mean = functional.avg_pool2d(frame, 8)
        return (SimpleNamespace(parameters=torch.cat([mean, torch.zeros_like(mean)], dim=1)),)

    def decode(self, latent, return_dict):
        return (functional.interpolate(latent, scale_factor=8, mode="nearest"),)


@pytest.mark.parametrize(("tile_px", "largest_px"), [(64, 64), (128, 128), (0, 136), (None, 136)])
def test_the_vae_in_tiles_is_the_whole(tile_px, largest_px):
    codec = FrameCodec(LocalVae(), tile_px=tile_px, posterior="mode")
    frame = functional.interpolate(video(1, 12, 17)[0], scale_factor=8)  # [1, 3, 96, 136]
    latent = codec.encode(frame, 0)
    torch.testing.assert_close(latent, 0.5 * functional.avg_pool2d(frame * 2 - 1, 8))
    torch.testing.assert_close(codec.decode(latent), frame)
    assert codec.vae.largest_px <= largest_px


@pytest.mark.parametrize(("share", "in_tiles"), [(2.0, False), (0.5, True)])
def test_frames_are_whole_where_memory_allows_and_else_that_is_said(share, in_tiles, monkeypatch, caplog):
    monkeypatch.setattr(vae, "TILE_PX", 64)
    codec = FrameCodec(LocalVae(), tile_px=None, posterior="mode")
    codec = FrameCodec(LocalVae(), tile_px=None, posterior="mode", room_bytes=int(share * codec.bytes_for(96 * 136)))
    frame = functional.interpolate(video(1, 12, 17)[0], scale_factor=8)  # [1, 3, 96, 136]
    for _ in range(2):
        torch.testing.assert_close(codec.decode(codec.encode(frame, 0)), frame)
    assert codec.vae.largest_px == (64 if in_tiles else 136)
    assert codec.decoded_px(96, 136) == (64 * 64 if in_tiles else 96 * 136)
    assert ["--vae-tile off" in record.message for record in caplog.records] == [True] * in_tiles


def test_adain_gives_the_sources_statistics():
    frames, source = torch.rand(2, 3, 16, 16) * 0.3, torch.rand(2, 3, 16, 16)
    fixed = fix_colors(frames, source, "adain")
    torch.testing.assert_close(fixed.mean((-2, -1)), source.mean((-2, -1)))
    torch.testing.assert_close(fixed.std((-2, -1)), source.std((-2, -1)), atol=1e-3, rtol=0)
    assert torch.equal(fix_colors(frames, source, "none"), frames)


def test_the_wavelet_moves_a_tint_and_keeps_detail():
    source = torch.full((1, 3, 64, 64), 0.6)
    detail = 0.1 * (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    fixed = fix_colors(0.2 + detail, source, "wavelet")
    torch.testing.assert_close(fixed, 0.55 + detail, atol=1e-2, rtol=0)
