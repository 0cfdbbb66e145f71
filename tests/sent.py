"""Records as a Kafka client gives them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """A record of the requests topic; what is not said is what a file would give."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    key: bytes | None = None
    topic: str = "stillwatch.requests"
    timestamp: int = -1
    headers: Sequence[tuple[str, bytes | None]] = ()


def log_of(*values: bytes | None) -> list[Sent]:
    """A log that holds these values, with offsets from 0."""
    return [Sent(value, offset) for offset, value in enumerate(values)]
