"""The bench of the knob's assumptions: intervals, when a rate is off, and what it calls a miss."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from detectors.events import EventBatch
from schemas.durations import HOUR_MS
from streams.ingest import Ingest
from tests.bench import assumptions
from tests.bench.assumptions import KNOBS, Measured, Population, Stream, measure
from tests.made_up import DAY, ENCODER, START, listed, person, plain_baseline, stream_of

STREAM = Stream(folder=assumptions.Path(), labels={}, pools={})


@pytest.fixture(scope="module")
def whole() -> Population:
    """Thirty people and three lists, a third of them judged by each of three fits that are the same."""
    accounts = {f"p{k}": person(150, k, account=f"p{k}") for k in range(30)}
    accounts |= {f"x{k}": listed(150, k, account=f"x{k}") for k in range(3)}
    batch = stream_of(accounts)
    judge = {name: "abc"[i % 3] for i, name in enumerate(accounts)}
    honest = {name for name in accounts if name.startswith("p")}
    return Population(batch, judge, honest, START + DAY // 2, Ingest(encoder=ENCODER, embedder=None))


def measured(times: list[int], days: int, called: dict[str, int] | None = None) -> Measured:
    """Findings at these hours, of a stream with ten account-days an hour, at every setting."""
    found = {knob: np.array(times, np.int64) * HOUR_MS for knob in KNOBS}
    return Measured(found, np.repeat(np.arange(days // 10) * HOUR_MS, 10), called or {}, "", 0, 0)


@pytest.mark.parametrize(("count", "interval"), [(0, (0.0, 3.689)), (1, (0.025, 5.572)), (10, (4.795, 18.390))])
def test_poissons_interval_is_garwoods(count: int, interval: tuple[float, float]) -> None:
    assert assumptions.poisson(count) == pytest.approx(interval, abs=1e-3)


def test_a_rate_is_off_from_when_it_stays_beyond_three_times_the_setting() -> None:
    # A knob of 1 allows one finding in a hundred hours, so the fourth of these is the first beyond three times that.
    late = measured([90, 91, 92, 93, *range(94, 106)], 1100)
    assert assumptions.off_since(late, (1.0,)) == 92 * HOUR_MS
    assert assumptions.off_since(measured([1, 50, 99], 1000), (1.0,)) is None  # three times, but not with certainty
    assert assumptions.off_since(measured([], 1000), (1.0,)) is None


def test_silence_where_the_knob_is_off_is_a_miss_and_so_is_talk_where_nothing_changed() -> None:
    off = [*range(90, 106)]
    quiet, spoken = measured(off, 1100), measured(off, 1100, {"findings": 95 * HOUR_MS})
    calm, talkative = measured([], 1100), measured([], 1100, {"near_10": 5 * HOUR_MS})
    for unchanged, changed, met in ((calm, spoken, True), (calm, quiet, False), (talkative, spoken, False)):
        found, line = assumptions.verdict({assumptions.UNCHANGED: [unchanged], "other": [changed]})
        assert found is met
        assert line.startswith("met: " if met else "MISSED: ")


def test_one_watch_sees_what_three_engines_see(whole: Population) -> None:
    fits = {name: plain_baseline() for name in "abc"}
    three = measure(whole, fits)
    alone = measure(whole._replace(judge=dict.fromkeys(whole.judge, "a")), fits)
    assert three.called == alone.called
    assert {knob: times.tolist() for knob, times in three.found.items()} == {
        knob: times.tolist() for knob, times in alone.found.items()
    }
    assert len(three.days) == len({(n, t // DAY) for n, t in days_of(whole.batch) if n in whole.honest})


def days_of(batch: EventBatch) -> list[tuple[str, int]]:
    return list(zip(batch.accounts, batch.columns["time"].tolist(), strict=True))


def test_only_organic_accounts_change_and_only_from_noon_on(whole: Population) -> None:
    rng = Random(1)
    before = np.count_nonzero([t < whole.onset and n in whole.honest for n, t in days_of(whole.batch)])
    lost = assumptions.lossy(STREAM, whole, rng)
    assert set(lost.batch.accounts) <= whole.honest
    assert np.count_nonzero(lost.batch.columns["time"] < whole.onset) == before
    after = len(lost.batch) - before
    all_after = np.count_nonzero([t >= whole.onset and n in whole.honest for n, t in days_of(whole.batch)])
    assert 0.02 * all_after < after < 0.08 * all_after
    moved = assumptions.clock_forward(STREAM, whole, rng)
    same = assumptions.as_it_is(STREAM, whole, rng)
    shift = moved.batch.columns["time"] - same.batch.columns["time"]
    assert set(shift[same.batch.columns["time"] < whole.onset]) == {0}
    assert set(shift[same.batch.columns["time"] >= whole.onset]) == {6 * HOUR_MS}
