"""States in memory: read again from the changelog at each start, and bounded by a number of accounts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faust.stores import memory
from faust.types import TP

from detectors.state import fence_of
from streams.logs import FAUST
from streams.stores.newer import Erasures, Forgotten, Overwritten, newest, readable_fence

log = logging.getLogger(__name__)

MAX_FORGOTTEN_WAITING = 100_000
"""Forgotten accounts whose deletion from the changelog is still to come, of all partitions; they take some 20 MB.
Beyond it they are only forgotten here, and once more after the next start."""


class MemoryStore(memory.Store[bytes, bytes]):
    """Faust's memory store with raw access, in the order of writing: the first entry is the longest idle account.

    Beyond `max_accounts` the longest idle are forgotten; `take_forgotten` hands them out so that they are deleted from
    the changelog as well. One that comes back before that is not deleted.
    """

    logger = FAUST

    def __init__(self, *args: Any, max_accounts: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_accounts = max_accounts
        self._forgotten_waiting: defaultdict[int, Forgotten] = defaultdict(dict)
        self._forgotten_restoring: set[bytes] = set()
        self._to_sweep: dict[int, list[bytes]] = {}
        self._erasures: defaultdict[int, Erasures] = defaultdict(Erasures)
        self._overwritten: defaultdict[int, Overwritten] = defaultdict(Overwritten)
        self.forgotten = 0
        self.late_writes = 0
        self._bytes = 0

    def accounts(self) -> int:
        """Number of states."""
        return len(self.data)

    def bytes_held(self) -> int:
        """Length of all states together."""
        return self._bytes

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Why overridden: stock drops the states of partitions that left, and knows nothing of their length."""
        await super().on_recovery_completed(active_tps, standby_tps)
        self._bytes = sum(map(len, self.data.values()))

    def raw_get(self, partition: int, account: bytes) -> bytes | None:
        """Envelope of an account of a partition."""
        return self.data.get(account) if self._key_partition.get(account) == partition else None

    def raw_write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Take over states that the changelog holds."""
        self._write(partition, states)
        self._forget_longest_idle()

    def raw_apply(self, partition: int, records: Sequence[Any]) -> None:
        """Take over records of the changelog.

        Accounts that are forgotten on the way are counted when they are handed out: of most, the deletion follows.
        """
        known = {record.key: self.raw_get(partition, record.key) for record in records}
        read = newest(records, known, self._erasures[partition])
        self.late_writes += read.late
        self._overwritten[partition].follow(read)
        self._write(partition, read.changed)
        self._forget_longest_idle(restoring=True)

    def _write(self, partition: int, states: Mapping[bytes, bytes | None]) -> None:
        waiting = self._forgotten_waiting[partition]
        for account, envelope in states.items():
            self._bytes -= len(self.data.pop(account, b""))  # a rewritten entry moves to the end
            # Back, or deleted already: a deletion now would lie behind what is newer, and compaction keep only that.
            waiting.pop(account, None)
            self._forgotten_restoring.discard(account)
            if envelope is None:
                self._key_partition.pop(account, None)
            else:
                self.data[account] = envelope
                self._bytes += len(envelope)
                self._key_partition[account] = partition

    def sweep(self, partition: int, count: int) -> dict[bytes, bytes]:
        """The next states of a partition; each time around in the order of the first look."""
        left = self._to_sweep.get(partition) or [key for key, of in self._key_partition.items() if of == partition]
        states = {key: state for key in left[:count] if (state := self.raw_get(partition, key)) is not None}
        self._to_sweep[partition] = left[count:]
        return states

    def note_erased(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Accounts were erased on order, as these envelopes say: states that have not seen more must not come back."""
        for account, state in states.items():
            self._erasures[partition].note(account, fence_of(state))

    def take_forgotten(self, partition: int) -> Forgotten:
        """Accounts forgotten since the last call, and erased ones of which late states came."""
        taken = self._erasures[partition].take_late() | self._forgotten_waiting.pop(partition, {})
        restored = self._forgotten_restoring & taken.keys()
        self._forgotten_restoring -= restored
        self._count_forgotten(len(restored))
        return {account: fence for account, fence in taken.items() if account not in self.data}

    def give_back_forgotten(self, partition: int, forgotten: Forgotten) -> None:
        """Their deletion did not go through: to be taken again."""
        self._forgotten_waiting[partition].update(forgotten)

    def take_overwritten(self, partition: int) -> dict[bytes, bytes]:
        """States that stand, of accounts whose last record on the changelog is a late one."""
        accounts = self._overwritten[partition].take()
        return {account: state for account in accounts if (state := self.raw_get(partition, account)) is not None}

    def give_back_overwritten(self, partition: int, accounts: Iterable[bytes]) -> None:
        """They were not written: to be taken again."""
        self._overwritten[partition].add(accounts)

    def drop(self, partition: int) -> None:
        """Forget what is left to do for a partition; its states go when the next recovery is complete."""
        self._forgotten_restoring -= self._forgotten_waiting.pop(partition, {}).keys()
        self._to_sweep.pop(partition, None)

    def _forget_longest_idle(self, *, restoring: bool = False) -> None:
        waiting = sum(map(len, self._forgotten_waiting.values()))
        while len(self.data) > self._max_accounts:
            account = next(iter(self.data))
            state, partition = self.data.pop(account), self._key_partition.pop(account)
            self._bytes -= len(state)
            waits = waiting < MAX_FORGOTTEN_WAITING
            if waits:
                self._forgotten_waiting[partition][account] = readable_fence(state)
                waiting += 1
            if restoring and waits:  # the changelog may still tell that it was deleted before
                self._forgotten_restoring.add(account)
            else:
                self._count_forgotten(1)

    def _count_forgotten(self, count: int) -> None:
        if count and self.forgotten == 0:
            log.warning(
                "more accounts than max_accounts: the longest idle are forgotten and start anew when they come "
                "back. Raise max_accounts, or use store=rocksdict",
                extra={"max_accounts": self._max_accounts},
            )
        self.forgotten += count
