"""The engine's promise: the same records give the same findings, however they come and wherever states lie between."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.baseline import Baseline
from detectors.engine import Engine, EngineOptions
from detectors.events import EventBatch
from detectors.state import header_of, is_erased
from schemas.alert import Alert, encode_alert
from tests.made_up import (
    DAY,
    START,
    batch_job,
    concatenated,
    cut,
    listed,
    part,
    person,
    plain_baseline,
    service,
    stream_of,
    with_failures,
)

BASELINE: Baseline = plain_baseline()

ACCOUNTS = {
    **{f"person {k}": person(150, k, account=f"person {k}") for k in range(14)},
    **{f"list {k}": listed(160, k, account=f"list {k}", start=START + k * DAY // 3) for k in range(8)},
    "list then silence": np.concatenate(
        [listed(80, 20, account="silent"), person(60, 21, account="again", topics=3)[:60]]
    ),
    "failing": with_failures(listed(200, 22, account="failing"), 0.4, 1),
    "service": service(400, 23, account="service"),
    "job": batch_job(400, 24, account="job"),
}
ACCOUNTS["list then silence"]["time"][80:] += 60 * DAY
LOG = stream_of(ACCOUNTS)


def bytes_of(engine: Engine, batches: Sequence[EventBatch], partition: int = 0) -> list[bytes]:
    return [encode_alert(alert) for batch in batches for alert in engine.apply(partition, batch)]


def told_of(alerts: Sequence[Alert]) -> dict[str, tuple[object, ...]]:
    """What alerts say apart from offsets, by their ids."""
    told = {}
    for alert in alerts:
        data = {name: value for name, value in alert.evidences[0].data.items() if name != "decided_by"}
        told[alert.metadata.uid] = (alert.account, alert.time, alert.message, data)
    return told


ONE_BATCH = Engine(BASELINE)
EXPECTED = bytes_of(ONE_BATCH, [LOG])


def test_the_log_holds_what_these_tests_need() -> None:
    told = b"".join(EXPECTED)
    assert len(EXPECTED) > 20
    assert all(kind in told for kind in (b'"Create"', b'"Update"', b'"Close"'))
    assert ONE_BATCH.counters.events == len(LOG)
    assert ONE_BATCH.counters.expired > 0
    assert ONE_BATCH.counters.cold_starts == len(ACCOUNTS)


def test_batches_of_any_size_give_the_same_alerts() -> None:
    for size in (1, 7, 5000):
        assert bytes_of(Engine(BASELINE), cut(LOG, size)) == EXPECTED


@given(st.lists(st.integers(0, len(LOG)), max_size=30))
@settings(max_examples=15)
def test_batches_cut_anywhere_give_the_same_alerts(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(LOG)]
    batches = [part(LOG, begin, end) for begin, end in itertools.pairwise(places)]
    assert bytes_of(Engine(BASELINE), batches) == EXPECTED


class Store:
    """A store of states as the service keeps it: written by checkpoints, some of which fail."""

    def __init__(self) -> None:
        self.states: dict[bytes, bytes] = {}

    def __call__(self, partition: int, account: bytes) -> bytes | None:
        return self.states.get(account)

    def keep(self, saved: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over a snapshot, and delete what was erased."""
        for account, envelope in saved:
            self.states[account] = envelope
            if is_erased(envelope):
                del self.states[account]


@given(
    st.integers(2, 16),
    st.integers(1, 400),
    st.lists(st.sampled_from(["stored", "failed", "partly failed", "none"]), min_size=1, max_size=12),
)
@settings(max_examples=25)
def test_a_small_slab_with_a_store_gives_the_same_alerts(capacity: int, size: int, checkpoints: list[str]) -> None:
    store = Store()
    engine = Engine(BASELINE, lookup=store, capacity=capacity)
    alerts: list[bytes] = []
    for number, batch in enumerate(cut(LOG, size)):
        alerts += bytes_of(engine, [batch])
        outcome = checkpoints[number % len(checkpoints)]
        if outcome == "none":
            continue
        saved = engine.snapshot(0)
        lost = saved if outcome == "failed" else saved[::2] if outcome == "partly failed" else []
        engine.mark_dirty(0, [account for account, _ in lost])
        store.states.update(dict(saved[1::2] if outcome == "partly failed" else [] if lost else saved))
        assert engine.accounts <= capacity
    assert alerts == EXPECTED
    assert engine.counters.events == len(LOG)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(20, 300))
@settings(max_examples=15)
def test_after_crashes_the_findings_are_those_of_an_undisturbed_run(lives: list[int], size: int) -> None:
    # A worker lives for some batches. Of its checkpoints, one in three is lost before its states are stored, one
    # after some are, before the offset is committed; the next worker begins at the last committed offset.
    store, committed, number = Store(), 0, 0
    told: set[bytes] = set()
    for life in [*lives, len(LOG)]:
        engine, place = Engine(BASELINE, lookup=store, capacity=12), committed
        for batch in cut(part(LOG, committed, min(len(LOG), committed + life * size)), size):
            told.update(bytes_of(engine, [batch]))
            place += len(batch)
            number += 1
            if number % 3 == 0:
                store.states.update(engine.snapshot(0))
                committed = place
        if number % 3 == 1:
            store.states.update(engine.snapshot(0)[::2])
    assert told == set(EXPECTED)


SHORT_LIVED = EngineOptions(finding_quiet_hours=6, state_expiry_days=0.4)


def states_deleted(sizes: Sequence[int], capacity: int) -> tuple[list[bytes], int]:
    """Alerts, and accounts that came back without a state, of a run that deletes all it can at each checkpoint."""
    store, alerts = Store(), []
    engine = Engine(BASELINE, SHORT_LIVED, lookup=store, capacity=capacity)
    batches = [part(LOG, begin, end) for begin, end in itertools.pairwise([0, *itertools.accumulate(sizes), len(LOG)])]
    for batch in batches:
        alerts += bytes_of(engine, [batch])
        store.states.update(engine.snapshot(0))
        before = engine.latest(0) - int(2 * SHORT_LIVED.state_expiry_days * DAY)
        for name in [name for name, sealed in store.states.items() if header_of(sealed).active_until < before]:
            del store.states[name]
    return alerts, engine.counters.cold_starts - len(ACCOUNTS)


def test_the_log_holds_accounts_that_come_back_after_their_state_was_deleted() -> None:
    kept = Engine(BASELINE, SHORT_LIVED)
    kept.apply(0, LOG)
    assert kept.counters.expired > 10
    _, came_back = states_deleted([50] * (len(LOG) // 50), 2)
    assert came_back >= 5


@given(st.lists(st.integers(1, 900), max_size=40), st.integers(2, 40))
@settings(max_examples=25)
def test_deleting_the_states_of_idle_accounts_changes_no_alert(sizes: list[int], capacity: int) -> None:
    sizes = [size for size, end in zip(sizes, itertools.accumulate(sizes), strict=True) if end < len(LOG)]
    alerts, _ = states_deleted(sizes, capacity)
    assert alerts == bytes_of(Engine(BASELINE, SHORT_LIVED), [LOG])


def test_redelivered_records_are_skipped_and_counted() -> None:
    engine = Engine(BASELINE)
    alerts = bytes_of(engine, [part(LOG, 0, 3000)])
    assert bytes_of(engine, [part(LOG, 1000, 3000)]) == []
    assert engine.counters.fenced == 2000
    assert engine.counters.events == 3000
    alerts += bytes_of(engine, [part(LOG, 2500, len(LOG))])
    assert alerts == EXPECTED


def test_a_record_logged_twice_counts_once() -> None:
    columns = np.repeat(LOG.columns, 2)
    columns["offset"] = np.arange(len(columns))
    names = [name for name in LOG.accounts for _ in range(2)]
    ids = [i for i in LOG.ids for _ in range(2)]
    doubled = EventBatch(names, ids, columns)
    engine = Engine(BASELINE)
    assert told_of(engine.apply(0, doubled)) == told_of(Engine(BASELINE).apply(0, LOG))
    assert engine.counters.duplicates == len(LOG)


@given(st.integers(0, 2**32))
@settings(max_examples=8)
def test_findings_are_a_function_of_each_accounts_own_records(seed: int) -> None:
    # The same accounts' records, interleaved in another way and over other partitions.
    rng = np.random.default_rng(seed)
    names = np.array(LOG.accounts)
    ranks = np.zeros(len(LOG))
    for name in ACCOUNTS:
        own = names == name
        ranks[own] = np.sort(rng.random(own.sum()))
    order = np.argsort(ranks, kind="stable")
    columns = LOG.columns[order].copy()
    columns["offset"] = np.arange(len(order))
    mixed = EventBatch([LOG.accounts[i] for i in order], [LOG.ids[i] for i in order], columns)
    partition_of = {name: int(rng.integers(0, 3)) for name in ACCOUNTS}
    engine = Engine(BASELINE)
    told = []
    for partition in range(3):
        chosen = [i for i, name in enumerate(mixed.accounts) if partition_of[name] == partition]
        own = EventBatch([mixed.accounts[i] for i in chosen], [mixed.ids[i] for i in chosen], columns[chosen])
        told += engine.apply(partition, own)
    assert told_of(told) == told_of(Engine(BASELINE).apply(0, LOG))


def test_closings_at_the_end_do_not_depend_on_where_states_lie() -> None:
    late = stream_of({"late": person(3, 1, account="late")})
    late.columns["time"] += 100 * DAY
    late.columns["offset"] += len(LOG)
    log = concatenated(LOG, late)
    large, small = Engine(BASELINE), Engine(BASELINE, capacity=2)
    large.apply(0, log)
    for batch in cut(log, 100):
        small.apply(0, batch)
    closed = [encode_alert(a) for a in large.close_all()]
    assert len(closed) >= 8
    assert [encode_alert(a) for a in small.close_all()] == closed
    assert large.close_all() == []


def test_two_accounts_may_use_the_same_ids() -> None:
    a, b = person(40, 1), person(40, 2)
    for events in (a, b):
        events["identity"] = np.arange(1, 41)
    engine = Engine(BASELINE, EngineOptions())
    engine.apply(0, stream_of({"a": a, "b": b}))
    assert engine.counters.events == 80
    assert engine.counters.duplicates == 0


def of_account(log: EventBatch, name: str) -> EventBatch:
    rows = [row for row, account in enumerate(log.accounts) if account == name]
    return EventBatch([name] * len(rows), [log.ids[row] for row in rows], log.columns[rows])


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ACCOUNTS)), st.integers(1, len(LOG) - 1)), min_size=1, max_size=8),
    st.integers(2, 16),
    st.integers(1, 400),
    st.lists(st.sampled_from(["stored", "failed", "none"]), min_size=1, max_size=6),
)
@settings(max_examples=15)
def test_an_erased_account_is_as_one_that_comes_for_the_first_time(
    orders: list[tuple[str, int]], capacity: int, size: int, checkpoints: list[str]
) -> None:
    store = Store()
    engine = Engine(BASELINE, lookup=store, capacity=capacity)
    places = sorted({0, len(LOG), *range(size, len(LOG), size), *(place for _, place in orders)})
    told: list[bytes] = []
    for number, (begin, end) in enumerate(itertools.pairwise(places)):
        for name, place in orders:
            if place == begin:
                engine.erase(0, name, place)
        told += bytes_of(engine, [part(LOG, begin, end)])
        outcome = checkpoints[number % len(checkpoints)]
        if outcome != "none":
            saved = engine.snapshot(0)
            engine.mark_dirty(0, [account for account, _ in saved if outcome == "failed"])
            store.keep(saved if outcome == "stored" else [])

    expected = []
    for name in ACCOUNTS:
        cuts = [0, *sorted(place for erased, place in orders if erased == name), len(LOG)]
        for begin, end in itertools.pairwise(cuts):
            expected += bytes_of(Engine(BASELINE), [of_account(part(LOG, begin, end), name)])
    assert sorted(told) == sorted(expected)
    assert engine.counters.fenced == 0
