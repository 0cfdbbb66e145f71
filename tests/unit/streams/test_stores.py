"""Stores: the state that has seen more of the log stands, and memory has a bound."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faust.types import TP

from detectors import account, state
from streams.exit_codes import ExitCode
from streams.state_table import Store
from streams.stores import memory, newer
from streams.stores.memory import MemoryStore
from streams.stores.newer import (
    FENCE_HEADER,
    Erasures,
    Newest,
    Overwritten,
    deletion_headers,
    erasure_headers,
    newest,
    readable_fence,
    supersedes,
)
from streams.stores.rocks import StoreError
from tests.unit.streams.disk_store import close, flip_bytes, rocks_store

ENCODER = "00" * 8
CHANGELOG = TP("state", 0)


def state_at(fence: int) -> bytes:
    row = np.zeros(1, account.DTYPE)
    row["header"]["offset"], row["header"]["requests"] = fence, 1
    return state.seal(row, ENCODER)


def erased_at(fence: int) -> bytes:
    row = np.zeros(1, account.DTYPE)
    row["header"]["offset"] = fence
    return state.seal_erased(row, ENCODER)


@pytest.mark.parametrize(
    ("new", "headers", "old", "stands"),
    [
        (state_at(5), [], None, True),
        (state_at(5), [], state_at(4), True),
        (state_at(5), [], state_at(5), True),
        (state_at(4), [], state_at(5), False),
        (None, deletion_headers(5), state_at(5), True),
        (None, deletion_headers(4), state_at(5), False),
        (None, [], state_at(5), True),
        (None, [(FENCE_HEADER, None)], state_at(5), True),
        (None, [(FENCE_HEADER, b"x")], state_at(5), True),
        (b"damaged", [], state_at(5), True),
        (state_at(1), [], b"damaged", True),
        (None, deletion_headers(readable_fence(b"damaged")), state_at(5), True),
    ],
)
def test_a_late_write_rolls_nothing_back(new: Any, headers: Any, old: Any, stands: bool) -> None:
    assert supersedes(new, headers, old) is stands


def record(key: bytes, value: bytes | None, headers: Any = (), offset: int = 0) -> Any:
    return SimpleNamespace(key=key, value=value, headers=headers, offset=offset)


def test_a_run_of_records_comes_to_its_newest_states() -> None:
    read = newest(
        [record(b"a", state_at(7)), record(b"a", state_at(6)), record(b"b", state_at(1)), record(b"b", None)],
        {b"a": state_at(5), b"b": None},
        Erasures(),
    )
    assert read == Newest({b"a": state_at(7), b"b": None}, 1, {b"a"})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("memory://", SimpleNamespace(), SimpleNamespace(name="t"), table_name="t", max_accounts=3)


def test_the_longest_idle_are_forgotten_and_handed_out_for_deletion(store: MemoryStore) -> None:
    store.raw_write(0, {b"a": b"1", b"b": state_at(2)}, None)
    store.raw_write(1, {b"c": b"3"}, None)
    store.raw_write(0, {b"a": b"4"}, None)
    store.raw_write(1, {b"d": b"5"}, None)
    assert store.raw_get(0, b"b") is None
    assert store.raw_get(0, b"a") == b"4"
    assert store.accounts() == 3
    assert store.forgotten == 1
    assert store.take_forgotten(0) == {b"b": 2}
    assert store.take_forgotten(0) == {}


async def test_memory_knows_how_many_bytes_of_states_it_holds(store: MemoryStore) -> None:
    def held() -> int:
        return sum(map(len, store.data.values()))

    for number in range(5):
        store.raw_write(number % 2, {b"%d" % number: state_at(number)}, None)
        assert store.bytes_held() == held() > 0
    store.raw_write(0, {b"4": state_at(9) + b"longer", b"2": None, b"unknown": None}, None)
    assert store.bytes_held() == held()
    await store.on_recovery_completed({TP("state", 0)}, set())
    assert store.accounts() == 1
    assert store.bytes_held() == held() == len(state_at(9)) + 6


def replay(store: MemoryStore, *records: Any) -> None:
    """A changelog read at a start, a record at a time as its batches may be cut."""
    for one in records:
        store.raw_apply(0, [one])


OTHERS = [record(b"other %d" % k, state_at(2 + k)) for k in range(3)]


def test_a_restart_deletes_no_account_that_was_forgotten_and_is_back(store: MemoryStore) -> None:
    replay(
        store, record(b"a", state_at(1)), *OTHERS, record(b"a", None, deletion_headers(1)), record(b"a", state_at(50))
    )
    assert store.raw_get(0, b"a") == state_at(50)
    assert b"a" not in store.take_forgotten(0)


def test_a_checkpoint_withdraws_the_deletion_of_an_account_that_it_writes(store: MemoryStore) -> None:
    replay(store, record(b"a", state_at(1)), *OTHERS)
    store.raw_write(0, {b"a": state_at(50)}, None)
    store.raw_write(0, {b"a": None}, None)
    assert b"a" not in store.take_forgotten(0)


def test_what_was_given_back_is_not_deleted_when_it_is_held_again(store: MemoryStore) -> None:
    store.raw_write(0, {b"a": state_at(50)}, None)
    store.give_back_forgotten(0, {b"a": 1, b"b": 2})
    assert store.take_forgotten(0) == {b"b": 2}


def test_a_restart_counts_only_accounts_whose_deletion_is_still_to_come(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    replay(store, record(b"a", state_at(1)), *OTHERS, record(b"a", None, deletion_headers(1)))
    assert store.take_forgotten(0) == {}
    assert (store.forgotten, caplog.text) == (0, "")
    replay(store, record(b"b", state_at(9)))
    assert store.take_forgotten(0) == {b"other 0": 2}
    assert store.forgotten == 1
    store.give_back_forgotten(0, {b"other 0": 2})
    assert store.take_forgotten(0) == {b"other 0": 2}
    assert store.forgotten == 1


def test_forgotten_accounts_that_wait_are_bounded_over_all_partitions(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MAX_FORGOTTEN_WAITING", 4)
    for partition in range(5):
        store.raw_apply(partition, [record(b"%d of %d" % (k, partition), state_at(7)) for k in range(5)])
    assert [store.take_forgotten(partition) for partition in range(5)] == [
        {b"0 of 0": 7, b"1 of 0": 7, b"2 of 0": 7, b"3 of 0": 7},
        *[{}] * 4,
    ]
    assert store.forgotten == 25 - len(store.data)


def test_a_state_is_found_on_its_own_partition_only(store: MemoryStore) -> None:
    store.raw_write(2, {b"a": b"1"}, None)
    assert store.raw_get(2, b"a") == b"1"
    assert store.raw_get(1, b"a") is None


def test_a_late_state_does_not_bring_an_erased_account_back(store: MemoryStore) -> None:
    store.raw_apply(
        0, [record(b"a", state_at(5)), record(b"a", None, erasure_headers(erased_at(9))), record(b"a", state_at(7))]
    )
    assert store.raw_get(0, b"a") is None
    assert store.late_writes == 1
    # It is deleted once more: compaction keeps the last record of a key.
    assert store.take_forgotten(0) == {b"a": 7}
    assert store.take_forgotten(0) == {}
    store.raw_apply(0, [record(b"a", state_at(10))])
    assert store.raw_get(0, b"a") == state_at(10)


def test_what_an_erased_account_does_later_is_not_deleted_with_a_late_state(store: MemoryStore) -> None:
    store.note_erased(0, {b"a": erased_at(9)})
    store.raw_apply(0, [record(b"a", state_at(7)), record(b"a", state_at(10)), record(b"a", state_at(8))])
    assert store.raw_get(0, b"a") == state_at(10)
    assert store.take_forgotten(0) == {}


@pytest.mark.parametrize("headers", [[("stillwatch-erased", b"1")], [], deletion_headers(9)])
def test_only_an_ordered_deletion_with_a_fence_is_remembered(store: MemoryStore, headers: Any) -> None:
    store.raw_apply(0, [record(b"a", None, headers), record(b"a", state_at(7))])
    assert store.raw_get(0, b"a") == state_at(7)


def test_a_state_that_cannot_be_read_is_the_engine_s_to_report(store: MemoryStore) -> None:
    store.note_erased(0, {b"a": erased_at(9)})
    store.raw_apply(0, [record(b"a", b"damaged")])
    assert store.raw_get(0, b"a") == b"damaged"


def test_erased_accounts_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer, "MAX_ERASURES", 2)
    erasures = Erasures()
    for name in (b"a", b"b", b"c"):
        erasures.note(name, 9)
    assert [erasures.refuses(name, state_at(7)) for name in (b"a", b"b", b"c")] == [False, True, True]


@pytest.fixture(params=["memory", "rocksdict"])
def either(request: pytest.FixtureRequest, store: MemoryStore, tmp_path: Path) -> Store:
    return store if request.param == "memory" else rocks_store(tmp_path)


def test_either_store_tells_the_bytes_it_takes(either: Store) -> None:
    before = either.bytes_held()
    states: dict[bytes, bytes | None] = {b"%d" % n: state_at(n) for n in range(2)}
    either.raw_write(0, states, None)
    assert either.bytes_held() >= before + sum(len(state or b"") for state in states.values())


@pytest.mark.parametrize(
    ("behind", "overwritten"),
    [
        ([record(b"a", state_at(4))], True),
        ([record(b"a", None, deletion_headers(4))], True),
        ([record(b"a", state_at(4)), record(b"a", state_at(3))], True),
        ([record(b"a", state_at(4)), record(b"a", state_at(5))], False),
        ([record(b"a", state_at(4)), record(b"a", None, deletion_headers(5))], False),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_state_behind_which_a_late_record_lies_is_handed_out_to_be_written_once_more(
    either: Store, behind: list[Any], overwritten: bool, at_once: bool
) -> None:
    log = [record(b"a", state_at(5)), *behind, record(b"b", state_at(9))]
    for part in [log] if at_once else [[one] for one in log]:
        either.raw_apply(0, part)
    assert either.take_overwritten(0) == ({b"a": state_at(5)} if overwritten else {})
    assert either.take_overwritten(0) == {}
    either.give_back_overwritten(0, [b"a"] if overwritten else [])
    assert either.take_overwritten(0) == ({b"a": state_at(5)} if overwritten else {})


def test_what_is_to_be_written_once_more_outlives_a_rebalance_and_is_what_stands_then(either: Store) -> None:
    either.raw_apply(0, [record(b"a", state_at(5)), record(b"a", state_at(4))])
    either.drop(0)
    either.raw_write(0, {b"a": state_at(8)}, None)
    assert either.take_overwritten(0) == {b"a": state_at(8)}


def test_a_worker_that_dies_before_it_wrote_a_state_once_more_reads_of_it_again(tmp_path: Path) -> None:
    store = rocks_store(tmp_path)
    store.raw_apply(0, [record(b"a", state_at(5), offset=0), record(b"a", state_at(4), offset=1)])
    store.raw_apply(0, [record(b"b", state_at(5), offset=2)])
    assert store.persisted_offset(CHANGELOG) is None
    assert store.take_overwritten(0) == {b"a": state_at(5)}
    store.raw_apply(0, [record(b"a", state_at(5), offset=3)])
    assert store.persisted_offset(CHANGELOG) == 3


def test_overwritten_accounts_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer, "MAX_OVERWRITTEN", 2)
    overwritten = Overwritten()
    for name in (b"a", b"b", b"c"):
        overwritten.follow(Newest({}, 1, {name}))
    assert overwritten.take() == {b"a", b"b"}


class FullDatabase:
    """A database whose disk has no room."""

    def write(self, batch: object) -> None:
        raise Exception("IO error: No space left on device: While appending to file")


def test_a_store_on_a_full_disk_ends_the_worker_with_a_line_that_names_the_setting(tmp_path: Path) -> None:
    told: list[tuple[str, ExitCode]] = []
    store = rocks_store(tmp_path, lambda *end: told.append(end))
    store._dbs[0] = FullDatabase()
    with pytest.raises(StoreError):
        store.raw_write(0, {b"a": state_at(1)}, 5)
    ((reason, code),) = told
    assert reason.startswith(f"data_dir {tmp_path}: ")
    assert "No space left" in reason
    assert code is ExitCode.TEMPORARY


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Folder of a store whose file of states can be opened, and not read."""
    store = rocks_store(tmp_path)
    store.raw_write(0, {b"%d" % k: state_at(k) for k in range(500)}, 7)
    close(store)
    flip_bytes(tmp_path, 0.5)
    return tmp_path


@pytest.mark.parametrize(
    "access",
    [
        lambda store: [store.raw_get(0, b"%d" % k) for k in range(500)],
        lambda store: store.raw_apply(0, [record(b"%d" % k, state_at(600)) for k in range(500)]),
        lambda store: (store.give_back_overwritten(0, [b"%d" % k for k in range(500)]), store.take_overwritten(0)),
    ],
    ids=["scoring", "recovery", "checkpoint"],
)
def test_a_damaged_store_ends_the_worker_with_a_line_that_says_what_to_do(damaged: Path, access: Any) -> None:
    told: list[tuple[str, ExitCode]] = []
    store = rocks_store(damaged, lambda *end: told.append(end))
    with pytest.raises(StoreError):
        access(store)
    ((reason, code),) = told
    assert reason.startswith(f"data_dir {damaged}: the store of states cannot be read. Delete data_dir")
    assert "Corruption" in reason
    assert code is ExitCode.INPUT


def test_a_store_that_cannot_be_opened_is_not_waited_for(damaged: Path) -> None:
    flip_bytes(damaged, 1.0)
    told: list[tuple[str, ExitCode]] = []
    store = rocks_store(damaged, lambda *end: told.append(end))
    with pytest.raises(StoreError) as raised:
        store.persisted_offset(CHANGELOG)
    assert "lock" not in repr(raised.value)
    assert [code for _, code in told] == [ExitCode.INPUT]


def test_a_store_that_another_process_has_is_left_to_faust_which_waits(tmp_path: Path) -> None:
    told: list[tuple[str, ExitCode]] = []
    first, second = rocks_store(tmp_path), rocks_store(tmp_path, lambda *end: told.append(end))
    first.raw_write(0, {b"a": state_at(1)}, 7)
    with pytest.raises(Exception, match="lock") as raised:
        second._db_for_partition(0)
    assert not isinstance(raised.value, StoreError)
    assert told == []


def test_a_path_with_lock_in_it_is_no_lock(tmp_path: Path) -> None:
    told: list[tuple[str, ExitCode]] = []
    (tmp_path / "block").write_bytes(b"a file where a folder should be")
    store = rocks_store(tmp_path / "block", lambda *end: told.append(end))
    with pytest.raises(StoreError):
        store._db_for_partition(0)
    assert [code for _, code in told] == [ExitCode.TEMPORARY]
