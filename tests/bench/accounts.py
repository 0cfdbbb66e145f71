"""Accounts of composed streams as the comparison needs them: rows, statistics, and the content that rows do not keep.

The service keeps the sign bits of a prompt's embedding. Methods of other papers need the embedding itself, or the
words; so here both are kept beside each account's rows. Embeddings are WordLlama's, the same that the rows' codes were
made from, by the service's own ingest.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from detectors import account
from detectors.account import FEATURES
from detectors.embedding import SMALLEST_NORM, TextEmbedder
from detectors.encoder import Encoder
from detectors.events import DECLARED, FAILED, NO_CONTENT, WORDS
from detectors.statistics import memory
from schemas.request import RequestLimits
from streams.ingest import Ingest
from streams.replay import file_batches
from tests.bench.detection import BATCH, Stream

Floats = NDArray[np.float64]

VOCABULARY = 8192
"""Words are kept as hashes below this; 0 stands for no word."""

MAX_WORDS = 48
"""Words of a prompt that are kept."""

_WORD = re.compile(r"\w+|[^\w\s]")


class Account(NamedTuple):
    """One account of a stream, as far as its requests go.

    Attributes
    ----------
    name, label, archetype
        As labelled.
    starts
        Requests before the first of extraction.
    pool
        Pool of people that most of its people's texts come from, "" for none.
    events
        Its rows, in the order of the log.
    looks
        Statistics at each look, shape `(looks, len(FEATURES))`.
    at
        Index of the event of each look.
    seen
        Covered requests up to and with each look: rows of `vectors` and `words` that may be used there.
    vectors
        Unit embeddings of the covered requests, float32, shape `(covered, dimension)`.
    words
        Hashed words of the covered requests, `MAX_WORDS` at most each.
    """

    name: str
    label: str
    archetype: str
    starts: int
    pool: str
    events: NDArray[Any]
    looks: Floats
    at: NDArray[np.int64]
    seen: NDArray[np.int64]
    vectors: NDArray[np.float32]
    words: list[NDArray[np.uint16]]


class Recorder:
    """Poses as embedder and encoder of an ingest, and keeps the vectors and words that pass through.

    The codes that it hands out are numbers of vectors from 1 on, by which `read_accounts` finds whose vector each is.
    """

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder
        self.name = self.model = embedder.name
        self.dimension = embedder.dimension
        self.vectors: list[NDArray[np.float32]] = []
        self.words: list[NDArray[np.uint16]] = []
        self._encoded = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEmbedder.embed`. What points nowhere is not encoded, so it is not kept either."""
        vectors = self._embedder.embed(texts)
        good = np.linalg.norm(vectors, axis=1) >= SMALLEST_NORM
        self.vectors.append(vectors[good])
        self.words += [hashed_words(text) for text, kept in zip(texts, good, strict=True) if kept]
        return vectors

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Numbers in place of codes."""
        codes = np.zeros((len(embeddings), WORDS), np.uint64)
        codes[:, 0] = np.arange(self._encoded + 1, self._encoded + len(embeddings) + 1)
        self._encoded += len(embeddings)
        if self._encoded != len(self.words):
            raise ValueError("the comparison needs prompts: this stream brings embeddings")
        return codes


def hashed_words(text: str) -> NDArray[np.uint16]:
    """The first words and marks of a text, in lower case, as numbers from 1 on."""
    found = _WORD.findall(text[: 20 * MAX_WORDS].lower())[:MAX_WORDS]
    return np.array([1 + zlib.crc32(word.encode()) % (VOCABULARY - 1) for word in found], np.uint16)


def read_accounts(stream: Stream, encoder: Encoder, embedder: TextEmbedder) -> Iterator[Account]:
    """Every account of a stream that is looked at, in the order of names.

    Parameters
    ----------
    stream
        Of prompts.
    encoder
        Makes the codes of the rows.
    embedder
        The encoder's model.
    """
    recorder = Recorder(embedder)
    ingest = Ingest(encoder=cast(Encoder, recorder), embedder=recorder, limits=RequestLimits())
    names: list[str] = []
    columns = []
    with (stream.folder / "events.jsonl").open("rb") as source:
        for records in file_batches(source, max_record_bytes=1 << 20, batch_records=BATCH):
            batch = ingest(records).batch
            names += batch.accounts
            columns.append(batch.columns)
    rows = np.concatenate(columns)
    vectors = np.concatenate(recorder.vectors)
    number = rows["code"][:, 0].astype(np.int64)
    rows["code"][number > 0] = encoder.encode(vectors)[number[number > 0] - 1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    where: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        where.setdefault(name, []).append(row)
    for name in sorted(where):
        events = rows[where[name]]
        covered = (events["flags"] & (FAILED | NO_CONTENT | DECLARED)) == 0
        kept = number[where[name]][covered] - 1
        looks, at = looks_of(events)
        if len(looks):
            label = stream.labels[name]
            seen = np.cumsum(covered)[at]
            words = [recorder.words[i] for i in kept]
            yield Account(
                name, label["label"], label["archetype"], label["starts"], stream.pools[name],
                events, looks, at, seen, vectors[kept], words,
            )  # fmt: skip


def looks_of(events: NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """Statistics of an account at each of its looks, and the index of each look's event."""
    looks = np.zeros((len(events) // 4 + 1, len(FEATURES)))
    at = np.zeros(len(looks), np.int64)
    count = account.trace(np.zeros(1, account.DTYPE)[0], events, np.zeros(memory.HELD, np.int64), looks, at)
    return looks[:count].copy(), at[:count].copy()
