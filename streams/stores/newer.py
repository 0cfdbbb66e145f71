"""Which of two states of an account stands: the one that has seen more of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.state import StateError, fence_of

FENCE_HEADER = "stillwatch-fence"
"""On a deletion: the fence of the state it deletes, in decimal."""

ERASED_HEADER = "stillwatch-erased"
"""On a deletion: it was ordered, and a state up to its fence must not come back."""

MAX_ERASURES = 100_000
"""Erased accounts remembered for each partition, the latest ones; they take some 10 MB."""

Forgotten = dict[bytes, int | None]
"""Accounts that are gone here and are still to be deleted from the changelog, with the fences of their last states;
None for a state that could not be read. Not the states: they are a hundred times as large."""


def supersedes(new: bytes | None, headers: Sequence[tuple[str, bytes | None]], old: bytes | None) -> bool:
    """Whether a changelog record replaces the state we have; `new` None deletes.

    Highest fence wins: a worker that was stopped, lost its partitions and was resumed can still write states, late,
    and they must not roll accounts back. A state that cannot be read has no fence, and then the later one wins: the
    engine reports it and starts that account anew.
    """
    if old is None:
        return True
    try:
        old_fence = fence_of(old)
        new_fence = _deleted_fence(headers) if new is None else fence_of(new)
    except (StateError, ValueError):
        return True
    return new_fence >= old_fence


def readable_fence(state: bytes) -> int | None:
    """The fence of a state, None for one that cannot be read."""
    try:
        return fence_of(state)
    except StateError:
        return None


def deletion_headers(fence: int | None) -> list[tuple[str, bytes]]:
    """Headers of the record that deletes a state with this fence; without one it deletes whatever there is."""
    return [] if fence is None else [(FENCE_HEADER, b"%d" % fence)]


def erasure_headers(state: bytes) -> list[tuple[str, bytes]]:
    """Headers of the record that deletes a state on order; `state` is the envelope that stands for it."""
    return [*deletion_headers(readable_fence(state)), (ERASED_HEADER, b"1")]


def _deleted_fence(headers: Sequence[tuple[str, bytes | None]]) -> int:
    for name, value in headers:
        if name == FENCE_HEADER and value is not None:
            return int(value)
    raise ValueError("a deletion without a fence deletes whatever there is")


class Erasures:
    """Accounts of a partition that were erased on order, so that a late write cannot bring them back.

    A deletion leaves no fence in the store. So the fences of those that were ordered are remembered while the store
    lives. A state that comes late is handed out to be deleted again: compaction would keep it, as the account's last
    record, and drop the deletion before it. What is not covered: a late write that is read by a worker which never saw
    the deletion, because compaction has already dropped it (the topic's `min.compaction.lag.ms` is well above any
    pause of a worker). `stillwatch forget` once more deletes that too.
    """

    def __init__(self) -> None:
        self._fences: dict[bytes, int] = {}
        self._late: Forgotten = {}

    def note(self, account: bytes, fence: int) -> None:
        """An account was erased, with all that it did up to `fence`."""
        self._fences[account] = max(fence, self._fences.pop(account, fence))
        if len(self._fences) > MAX_ERASURES:
            del self._fences[next(iter(self._fences))]

    def read(self, record: Any) -> None:
        """Take note of a deletion on the changelog, if it was ordered."""
        if any(name == ERASED_HEADER for name, _ in record.headers):
            try:
                self.note(record.key, _deleted_fence(record.headers))
            except ValueError:
                return

    def refuses(self, account: bytes, state: bytes) -> bool:
        """Whether a state is of before its account was erased."""
        fence = self._fences.get(account)
        if fence is None:
            return False
        new = readable_fence(state)
        if new is None or new > fence:
            return False
        if len(self._late) < MAX_ERASURES:
            self._late[account] = new
        return True

    def take_late(self) -> Forgotten:
        """Accounts whose states were refused since the last call."""
        late, self._late = self._late, {}
        return late

    def give_back_late(self, late: Forgotten) -> None:
        """Their deletion did not go through: to be taken again."""
        self._late = late | self._late


def newest(
    records: Sequence[Any], known: dict[bytes, bytes | None], erasures: Erasures
) -> tuple[dict[bytes, bytes | None], int]:
    """What a run of changelog records comes to, given the states known before, and how many came too late.

    `known` needs an entry for each key that has a state; the result holds only what changes. `erasures` are those of
    the partition.
    """
    changed: dict[bytes, bytes | None] = {}
    late = 0
    for record in records:
        old = changed[record.key] if record.key in changed else known.get(record.key)
        if old is None and record.value is not None and erasures.refuses(record.key, record.value):
            late += 1
        elif supersedes(record.value, record.headers, old):
            changed[record.key] = record.value
            if record.value is None:
                erasures.read(record)
        else:
            late += 1
    return changed, late
