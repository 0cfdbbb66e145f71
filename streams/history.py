"""Recorded requests, read as a whole: what `fit` learns from and `explain` shows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from detectors.embedding import TextEmbedder
from detectors.encoder import Encoder, rotation_signs
from detectors.events import EVENT_DTYPE, WORDS, EventBatch
from detectors.fit import population_mean
from schemas.request import Rejected, RequestEvent, RequestLimits, decode_request
from streams.detection import text_model
from streams.ingest import Ingest
from streams.replay import BATCH_RECORDS, CHUNK_BYTES, FileRecord, file_batches

FULL_WEIGHT_REQUESTS = 64
"""Accounts with at least so many requests weigh the same in the population's mean, however many they sent."""

DAY_MS = 86_400_000

Advance = Callable[[int], None]


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
        Rows of each account, in the order of the files.
    events
        Requests read.
    refused
        Refused records by reason.
    sha256
        Hash of each file.
    """

    encoder: Encoder
    accounts: dict[str, NDArray[Any]]
    events: int
    refused: Counter[str]
    sha256: list[str]

    @property
    def days(self) -> int:
        """UTC days on which any account sent something."""
        return len({day for rows in self.accounts.values() for day in np.unique(rows["time"] // DAY_MS).tolist()})

    @property
    def account_days(self) -> int:
        """Sum over accounts of the UTC days on which they sent something."""
        return sum(len(np.unique(rows["time"] // DAY_MS)) for rows in self.accounts.values())


@dataclass(frozen=True)
class Content:
    """What the requests of a history bring: the embedding model, the length of its vectors, the model for texts."""

    model: str
    dimension: int
    embedder: TextEmbedder | None = None


def read_history(
    paths: Sequence[Path], limits: RequestLimits, *, model: str | None, dimension: int | None, advance: Advance
) -> History:
    """Read files of request events twice: for the population's mean, then for every account's rows.

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
        Called with the number of bytes read; every file is read twice.

    Raises
    ------
    HistoryError
        Nothing in the files can be scored, or it is not said what the embeddings are.
    OSError
        A file cannot be read.
    """
    content = find_content(paths, limits, model=model, dimension=dimension)
    mean = _PopulationMean(content)
    reader = Ingest(encoder=cast(Encoder, mean), embedder=content.embedder, limits=limits, embedding_model=model)
    for records in _batches(paths, limits, advance):
        mean.add(reader(records).batch)
    encoder = Encoder(mean.value(), rotation_signs(content.dimension), content.model)
    reader = Ingest(encoder=encoder, embedder=content.embedder, limits=limits, embedding_model=model)
    return _read_rows(paths, reader, encoder, limits, advance)


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
            return Content(embedder.name, embedder.dimension, embedder)
        name = event.embedding_model or model
        if name is None:
            raise HistoryError("the events do not name their embedding model: give --embedding-model")
        size = len(event.embedding) if isinstance(event.embedding, list) else dimension
        if size is None:
            raise HistoryError("base64 does not tell float16 from float32: give --dimension, the embeddings' length")
        return Content(name, size, embedder if embedder.name == name else None)
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


def _read_rows(
    paths: Sequence[Path], reader: Ingest, encoder: Encoder, limits: RequestLimits, advance: Advance
) -> History:
    parts: dict[str, list[NDArray[Any]]] = {}
    refused: Counter[str] = Counter()
    events = 0
    for records in _batches(paths, limits, advance):
        ingested = reader(records)
        events += len(ingested.batch)
        refused.update(letter.reason.value for letter in ingested.dead)
        for name, rows in rows_by_account(ingested.batch).items():
            parts.setdefault(name, []).append(rows)
    accounts = {name: _in_one_log(rows) for name, rows in parts.items()}
    return History(encoder, accounts, events, refused, [_sha256(path) for path in paths])


def _in_one_log(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Rows of several files as rows of one log: each file counts its lines from 1, offsets only ever grow."""
    rows = np.concatenate(parts)
    rows["offset"] = np.arange(len(rows))
    return rows


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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass
class _PopulationMean:
    """Poses as the encoder in a first reading, and keeps what it is given: there is no mean yet to encode with.

    The codes that it hands out are numbers of vectors, by which `add` finds whose vector each is.
    """

    content: Content
    _vectors: list[NDArray[np.float32]] = field(default_factory=list)
    _sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    @property
    def model(self) -> str:
        """The embedding model."""
        return self.content.model

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return self.content.dimension

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Keep some embeddings of a batch; in place of codes their numbers in it, from 1."""
        before = sum(map(len, self._vectors))
        self._vectors.append(embeddings)
        codes = np.zeros((len(embeddings), WORDS), np.uint64)
        codes[:, 0] = np.arange(before + 1, before + len(embeddings) + 1)
        return codes

    def add(self, batch: EventBatch) -> None:
        """Add the unit vectors of a batch to their accounts' sums; the next embeddings are another batch's."""
        if not self._vectors:
            return
        held = np.concatenate(self._vectors)
        self._vectors.clear()
        for name, rows in rows_by_account(batch).items():
            numbers = rows["code"][:, 0].astype(np.int64)
            vectors = held[numbers[numbers > 0] - 1].astype(np.float64)
            if len(vectors):
                units = vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
                self._sums[name] = self._sums.get(name, 0.0) + units.sum(axis=0)
                self._counts[name] += len(units)

    def value(self) -> NDArray[np.float32]:
        """Mean over accounts of their mean unit vectors, accounts of few requests weighing less."""
        if not self._counts:
            raise HistoryError("no request in it can be embedded")
        total, weights = np.zeros(self.dimension, np.float64), 0.0
        for name, count in self._counts.items():
            total += self._sums[name] / max(count, FULL_WEIGHT_REQUESTS)
            weights += count / max(count, FULL_WEIGHT_REQUESTS)
        return population_mean(total, weights)
