"""Read history for `stillwatch fit`: requests of files or a topic, to what `detectors.fit` takes.

The population's mean must be known before a request can be encoded, so embeddings go to a temporary file as float16
(512 bytes a request) and are encoded when all are read. No text is kept.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from detectors.embedding import TextEmbedder
from detectors.encoder import Encoder, rotation_signs
from detectors.events import NO_CONTENT
from detectors.fit import population_mean
from schemas.request import RequestLimits
from streams.ingest import Ingest, Record

MOST_OF_AN_ACCOUNT = 64
"""Requests of one account that weigh fully in the population's mean; a busier account weighs no more than that."""

ENCODE_ROWS = 50_000


class _Keeper(Encoder):
    """An encoder's place-holder: writes embeddings to a file and gives each its row's number, from 1, as its code."""

    def __init__(self, model: str, dimension: int) -> None:
        super().__init__(np.zeros(dimension, np.float32), rotation_signs(dimension), model)
        self.file = tempfile.TemporaryFile(prefix="stillwatch-fit-")  # noqa: SIM115 - closed by History
        self.rows = 0

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Keep the unit vectors of `embeddings`; codes hold the number of the row."""
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        self.file.write((embeddings / norms).astype(np.float16).tobytes())
        codes = np.zeros((len(embeddings), 4), np.uint64)
        codes[:, 0] = self.rows + 1 + np.arange(len(embeddings))
        self.rows += len(embeddings)
        return codes


@dataclass(frozen=True)
class History:
    """What a fit needs of the past.

    Attributes
    ----------
    names
        The accounts' names.
    accounts
        One array of `EVENT_DTYPE` an account, in the order read.
    encoder
        Made from the history's mean.
    refused
        Records left out, by reason.
    """

    names: list[str]
    accounts: list[NDArray[Any]]
    encoder: Encoder
    refused: Counter[str]

    @property
    def events(self) -> int:
        """Number of requests."""
        return sum(map(len, self.accounts))


class HistoryReader:
    """Collects records, batch by batch, then gives the history.

    Parameters
    ----------
    model, dimension
        The embedding model that the baseline is for.
    embedder
        Embeds prompts; None when the history holds embeddings only.
    limits
        As for the service.
    """

    def __init__(self, model: str, dimension: int, embedder: TextEmbedder | None, limits: RequestLimits) -> None:
        self._keeper = _Keeper(model, dimension)
        self._ingest = Ingest(encoder=self._keeper, embedder=embedder, limits=limits, expected_partition=None)
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._refused: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._keeper.file.close()

    def feed(self, records: Sequence[Record]) -> None:
        """Take records, in the order of their log."""
        ingested = self._ingest(records)
        self._refused.update(dead.reason.value for dead in ingested.dead)
        batch = ingested.batch
        if not len(batch):
            return
        names, index = np.unique(np.array(batch.accounts, dtype=object), return_inverse=True)
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(np.bincount(index))
        for name, rows in zip(names, np.split(order, ends[:-1]), strict=True):
            self._parts.setdefault(name, []).append(batch.columns[rows])

    def finish(self) -> History:
        """Encode everything that was read.

        Raises
        ------
        ValueError
            Nothing that could be embedded was read.
        """
        if self._keeper.rows == 0:
            raise ValueError("the history holds no request with content of this embedding model")
        self._keeper.file.flush()
        kept: NDArray[np.float16] = np.memmap(
            self._keeper.file, np.float16, "r", shape=(self._keeper.rows, self._keeper.dimension)
        )
        accounts = [np.concatenate(parts) for parts in self._parts.values()]
        encoder = Encoder(self._mean(kept, accounts), self._keeper.signs, self._keeper.model)
        codes = np.zeros((self._keeper.rows + 1, 4), np.uint64)
        for start in range(0, len(kept), ENCODE_ROWS):
            rows = np.asarray(kept[start : start + ENCODE_ROWS], np.float32)
            codes[start + 1 : start + 1 + len(rows)] = encoder.encode(rows)
        for events in accounts:
            events["code"] = codes[events["code"][:, 0]]
            events["offset"] = np.arange(len(events))
        return History(list(self._parts), accounts, encoder, self._refused)

    def _mean(self, kept: NDArray[np.float16], accounts: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Mean unit embedding in which no account weighs more than `MOST_OF_AN_ACCOUNT` requests."""
        weight = np.zeros(len(kept))
        for events in accounts:
            rows = events["code"][(events["flags"] & NO_CONTENT) == 0, 0].astype(np.int64) - 1
            weight[rows] = 1.0 / max(len(rows), MOST_OF_AN_ACCOUNT)
        total = np.zeros(kept.shape[1])
        for start in range(0, len(kept), ENCODE_ROWS):
            part = np.asarray(kept[start : start + ENCODE_ROWS], np.float64)
            total += weight[start : start + len(part)] @ part
        return population_mean(total, float(weight.sum()))
