"""Pictures as frames: their order, and a part of them."""

from fractions import Fraction
from pathlib import Path

import pytest

from stvsr_cli.errors import InputError
from stvsr_cli.media.images import ImageSource, is_pattern, list_images
from tests.clips import pattern, picture, sequence


def test_the_order_is_that_of_numbers(tmp_path):
    for name in ("f10.png", "f2.png", "f1.png", ".f3.png", "g.txt"):
        picture(tmp_path / "in" / name, pattern(0, 16, 16)) if name.endswith("png") else None
    assert [p.name for p in list_images(tmp_path / "in")] == ["f1.png", "f2.png", "f10.png"]
    assert [p.name for p in list_images(tmp_path / "in" / "f%d.png")] == ["f1.png", "f2.png", "f10.png"]
    assert is_pattern(Path("a/%05d.png")) and is_pattern(Path("a%d.jpg"))
    assert not is_pattern(Path("a.png")) and not is_pattern(Path("%d.mp4")) and not is_pattern(Path("100%.png"))


def test_a_part_of_a_sequence(tmp_path):
    source = ImageSource(list_images(sequence(tmp_path / "in", 10)), tmp_path / "in", Fraction(10))
    frames = list(source.frames(Fraction(1, 5), Fraction(1, 2)))
    assert [(f.index, f.pts, f.duration) for f in frames] == [(0, 2, 1), (1, 3, 1), (2, 4, 1)]
    with pytest.raises(InputError, match="no frame at or after --start"):
        list(source.frames(Fraction(2)))
