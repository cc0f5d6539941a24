"""Quality in one word: what a word stands for in model, window and encoder."""

from dataclasses import dataclass
from typing import Literal

from stvsr_cli.errors import UsageError
from stvsr_cli.media.write.settings import DEFAULT_CRF

Word = Literal["draft", "fast", "good", "best"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """What a word stands for; None leaves the usual."""

    summary: str
    model: str | None = None
    precision: str | None = None
    overlap: int | None = None
    crf_step: int = 0
    """What is added to the encoder's usual constant rate factor; more is smaller and worse."""
    speed: int = 0
    """Of the encoder: 1 is faster than usual, -1 slower."""


QUALITIES = {
    "draft": Quality(summary="no network: sizes, times and cuts in seconds", model="linear", crf_step=6, speed=1),
    "fast": Quality(summary="fewer frames shared by windows, a faster encoder", overlap=1, crf_step=3, speed=1),
    "good": Quality(summary="the default"),
    "best": Quality(
        summary="full precision, more frames shared by windows, a slower encoder",
        precision="fp32",
        overlap=4,
        crf_step=-3,
        speed=-1,
    ),
}
PRESETS = {1: "veryfast", -1: "slow"}
"""Presets by speed, by the names that x264 gave them; other encoders have them in their own words."""


def settings(word: str, codec: str, model: str | None = None) -> dict[str, str | int]:
    """What a word means for an encoder and a model, by name of option. Raises UsageError for another word.

    model: the one that is asked for; None: none is. Precision and windows are the compact model's own: of another
    model, a word chooses the encoder's part only.
    """
    if word not in QUALITIES:
        raise UsageError(f"--quality {word!r} is not known.", hint=f"Use {', '.join(QUALITIES)}.")
    quality = QUALITIES[word]
    found: dict[str, str | int] = {}
    for name in ("model", "precision", "overlap"):
        value = getattr(quality, name)
        if value is not None and model in (None, "compact"):
            found[name] = value
    if quality.speed and codec in DEFAULT_CRF:
        found["crf"] = DEFAULT_CRF[codec] + quality.crf_step
        found["preset"] = PRESETS[quality.speed]
    return found
