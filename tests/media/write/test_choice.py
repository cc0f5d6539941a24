"""What a job leaves open: the encoder, its preset and its rate, by the container; nothing of theirs on the terminal."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from stvsr_cli.errors import OutputError
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.read.steady import steady
from stvsr_cli.media.write.choice import fitted, steady_rate
from stvsr_cli.media.write.encode import encoder_options
from stvsr_cli.media.write.settings import EncoderConfig
from tests.clips import BUNNY, ROOT, make_video, pattern
from tests.media.write.test_mux import copy
from tests.zoo import made, see


@pytest.mark.parametrize(
    ("target", "config", "codec", "options"),
    [
        ("o.mp4", {}, "libx264", {"crf": "17"}),
        ("o.webm", {"preset": "ultrafast"}, "libvpx-vp9", {"crf": "22", "cpu-used": "8", "deadline": "realtime"}),
        ("o.gif", {"preset": "ultrafast"}, "gif", {}),
        ("o.avi", {}, "libx264", {"bf": "0"}),
        ("o.mkv", {"codec": "hevc"}, "libx265", {"crf": "19", "x265-params": "log-level=none"}),
        ("o.mkv", {"codec": "av1", "preset": "slow"}, "libsvtav1", {"preset": "5"}),
        ("o.mkv", {"codec": "mpeg4", "preset": "slow"}, "mpeg4", {}),
    ],
)
def test_the_container_chooses(target: str, config: dict[str, str], codec: str, options: dict[str, str]) -> None:
    found = fitted(EncoderConfig(**config), Path(target))
    assert found.codec == codec
    assert options.items() <= encoder_options(found).items()
    assert fitted(found, Path(target)) == found
    assert codec != "mpeg4" or "preset" not in encoder_options(found)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(OutputError, match="h999"):
        fitted(EncoderConfig(codec="h999"), Path("o.mkv"))


@pytest.mark.parametrize("target", ["o.webm", "o.gif", "o.avi", "o.ts", "o.mov"])
def test_every_container_is_written(tmp_path: Path, target: str) -> None:
    source = make_video(tmp_path / "a.mp4", [pattern(i, 64, 48) for i in range(8)], audio_s=0.3)
    copy(source, tmp_path / target, factor=1)
    times = see(tmp_path / target).times
    assert len(times) == 8
    assert times[-1] - times[0] == pytest.approx(7 / 25, abs=0.002)


@pytest.mark.parametrize("target", ["o.mp4", "o.mov"])
def test_hevc_has_the_tag_that_every_player_takes(tmp_path: Path, target: str) -> None:
    copy(BUNNY, tmp_path / target, factor=1, end=Fraction(1, 5), config=EncoderConfig(codec="hevc", preset="ultrafast"))
    assert "(hvc1 / " in see(tmp_path / target).text


def test_the_last_frame_lasts_as_long_as_it_says(tmp_path: Path) -> None:
    stamps = [0, 10, 20, 30]
    with_end = make_video(tmp_path / "a.gif", [pattern(i, 64, 48) for i in range(4)], stamps=stamps,
                          time_base=Fraction(1, 100), codec="gif", pix_fmt="rgb8")  # fmt: skip
    data = bytearray(with_end.read_bytes())
    at = data.rfind(b"\x21\xf9\x04")  # the last picture's graphic control extension
    data[at + 4 : at + 6] = (200).to_bytes(2, "little")
    with_end.write_bytes(data)
    result = copy(with_end, tmp_path / "o.mp4")
    assert result.duration_s == pytest.approx(2.3, abs=0.01)


def test_a_variable_rate_is_made_constant_where_nothing_else_can_be_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stamps = [0, 40, 80, 200, 220, 240, 400]
    path = make_video(
        tmp_path / "v.mkv", [pattern(i, 64, 48) for i in range(7)], stamps=stamps, time_base=Fraction(1, 1000)
    )
    info = probe(path)
    rate = Fraction(25)
    assert steady_rate(info, Path("o.mp4"), 2) is None
    assert steady_rate(info, Path("o.avi"), 2) == info.average_rate
    frames = list(steady(decode(info), info, rate, None))
    assert [frame.pts for frame in frames] == list(range(len(frames)))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    length = sum(frame.duration for frame in decode(info)) * info.time_base
    assert len(frames) == pytest.approx(float(length) * 25, abs=1)
    assert caplog.text.count("no constant frame rate") == 1


def test_a_rate_that_few_frames_keep_to_is_not_taken(tmp_path: Path) -> None:
    rate = "nullsrc=s=64x48:r=120000/1001:d=2,select='not(mod(n,5))*lt(n,120)+not(mod(n,4))*gte(n,120)'"
    path = made(
        tmp_path / "a.mkv", "-f", "lavfi", "-i", rate, "-fps_mode", "vfr", "-c:v", "libx264", "-pix_fmt", "yuv420p"
    )
    assert steady_rate(probe(path), Path("o.avi"), 2) == Fraction(30000, 1001)


def test_no_encoder_speaks_on_the_terminal(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.media.write.test_mux import copy, BUNNY, EncoderConfig;"
        "from fractions import Fraction\n"
        "for codec in ('libx264', 'hevc', 'libsvtav1', 'libvpx-vp9'):\n"
        "    preset = 'ultrafast'\n"
        "    copy(BUNNY, Path(sys.argv[1]) / f'{codec}.mkv', factor=1, end=Fraction(1, 5),"
        "         config=EncoderConfig(codec=codec, preset=preset))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout + done.stderr == ""
