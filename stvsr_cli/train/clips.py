"""Training clips: decoded once to arrays on disk, with the optical flow between their frames.

Sources are folders or tar files of videos and photos. A photo becomes a clip by synthetic camera and object motion.
"""

import logging
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from stvsr_cli.errors import InputError
from stvsr_cli.runtime.parts import replacing
from stvsr_cli.train.ahead import made_ahead

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi"})
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
SCALE = 4
FLOW_STEP = 2
PHOTO_FRAMES = 13
SHORT_SIDE_PX = 540
SMALLEST_PHOTO_PX = 360


@dataclass(frozen=True, slots=True)
class Clip:
    """A decoded clip on disk."""

    name: str
    frames: np.ndarray
    """[T, H, W, 3] uint8, RGB, memory-mapped; sides multiples of 2 * SCALE."""
    path: Path
    """Where its frames lie."""

    def flows(self) -> np.ndarray:
        """[T - 2, 2, H/4, W/4, 2] float16, memory-mapped: flow x, y in reduced pixels from frame t to t + 2, and back.

        Computed where it is asked for the first time: few stages look at it, and it takes longer than all else.
        """
        kept = self.path.with_suffix(".flow.npy")
        if not kept.exists():
            save_array(kept, clip_flow(self.frames))
        return np.load(kept, mmap_mode="r")


def sources_in(data: Path, names: tuple[str, ...]) -> list[Path]:
    """The folders and tar files of training data: those named, or where there is none of them all that is there."""
    named = [data / name for name in names]
    if any(source.exists() for source in named) or not data.is_dir():
        return named
    logger.warning("%s holds none of %s: all clips and photos in it are taken", data, ", ".join(names))
    return [data, *sorted(data.glob("*.tar"))]


def build_cache(sources: list[Path], cache: Path, *, without: Path | None = None, workers: int = 1) -> list[Path]:
    """Decode what is not yet in the cache, by so many threads, and return the clips' frame files in a fixed order.

    without: a folder that is left out, below one of the sources. Raises InputError if the sources hold no video and no
    photo.
    """
    cache.mkdir(parents=True, exist_ok=True)
    names: list[Path] = []
    for source in sources:
        made = made_ahead(partial(_cached, cache, source), _members(source, without), workers, most=0)
        names += [path for path in made if path is not None]
    if not names:
        raise InputError(f"no clip or photo in {', '.join(map(str, sources))}.", hint="Name tar files or folders.")
    return sorted(names)


def open_clip(path: Path) -> Clip:
    """Open a cached clip without reading it."""
    return Clip(path.stem, np.load(path, mmap_mode="r"), path)


def _cached(cache: Path, source: Path, member: tuple[str, bytes]) -> Path | None:
    """Decode a clip or photo, given by name and content, unless it is there already; None: it is too small or too short."""
    name, data = member
    target = cache / f"{source.name}-{'-'.join(Path(name).with_suffix('').parts)}.npy"
    if not target.exists():
        frames = _decode(data, Path(name).suffix.lower(), zlib.crc32(name.encode()))
        if frames is None:
            logger.warning("%s in %s is too small or too short for training; left out", name, source)
            return None
        save_array(target, frames)
    return target


def _members(source: Path, without: Path | None) -> Iterator[tuple[str, bytes]]:
    """Yield name, within the source, and content of each clip and photo."""
    wanted = VIDEO_SUFFIXES | PHOTO_SUFFIXES
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in wanted and not (without and path.is_relative_to(without)):
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in wanted:
                    handle = archive.extractfile(member)
                    if handle is not None:
                        yield Path(member.name).name, handle.read()
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{source}: {error}.", hint="Training data are folders or tar files.") from error


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array under a temporary name, then rename it."""
    with replacing(path, stay=False) as part, part.open("wb") as out:
        np.save(out, array)


def _decode(data: bytes, suffix: str, seed: int) -> np.ndarray | None:
    if suffix in PHOTO_SUFFIXES:
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if photo is None or min(photo.shape[:2]) < SMALLEST_PHOTO_PX:
            return None
        return moving_photo(photo[..., ::-1], PHOTO_FRAMES, np.random.default_rng(seed))
    with tempfile.NamedTemporaryFile(suffix=suffix) as handle:
        handle.write(data)
        handle.flush()
        with av.open(handle.name) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if len(frames) < 2 * FLOW_STEP + 1:
        return None
    height, width = (side // (2 * SCALE) * 2 * SCALE for side in frames[0].shape[:2])
    return np.stack([frame[:height, :width] for frame in frames])


def moving_photo(photo: np.ndarray, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Make a clip from a photo: a smooth camera path, and cut-outs of the photo that move over it.

    photo: [H, W, 3] uint8. Returns [num_frames, H', W', 3] uint8, 16:9 or 9:16, at most 540 on the short side.
    """
    short = min(SHORT_SIDE_PX, int(min(photo.shape[:2]) * 0.9)) // (2 * SCALE) * 2 * SCALE
    long = short * 16 // 9 // (2 * SCALE) * 2 * SCALE
    height, width = (short, long) if photo.shape[1] >= photo.shape[0] else (long, short)
    fit = max(height / photo.shape[0], width / photo.shape[1])
    zoom = rng.uniform(max(fit, 0.5), 0.85) if fit < 0.8 else min(fit * 1.1, 1.0)
    if zoom < 1:  # reduce first: a warp does not filter
        photo = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        zoom = 1.0
    sway = _Sway.draw(rng, (height, width))
    camera = _Path.draw(rng, speed_px=float(rng.choice([1.0, 4.0, 10.0])), turn=0.01, growth=0.01)
    objects = [_CutOut.draw(photo, rng, (height, width)) for _ in range(int(rng.integers(0, 3)))]
    frames = []
    for t in range(num_frames):
        matrix = camera.matrix(
            t - num_frames / 2, zoom, (photo.shape[1] / 2, photo.shape[0] / 2), (width / 2, height / 2)
        )
        frame = cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        frame = sway.bend(frame, t)
        for item in objects:
            frame = item.paint(frame, t - num_frames / 2)
        frames.append(frame)
    return np.stack(frames)


@dataclass(frozen=True, slots=True)
class _Path:
    """A smooth similarity motion: velocity and acceleration of place, angle and size."""

    velocity: np.ndarray
    acceleration: np.ndarray
    turn: float
    growth: float

    @classmethod
    def draw(cls, rng: np.random.Generator, speed_px: float, turn: float, growth: float) -> "_Path":
        return cls(
            rng.normal(0, speed_px, 2), rng.normal(0, speed_px / 30, 2), rng.normal(0, turn), rng.normal(0, growth)
        )

    def matrix(self, t: float, zoom: float, origin: tuple[float, float], target: tuple[float, float]) -> np.ndarray:
        matrix = cv2.getRotationMatrix2D(origin, np.degrees(self.turn * t), zoom * float(np.exp(self.growth * t)))
        matrix[:, 2] += np.array(target) - np.array(origin) + self.velocity * t + self.acceleration * t * t
        return matrix


@dataclass(frozen=True, slots=True)
class _Sway:
    """Local motion that comes and goes, like leaves or cloth: a smooth field of displacements."""

    field: np.ndarray
    """[H, W, 2] float32, pixels at full swing."""
    period: float
    """Frames of one swing."""
    phase: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> "_Sway":
        coarse = rng.normal(0, 1, (int(rng.integers(3, 8)), int(rng.integers(3, 12)), 2)).astype(np.float32)
        strength = float(rng.choice([0.0, 2.0, 5.0]))
        field = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) * strength
        return cls(field, float(rng.uniform(8, 40)), float(rng.uniform(0, 2 * np.pi)))

    def bend(self, frame: np.ndarray, t: float) -> np.ndarray:
        """Displace a frame [H, W, 3] by the field's swing at time t, in frames."""
        if not self.field.any():
            return frame
        y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]].astype(np.float32)
        moved = self.field * np.float32(np.sin(2 * np.pi * t / self.period + self.phase))
        return cv2.remap(
            frame, x + moved[..., 0], y + moved[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )


@dataclass(frozen=True, slots=True)
class _CutOut:
    """A piece of a photo with a soft edge that moves by itself."""

    picture: np.ndarray
    mask: np.ndarray
    place: tuple[float, float]
    path: _Path

    @classmethod
    def draw(cls, photo: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> "_CutOut":
        side = int(rng.integers(60, 240))
        y, x = (int(rng.integers(0, max(limit - side, 1))) for limit in photo.shape[:2])
        picture = np.ascontiguousarray(photo[y : y + side, x : x + side])
        mask = np.zeros(picture.shape[:2], np.float32)
        corners = rng.uniform(0.08, 0.92, (int(rng.integers(3, 9)), 2)) * picture.shape[1::-1]
        cv2.fillConvexPoly(mask, cv2.convexHull(corners.astype(np.int32)), 1.0)
        mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.6, 1.5)))
        place = (float(rng.uniform(0, size[1])), float(rng.uniform(0, size[0])))
        return cls(
            picture, mask, place, _Path.draw(rng, speed_px=float(rng.choice([3.0, 9.0])), turn=0.02, growth=0.005)
        )

    def paint(self, frame: np.ndarray, t: float) -> np.ndarray:
        middle = (self.picture.shape[1] / 2, self.picture.shape[0] / 2)
        matrix = self.path.matrix(t, 1.0, middle, self.place)
        size = frame.shape[1::-1]
        mask = cv2.warpAffine(self.mask, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
        picture = cv2.warpAffine(self.picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return np.rint(frame * (1 - mask) + picture * mask).astype(np.uint8)


def clip_flow(frames: np.ndarray) -> np.ndarray:
    """Optical flow (OpenCV's DIS) between frames FLOW_STEP apart, both ways, on the reduced grid.

    frames: [T, H, W, 3] uint8. Returns [T - 2, 2, H/4, W/4, 2] float16 in reduced pixels.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = frames.shape[1] // SCALE, frames.shape[2] // SCALE
    gray = [
        cv2.cvtColor(cv2.resize(f, (2 * width, 2 * height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for f in frames
    ]
    out = np.empty((len(frames) - FLOW_STEP, 2, height, width, 2), np.float16)
    for t in range(len(out)):
        for way, (a, b) in enumerate(((gray[t], gray[t + FLOW_STEP]), (gray[t + FLOW_STEP], gray[t]))):
            flow = cv2.resize(dis.calc(a, b, None), (width, height), interpolation=cv2.INTER_AREA)
            out[t, way] = flow / 2
    return out
