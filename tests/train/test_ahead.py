"""Work done ahead by threads: in order, and of no more items than were asked for."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli.train.ahead import made_ahead


@given(st.lists(st.integers()), st.integers(1, 4), st.integers(0, 4))
def test_results_come_in_order(items: list[int], workers: int, most: int) -> None:
    assert list(made_ahead(str, items, workers, most)) == [str(item) for item in items]


@given(st.integers(1, 4), st.integers(0, 4))
def test_no_more_is_taken_than_may_wait(workers: int, most: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = made_ahead(str, items(), workers, most)
    for number in range(50):
        assert next(results) == str(number)
        assert len(taken) <= number + 1 + workers + most


def test_what_fails_is_raised_and_nothing_more_is_taken() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 0:
            raise ValueError("damaged")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="damaged"):
        next(made_ahead(work, range(100), 1, 4))
    assert set(done) <= {1, 2, 3, 4, 5}
