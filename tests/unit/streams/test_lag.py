"""How far behind: the age of what waits, told from what was scored before it."""

from __future__ import annotations

import pytest
from faust.types import TP

from streams.lag import Lag, LagWatch

A, B = TP("requests", 0), TP("requests", 1)
NOW = 1_800_000_000.0


@pytest.fixture
def watch() -> LagWatch:
    return LagWatch()


def test_nothing_is_behind_without_partitions_or_with_all_scored(watch: LagWatch) -> None:
    assert watch.look({}, {}, NOW) == Lag(0, 0.0)
    assert watch.look({A: 0}, {A: NOW - 5000}, NOW) == Lag(0, 0.0)


def test_a_backlog_is_as_old_as_the_last_record_of_it_that_was_scored(watch: LagWatch) -> None:
    assert watch.look({A: 7, B: 0}, {A: NOW - 3600}, NOW) == Lag(7, 3600.0)
    assert watch.look({A: 5, B: 0}, {A: NOW - 3500}, NOW + 2) == Lag(5, 3502.0)


def test_after_a_quiet_time_what_comes_is_no_older_than_the_last_look(watch: LagWatch) -> None:
    scored = {A: NOW - 3600}
    watch.look({A: 0}, scored, NOW)
    assert watch.look({A: 3}, scored, NOW + 2) == Lag(3, 2.0)
    assert watch.look({A: 5}, scored, NOW + 4) == Lag(5, 4.0)


def test_a_worker_that_gets_nowhere_falls_behind_from_the_moment_on_that_the_partition_came(watch: LagWatch) -> None:
    assert watch.look({A: 10}, {}, NOW) == Lag(10, 0.0)
    assert watch.look({A: 10}, {}, NOW + 60) == Lag(10, 60.0)


def test_the_partition_furthest_behind_counts_and_one_that_left_does_not(watch: LagWatch) -> None:
    watch.look({A: 1, B: 1}, {}, NOW - 100)
    scored = {A: NOW - 10, B: NOW - 50}
    assert watch.look({A: 1, B: 1}, scored, NOW) == Lag(2, 50.0)
    assert watch.look({A: 1}, scored, NOW) == Lag(1, 10.0)
    watch.look({A: 0}, scored, NOW + 1)
    assert watch.look({A: 1, B: 1}, {A: NOW - 10}, NOW + 3) == Lag(2, 2.0), "B came anew"


def test_a_record_of_the_future_makes_no_negative_age(watch: LagWatch) -> None:
    assert watch.look({A: 1}, {A: NOW + 3600}, NOW) == Lag(1, 0.0)
