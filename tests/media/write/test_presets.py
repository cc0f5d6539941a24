"""The preset that keeps up with a model is the best one that does."""

import pytest

from stvsr_cli.media.write.presets import COSTS, advice, preset_in_use, preset_that_keeps_up
from stvsr_cli.media.write.settings import EncoderConfig


@pytest.mark.parametrize("codec", sorted(COSTS))
def test_presets_are_listed_from_the_fastest_and_the_usual_one_is_the_measure(codec):
    costs = list(COSTS[codec].values())
    assert costs == sorted(costs) and COSTS[codec][preset_in_use(EncoderConfig(codec=codec))] == 1


@pytest.mark.parametrize(
    ("codec", "given", "times", "wanted"),
    [
        ("libx264", None, 1.0, None),
        ("libx264", None, 1.2, "fast"),
        ("libx264", None, 2.5, "veryfast"),
        ("libx264", None, 100, "ultrafast"),
        ("libx264", "veryfast", 1.5, "superfast"),
        ("libx264", "slow", 1.6, "medium"),
        ("libx264", "ultrafast", 3, None),
        ("libx264", "no such", 3, None),
        ("libsvtav1", None, 1.3, "10"),
        ("ffv1", None, 3, None),
    ],
)
def test_the_best_preset_that_is_fast_enough_is_chosen(codec, given, times, wanted):
    assert preset_that_keeps_up(EncoderConfig(codec=codec, preset=given), times) == wanted


def test_presets_among_the_options_count():
    config = EncoderConfig(codec="libsvtav1", options=(("preset", "12"),))
    assert preset_in_use(config) == "12" and preset_that_keeps_up(config, 2) is None


def test_what_is_said():
    config = EncoderConfig(codec="libx264")
    assert advice(config, 0.9) is None
    assert advice(config, 2.0) == "libx264 is slower than the model; --preset veryfast keeps up"
    assert advice(config, 50).endswith("--preset ultrafast is its fastest")
