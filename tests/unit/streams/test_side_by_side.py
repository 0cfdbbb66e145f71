"""Calls side by side: results in order, few of them waiting, and the same as one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.side_by_side import ordered, processes


def test_results_come_in_the_order_of_the_items() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(ordered(pool, 4, abs, range(-50, 0))) == list(range(50, 0, -1))


def test_no_more_items_are_taken_than_may_wait() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for k in range(20):
            taken.append(k)
            yield k

    with ThreadPoolExecutor(2) as pool:
        results = ordered(pool, 5, abs, items())
        for number in range(1, 11):
            next(results)
            assert len(taken) == number + 4


def test_a_fault_in_a_call_comes_out() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="invalid literal"):
        list(ordered(pool, 2, int, ["1", "two", "3"]))


def test_other_processes_do_the_work_and_one_is_this_one() -> None:
    with processes(1) as run:
        assert run is map
    with processes(2) as run:
        assert list(run(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert os.getpid() not in set(run(_process, range(4)))


def _process(number: int) -> int:
    return os.getpid()
