"""Encoders are tried before the work, and say in plain words what they do not take."""

from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write import encoders
from stvsr_cli.media.write.choice import fitted, on_card
from stvsr_cli.media.write.encode import encoder_format, encoder_options
from stvsr_cli.media.write.encoders import assert_opens, hardware_choice
from stvsr_cli.media.write.settings import ENCODERS, INSTEAD, EncoderConfig, quality_options
from tests.clips import BUNNY

SIZE, RATE = (1920, 1080), Fraction(50)
HERE = [name for name in ENCODERS if name not in INSTEAD and name in av.codecs_available]


@pytest.fixture(autouse=True)
def _forget():
    encoders._assert_opens.cache_clear()
    yield
    encoders._assert_opens.cache_clear()


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize("crf", [None, 4, 30])
def test_every_known_encoder_opens_with_a_quality_and_uses_all_of_it(codec, crf):
    options = quality_options(codec, crf)
    if ENCODERS[codec].preset:
        options["preset"] = ENCODERS[codec].preset
    assert options["crf"] == str(ENCODERS[codec].default if crf is None else crf)
    assert_opens(codec, options, "yuv420p", SIZE, RATE)


@pytest.mark.parametrize("codec", sorted(INSTEAD))
def test_a_cards_quality_has_the_rate_control_that_heeds_it(codec):
    options = quality_options(codec, 23)
    assert options["cq"] == "23" and options["rc"] == "vbr" and options["b"] == "0" and "crf" not in options
    with pytest.raises(UsageError, match=r"--crf 0 must lie in \[1, 51\]"):  # 0 would be automatic
        quality_options(codec, 0)
    known = {option.name for option in av.CodecContext.create(codec, "w").supported_options.private}
    assert set(options) - {"b"} <= known


def test_a_quality_beyond_the_encoders_scale_is_refused():
    with pytest.raises(UsageError, match=r"--crf 60 must lie in \[0, 51\] for libx264"):
        quality_options("libx264", 60)
    assert quality_options("libsvtav1", 60)["crf"] == "60"


@pytest.mark.parametrize(
    ("codec", "options", "said"),
    [
        ("ffv1", {"crf": "10"}, "ffv1 does not use --crf 10"),
        ("libx264", {"nonsense": "1"}, "libx264 does not use nonsense=1"),
        ("libvpx-vp9", {"b": "0", "tune-content": "film", "x264-params": "a=1"}, "does not use x264-params=a=1"),
    ],
)
def test_an_option_that_an_encoder_does_not_use_is_an_error(codec, options, said):
    with pytest.raises(UsageError, match=said):
        assert_opens(codec, options, "yuv420p", SIZE, RATE)


def test_a_value_that_an_encoder_does_not_know_is_an_error():
    with pytest.raises(OutputError, match="libx264 does not take these options: Error setting preset/tune bogus"):
        assert_opens("libx264", {"preset": "bogus"}, "yuv420p", SIZE, RATE)


def refusing(monkeypatch, *lines, but=()):
    """NVENC as it is on some machine. but: encoders that open there."""
    asked = []

    def opened(codec, options, pix_fmt, width, height, rate):
        asked.append((codec, pix_fmt, (width, height)))
        if codec in but:
            return {}
        for line in lines:
            said[0].append((16, codec, line + "\n"))
        raise av.error.PermissionError(1, "Operation not permitted")

    said = []
    plain = encoders._overheard

    from contextlib import contextmanager

    @contextmanager
    def overheard():
        with plain() as lines_said:
            said[:] = [lines_said]
            yield lines_said

    monkeypatch.setattr(encoders, "_overheard", overheard)
    monkeypatch.setattr(encoders, "open_encoder", opened)
    return asked


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Cannot load libcuda.so.1", "found no NVIDIA driver or card"),
        (
            "cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected",
            "found no NVIDIA driver or card",
        ),
        ("Driver does not support the required nvenc API version. Required: 13.0 Found: 12.1", "newer NVIDIA driver"),
        ("OpenEncodeSessionEx failed: unsupported device (2): (no details)", "this card has no video encoder"),
        ("No capable devices found", "this card has no video encoder"),
        ("10 bit encode not supported", "h264_nvenc cannot be opened: 10 bit encode not supported"),
    ],
)
def test_a_card_or_driver_without_an_encoder_is_one_line_with_what_to_do(monkeypatch, line, said):
    asked = refusing(monkeypatch, line)
    with pytest.raises(OutputError, match=said) as error:
        assert_opens("h264_nvenc", quality_options("h264_nvenc", None), "yuv420p", SIZE, RATE)
    assert "--codec libx264 --preset veryfast" in error.value.hint
    assert asked == [("h264_nvenc", "yuv420p", SIZE)]  # cards have a largest size


@pytest.mark.skipif("h264_nvenc" not in av.codecs_available, reason="this PyAV knows no NVENC")
def test_nvenc_itself_says_what_is_missing_here():
    try:
        assert_opens("h264_nvenc", quality_options("h264_nvenc", None), "yuv420p", SIZE, RATE)
    except OutputError as error:
        assert "--codec libx264" in error.hint and "\n" not in error.message


@pytest.mark.parametrize(
    ("program", "pix_fmt", "opens", "chosen"),
    [
        ("libx264", "yuv420p", ("h264_nvenc", "hevc_nvenc"), "h264_nvenc"),
        ("libx264", "yuv420p10le", ("h264_nvenc", "hevc_nvenc"), "hevc_nvenc"),
        ("libx264", "yuv420p", ("hevc_nvenc",), "hevc_nvenc"),
        ("libx264", "yuv420p", (), None),
        ("libsvtav1", "yuv420p", ("h264_nvenc",), None),
        ("libvpx-vp9", "yuv420p", ("h264_nvenc", "av1_nvenc"), None),
    ],
)
def test_the_cards_encoder_is_chosen_by_format_and_depth(monkeypatch, program, pix_fmt, opens, chosen):
    asked = refusing(monkeypatch, "No capable devices found", but=opens)
    assert hardware_choice(program, SIZE, pix_fmt, RATE) == chosen
    assert all(form in ("yuv420p", "p010le") for _, form, _ in asked)


def test_ten_bits_go_to_a_card_as_p010_with_the_same_samples():
    assert encoder_format("hevc_nvenc", "yuv420p10le") == "p010le"
    assert encoder_format("hevc_nvenc", "yuv420p") == "yuv420p"
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    for plane in frame.planes:
        plane.update(rng.integers(0, 1024, plane.buffer_size // 2).astype(np.uint16).tobytes())
    back = frame.reformat(format="p010le", threads=1).reformat(format="yuv420p10le", threads=1)
    for plane, other in zip(frame.planes, back.planes, strict=True):
        row = plane.line_size // 2
        one, two = (np.frombuffer(p, np.uint16).reshape(-1, row)[:, : plane.width] for p in (plane, other))
        assert np.array_equal(one, two)


INFO = probe(BUNNY)
AUTO_MP4 = (Path("out.mp4"), INFO, SIZE, RATE)


def test_what_is_left_open_goes_to_a_card_that_has_an_encoder(monkeypatch, caplog):
    refusing(monkeypatch, "No capable devices found", but=("h264_nvenc", "av1_nvenc"))
    with caplog.at_level("INFO", "stvsr_cli"):
        chosen = on_card(EncoderConfig(crf=20, preset="fast"), *AUTO_MP4)
    assert chosen == EncoderConfig(codec="h264_nvenc", crf=20, preset="fast")
    assert "h264_nvenc; --codec libx264 does without" in caplog.text
    options = encoder_options(fitted(chosen, Path("out.mp4")))
    assert options["cq"] == "20" and options["preset"] == "p3"


@pytest.mark.parametrize(
    ("config", "target"),
    [
        (EncoderConfig(codec="libx264"), "out.mp4"),  # asked for by name
        (EncoderConfig(options=(("x264-params", "ref=1"),)), "out.mp4"),  # the program's own options
        (EncoderConfig(), "out.webm"),  # no card writes VP9
        (EncoderConfig(pix_fmt="yuv420p10le"), "out.mp4"),  # this one's H.264 has 8 bits
    ],
)
def test_what_was_asked_for_stays_with_the_program(monkeypatch, config, target):
    refusing(monkeypatch, "No capable devices found", but=("h264_nvenc",))
    assert on_card(config, Path(target), *AUTO_MP4[1:]) == config


def test_a_card_is_looked_for_only_where_the_run_uses_one(monkeypatch, tmp_path):
    monkeypatch.setattr(encoders, "NVIDIA", (tmp_path,))
    for name, wanted in (("auto", True), ("cuda", True), ("cuda:1", True), ("cpu", False), ("mps", False)):
        encoders.has_card.cache_clear()
        assert encoders.has_card(name) is wanted
    monkeypatch.setattr(encoders, "NVIDIA", (tmp_path / "none",))
    encoders.has_card.cache_clear()
    assert not encoders.has_card("auto")
    encoders.has_card.cache_clear()
