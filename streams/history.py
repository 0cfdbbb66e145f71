"""Recorded requests, read as a whole: what `fit` learns from and `explain` shows.

References
----------
[^1]: Bar-Yossef, Z. et al. (2002). Counting distinct elements in a data stream. RANDOM 2002.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from detectors.embedding import TextEmbedder
from detectors.encoder import Encoder, rotation_signs
from detectors.events import EVENT_DTYPE, WORDS, EventBatch
from detectors.fit import LEAST_REQUESTS, population_mean
from schemas.durations import DAY_MS
from schemas.request import Rejected, RequestEvent, RequestLimits, decode_request
from streams.detection import text_model
from streams.ingest import Ingest
from streams.replay import BATCH_RECORDS, CHUNK_BYTES, FileRecord, file_batches
from streams.side_by_side import Run

FULL_WEIGHT_REQUESTS = 64
"""Accounts with at least so many requests weigh the same in the population's mean, however many they sent."""

SAMPLED_ACCOUNTS = 10_000
"""Accounts that the population's mean and the days are taken from: each costs a vector. Of more than these, those with
the smallest hash of their name: chance, and the same every time."""

KEPT_ACCOUNTS = 2000
"""Accounts of the sample whose rows are kept: those with requests enough to be judged first. They resolve a tenth of a
false finding for each 1,000 account-days."""

KEPT_REQUESTS = 4096
"""Requests of an account that are kept, its first: with `KEPT_ACCOUNTS` of 80 bytes a row that is 0.7 GB at most, and
longer lives are rare."""

FIRST_DAY = 16_436  # 2015-01-01, before which no request is read

Advance = Callable[[int], None]
Mean = NDArray[np.float64]


class HistoryError(Exception):
    """A history cannot be used; the message is one line that says why."""


@dataclass(frozen=True)
class History:
    """A history as `detectors.fit` wants it.

    Attributes
    ----------
    encoder
        Made for this population.
    accounts
        Rows of each account that is kept, its first `KEPT_REQUESTS`, in the order of the files.
    population
        Accounts in the files; an estimate when there are more than `SAMPLED_ACCOUNTS`.
    active
        UTC days on which each sampled account sent something, a bit a day.
    shortened
        Kept accounts that sent more than is kept of them.
    events
        Requests read.
    refused
        Refused records by reason.
    sha256
        Hash of each file.
    """

    encoder: Encoder
    accounts: dict[str, NDArray[Any]]
    population: int
    active: dict[str, int]
    shortened: int
    events: int
    refused: Counter[str]
    sha256: list[str]

    @property
    def days(self) -> int:
        """UTC days on which any sampled account sent something."""
        return reduce(or_, self.active.values(), 0).bit_count()

    @property
    def days_per_account(self) -> float:
        """Mean number of UTC days on which an account sent something."""
        return sum(days.bit_count() for days in self.active.values()) / max(len(self.active), 1)

    @property
    def account_days(self) -> int:
        """Sum over the population of the UTC days on which an account sent something."""
        return round(self.days_per_account * self.population)


@dataclass(frozen=True)
class Content:
    """What the requests of a history bring: the embedding model, and the length of its vectors."""

    model: str
    dimension: int


@dataclass(frozen=True)
class _Reading:
    """How records are read, in whatever process; `mean` is None in the first reading."""

    content: Content
    limits: RequestLimits
    model: str | None
    mean: tuple[float, ...] | None = None


def read_history(
    paths: Sequence[Path],
    limits: RequestLimits,
    *,
    model: str | None,
    dimension: int | None,
    advance: Advance,
    run: Run = map,
) -> History:
    """Read files of request events twice: for the population's mean, then for accounts' rows.

    What is kept is bounded, however long the history and however many its accounts: see `SAMPLED_ACCOUNTS`,
    `KEPT_ACCOUNTS` and `KEPT_REQUESTS`. The result does not depend on `run`.

    Parameters
    ----------
    paths
        Files, JSON lines.
    limits
        See `RequestLimits`.
    model
        Embedding model of events that bring an embedding and do not name theirs.
    dimension
        Length of embeddings that come as base64, whose bytes do not tell float16 from float32.
    advance
        Called with the number of bytes read; every file is read three times, once of it for its hash.
    run
        `map`, or one that reads batches side by side.

    Raises
    ------
    HistoryError
        Nothing in the files can be scored, or it is not said what the embeddings are.
    OSError
        A file cannot be read.
    """
    content = find_content(paths, limits, model=model, dimension=dimension)
    hashes = [_sha256(path, advance) for path in paths]
    reading = _Reading(content, limits, model)
    sample = _Sample()
    for sums in run(partial(_sums, reading), _batches(paths, limits, advance)):
        sample.add(sums)
    mean = sample.mean(content.dimension)
    encoder = Encoder(mean, rotation_signs(content.dimension), content.model)
    kept = _Kept(sample)
    reading = replace(reading, mean=tuple(mean.tolist()))
    for rows in run(partial(_rows, reading), _batches(paths, limits, advance)):
        kept.add(*rows)
    return History(
        encoder, kept.accounts(), sample.population, kept.active, kept.shortened, kept.events, kept.refused, hashes
    )


def find_content(paths: Sequence[Path], limits: RequestLimits, *, model: str | None, dimension: int | None) -> Content:
    """What the first request with content brings; everything else in the history has to be of the same model.

    Raises
    ------
    HistoryError
        There is no content, or it is not said what the embeddings are.
    """
    embedder = text_model()
    for event in _first_events(paths, limits):
        if event.embedding is None:
            return Content(embedder.name, embedder.dimension)
        name = event.embedding_model or model
        if name is None:
            raise HistoryError("the events do not name their embedding model: give --embedding-model")
        size = len(event.embedding) if isinstance(event.embedding, list) else dimension
        if size is None:
            raise HistoryError("base64 does not tell float16 from float32: give --dimension, the embeddings' length")
        return Content(name, size)
    raise HistoryError("no request in it brings a prompt or an embedding")


def _first_events(paths: Sequence[Path], limits: RequestLimits) -> Iterator[RequestEvent]:
    """Readable events that bring content."""
    for records in _batches(paths, limits, lambda amount: None):
        for record in records:
            try:
                event = decode_request(record.value or b"", limits)
            except Rejected:
                continue
            if event.embedding is not None or event.prompt:
                yield event


def rows_by_account(batch: EventBatch) -> dict[str, NDArray[Any]]:
    """The rows of each account, in order."""
    where: dict[str, list[int]] = {}
    for row, name in enumerate(batch.accounts):
        where.setdefault(name, []).append(row)
    return {name: batch.columns[rows] for name, rows in where.items()}


def joined(batches: Sequence[EventBatch]) -> EventBatch:
    """Batches one after the other as one."""
    return EventBatch(
        [name for batch in batches for name in batch.accounts],
        [identifier for batch in batches for identifier in batch.ids],
        np.concatenate([np.zeros(0, EVENT_DTYPE), *(batch.columns for batch in batches)]),
    )


def _batches(paths: Sequence[Path], limits: RequestLimits, advance: Advance) -> Iterator[list[FileRecord]]:
    for path in paths:
        with path.open("rb") as source:
            yield from file_batches(
                source, max_record_bytes=limits.record_bytes, batch_records=BATCH_RECORDS, advance=advance
            )


def _sha256(path: Path, advance: Advance) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


# ---- what reads batches, in whatever process


@lru_cache(maxsize=1)
def _embedder(model: str) -> TextEmbedder | None:
    """The text model if it is the history's, loaded once a process."""
    embedder = text_model()
    return embedder if embedder.name == model else None


@lru_cache(maxsize=1)
def _encoding(reading: _Reading) -> Ingest:
    encoder = Encoder(
        np.array(reading.mean, np.float32), rotation_signs(reading.content.dimension), reading.content.model
    )
    embedder = _embedder(reading.content.model)
    return Ingest(encoder=encoder, embedder=embedder, limits=reading.limits, embedding_model=reading.model)


@lru_cache(maxsize=1)
def _measuring(reading: _Reading) -> tuple[Ingest, _Vectors]:
    vectors = _Vectors(reading.content)
    embedder = _embedder(reading.content.model)
    encoder = cast(Encoder, vectors)
    return Ingest(encoder=encoder, embedder=embedder, limits=reading.limits, embedding_model=reading.model), vectors


def _sums(reading: _Reading, records: list[FileRecord]) -> dict[str, tuple[Mean, int]]:
    """For each account of a batch the sum of its unit vectors, and their number."""
    reader, vectors = _measuring(reading)
    return vectors.sums(reader(records).batch)


def _rows(reading: _Reading, records: list[FileRecord]) -> tuple[EventBatch, Counter[str]]:
    """A batch, without what is only quoted in alerts, and the refused by reason."""
    ingested = _encoding(reading)(records)
    batch = EventBatch(ingested.batch.accounts, [""] * len(ingested.batch), ingested.batch.columns)
    return batch, Counter(letter.reason.value for letter in ingested.dead)


@dataclass
class _Vectors:
    """Poses as the encoder in a first reading, and keeps what it is given: there is no mean yet to encode with.

    The codes that it hands out are numbers of vectors from 1, by which `sums` finds whose vector each is.
    """

    content: Content
    _held: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The embedding model."""
        return self.content.model

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return self.content.dimension

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Keep some embeddings of the batch; in place of codes their numbers."""
        before = sum(map(len, self._held))
        self._held.append(embeddings)
        codes = np.zeros((len(embeddings), WORDS), np.uint64)
        codes[:, 0] = np.arange(before + 1, before + len(embeddings) + 1)
        return codes

    def sums(self, batch: EventBatch) -> dict[str, tuple[Mean, int]]:
        """For each account of the batch the sum of its unit vectors, and their number, which may be 0; lets them go."""
        held = np.concatenate([np.zeros((0, self.dimension), np.float32), *self._held])
        self._held.clear()
        found = {}
        for name, rows in rows_by_account(batch).items():
            numbers = rows["code"][:, 0].astype(np.int64)
            vectors = held[numbers[numbers > 0] - 1].astype(np.float64)
            units = vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
            found[name] = units.sum(axis=0), len(units)
        return found


# ---- what is kept of them


def _place(name: str) -> int:
    """Where an account stands in an order that its traffic has no part in."""
    return xxh3_64_intdigest(name.encode())


class _Sample:
    """The accounts with the smallest hashes, at most `SAMPLED_ACCOUNTS`, and their sums.

    One that is in it at the end was in it from its first request on, since the largest hash in it only ever falls: so
    one reading is enough. How small the hashes are tells how many accounts there are (Bar-Yossef et al. 2002).
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._sums: dict[str, Mean] = {}
        self._largest: list[tuple[int, str]] = []  # a heap, hashes negative
        self._full = False

    def add(self, sums: dict[str, tuple[Mean, int]]) -> None:
        """Add a batch's sums to those of its accounts."""
        for name, (total, count) in sums.items():
            if name in self.counts or self._is_taken_in(name):
                self._sums[name] = self._sums.get(name, 0.0) + total
                self.counts[name] = self.counts.get(name, 0) + count

    def _is_taken_in(self, name: str) -> bool:
        entry = (-_place(name), name)
        if len(self._largest) < SAMPLED_ACCOUNTS:
            heapq.heappush(self._largest, entry)
            return True
        self._full = True
        _, given_up = heapq.heappushpop(self._largest, entry)
        if given_up == name:
            return False
        del self._sums[given_up], self.counts[given_up]
        return True

    @property
    def population(self) -> int:
        """Accounts in all, an estimate when not all are in the sample."""
        if not self._full:
            return len(self.counts)
        return round((SAMPLED_ACCOUNTS - 1) * 2.0**64 / -self._largest[0][0])

    def mean(self, dimension: int) -> NDArray[np.float32]:
        """Mean over accounts of their mean unit vectors, accounts of few requests weighing less."""
        total, weights = np.zeros(dimension, np.float64), 0.0
        for name, count in self.counts.items():
            total += self._sums[name] / max(count, FULL_WEIGHT_REQUESTS)
            weights += count / max(count, FULL_WEIGHT_REQUESTS)
        if not weights:
            raise HistoryError("no request in it can be embedded")
        self._sums.clear()
        return population_mean(total, weights)


class _Kept:
    """Rows of accounts of a sample, as many as may be kept, and the days of all of it."""

    def __init__(self, sample: _Sample) -> None:
        chosen = sorted(sample.counts, key=lambda name: (sample.counts[name] < LEAST_REQUESTS, _place(name)))
        self.active = dict.fromkeys(sample.counts, 0)
        self.events = 0
        self.refused: Counter[str] = Counter()
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._room = dict.fromkeys(chosen[:KEPT_ACCOUNTS], KEPT_REQUESTS)

    def add(self, batch: EventBatch, refused: Counter[str]) -> None:
        """Take in a batch of the second reading."""
        self.events += len(batch)
        self.refused += refused
        for name, rows in rows_by_account(batch).items():
            if name not in self.active:
                continue
            for day in np.unique(rows["time"] // DAY_MS).tolist():
                self.active[name] |= 1 << max(day - FIRST_DAY, 0)
            room = self._room.get(name, 0)
            if room > 0:
                self._parts.setdefault(name, []).append(rows[:room])
            if name in self._room:
                self._room[name] = room - len(rows)

    @property
    def shortened(self) -> int:
        """Accounts of which not every request was kept."""
        return sum(room < 0 for room in self._room.values())

    def accounts(self) -> dict[str, NDArray[Any]]:
        """Each account's rows, in the order in which accounts appeared. To be asked for once: the parts are let go."""
        return {name: _in_one_log(self._parts.pop(name)) for name in list(self._parts)}


def _in_one_log(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Rows of several files as rows of one log: each file counts its lines from 1, offsets only ever grow."""
    rows = np.concatenate(parts)
    rows["offset"] = np.arange(len(rows))
    return rows
