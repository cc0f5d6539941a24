"""The codes that a device makes are those of the CPU path, to within the last one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.color import planes
from stvsr_cli.color.convert import codes_to_rgb, from_rgb, plane_tensors, to_rgb
from stvsr_cli.color.planes import PlaneFormat, pack, unpack
from stvsr_cli.engine.handover import HostFrame
from stvsr_cli.media.read.decode import PLANAR
from stvsr_cli.media.read.probe import ColorTags
from stvsr_cli.media.read.siting import LOCATIONS


def noise(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Frames that go a little beyond black and white."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1


@given(
    pix_fmt=st.sampled_from(sorted(PLANAR)),
    matrix=st.sampled_from([1, 2, 5, 6, 9]),
    full=st.booleans(),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    seed=st.integers(0, 1000),
    siting=st.sampled_from(LOCATIONS),
    smaller=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=150, deadline=None)
def test_a_devices_codes_are_the_cpus_within_the_last_one(
    pix_fmt: str, matrix: int, full: bool, height: int, width: int, seed: int, siting: str, smaller: int
) -> None:
    color = ColorTags(matrix=matrix, range=2 if full else 1, siting=siting)
    form = PlaneFormat(width=width, height=height, pix_fmt=pix_fmt, color=color)
    frames = noise(3, height * smaller, width * smaller, seed)
    packed = pack(frames, form)
    assert packed.shape == (3, form.num_samples) and packed.nbytes == 3 * form.num_bytes
    for codes, frame in zip(packed, frames, strict=True):
        ours, wanted = unpack(codes, form), HostFrame(frame, form).picture()
        assert replace(ours, planes=()) == replace(wanted, planes=())
        for plane, other in zip(ours.planes, wanted.planes, strict=True):
            assert plane.dtype == other.dtype and plane.shape == other.shape
            assert int(np.abs(plane.astype(int) - other.astype(int)).max()) <= 1


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    form = PlaneFormat(width=20, height=12, pix_fmt="yuv420p", color=ColorTags(matrix=1))
    frames = noise(5, 24, 40, 0)
    whole = pack(frames, form)
    monkeypatch.setattr(planes, "PIXELS_AT_ONCE", 2 * 12 * 20)
    assert torch.equal(pack(frames, form), whole)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gbrp"])
def test_codes_brought_to_a_device_give_the_same_frames(pix_fmt: str) -> None:
    color = ColorTags(matrix=0 if pix_fmt == "gbrp" else 1, range=2)
    picture = from_rgb(noise(1, 17, 23, 1), pix_fmt, color)[0]
    codes = plane_tensors(picture)
    assert (
        sum(code.numel() for code in codes)
        == PlaneFormat(width=23, height=17, pix_fmt=pix_fmt, color=color).num_samples
    )
    assert torch.equal(codes_to_rgb(codes, picture), to_rgb([picture])[0])


@pytest.mark.gpu
@pytest.mark.parametrize("pix_fmt", sorted(PLANAR))
def test_a_gpus_codes_are_the_cpus_within_the_last_one(pix_fmt: str) -> None:
    color = ColorTags(matrix=1, range=1)
    form = PlaneFormat(width=250, height=130, pix_fmt=pix_fmt, color=color)
    frames = noise(4, 260, 500, 2)
    for codes, frame in zip(pack(frames.cuda(), form).cpu(), frames, strict=True):
        for plane, other in zip(unpack(codes, form).planes, HostFrame(frame, form).picture().planes, strict=True):
            assert int(np.abs(plane.astype(int) - other.astype(int)).max()) <= 1
