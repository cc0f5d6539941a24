"""Frames to RGB and back."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.color.convert import from_rgb, to_rgb
from stvsr_cli.media.read.decode import PLANAR, Picture, decode
from stvsr_cli.media.read.probe import ColorTags, probe
from stvsr_cli.media.read.siting import LOCATIONS

SHRINK = {"yuv420p": (2, 2), "yuv422p": (1, 2)}


def random_picture(pix_fmt: str, height: int, width: int, color: ColorTags, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    deep = pix_fmt.endswith("10le")
    rows, columns = SHRINK.get(pix_fmt.removesuffix("10le"), (1, 1))
    count = 1 if pix_fmt.startswith("gray") else 3
    sizes = [(height, width)] + [(-(-height // rows), -(-width // columns))] * (count - 1)
    kind, top = (np.uint16, 1024) if deep else (np.uint8, 256)
    return Picture(tuple(rng.integers(0, top, size).astype(kind) for size in sizes), pix_fmt, color)


@given(
    pix_fmt=st.sampled_from(sorted(PLANAR)),
    matrix=st.sampled_from([1, 2, 5, 6, 9]),
    full=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 1000),
    siting=st.sampled_from(LOCATIONS),
)
@settings(max_examples=150, deadline=None)
def test_any_picture_comes_back_within_one_code_value(
    pix_fmt: str, matrix: int, full: bool, height: int, width: int, seed: int, siting: str
) -> None:
    color = ColorTags(matrix=matrix, range=2 if full else 1, siting=siting)
    picture = random_picture(pix_fmt, height, width, color, seed)
    back = from_rgb(to_rgb([picture]), pix_fmt, color)[0]
    for before, after in zip(picture.planes, back.planes, strict=True):
        assert after.dtype == before.dtype
        assert int(np.abs(before.astype(int) - after.astype(int)).max()) <= 1


@pytest.mark.parametrize(("matrix", "red"), [(1, (63, 102, 240)), (6, (81, 90, 240))])
def test_red_has_the_codes_of_the_standard(matrix: int, red: tuple[int, int, int]) -> None:
    rgb = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    picture = from_rgb(rgb, "yuv444p", ColorTags(matrix=matrix, range=1))[0]
    assert tuple(int(plane[0, 0]) for plane in picture.planes) == red


def test_black_and_white_in_both_ranges() -> None:
    for full, black, white in ((1, 16, 235), (2, 0, 255)):
        for value, code in ((0.0, black), (1.0, white)):
            picture = from_rgb(torch.full((1, 3, 2, 2), value), "yuv420p", ColorTags(matrix=1, range=full))[0]
            assert int(picture.planes[0][0, 0]) == code
            assert int(picture.planes[1][0, 0]) == 128


def test_what_lies_beyond_white_is_kept() -> None:
    picture = Picture((np.full((2, 2), 250, np.uint8),) + (np.full((2, 2), 128, np.uint8),) * 2, "yuv444p", ColorTags())
    assert float(to_rgb([picture]).max()) > 1


def test_untagged_video_is_read_by_its_height() -> None:
    assert ColorTags().resolved_matrix(720, 576) == 6
    assert ColorTags().resolved_matrix(1280, 544) == ColorTags().resolved_matrix(960, 720) == 1
    assert ColorTags(matrix=9).resolved_matrix(640, 480) == 9


def test_chroma_lies_where_its_tag_says() -> None:
    ramp = torch.arange(16.0).view(1, 1, 16).expand(3, 16, 16) / 16 * torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    places = {}
    for siting in ("left", "center", "topleft"):
        color = ColorTags(matrix=6, range=2, siting=siting)
        back = to_rgb(from_rgb(ramp[None], "yuv420p", color))[0]
        assert float((back - ramp)[:, 2:-2, 2:-2].abs().max()) < 0.02
        places[siting] = from_rgb(ramp[None], "yuv420p", color)[0].planes[1][4, 4]
    assert places["left"] == places["topleft"] < places["center"]


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "color"),
    [("rgba", "png", None), ("ya8", "png", None), ("gbrap12le", "ffv1", None), ("yuva444p", "ffv1", (1, 1)),
     ("yuva420p", "ffv1", (5, 1)), ("yuva422p10le", "ffv1", (1, 2)), ("yuva444p10le", "prores_ks", (1, 1))],
)  # fmt: skip
def test_transparency_is_laid_over_black(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pix_fmt: str, codec: str, color: tuple[int, int] | None
) -> None:
    shown = (160, 160, 160) if pix_fmt == "ya8" else (230, 120, 40)
    path, size = (
        tmp_path / "a.mov" if codec != "ffv1" else tmp_path / "a.mkv",
        (19, 33) if codec == "ffv1" else (32, 48),
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        rgba = np.full((*size, 4), 128, np.uint8)
        rgba[..., :3] = shown
        frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
        if color is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = color
            frame = frame.reformat(format=pix_fmt, dst_colorspace=color[0], dst_color_range=color[1], threads=1)
            frame.colorspace, frame.color_range = color
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    picture = next(decode(probe(path))).picture
    rgb = to_rgb([picture])[0].numpy()
    assert rgb.shape == (3, *size)
    assert np.abs(rgb - np.array(shown).reshape(3, 1, 1) / 255 * 128 / 255).max() < 0.02
    assert caplog.text.count("laid over black") == 1
