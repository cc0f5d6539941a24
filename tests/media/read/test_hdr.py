"""HDR metadata: read, passed on, or said to be dropped."""

import logging
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from av.sidedata.sidedata import Type

from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.hdr import Hdr
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.encode import encoder_options
from stvsr_cli.media.write.settings import EncoderConfig
from tests.clips import BUNNY, make_video, pattern
from tests.media.write.test_mux import copy

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
QUIET = (("x265-params", "log-level=none"),)


def hdr_clip(path: Path) -> Path:
    """A clip of HDR10 in ten bits."""
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    parameters = f"log-level=none:{tags}:master-display={DISPLAY}:max-cll=1000,400"
    pictures = [pattern(i, 64, 64) for i in range(4)]
    return make_video(path, pictures, pix_fmt="yuv420p10le", codec="libx265", options={"x265-params": parameters})


def test_metadata_is_read(tmp_path: Path) -> None:
    hdr = probe(hdr_clip(tmp_path / "h.mp4")).hdr
    assert hdr is not None
    assert hdr.points is not None and hdr.points[0] == Fraction(34000, 50000)
    assert (hdr.most, hdr.least, hdr.light) == (1000, Fraction(50, 10000), (1000, 400))
    assert hdr.parameters("libx265") == {"master-display": DISPLAY, "max-cll": "1000,400"}
    assert hdr.parameters("libsvtav1")["mastering-display"].startswith("G(0.26500,0.69000)B(0.15000,0.06000)")


@pytest.mark.parametrize(("codec", "suffix"), [("libx265", ".mp4"), ("libx264", ".mkv"), ("libsvtav1", ".mp4")])
def test_metadata_is_passed_on(tmp_path: Path, codec: str, suffix: str) -> None:
    source = hdr_clip(tmp_path / "h.mp4")
    options = QUIET if codec == "libx265" else ()
    preset = {"libsvtav1": "12", "libx264": "ultrafast"}.get(codec, "ultrafast")
    result = copy(source, tmp_path / f"o{suffix}", config=EncoderConfig(codec=codec, preset=preset, options=options))
    before, after = probe(source), result
    assert (after.color.matrix, after.color.primaries, after.color.transfer) == (9, 9, 16)
    assert after.bit_depth == 10
    assert before.hdr is not None and after.hdr is not None
    assert after.hdr.light == before.hdr.light
    assert np.allclose(
        [float(x) for x in after.hdr.points or ()], [float(x) for x in before.hdr.points or ()], atol=1e-4
    )
    assert float(after.hdr.most) == pytest.approx(1000, rel=1e-3)


def test_what_the_user_says_goes_first() -> None:
    hdr = Hdr(light=(1000, 400))
    own = EncoderConfig(codec="libx265", options=(("x265-params", "max-cll=5,4:aq-mode=3"),))
    assert encoder_options(own, hdr)["x265-params"] == "max-cll=5,4:aq-mode=3:log-level=none"
    other = EncoderConfig(codec="libx265", options=(("x265-params", "aq-mode=3"),))
    assert encoder_options(other, hdr)["x265-params"] == "aq-mode=3:max-cll=1000,400:log-level=none"
    assert encoder_options(other, None)["x265-params"] == "aq-mode=3:log-level=none"
    assert encoder_options(EncoderConfig(codec="ffv1"), hdr) == encoder_options(EncoderConfig(codec="ffv1"))


def test_dynamic_metadata_is_said_to_be_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rpu = SimpleNamespace(type=Type.DOVI_RPU_BUFFER, buffer_size=0)
    monkeypatch.setattr("stvsr_cli.media.read.hdr.side_data", lambda frame: [rpu])
    assert sum(1 for _ in decode(probe(BUNNY))) == 50
    assert caplog.text.count("Dolby Vision metadata is dropped") == 1


def test_ordinary_video_has_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert probe(BUNNY).hdr is None
        next(decode(probe(BUNNY)))
    assert not caplog.records
