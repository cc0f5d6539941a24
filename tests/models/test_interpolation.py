"""In-between frames for spatial-only models."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from stvsr_cli.errors import ModelError
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.model import CONFIG_FILE, WEIGHTS_FILE, write_config
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.interpolation import load

CPU, FLOAT = torch.device("cpu"), torch.float32
SMALL = CompactConfig(
    latent_channels=4, width=8, middle_width=8, coarse_width=8, num_heads=2, output_width=4, flow_widths=(4, 4, 4, 4)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("compact")
    torch.manual_seed(0)
    save_file(CompactNetwork(SMALL).state_dict(), path / WEIGHTS_FILE)
    write_config(SMALL, path / CONFIG_FILE)
    return path


def video(num_frames, height=19, width=35, batch=1):
    return torch.rand(batch, num_frames, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", ["compact", None])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_frames_of_any_size_stay_and_others_come_between(weights, factor, num_frames, folder):
    frames = video(num_frames, batch=2)
    with torch.inference_mode():
        result = load(folder if weights else None, CPU, FLOAT)(frames, factor)
    assert result.shape == (2, (num_frames - 1) * factor + 1, 3, 19, 35) and result.dtype == torch.float32
    assert torch.equal(result[:, ::factor], frames)
    assert result.min() >= 0 and result.max() <= 1


def test_frames_of_the_compact_model_are_those_it_begins_with(folder):
    frames = video(3, 32, 48)
    interpolate = load(folder, CPU, FLOAT)
    with torch.inference_mode():
        expected = interpolate.model.network.initialise(frames, 2).frames
        assert torch.equal(interpolate(frames, 2)[:, 1::2], expected[:, 1::2].clamp(0, 1))


def test_without_weights_it_says_once_that_it_blends(caplog):
    interpolate = load(None, CPU, FLOAT)
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        interpolate(video(2), 1)
        assert not caplog.records
        blended = interpolate(video(2), 2)
        interpolate(video(2), 2)
    assert len(caplog.records) == 1 and "blends" in caplog.text
    torch.testing.assert_close(blended[:, 1], video(2).mean(1))


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    write_config(CompactConfig(), tmp_path / CONFIG_FILE)
    (tmp_path / WEIGHTS_FILE).symlink_to(folder / WEIGHTS_FILE)
    with pytest.raises(ModelError):
        load(tmp_path, CPU, FLOAT)
