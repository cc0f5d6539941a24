"""Memory is bounded by the window, never by the length. `pytest -m slow tests/pipeline/test_memory.py --log-cli-level=info` shows
the numbers; `python -m tests.benchmark.memory` plots them.
"""

import logging
from pathlib import Path

import pytest

from tests.benchmark.memory import MINUTES, growth, long_video, measure


@pytest.mark.slow
def test_ten_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    peaks = {}
    for seconds in (60, 600):
        source = long_video(tmp_path / f"{seconds}.mp4", seconds, rate=25, size=(64, 36))
        peaks[seconds] = max(s.num_bytes for s in measure(source, tmp_path / f"{seconds}_out.mp4", 0.05))
    logging.getLogger(__name__).info("%s", {s: f"{peak / 2**20:.0f} MiB" for s, peak in peaks.items()})
    assert peaks[600] <= 1.05 * peaks[60], peaks


@pytest.mark.slow
def test_memory_over_half_an_hour_is_flat(tmp_path: Path) -> None:
    samples = measure(long_video(tmp_path / "in.mp4", MINUTES * 60), tmp_path / "out.mp4")
    logging.getLogger(__name__).info("%.3f of the second quarter in the last", growth(samples))
    assert samples[-1].done >= 2 * 0.99 * MINUTES * 60 * 10
    assert growth(samples) <= 1.05
