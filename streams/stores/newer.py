"""Which of two states of an account stands: the one that has seen more of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.state import StateError, fence_of

FENCE_HEADER = "stillwatch-fence"
"""On a deletion: the fence of the state it deletes, in decimal."""


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


def deletion_headers(state: bytes) -> list[tuple[str, bytes]]:
    """Headers of the record that deletes a state."""
    try:
        return [(FENCE_HEADER, b"%d" % fence_of(state))]
    except StateError:
        return []


def _deleted_fence(headers: Sequence[tuple[str, bytes | None]]) -> int:
    for name, value in headers:
        if name == FENCE_HEADER and value is not None:
            return int(value)
    raise ValueError("a deletion without a fence deletes whatever there is")


def newest(records: Sequence[Any], known: dict[bytes, bytes | None]) -> tuple[dict[bytes, bytes | None], int]:
    """What a run of changelog records comes to, given the states known before, and how many came too late.

    `known` needs an entry for each key that has a state; the result holds only what changes.
    """
    changed: dict[bytes, bytes | None] = {}
    late = 0
    for record in records:
        old = changed[record.key] if record.key in changed else known.get(record.key)
        if supersedes(record.value, record.headers, old):
            changed[record.key] = record.value
        else:
            late += 1
    return changed, late
