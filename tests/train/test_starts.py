"""Starts of small autoencoders: they pass frames on before any training, and remain trainable."""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan

from stvsr_cli.models.diffst.config import SMALL
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.train.dloral_network import SMALL_VAE as SMALL_FRAME_VAE
from stvsr_cli.train.osdenhancer import SMALL_VAE
from stvsr_cli.train.starts.block import cosine_basis, fits_block_transform, start_as_block_transform
from stvsr_cli.train.starts.plain import start_as_identity
from stvsr_cli.train.starts.wavelet import start_as_wavelet


def smooth(num_frames: int = 5, side: int = 32) -> torch.Tensor:
    """[1, 3, T, side, side] in [-1, 1]"""
    noise = torch.rand(1, 3, num_frames, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(noise, size=(num_frames, side, side), mode="trilinear")
    return large * 2 - 1


def test_the_cosine_basis_is_orthonormal_and_begins_with_the_mean_brightness() -> None:
    basis = cosine_basis(4)
    torch.testing.assert_close(basis @ basis.T, torch.eye(48), atol=1e-5, rtol=0)
    assert basis[0].std() < 1e-6


def test_a_block_transform_keeps_what_is_smooth() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL.vae)
    start_as_block_transform(vae)
    video = smooth()
    posterior = vae.encode(video, return_dict=False)[0]
    output = vae.decode(posterior.mean, return_dict=False)[0]
    assert (output - video).square().mean() < 1e-4 * 4  # 40 dB of the range from -1 to 1
    assert posterior.var.max() < 0.01
    (output - 1.1 * video).square().mean().backward()
    silent = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert not any(name.endswith("conv2.weight") for name in silent)


def test_a_block_transform_wants_room_for_both_signs() -> None:
    vae = AutoencoderKLWan(**SMALL.vae | {"base_dim": 48})
    assert not fits_block_transform(vae)
    with pytest.raises(ValueError, match="no block transform fits"):
        start_as_block_transform(vae)


def test_an_identity_passes_frames_on_through_the_deformable_decoder() -> None:
    torch.manual_seed(0)
    vae = BidirectionalAutoencoder(**SMALL_VAE)
    start_as_identity(vae)
    video = smooth(9, 16)
    with torch.inference_mode():
        latent = vae.encode(video, return_dict=False)[0].mode()
        output = vae.decode(latent, return_dict=False)[0]
    torch.testing.assert_close(latent, video, atol=0.01, rtol=0)
    torch.testing.assert_close(output, video, atol=0.01, rtol=0)


def test_an_identity_wants_a_group_for_each_colour() -> None:
    with pytest.raises(ValueError, match="no identity fits"):
        start_as_identity(BidirectionalAutoencoder(**SMALL_VAE | {"block_out_channels": (32,)}))


def test_a_wavelet_keeps_frames_and_tells_its_bands_apart() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(**SMALL_FRAME_VAE)
    start_as_wavelet(vae)
    frame = smooth(1, 64)[:, :, 0]
    posterior = vae.encode(frame, return_dict=False)[0]
    bands = posterior.mean.unflatten(1, (3, 4)).std((0, 1, 3, 4))
    output = vae.decode(posterior.mean, return_dict=False)[0]
    inner = (output - frame)[..., 4:-4, 4:-4]
    assert inner.square().mean() < 1e-4 * 4  # 40 dB of the range from -1 to 1
    assert bands[0] > 3 * bands[1:3].max()
    assert bands[3] < bands[1:3].min()
    assert posterior.var.max() < 0.01
    output.square().mean().backward()
    assert vae.decoder.mid_block.resnets[0].conv2.weight.grad.any()


@pytest.mark.parametrize("change", [{"norm_num_groups": 6}, {"block_out_channels": (12, 24)}, {"latent_channels": 4}])
def test_a_wavelet_wants_room_for_both_signs_of_four_bands_a_colour(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no wavelet fits"):
        start_as_wavelet(AutoencoderKL(**SMALL_FRAME_VAE | change))
