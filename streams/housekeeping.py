"""Housekeeping: states of accounts that have long been idle are deleted, a few at each checkpoint.

The engine lets an account that was silent for `state_expiry_days` start anew, just as if it had no state
(`detectors.finding.start_anew`). So its state can go, and no finding changes by when it goes or whether it does:

- It is kept for twice that long by the clock of its log, which leaves room for records that come late: only one that is
  older than the log around it by more than `state_expiry_days` could still have found it.
- It is kept while a finding is open: the account's next record closes that.
- It is kept until the last record in it is committed: before that, a crash would have it read and counted again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from detectors.state import StateError, header_of
from schemas.durations import DAY_MS

KEPT_FOR = 2.0
"""How many times `state_expiry_days` a state is kept. One is for the account, the other for records that come late."""

STATES_PER_CHECKPOINT = 1000
"""States looked at in a checkpoint, so that it is not held up: 4 MB from the disk at most. With one every two seconds,
a million accounts are gone through in about half an hour."""


class Sweepable(Protocol):
    """What housekeeping needs of the local store."""

    def sweep(self, partition: int, count: int) -> dict[bytes, bytes]:
        """The next states of a partition, at most `count` of them; begins again after the last."""


class Housekeeping:
    """Finds the states that can go.

    Parameters
    ----------
    store
        Where the states lie.
    latest
        Latest event time (ms) of a partition: the clock of its log.
    expiry_days
        `state_expiry_days`.
    wall_clock
        Seconds since the epoch. A log's clock counts up to there only: a producer whose clock runs ahead by years must
        not have us delete everybody.
    """

    def __init__(
        self,
        *,
        store: Callable[[], Sweepable],
        latest: Callable[[int], int],
        expiry_days: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._latest = latest
        self._kept_ms = int(KEPT_FOR * expiry_days * DAY_MS)
        self._wall_clock = wall_clock
        self._turn = -1

    def idle(self, committed: Mapping[int, int | None]) -> dict[int, dict[bytes, bytes]]:
        """Account and state of what can go, by partition, given each partition's committed offset.

        Looks at one partition at each call, in turn.
        """
        if not committed:
            return {}
        self._turn = min((p for p in committed if p > self._turn), default=min(committed))
        offset = committed[self._turn]
        before = min(self._latest(self._turn), int(self._wall_clock() * 1000)) - self._kept_ms
        if offset is None or before <= 0:
            return {}
        states = self._store().sweep(self._turn, STATES_PER_CHECKPOINT)
        return {self._turn: {key: state for key, state in states.items() if _is_idle(state, before, offset)}}


def _is_idle(state: bytes, before: int, committed: int) -> bool:
    try:
        header = header_of(state)
    except StateError:
        return False  # another version of us may read it; the engine reports it when its account comes back
    return header.active_until < before and header.offset < committed
