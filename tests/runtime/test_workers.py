"""Threads with bounded queues: order, room, ends and errors, from both sides."""

import threading
import time

import pytest

from stvsr_cli.runtime.workers import Ahead, Channel, Worker


def counted(count, seen, error=None):
    """Numbers, each written down when it is asked for."""
    try:
        for number in range(count):
            seen.append(number)
            yield number
        if error is not None:
            raise error
    finally:
        seen.append("closed")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_ahead_gives_all_in_order_and_ends(size):
    seen = []
    ahead = Ahead(counted(50, seen), size)
    assert list(ahead) == list(range(50)) and list(ahead) == []
    ahead.close()
    assert seen[-1] == "closed"


def test_ahead_works_only_so_far_ahead():
    seen = []
    ahead = Ahead(counted(50, seen), 3)
    for taken in range(1, 20):
        assert next(ahead) == taken - 1
        time.sleep(0.005)
        assert len(seen) <= taken + 4  # those taken, three that wait, and one on its way
    ahead.close()
    assert seen[-1] == "closed" and len(seen) < 30


def test_what_fails_ahead_is_raised_after_what_was_made_before():
    ahead = Ahead(counted(3, [], ValueError("broken")), 10)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises((ValueError, StopIteration)):
            next(ahead)
    ahead.close()


def test_a_worker_handles_all_in_order_before_it_closes():
    seen = []
    worker = Worker(lambda item: time.sleep(0.001) or seen.append(item), "encode", 2)
    for number in range(30):
        worker.put(number)
    worker.close()
    assert seen == list(range(30)) and worker.has_ended


def test_what_fails_in_a_worker_is_raised_where_more_is_put_and_nothing_more_is_done():
    seen = []

    def handle(item):
        seen.append(item)
        if item == 2:
            raise ValueError("broken")

    worker = Worker(handle, "encode", 1)
    with pytest.raises(ValueError, match="broken"):
        for number in range(1000):
            worker.put(number)
    with pytest.raises(ValueError, match="broken"):
        worker.close()
    assert seen == [0, 1, 2]


def test_an_aborted_worker_leaves_what_waits():
    seen, begun, freed = [], threading.Event(), threading.Event()

    def work(item):
        seen.append(item)
        begun.set()
        freed.wait(5)

    worker = Worker(work, "encode", 8)
    for number in range(5):
        worker.put(number)
    assert begun.wait(5)
    threading.Timer(0.05, freed.set).start()
    assert worker.abort() and seen == [0]
    with pytest.raises(RuntimeError, match="aborted"):
        worker.put(1)


def test_a_channel_whose_reader_has_gone_takes_nothing():
    channel = Channel(1)
    assert channel.put(1)
    channel.end(drop=True)
    assert not channel.put(2) and list(channel) == []
