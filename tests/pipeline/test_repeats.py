"""--repeats smooth: even motion in the same frames at the same times."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stvsr_cli import Job, upscale
from stvsr_cli.errors import Interrupted
from stvsr_cli.media.write.settings import EncoderConfig
from tests.clips import make_video, pattern, read_frames


@pytest.fixture
def twos(tmp_path: Path) -> Path:
    return make_video(tmp_path / "twos.mp4", [pattern(2 * (i // 2), 96, 64, 2) for i in range(12)])


def made(clip: Path, repeats: str, **more: object) -> tuple[list[np.ndarray], list, list]:
    target = clip.with_name(f"{repeats}.mkv")
    upscale(
        Job(
            input=clip,
            output=target,
            model="linear",
            fps_factor=1,
            scale=1,
            repeats=repeats,
            encoder=EncoderConfig(codec="ffv1"),
            **more,
        )
    )
    return read_frames(target)


def errors(pictures: list[np.ndarray]) -> np.ndarray:
    """Mean distance of each frame from where even motion has it."""
    return np.array([np.abs(p.astype(int) - pattern(i, 96, 64, 2)).mean() for i, p in enumerate(pictures)])


def test_motion_becomes_even_and_times_stay(twos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "stvsr_cli")
    kept, smooth = made(twos, "keep"), made(twos, "smooth")
    assert kept[1:] == smooth[1:]
    assert np.abs(np.array(kept[0][0::2]).astype(int) - smooth[0][0::2]).mean() < 1
    before, after = errors(kept[0])[1:-1:2], errors(smooth[0])[1:-1:2]
    assert (after < 0.6 * before).all()
    assert "5 of 12 frames repeat the one before them; made anew" in caplog.text
    assert "6 of 12 frames repeat the one before them; --repeats smooth" in caplog.text


def test_uneven_motion_is_made_even_unasked(twos: Path, caplog: pytest.LogCaptureFixture) -> None:
    smooth, auto = made(twos, "smooth"), made(twos, "auto")
    assert all((a == b).all() for a, b in zip(smooth[0], auto[0], strict=True))
    assert "made anew; --repeats keep leaves them" in caplog.text


def test_what_repeats_nothing_is_untouched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = make_video(tmp_path / "ones.mp4", [pattern(i, 96, 64, 2) for i in range(8)])
    caplog.set_level(logging.INFO, "stvsr_cli")
    kept, smooth = made(clip, "keep"), made(clip, "smooth")
    assert all((a == b).all() for a, b in zip(kept[0], smooth[0], strict=True))
    assert "0 of 8 frames" in caplog.text


def test_nothing_moves_across_a_cut(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(20, 235, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    pictures = [pattern(2 * (i // 2), 96, 64, 2) for i in range(6)] + [np.roll(blocks, i, 1) for i in range(6)]
    clip = make_video(tmp_path / "cut.mp4", pictures)
    kept, smooth = made(clip, "keep"), made(clip, "smooth")
    assert np.abs(kept[0][5].astype(int) - smooth[0][5]).mean() < 1
    assert np.abs(kept[0][3].astype(int) - smooth[0][3]).mean() > 1


def test_a_run_that_was_stopped_goes_on_to_the_same(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "twos.mp4", [pattern(2 * (i // 2), 96, 64, 2) for i in range(40)])
    job = Job(
        input=clip, output=tmp_path / "whole.mkv", model="linear", scale=1, repeats="smooth", segment_frames=12,
        encoder=EncoderConfig(codec="ffv1"),
    )  # fmt: skip
    upscale(job)
    stop = threading.Event()
    parts = replace(job, output=tmp_path / "parts.mkv")
    with pytest.raises(Interrupted):
        upscale(parts, stop=stop, progress=lambda progress: stop.set() if progress.done > 30 else None)
    upscale(parts)
    whole, again = read_frames(job.output), read_frames(parts.output)
    assert whole[1:] == again[1:]
    assert all((a == b).all() for a, b in zip(whole[0], again[0], strict=True))
