"""The population watch: silent on the baseline's own population, and says "refit" on another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors import drift
from detectors.account import FEATURES, F
from detectors.baseline import QUANTILE_LOOKS, Baseline
from detectors.calibration import allowed_share
from detectors.drift import LEVELS, NEAR_KNOBS, NEW_DAY, OPENED, REFERENCE, AgainstPromise, PopulationWatch
from detectors.engine import Engine, EngineOptions
from schemas.alert import encode_alert
from schemas.durations import DAY_MS
from tests.made_up import cut, generator, listed, person, plain_baseline, service, stream_of

KNOB = 1.0
NEAR_10 = 1 << NEAR_KNOBS.index(10.0)
NEAR_10_TAKEN_BACK = NEAR_10 << LEVELS


def threshold(knob: float, baseline: Baseline) -> float:
    return float(-np.log(allowed_share(knob, baseline.days_per_account)))


def watch_at(knob: float, baseline: Baseline) -> PopulationWatch:
    return PopulationWatch(baseline, threshold(knob, baseline))


def account_days(count: int, seed: int, **times: float) -> np.ndarray:
    """Marks of account-days on which accounts come past each level so many times as often as is promised."""
    rng = generator(seed)
    marks = np.full(count, NEW_DAY, np.uint8)
    for k, knob in enumerate(NEAR_KNOBS):
        promised = (knob - KNOB) / 1000.0
        marks[rng.random(count) < times.get(f"near_{knob:g}", times.get("all", 1.0)) * promised] |= 1 << k
    marks[rng.random(count) < times.get("findings", times.get("all", 1.0)) * KNOB / 1000.0] |= OPENED
    return marks


def called(watch: PopulationWatch) -> set[str]:
    return {name for name, calls in watch.calls.items() if calls}


# --- the promise


def test_each_count_is_promised_what_the_knob_would_allow_there(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    watch.take(np.full(1000, NEW_DAY, np.uint8))
    whole = (1.0 - (1.0 - drift.BLOCK / drift.MEMORY_DAYS) ** 100) * drift.MEMORY_DAYS
    for name, promised in (("near_30", 29.0), ("near_10", 9.0), ("findings", 1.0)):
        assert watch.rate(name).promised == pytest.approx(promised * whole / 1000.0)
        assert watch.rate(name).ratio == 0.0


def test_a_near_miss_above_the_knob_itself_is_none(baseline: Baseline) -> None:
    assert watch_at(10.0, baseline).names == ("near_30", "findings")
    assert watch_at(60.0, baseline).names == ("findings",)


@pytest.mark.parametrize("times", [0.0, 1.0, drift.AS_USUAL])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_said_while_the_population_is_the_baselines(baseline: Baseline, seed: int, times: float) -> None:
    watch = watch_at(KNOB, baseline)
    watch.take(account_days(20_000, seed, all=times))
    assert called(watch) == set()
    assert (watch.lines(), watch.is_off) == ([], False)


@pytest.mark.parametrize("count", ["near_30", "near_10", "findings"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_off_is_called_soon_and_alone(baseline: Baseline, count: str, seed: int) -> None:
    watch = watch_at(KNOB, baseline)
    watch.take(account_days(5_000, seed))
    assert not watch.is_off
    promised = {"near_30": 29.0, "near_10": 9.0, "findings": 1.0}[count] / 1000.0
    # From then on eight times as many: the excess that it takes is there after this many account-days on average.
    excess = drift.LEAST_EXCESS_NEAR + drift.EXCESS_BY_LOG * np.log(1.0 + 10_000 * promised)
    soon = excess / (promised * (8.0 - REFERENCE))
    watch.take(account_days(int(3.0 * soon), seed + 100, **{count: 8.0}))
    assert called(watch) == {count}


def test_a_slow_change_of_many_accounts_is_called_before_the_rate_is_off_by_three(baseline: Baseline) -> None:
    a_day, days = 20_000, 40
    watch = watch_at(KNOB, baseline)
    for day in range(days):
        watch.take(account_days(a_day, day, all=1.0 + 2.0 * day / days))
    assert watch.is_off
    assert called(watch) >= {"near_30", "near_10"}


def test_a_change_within_what_new_accounts_bring_is_not_called(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    for day in range(40):
        watch.take(account_days(20_000, day, all=1.0 + 1.0 * day / 40))
    assert called(watch) == set()


def test_a_population_that_was_wrong_from_the_start_is_not_got_used_to(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    for seed in range(20):
        watch.take(account_days(5_000, seed, all=drift.AS_USUAL))
    before = dict(watch.calls)
    watch.take(account_days(5_000, 50, near_10=4.0))
    assert watch.calls["near_10"] > before["near_10"]


def test_rivers_mean_stays_at_the_promise() -> None:
    test = AgainstPromise(promised=0.25, least_excess=5.0)
    for _ in range(10_000):
        test.update(0.9 * REFERENCE * 0.25)
        assert not test.drift_detected
    while not test.drift_detected:
        test.update(2.0)
    test.update(0.0)  # begins anew
    assert not test.drift_detected
    assert test._x_mean.get() == pytest.approx(0.25)


def test_an_account_that_gets_its_finding_was_no_near_miss(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    one = np.full(2 * drift.BLOCK, NEW_DAY, np.uint8)
    one[3] |= NEAR_10
    one[7] |= NEAR_10_TAKEN_BACK
    for _ in range(200):
        watch.take(one)
    assert called(watch) == set()
    assert watch.rate("near_10").seen == 0.0
    for _ in range(200):
        watch.take(one & ~np.uint8(NEAR_10_TAKEN_BACK))
    assert called(watch) == {"near_10"}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_change_nothing(baseline: Baseline, size: int) -> None:
    marks = account_days(2_000, 3, all=5.0)
    marks[generator(4).random(len(marks)) < 0.5] &= ~np.uint8(NEW_DAY)
    whole, parts = watch_at(KNOB, baseline), watch_at(KNOB, baseline)
    whole.take(marks)
    for begin in range(0, len(marks), size):
        parts.take(marks[begin : begin + size])
    assert whole.is_off
    assert whole.calls == parts.calls
    for name in whole.names:
        assert whole.rate(name).seen == pytest.approx(parts.rate(name).seen)
        assert whole.rate(name).promised == pytest.approx(parts.rate(name).promised)
    assert whole.account_days == parts.account_days


# --- what it says


def test_a_line_says_refit_and_how_far_off(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    watch.take(account_days(2_000, 1, near_10=8.0))
    (line,) = watch.news()
    assert line.startswith("refit: ")
    assert f"{watch.rate('near_10').ratio:.1f} times as many accounts" in line
    assert watch.news() == []
    assert watch.lines() == [line]


def test_findings_have_to_be_judged_before_a_refit(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    watch.take(account_days(2_000, 1, near_30=0.0, near_10=0.0, findings=20.0))
    (line,) = watch.lines()
    assert "an attack, or customers that the baseline does not know" in line
    assert "if they are honest, refit" in line


def test_the_statistics_that_left_the_range_of_people_are_named(baseline: Baseline) -> None:
    watch = watch_at(KNOB, baseline)
    usual = np.full(len(FEATURES), 0.5)  # the made-up quantiles are 0 to 1
    odd = usual.copy()
    odd[F["gap_spread"]] = 3.0
    for n in range(2 * drift.LEAST_LOOKS):
        drift.count_beyond(watch.tally[0], QUANTILE_LOOKS[n % len(QUANTILE_LOOKS)], odd if n % 2 else usual)
    watch.take(account_days(2_000, 1, near_10=8.0))
    assert watch.beyond()["gap_spread"] == 0.5
    assert watch.beyond()["vn1"] == 0.0
    assert watch.lines()[0].endswith("outside the range of people's accounts: gap_spread of 50 %")


def test_an_account_passes_each_milestone_once() -> None:
    passed = [n for n in range(2_000) if drift.is_milestone(n)]
    assert passed == [16, 32, 64, 128, 256, 512, 1024]
    assert passed[: len(QUANTILE_LOOKS)] == list(QUANTILE_LOOKS)


# --- in the engine


def population() -> Any:
    return stream_of(
        {
            **{f"list {k}": listed(300, k, account=f"list {k}") for k in range(3)},
            **{f"person {k}": person(200, 10 + k, account=f"person {k}") for k in range(3)},
            "service": service(200, 20, account="service", questions=30),
        }
    )


def test_days_and_findings_are_counted_as_they_are(baseline: Baseline) -> None:
    log = population()
    engine = Engine(baseline)
    seen: list[np.ndarray] = []
    take = engine.watch.take
    engine.watch.take = lambda marks: (seen.append(marks.copy()), take(marks))[1]  # type: ignore[method-assign]
    alerts = [alert for batch in cut(log, 50) for alert in engine.apply(0, batch)]
    marks = np.concatenate(seen)
    days = {(name, time // DAY_MS) for name, time in zip(log.accounts, log.columns["time"], strict=True)}
    assert np.count_nonzero(marks & NEW_DAY) == len(days) == engine.watch.account_days
    opened = np.flatnonzero(marks & OPENED)
    assert [log.accounts[i] for i in opened] == [a.account for a in alerts if a.activity_name == "Create"]
    assert len(opened) >= 3


def test_an_account_comes_past_a_level_once_though_it_leaves_the_slab(baseline: Baseline) -> None:
    log = population()
    options = EngineOptions(false_findings_per_1000_account_days=1e-9)  # so that all stay near misses
    counts = []
    for capacity in (2, 100):
        engine = Engine(baseline, options, capacity=capacity)
        total = np.zeros(8, np.int64)

        def take(marks: np.ndarray, total: np.ndarray = total) -> None:
            for bit in range(8):
                total[bit] += np.count_nonzero(marks & (1 << bit))

        engine.watch.take = take  # type: ignore[method-assign]
        for batch in cut(log, 40):
            engine.apply(0, batch)
        counts.append(total.tolist())
    assert counts[0] == counts[1]
    assert sum(counts[0][:LEVELS]) > 0
    for k in range(LEVELS):
        assert counts[0][LEVELS + k] <= counts[0][k] <= 7


def test_no_finding_and_no_state_depends_on_the_watch(baseline: Baseline) -> None:
    log = population()
    watched, unwatched = Engine(baseline), Engine(plain_baseline())
    unwatched.watch.tally["level"] = np.inf
    unwatched.watch.take = lambda marks: None  # type: ignore[method-assign]
    one, other = ([encode_alert(alert) for alert in engine.apply(0, log)] for engine in (watched, unwatched))
    assert one
    assert one == other
    assert sorted(watched.snapshot(0)) == sorted(unwatched.snapshot(0))


def test_an_account_of_an_older_version_does_not_come_past_a_level_just_now(baseline: Baseline) -> None:
    watch, finding = watch_at(KNOB, baseline), threshold(KNOB, baseline)
    near = (threshold(10.0, baseline) + finding) / 2.0
    every_level = (1 << LEVELS) - 1
    assert drift.marks_of(watch.tally[0], drift.WATCHED_FROM_THE_FIRST, near, finding) == every_level
    assert drift.marks_of(watch.tally[0], 0.0, near, finding) == 0
