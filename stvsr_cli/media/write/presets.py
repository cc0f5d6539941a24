"""Which preset of an encoder keeps up with a model that is faster than it."""

import logging
from collections.abc import Mapping
from functools import lru_cache

from stvsr_cli.media.write.settings import ENCODERS, EncoderConfig

logger = logging.getLogger(__name__)

COSTS: Mapping[str, Mapping[str, float]] = {
    "libx264": {"ultrafast": 0.09, "superfast": 0.18, "veryfast": 0.35, "faster": 0.55, "fast": 0.8, "medium": 1.0,
                "slow": 1.6, "slower": 2.8, "veryslow": 4.1},
    "libx265": {"ultrafast": 0.2, "superfast": 0.35, "veryfast": 0.52, "faster": 0.53, "fast": 0.6, "medium": 1.0,
                "slow": 2.4},
    "libsvtav1": {"12": 0.6, "10": 0.65, "9": 0.8, "8": 1.0, "7": 1.5, "6": 2.1},
}  # fmt: skip
"""The processor's time for a frame of 1920x1080 by preset, over that of the usual one, as measured on a film; fastest first."""
USUAL = "medium"


def preset_in_use(config: EncoderConfig) -> str:
    """The preset that a configuration comes to."""
    known = ENCODERS.get(config.codec)
    given = config.preset or dict(config.options).get("preset")
    return given or (known.preset if known is not None else None) or USUAL


def preset_that_keeps_up(config: EncoderConfig, times: float) -> str | None:
    """The best preset that is so many times as fast as the one in use, or the fastest there is.

    None where there is no faster one, or none is known of that encoder.
    """
    costs = COSTS.get(config.codec, {})
    cost = costs.get(preset_in_use(config))
    if cost is None or times <= 1:
        return None
    faster = [name for name in costs if costs[name] < cost]
    enough = [name for name in faster if costs[name] * times <= cost]
    return (enough[-1] if enough else faster[0]) if faster else None


def advice(config: EncoderConfig, times: float) -> str | None:
    """What to say where an encoder would have to be so many times as fast not to keep the model waiting; None: nothing."""
    preset = preset_that_keeps_up(config, times)
    if preset is None:
        return None
    costs = COSTS[config.codec]
    will = "keeps up" if costs[preset] * times <= costs[preset_in_use(config)] else "is its fastest"
    return f"{config.codec} is slower than the model; --preset {preset} {will}"


@lru_cache
def tell_advice(text: str | None) -> None:
    """Log advice, once in a process: a batch has many files."""
    if text:
        logger.warning("%s", text)
