"""A flood of new accounts: memory stays bounded by settings, the longest idle are forgotten, counted and warned of."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from detectors import account
from streams.stores.memory import MAX_FORGOTTEN_WAITING, MemoryStore
from tests.bench.flood import Flood, row_bytes

ROWS = 2_000
MAX_ACCOUNTS = 5_000
NEW = 50_000
KNOWN = 500
EVERY = 1_000
"""New accounts between two requests of the known ones and between two checkpoints."""


@pytest.fixture(scope="module")
def flood() -> Flood:
    flood = Flood(slab_rows=ROWS, max_accounts=MAX_ACCOUNTS, batch=500)
    idle = [f"idle-{i}" for i in range(KNOWN)]
    busy = [f"busy-{i}" for i in range(KNOWN)]
    flood.request(idle)
    for begin in range(0, NEW, EVERY):
        flood.request(busy)
        flood.request([f"new-{i}" for i in range(begin, begin + EVERY)])
        flood.checkpoint()
    return flood


def test_no_more_accounts_are_held_than_settings_allow(flood: Flood) -> None:
    assert flood.most_rows <= ROWS
    assert flood.most_stored == flood.store.accounts() == MAX_ACCOUNTS
    assert flood.most_waiting <= ROWS + EVERY + KNOWN


def test_every_account_is_held_or_counted_as_forgotten(flood: Flood) -> None:
    assert flood.store.forgotten == KNOWN + KNOWN + NEW - MAX_ACCOUNTS
    assert flood.engine.counters.events == KNOWN + (NEW // EVERY) * KNOWN + NEW


def test_the_longest_idle_go_and_those_in_use_keep_their_state(flood: Flood) -> None:
    assert not [i for i in range(KNOWN) if flood.requests_of(f"idle-{i}")]
    assert {flood.requests_of(f"busy-{i}") for i in range(KNOWN)} == {NEW // EVERY}
    assert flood.requests_of(f"new-{NEW - 1}") == 1
    assert flood.requests_of("new-0") == 0


def test_forgotten_accounts_are_handed_out_for_deletion_up_to_a_bound(flood: Flood) -> None:
    waiting = len(flood.store.take_forgotten(0))
    assert flood.deleted + waiting == flood.store.forgotten < MAX_FORGOTTEN_WAITING


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore("memory://", SimpleNamespace(), SimpleNamespace(name="t"), table_name="t", max_accounts=3)
    with caplog.at_level(logging.WARNING):
        for i in range(10):
            store.raw_write(0, {b"%d" % i: b"x"}, None)
    assert caplog.text.count("more accounts than max_accounts") == 1
    assert store.forgotten == 7


def test_a_row_is_as_large_as_the_bound_says(flood: Flood) -> None:
    assert row_bytes() == account.DTYPE.itemsize <= 4096
    assert len(flood.engine._slab) * row_bytes() == flood.engine._slab.nbytes


def test_states_that_wait_for_deletion_are_bounded() -> None:
    store: Any = MemoryStore("memory://", SimpleNamespace(), SimpleNamespace(name="t"), table_name="t", max_accounts=10)
    store.raw_write(0, {b"%d" % i: b"" for i in range(MAX_FORGOTTEN_WAITING + 50)}, None)
    assert len(store.take_forgotten(0)) == MAX_FORGOTTEN_WAITING
    assert store.forgotten == MAX_FORGOTTEN_WAITING + 40
