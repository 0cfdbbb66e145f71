"""Housekeeping: which states can go, and that every state of either store is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detectors import account, state
from schemas.durations import DAY_MS
from streams import housekeeping
from streams.housekeeping import Housekeeping
from streams.state_table import Store
from streams.stores.memory import MemoryStore
from tests.unit.streams.disk_store import rocks_store

NOW = 20_000 * DAY_MS
EXPIRY_DAYS = 10


def state_of(last_day: float, *, offset: int = 5, is_open: bool = False, log_day: float = 0.0) -> bytes:
    """A state whose last request was on a day, counted from `NOW`."""
    row = np.zeros(1, account.DTYPE)
    row["header"]["requests"], row["header"]["offset"] = 1, offset
    row["header"]["last_time"] = NOW + int(last_day * DAY_MS)
    row["episode"]["is_open"] = is_open
    return state.seal(row, "00" * 8, int(log_day and NOW + log_day * DAY_MS))


def memory_store(folder: Path) -> Store:
    return MemoryStore("memory://", SimpleNamespace(), SimpleNamespace(name="t"), table_name="t", max_accounts=10**6)


@pytest.fixture(params=[memory_store, rocks_store])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made: Store = request.param(tmp_path)
    return made


def swept(store: Store, states: Mapping[bytes, bytes], committed: int | None = 6, wall_days: float = 1.0) -> set[bytes]:
    """Accounts of partition 0 that can go, with the log's clock at `NOW`."""
    store.raw_write(0, dict(states), 3)
    keeper = Housekeeping(
        store=lambda: store,
        latest=lambda partition: NOW,
        expiry_days=EXPIRY_DAYS,
        wall_clock=lambda: NOW / 1000 + wall_days * 86_400,
    )
    return set(keeper.idle({0: committed}).get(0, {}))


def test_a_state_can_go_when_the_log_has_moved_on_by_twice_the_expiry(store: Store) -> None:
    assert swept(store, {b"idle": state_of(-20.1), b"late records may come": state_of(-19.9)}) == {b"idle"}


def test_a_state_with_an_open_finding_stays(store: Store) -> None:
    assert swept(store, {b"a": state_of(-1000, is_open=True)}) == set()


def test_a_state_that_was_written_with_old_requests_lately_stays(store: Store) -> None:
    assert swept(store, {b"filled in": state_of(-1000, log_day=-1), b"long ago": state_of(-1000, log_day=-21)}) == {
        b"long ago"
    }


@pytest.mark.parametrize(("committed", "gone"), [(6, {b"a"}), (5, set()), (None, set())])
def test_a_state_whose_last_record_is_not_committed_stays(
    store: Store, committed: int | None, gone: set[bytes]
) -> None:
    assert swept(store, {b"a": state_of(-1000)}, committed) == gone


def test_a_producer_whose_clock_runs_ahead_has_nobody_deleted(store: Store) -> None:
    assert swept(store, {b"a": state_of(-25)}, wall_days=-6) == set()


def test_what_cannot_be_read_stays(store: Store) -> None:
    assert swept(store, {b"a": b"of another version"}) == set()


def test_nothing_is_deleted_before_the_first_event(store: Store) -> None:
    store.raw_write(0, {b"a": state_of(-1000)}, 3)
    keeper = Housekeeping(store=lambda: store, latest=lambda partition: 0, expiry_days=EXPIRY_DAYS)
    assert keeper.idle({0: 6}) == keeper.idle({}) == {}


def test_every_state_of_every_partition_is_looked_at_in_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "STATES_PER_CHECKPOINT", 7)
    for partition in (0, 4):
        store.raw_write(partition, {b"%d-%d" % (partition, k): state_of(-1000) for k in range(20)}, 3)
    keeper = Housekeeping(store=lambda: store, latest=lambda partition: NOW, expiry_days=EXPIRY_DAYS)
    seen: list[bytes] = []
    for _ in range(6):
        ((partition, idle),) = keeper.idle({0: 6, 4: 6}).items()
        assert len(idle) <= 7
        assert all(store.raw_get(partition, key) == sealed for key, sealed in idle.items())
        seen += idle
    assert sorted(seen) == sorted(b"%d-%d" % (p, k) for p in (0, 4) for k in range(20))


def test_a_sweep_begins_again_after_the_last_and_passes_over_what_was_deleted(store: Store) -> None:
    store.raw_write(0, {b"%d" % k: b"x" for k in range(5)}, 3)
    sweep: Callable[[int], list[bytes]] = lambda count: list(store.sweep(0, count))  # noqa: E731
    first = sweep(2)
    rest = sorted({b"%d" % k for k in range(5)} - set(first))
    store.raw_write(0, {rest[0]: None}, 4)
    assert sorted(sweep(10)) == rest[1:]
    assert sorted(sweep(10)) == sorted([*first, *rest[1:]])
    store.drop(0)
    assert store.sweep(1, 10) == {}
