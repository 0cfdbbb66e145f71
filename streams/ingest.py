"""Raw records to the rows that the detectors read; what cannot become one is sorted out, never dropped.

Three things can come of a record: a row of the batch, a dead letter with its reason, or (on a keyed topic) a misplaced
record that has to go back to the topic under its account's key, because an account's requests must meet in one
partition, in order. One bad record never touches its neighbours.

Text is embedded here and then forgotten: the batch holds the sign bits of it and its length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from detectors.embedding import Supplied, TextEmbedder, check_vectors, decode_embeddings
from detectors.encoder import Encoder
from detectors.events import DECLARED, EVENT_DTYPE, FAILED, NO_CONTENT, UNKNOWN, WORDS, EventBatch
from detectors.state import LAST_NUMBER
from schemas.dead_letter import DeadLetterReason
from schemas.origin import Origin, read_origin
from schemas.request import Rejected, RequestEvent, RequestLimits, decode_request, user_text
from streams.orders import order_of

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN: Final = 4.2
"""Usual length of a token in English: what the length is guessed from when only input tokens are known."""

NO_IDENTIFIER: Final = frozenset({"", "None", "none", "null", "NULL"})
"""What gateways write where there is no id; it must not make all their requests one."""

VECTORS_AT_ONCE: Final = 256
"""Supplied vectors decoded and encoded together: they stay in the processor's cache then. Changes speed only."""

# Hashes of an (account, id, time) and of a place in the log must not meet.
_BY_ID: Final = 1
_BY_PLACE: Final = 2


class Record(Protocol):
    """A record as a Kafka client or a file gives it. `timestamp` is epoch milliseconds, -1 when unknown."""

    @property
    def topic(self) -> str:
        """Topic, or the name of the file."""

    @property
    def partition(self) -> int:
        """Partition, 0 in a file."""

    @property
    def offset(self) -> int:
        """Offset, or the number of the line."""

    @property
    def timestamp(self) -> int:
        """The record's own time."""

    @property
    def key(self) -> bytes | None:
        """The account's UTF-8 bytes on a keyed topic."""

    @property
    def value(self) -> bytes | None:
        """The request event as JSON."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Only those of `schemas.origin` are read; a value may be null."""


class DeadLetter(NamedTuple):
    """A record that cannot be scored; `detail` holds nothing of its content."""

    record: Record
    reason: DeadLetterReason
    detail: str


class Erasure(NamedTuple):
    """An order to forget an account: all of it that came before this offset."""

    account: str
    offset: int


class Ingested(NamedTuple):
    """What came of some records: every one of them is in exactly one of the four."""

    batch: EventBatch
    dead: list[DeadLetter]
    misplaced: list[tuple[Record, str]]
    """Records to send back to the topic under the account beside them, with their place in their headers."""

    erasures: list[Erasure]
    """Orders to forget accounts. They act at their place in the log: `streams.orders.runs` keeps them apart from
    requests."""


class _Content(NamedTuple):
    """What the content of some events comes to, row by row."""

    codes: NDArray[np.uint64]
    lengths: list[float]
    blank: NDArray[np.bool_]
    refused: dict[int, Rejected]


class Ingest:
    """Reads records into batches. Keeps nothing between calls but the embedder's cache of words.

    Parameters
    ----------
    encoder
        The baseline's. Embeddings of another model than its are dead letters.
    embedder
        Text model for events that bring a prompt; None when only embeddings are expected.
    limits
        See `RequestLimits`.
    expected_partition
        Partition that a key belongs on. None for files, where nothing is misplaced.
    embedding_model
        Model of embeddings that do not name theirs; the encoder's when None.

    Raises
    ------
    ValueError
        The text model has the name of the baseline's model and another dimension.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        embedder: TextEmbedder | None,
        limits: RequestLimits = RequestLimits(),  # noqa: B008 - immutable
        expected_partition: Callable[[bytes], int] | None = None,
        embedding_model: str | None = None,
    ) -> None:
        if embedder and embedder.name == encoder.model and embedder.dimension != encoder.dimension:
            sizes = f"{embedder.dimension} numbers, the baseline has {encoder.dimension}"
            raise ValueError(f"the text model {embedder.name} gives {sizes}")
        self._encoder = encoder
        self._embedder = embedder
        self._limits = limits
        self._expected_partition = expected_partition
        self._default_model = embedding_model or encoder.model
        self._told_of_other_model = False

    def __call__(self, records: Sequence[Record]) -> Ingested:
        """Sort `records` into a batch in the order given and the rest. No record makes it raise."""
        dead: list[DeadLetter] = []
        misplaced: list[tuple[Record, str]] = []
        kept: list[Record] = []
        events: list[RequestEvent] = []
        erasures: list[Erasure] = []
        for record in records:
            if record.value is None and (account := order_of(record)) is not None:
                if self._expected_partition is not None and self._is_misplaced(record, account):
                    misplaced.append((record, account))
                else:
                    erasures.append(Erasure(account, record.offset))
                continue
            try:
                event = self._read(record)
                if self._expected_partition is not None and self._is_misplaced(record, event.account):
                    misplaced.append((record, event.account))
                    continue
            except Rejected as rejected:
                dead.append(DeadLetter(record, rejected.reason, rejected.detail))
            except Exception as error:  # one record must not stop the batch
                dead.append(DeadLetter(record, DeadLetterReason.INTERNAL, _unexpected(record, error)))
            else:
                kept.append(record)
                events.append(event)
        content = self._content(kept, events)
        dead += [DeadLetter(kept[row], bad.reason, bad.detail) for row, bad in sorted(content.refused.items())]
        return Ingested(_batch(kept, events, content), dead, misplaced, erasures)

    def _read(self, record: Record) -> RequestEvent:
        if not record.value:
            raise Rejected(DeadLetterReason.EMPTY, "no value")
        return decode_request(record.value, self._limits, record.timestamp)

    def _is_misplaced(self, record: Record, account: str) -> bool:
        assert self._expected_partition is not None  # noqa: S101 - of a keyed topic
        key = account.encode()
        return record.key != key or record.partition != self._expected_partition(key)

    def _content(self, records: Sequence[Record], events: Sequence[RequestEvent]) -> _Content:
        """Embed and encode what the events bring."""
        refused: dict[int, Rejected] = {}
        lengths: list[float] = []
        texts: dict[int, str] = {}
        supplied: dict[int, bytes | list[float]] = {}
        for row, event in enumerate(events):
            text = None
            try:
                if event.prompt is not None:
                    text = user_text(event)
                    if event.embedding is None and text is not None:
                        self._check_text_model()
                        texts[row] = text
            except Rejected as rejected:
                # Token ids beside an embedding do no harm: the embedding says it all.
                if event.embedding is None:
                    refused[row] = rejected
            except Exception as error:  # one record must not stop the batch
                refused[row] = Rejected(DeadLetterReason.INTERNAL, _unexpected(records[row], error))
            if event.embedding is not None and row not in refused:
                if (event.embedding_model or self._default_model) == self._encoder.model:
                    supplied[row] = event.embedding
                else:
                    refused[row] = Rejected(DeadLetterReason.EMBEDDING_MODEL, "not the baseline's embedding model")
            lengths.append(CHARACTERS_PER_TOKEN * (event.input_tokens or 0) if text is None else float(len(text)))
        codes, blank = self._codes(records, texts, supplied, refused)
        return _Content(codes, lengths, blank, refused)

    def _check_text_model(self) -> None:
        if self._embedder is None:
            raise Rejected(DeadLetterReason.NO_EMBEDDER, "text, and no text model is set up; send embeddings")
        if self._embedder.name != self._encoder.model:
            self._tell_of_other_model(self._embedder.name)
            raise Rejected(DeadLetterReason.EMBEDDING_MODEL, "the text model is not the baseline's embedding model")

    def _tell_of_other_model(self, name: str) -> None:
        """Say once what is wrong with all texts, rather than with each."""
        if not self._told_of_other_model:
            self._told_of_other_model = True
            log.error(
                "records bring text, which is embedded with %s, and the baseline is for %s: they are dead letters. "
                "Send embeddings of that model, or fit a baseline to texts",
                name,
                self._encoder.model,
            )

    def _codes(
        self,
        records: Sequence[Record],
        texts: dict[int, str],
        supplied: dict[int, bytes | list[float]],
        refused: dict[int, Rejected],
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Codes of all rows (zeros where there is no content) and which are blank; adds to `refused`."""
        codes = np.zeros((len(records), WORDS), np.uint64)
        blank = np.ones(len(records), np.bool_)

        def encode(rows: list[int], vectors: NDArray[np.float32], verdicts: NDArray[np.uint8]) -> None:
            good = np.flatnonzero(verdicts == Supplied.GOOD)
            if len(good):
                at = np.array(rows)[good]
                codes[at] = self._encoder.encode(vectors if len(good) == len(vectors) else vectors[good])
                blank[at] = False

        for rows in _cut(list(supplied), VECTORS_AT_ONCE):
            vectors, verdicts = self._decode(rows, supplied, refused)
            encode(rows, vectors, verdicts)
        if texts:
            vectors = self._embed(records, texts, refused)
            verdicts = check_vectors(vectors)
            for row, verdict in zip(texts, verdicts.tolist(), strict=True):
                if verdict == Supplied.NOT_FINITE and row not in refused:
                    refused[row] = Rejected(DeadLetterReason.INTERNAL, "the text model gave NaN or infinite numbers")
            encode(list(texts), vectors, verdicts)
        return codes, blank

    def _decode(
        self, rows: list[int], supplied: dict[int, bytes | list[float]], refused: dict[int, Rejected]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Vectors of these rows and what is to be said of them; adds to `refused`."""
        dimension = self._encoder.dimension
        vectors, verdicts = decode_embeddings([supplied[row] for row in rows], dimension)
        for place in np.flatnonzero(verdicts == Supplied.WRONG_DIMENSION):
            detail = f"{_size(supplied[rows[place]])}, the baseline's model has {dimension} numbers"
            refused[rows[place]] = Rejected(DeadLetterReason.DIMENSION, detail)
        for place in np.flatnonzero(verdicts == Supplied.NOT_FINITE):
            refused[rows[place]] = Rejected(DeadLetterReason.EMBEDDING, "NaN or infinite numbers")
        return vectors, verdicts

    def _embed(
        self, records: Sequence[Record], texts: dict[int, str], refused: dict[int, Rejected]
    ) -> NDArray[np.float32]:
        """Embed all texts at once; when that fails, one by one, so that only the text at fault is refused."""
        assert self._embedder is not None  # noqa: S101 - texts are only collected with an embedder
        try:
            return np.ascontiguousarray(self._embedder.embed(list(texts.values())), np.float32)
        except Exception as error:
            log.warning("embedding a batch failed, going text by text: %s", type(error).__name__)
        vectors = np.zeros((len(texts), self._encoder.dimension), np.float32)
        for i, (row, text) in enumerate(texts.items()):
            try:
                vectors[i] = self._embedder.embed([text])[0]
            except Exception as error:  # one record must not stop the batch
                refused[row] = Rejected(DeadLetterReason.INTERNAL, _unexpected(records[row], error))
        return vectors


def _cut(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[begin : begin + size] for begin in range(0, len(rows), size))


def _batch(records: list[Record], events: list[RequestEvent], content: _Content) -> EventBatch:
    """Rows of all events that were not refused."""
    columns = np.zeros(len(events), EVENT_DTYPE)
    accounts = [event.account for event in events]
    times = [event.time for event in events]
    ids = [_identifier(event.id) for event in events]
    endpoints = [event.endpoint for event in events]
    hashes = {endpoint: _hash(endpoint or "", bits=32) for endpoint in set(endpoints)}
    columns["time"] = times
    columns["offset"] = [record.offset for record in records]
    columns["identity"] = [
        _by_id(account, time, identifier) if identifier else _by_place(record)
        for record, account, time, identifier in zip(records, accounts, times, ids, strict=True)
    ]
    columns["end_user"] = [_hash(_identifier(event.end_user)) if event.end_user else 0 for event in events]
    columns["code"] = content.codes
    columns["length"] = content.lengths
    columns["output_tokens"] = [UNKNOWN if e.output_tokens is None else e.output_tokens for e in events]
    columns["endpoint"] = [hashes[endpoint] for endpoint in endpoints]
    columns["flags"] = [(FAILED if e.failed else 0) | (DECLARED if e.declared else 0) for e in events]
    columns["flags"] |= np.where(content.blank, np.uint32(NO_CONTENT), np.uint32(0))
    for row in [row for row, record in enumerate(records) if record.headers]:
        columns["origin"][row], columns["origin_offset"][row] = _copied_from(records[row])
    if content.refused:
        rows = [row for row in range(len(events)) if row not in content.refused]
        return EventBatch([accounts[row] for row in rows], [ids[row] for row in rows], columns[rows])
    return EventBatch(accounts, ids, columns)


def _copied_from(record: Record) -> tuple[int, int]:
    """Hash of the partition that a copy comes from and its offset there, (0, 0) of what is none."""
    origin = read_origin(record.headers)
    if origin is None or origin.offset > LAST_NUMBER:  # a place that no log has, nor a state room for
        return 0, 0
    return _hash(f"{origin.partition}:{origin.topic}"), origin.offset


def origin_of(record: Record) -> Origin:
    """The place that a request's identity is of: where a copy comes from as its headers say, else the record's own."""
    return (read_origin(record.headers) if record.headers else None) or Origin(
        record.topic, record.partition, record.offset
    )


def _by_id(account: str, time: int, identifier: str) -> int:
    """Identity of a request that has an id of its own; the account's length keeps the parts apart."""
    return xxh3_64_intdigest(f"{len(account)}:{account}{time}:{identifier}".encode(), _BY_ID) or 1


def _by_place(record: Record) -> int:
    """Identity of a request without an id: its record's place in the log, of a copy that of what it copies."""
    topic, partition, offset = origin_of(record)
    return xxh3_64_intdigest(f"{partition}:{offset}:{topic}".encode(), _BY_PLACE) or 1


def _identifier(text: str | None) -> str:
    return "" if text is None or text in NO_IDENTIFIER else text


def _hash(text: str, bits: int = 64) -> int:
    """Hash of a text, 0 for the empty one only."""
    return (xxh3_64_intdigest(text.encode()) & ((1 << bits) - 1) or 1) if text else 0


def _size(embedding: bytes | list[float]) -> str:
    return f"{len(embedding)} bytes" if isinstance(embedding, bytes) else f"{len(embedding)} numbers"


def _unexpected(record: Record, error: Exception) -> str:
    """Log a fault of ours without anything of the record (an exception's message may quote it); return the detail."""
    kind = type(error).__name__
    log.error("%s[%d]@%d could not be read: %s", record.topic, record.partition, record.offset, kind)
    return f"unexpected {kind}"
