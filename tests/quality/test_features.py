"""The perceptual distance: nothing between equals, more where more is lost, and no gradient into the reference."""

import pytest
import torch
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.quality.features import Perceptual
from tests.quality.test_measures import video
from tests.train.tiny import write_features


@pytest.fixture(scope="module")
def distance(tmp_path_factory):
    return Perceptual(write_features(tmp_path_factory.mktemp("features") / "squeezenet.safetensors"))


def test_feature_maps_are_those_of_squeezenet(distance) -> None:
    taps = distance.features(torch.rand(2, 3, 67, 93))
    assert [tuple(tap.shape) for tap in taps] == [
        (2, 64, 33, 46), (2, 128, 16, 23), (2, 256, 8, 11), (2, 384, 4, 5), (2, 384, 4, 5), (2, 512, 4, 5), (2, 512, 4, 5),
    ]  # fmt: skip


def test_the_first_map_is_a_convolution_of_blue_first_values_without_their_means(distance) -> None:
    x = torch.rand(1, 3, 32, 32)
    values = torch.stack([x[:, 2] * 255 - 104, x[:, 1] * 255 - 117, x[:, 0] * 255 - 123], 1)
    expected = functional.conv2d(values, distance.features_0_weight, distance.features_0_bias, stride=2).relu()
    torch.testing.assert_close(distance.features(x)[0], expected, rtol=1e-4, atol=1e-2)


def test_equals_are_at_no_distance_and_blur_is_farther_the_stronger(distance) -> None:
    sharp = video(2)
    assert distance(sharp, sharp).tolist() == [0, 0]
    blurred = [functional.avg_pool2d(sharp, n, 1, n // 2, count_include_pad=False) for n in (3, 7, 15)]
    found = torch.stack([distance(x, sharp) for x in blurred])
    assert found.shape == (3, 2) and bool((found > 0).all()) and bool((found.diff(dim=0) > 0).all())
    torch.testing.assert_close(distance(blurred[0], sharp), distance(sharp, blurred[0]))


def test_only_the_first_gets_a_gradient(distance) -> None:
    a, b = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    distance(a, b).sum().backward()
    assert a.grad.abs().sum() > 0 and b.grad is None


def test_what_are_no_weights_is_said(tmp_path) -> None:
    for content in (None, b"", b"no weights"):
        if content is not None:
            (tmp_path / "file.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="file.safetensors"):
            Perceptual(tmp_path / "file.safetensors")
