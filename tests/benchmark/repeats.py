"""What `--repeats` does for uneven motion: clips put on twos and into 3:2, typed text, a figure over a still ground.

    python -m tests.benchmark.repeats CLIP...

A line a clip: the repeated frames' PSNR against the clip itself, and its flicker, with keep and with smooth, and what
auto takes. Measured by `stvsr compare`, at the input's size and rate.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from stvsr_cli.media.read.cadence import with_repeats
from stvsr_cli.media.read.probe import probe
from tests.clips import make_video

HEIGHT_PX = 270
APART_DB = 0.3
"""By how much a frame must differ between the two ways to be one of those that were made anew."""
STVSR = (sys.executable, "-m", "stvsr_cli")


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        found = [frame for frame in container.decode(video=0)]
    width = round(found[0].width * HEIGHT_PX / found[0].height / 2) * 2
    return [frame.reformat(width, HEIGHT_PX, "rgb24", interpolation="LANCZOS").to_ndarray() for frame in found]


def typed() -> list[np.ndarray]:
    """Ten letters a second at 30 fps."""
    letters = np.random.default_rng(0).random((20, 10, 6)) < 0.45
    pictures = []
    for i in range(36):
        picture = np.full((HEIGHT_PX, 480, 3), 245, np.uint8)
        for k in range(i // 3):
            picture[130:140, 10 + 8 * k : 16 + 8 * k][letters[k]] = 30
        pictures.append(picture)
    return pictures


def figure(ground: np.ndarray) -> list[np.ndarray]:
    """Something that moves on threes, with rests, over a still ground."""
    pictures, left = [], 20
    for i in range(48):
        left += 14 if i % 3 == 0 and i % 18 < 12 else 0
        picture = ground.copy()
        picture[120:240, left : left + 100] = ground[::2, ::2][:120, :100]
        pictures.append(picture)
    return pictures


def cases(paths: list[Path]) -> Iterator[tuple[str, list[np.ndarray], list[np.ndarray]]]:
    """Names, what was there, and what of it is given."""
    for path in paths:
        whole = frames(path)[:28]
        yield f"{path.stem}, on twos", whole, [whole[i // 2 * 2] for i in range(len(whole))]
        yield f"{path.stem}, 3:2", whole, [whole[int(2.5 * (2 * i // 5))] for i in range(len(whole))]
    text, drawn = typed(), figure(whole[0])
    yield "typed text", text, text
    yield "figure on threes", drawn, drawn


def measured(folder: Path, truth: list[np.ndarray], given: list[np.ndarray]) -> tuple[bool, list[float], list[float]]:
    """What auto takes, and the made frames' PSNR and the flicker with keep and smooth."""
    make_video(folder / "truth.mkv", truth, codec="ffv1")
    source = make_video(folder / "in.mp4", given, options={"crf": "20", "preset": "medium"})
    ways = [folder / f"{way}.mkv" for way in ("keep", "smooth")]
    for path in ways:
        plain = ("--model", "linear", "--scale", "1", "--fps-factor", "1", "--codec", "ffv1", "--overwrite", "-q")
        subprocess.run([*STVSR, "upscale", source, path, "--repeats", path.stem, *plain], check=True)
    command = [*STVSR, "compare", *ways, "--reference", folder / "truth.mkv", "--measures", "psnr,flicker", "--json"]
    said = subprocess.run([*command, "--progress", "none"], check=True, capture_output=True, text=True).stdout
    tracks = json.loads(said)["tracks"][:2]
    shown = [np.array([frame["psnr"] for frame in track["frames"]]) for track in tracks]
    apart = np.abs(shown[0] - shown[1]) > APART_DB
    psnr = [float(values[apart].mean()) if apart.any() else float("nan") for values in shown]
    return with_repeats(probe(source)).smooths_repeats, psnr, [track["values"]["flicker"] for track in tracks]


def main() -> None:
    print(f"{'':28} {'auto':>6} {'PSNR, keep':>11} {'smooth':>7} {'flicker, keep':>14} {'smooth':>7}")
    for name, truth, given in cases([Path(text) for text in sys.argv[1:]]):
        with TemporaryDirectory() as folder:
            smooth, psnr, flicker = measured(Path(folder), truth, given)
        auto = "smooth" if smooth else "keep"
        print(f"{name:28} {auto:>6} {psnr[0]:11.2f} {psnr[1]:7.2f} {flicker[0]:14.2f} {flicker[1]:7.2f}", flush=True)


if __name__ == "__main__":
    main()
