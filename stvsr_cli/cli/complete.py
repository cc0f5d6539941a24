"""What a shell offers for the values of options."""

from collections.abc import Callable


def among(*values: str) -> Callable[[str], list[str]]:
    """Complete to one of some words."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def models(incomplete: str) -> list[tuple[str, str]]:
    """Complete to the name of a model."""
    from stvsr_cli.models.catalogue import MODELS

    return [(entry.name, entry.purpose) for entry in MODELS.values() if entry.name.startswith(incomplete)]


def codecs(incomplete: str) -> list[str]:
    """Complete to the name of a video encoder; the usual ones come first."""
    from stvsr_cli.media.write.encode import encoders
    from stvsr_cli.media.write.settings import DEFAULT_CRF

    names = [*DEFAULT_CRF, *encoders()]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def pixel_formats(incomplete: str) -> list[str]:
    """Complete to a pixel format that can be written."""
    from stvsr_cli.media.read.decode import PLANAR

    return [name for name in sorted(PLANAR) if name.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Complete to a preset of x264 and x265."""
    speeds = "ultrafast superfast veryfast faster fast medium slow slower veryslow".split()
    return [name for name in speeds if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Complete to a device."""
    import torch

    names = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [name for name in names if name.startswith(incomplete)]
