"""Which of two states of an account stands: the one that has seen more of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from detectors.state import StateError, fence_of

FENCE_HEADER = "stillwatch-fence"
"""On a deletion: the fence of the state it deletes, in decimal."""

ERASED_HEADER = "stillwatch-erased"
"""On a deletion: it was ordered, and a state up to its fence must not come back."""

MAX_ERASURES = 100_000
"""Erased accounts remembered for each partition, the latest ones; they take some 10 MB."""

MAX_OVERWRITTEN = 100_000
"""Accounts remembered for each partition whose state is to be written once more; they take some 10 MB. A worker that
was stopped in a checkpoint writes at most half a slab of states late, 10,000 as it comes."""

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


class Newest(NamedTuple):
    """What a run of changelog records comes to."""

    changed: dict[bytes, bytes | None]
    """The states that change, None for those that go."""
    late: int
    """Records that came too late."""
    overwritten: set[bytes]
    """Accounts whose last record came too late, while a newer state of them stands."""


class Overwritten:
    """Accounts of a partition whose last record on the changelog is not their newest state.

    Refusing a late record as it is read is not enough: compaction keeps it, as the account's last, and drops the good
    one before it; who reads the changelog after that has nothing to hold against it. So the next checkpoint writes the
    state that stands once more. What is not covered: a late write that is read for the first time when compaction has
    been there, by a worker that has no copy of its own (the topic's `min.compaction.lag.ms` is well above any pause of
    a worker).
    """

    def __init__(self) -> None:
        self._accounts: set[bytes] = set()

    def __bool__(self) -> bool:
        """Whether there is something to write once more."""
        return bool(self._accounts)

    def follow(self, read: Newest) -> None:
        """Take note of what was read of the changelog."""
        self._accounts -= read.changed.keys()
        self.add(read.overwritten)

    def add(self, accounts: Iterable[bytes]) -> None:
        """Their states are to be written once more, or the last try did not go through."""
        self._accounts.update(islice(accounts, MAX_OVERWRITTEN - len(self._accounts)))

    def take(self) -> set[bytes]:
        """All of them, to be written now."""
        accounts, self._accounts = self._accounts, set()
        return accounts


def newest(records: Sequence[Any], known: dict[bytes, bytes | None], erasures: Erasures) -> Newest:
    """What a run of changelog records comes to, given the states known before.

    `known` needs an entry for each key that has a state. `erasures` are those of the partition.
    """
    changed: dict[bytes, bytes | None] = {}
    overwritten: set[bytes] = set()
    late = 0
    for record in records:
        old = changed[record.key] if record.key in changed else known.get(record.key)
        if old is None and record.value is not None and erasures.refuses(record.key, record.value):
            late += 1
        elif supersedes(record.value, record.headers, old):
            changed[record.key] = record.value
            overwritten.discard(record.key)
            if record.value is None:
                erasures.read(record)
        else:
            overwritten.add(record.key)
            late += 1
    return Newest(changed, late, overwritten)
