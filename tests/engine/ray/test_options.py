"""What can be asked of a cluster, and what is said where it cannot be had."""

import sys
from pathlib import Path

import pytest

from stvsr_cli import Job
from stvsr_cli.cli.cluster import parse_engine
from stvsr_cli.engine.ray.cluster import RayConfig
from stvsr_cli.engine.ray.pool import Seat, Task, batch_of
from stvsr_cli.errors import UsageError
from stvsr_cli.pipeline import distributed

DEFAULTS = {"address": "auto", "workers": None, "gpus_per_worker": 1.0, "ship": "auto"}


def test_the_engine_is_local_or_ray():
    assert parse_engine("local", **DEFAULTS) is None
    assert parse_engine("ray", **DEFAULTS) == RayConfig()
    with pytest.raises(UsageError, match="not known"):
        parse_engine("spark", **DEFAULTS)
    with pytest.raises(UsageError, match="are for --engine ray"):
        parse_engine("local", **DEFAULTS | {"workers": 2})


@pytest.mark.parametrize("changes", [{"address": "ray://head:10001"}, {"address": "head"}, {"workers": 0}, {"ship": "maybe"},
                                     {"gpus_per_worker": 0.0}])  # fmt: skip
def test_what_makes_no_sense_is_refused(changes):
    with pytest.raises(UsageError, match=next(iter(changes)).replace("_", "-")):
        RayConfig(**changes)


def test_without_ray_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job(input=Path("in.mp4"), output=Path("out.mp4"), model="linear")
    with pytest.raises(UsageError, match=r"pip install 'stvsr\[ray\]'"), distributed.workers(RayConfig(), job):
        pass


def test_a_card_is_not_for_the_user_to_choose():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'stvsr[ray]'")
    job = Job(input=Path("in.mp4"), output=Path("out.mp4"), model="linear", device="cuda:1")
    with pytest.raises(UsageError, match="Ray chooses the card"), distributed.workers(RayConfig(), job):
        pass


def test_the_batch_goes_down_where_memory_ran_out():
    seat, task = Seat(0, None), Task(1, None)
    assert batch_of(8, seat, task) == 8
    seat.halvings = 2
    assert batch_of(8, seat, task) == 2
    task.losses = 3
    assert batch_of(8, seat, task) == 1 and batch_of(1, seat, task) == 1
    assert batch_of(8, Seat(1, None), Task(1, None, losses=1)) == 8
