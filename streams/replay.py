"""Score recorded requests, of a file or of a stretch of a topic, away from live groups and topics.

The same `Ingest` and `Engine` as in the service, fed without Faust: a replay commits nothing, joins no group and writes
to no topic. The requests of one partition are scored in the order of the log, so the findings are those of the service.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from streams.orders import runs

if TYPE_CHECKING:
    from detectors.engine import Engine
    from schemas.alert import Alert
    from streams.ingest import DeadLetter, Ingest

FILE_PARTITION = 0
"""All lines of a file count as one partition, with the line number as offset."""

CHUNK_BYTES = 1 << 20
"""Read at a time: large enough that splitting lines costs little, small enough that memory stays bounded."""

BATCH_RECORDS = 2000
"""Records scored at a time. Changes speed and memory, never findings."""


class FileRecord(NamedTuple):
    """A line of a file in the shape of a Kafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Summary:
    """What a replay saw.

    Attributes
    ----------
    records
        Records read.
    events
        Requests scored.
    alerts
        Alerts given out.
    dead
        Refused records by reason.
    misplaced
        Records whose key or partition does not fit their account; the service sends them back properly keyed, and the
        replay scores that copy instead.
    erased
        Orders to forget an account that were met, and carried out as the service does.
    forgotten
        At least so many states were given up, because there were more accounts than may be kept: should one of these
        send again, it starts anew.
    drift
        What is off when the accounts are no longer those of the baseline, in a line each.
    """

    records: int = 0
    events: int = 0
    alerts: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    misplaced: int = 0
    erased: int = 0
    forgotten: int = 0
    drift: list[str] = field(default_factory=list)


class Replay:
    """Records in, alerts out.

    Parameters
    ----------
    ingest, engine
        Made as for the service.
    max_accounts
        Accounts whose states are kept, beside those that the engine holds ready.
    on_alert
        Called with each alert, in order.
    on_dead_letter
        Called with each record that was refused.
    close
        Whether the end of the records is the end of time, so that open findings are closed.
    """

    def __init__(
        self,
        ingest: Ingest,
        engine: Engine,
        *,
        max_accounts: int,
        on_alert: Callable[[Alert], None],
        on_dead_letter: Callable[[DeadLetter], None] | None = None,
        close: bool = True,
    ) -> None:
        self._ingest, self._engine, self._max_accounts = ingest, engine, max_accounts
        self._on_alert, self._on_dead_letter, self._close = on_alert, on_dead_letter, close
        self._partition: int | None = None
        self.summary = Summary()

    def feed(self, partition: int, records: Sequence[Any]) -> None:
        """Score consecutive records of one partition; the partitions come one after the other."""
        if partition != self._partition:
            self._end_partition()
            self._partition = partition
        for run in runs(records):
            self._feed_run(partition, run)
        if self._engine.pending() > self._max_accounts:
            # A replay stores nothing: the engine keeps what it cannot hold ready until it is asked for, and it is not
            # asked but to let go of it.
            self.summary.forgotten += max(0, len(self._engine.snapshot(partition)) - self._engine.accounts)

    def _feed_run(self, partition: int, records: Sequence[Any]) -> None:
        """Score requests, or carry out orders to forget accounts."""
        ingested = self._ingest(records)
        self.summary.records += len(records)
        self.summary.erased += len(ingested.erasures)
        for erasure in ingested.erasures:
            self._engine.erase(partition, *erasure)
        self.summary.events += len(ingested.batch)
        self.summary.misplaced += len(ingested.misplaced)
        for dead in ingested.dead:
            self.summary.dead[dead.reason.value] += 1
            if self._on_dead_letter is not None:
                self._on_dead_letter(dead)
        self._give_out(self._engine.apply(partition, ingested.batch))

    def finish(self) -> Summary:
        """Close what is due at the end of the records; returns what was seen."""
        self._end_partition()
        self.summary.drift = self._engine.watch.lines()
        return self.summary

    def _end_partition(self) -> None:
        """Close what is open, then make room: no other partition has these accounts."""
        if self._partition is not None:
            if self._close:
                self._give_out(self._engine.close_all())
            self._engine.drop(self._partition)
            self._partition = None

    def _give_out(self, alerts: Sequence[Alert]) -> None:
        self.summary.alerts += len(alerts)
        for alert in alerts:
            self._on_alert(alert)


# ---- a file


class LineSplitter:
    r"""Cuts a stream of bytes into numbered lines, in memory bounded by a chunk and the longest line that is kept.

    Blank lines are counted and passed over. Of a line longer than `limit` only `limit + 1` bytes are given, which is
    enough to refuse it.

    Examples
    --------
    >>> splitter = LineSplitter(limit=4)
    >>> splitter.feed(b"one\n\nt"), splitter.feed(b"wo\nfar too long"), splitter.end()
    ([(1, b'one')], [(3, b'two'), (4, b'far t')], [])
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number, self._rest, self._passing_over = 1, b"", False

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """(number from 1, line without its end) of every line that `chunk` completes, or makes too long."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        found = []
        for line in lines:
            found += self._kept(line)
            self._number, self._passing_over = self._number + 1, False
        self._rest = rest
        if len(rest) > self._limit:
            found += self._kept(rest)
            self._rest, self._passing_over = b"", True
        return found

    def end(self) -> list[tuple[int, bytes]]:
        """The last line, when the stream does not end in a line end."""
        return self._kept(self._rest)

    def _kept(self, line: bytes) -> list[tuple[int, bytes]]:
        stripped = line.strip()
        return [(self._number, stripped[: self._limit + 1])] if stripped and not self._passing_over else []


def file_batches(
    source: BinaryIO,
    *,
    max_record_bytes: int,
    batch_records: int = BATCH_RECORDS,
    advance: Callable[[int], None] | None = None,
) -> Iterator[list[FileRecord]]:
    """Lines of a file as batches of records; what comes through a pipe is handed on when the pipe falls silent.

    Parameters
    ----------
    source
        Binary file or pipe.
    max_record_bytes
        See `LineSplitter`.
    batch_records
        Most records in a batch.
    advance
        Called with the number of bytes read.
    """
    splitter, waiting = LineSplitter(max_record_bytes), deque[FileRecord]()
    read = getattr(source, "read1", source.read)
    while True:
        chunk = read(CHUNK_BYTES)
        waiting.extend(map(_file_record, splitter.feed(chunk) if chunk else splitter.end()))
        silent = len(chunk) < CHUNK_BYTES
        while len(waiting) >= batch_records or (waiting and silent):
            yield [waiting.popleft() for _ in range(min(batch_records, len(waiting)))]
        if not chunk:
            return
        if advance is not None:
            advance(len(chunk))


def _file_record(numbered: tuple[int, bytes]) -> FileRecord:
    number, line = numbered
    return FileRecord("file", FILE_PARTITION, number, -1, None, line, ())
