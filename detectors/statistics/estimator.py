"""The River side of every statistic: an estimator whose whole state is one numpy record.

The record is the estimator's own, or a view of a row of the worker's slab. It nests the records of the parts that the
statistic needs (its own, and for instance the account's memory), under the names they have in the account's record.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from river import base

from detectors.events import BITS, DECLARED, EVENT_DTYPE, FAILED, NO_CONTENT, UNKNOWN, WORDS
from detectors.kernel import Record

ABSENT_TIME = int(np.iinfo(np.int64).min)
"""Time of a request that was given none: it counts as sent together with the request before it."""

ABSENT_OFFSET = -1
"""Offset of a request that was given none."""

Request = Mapping[Any, Any] | NDArray[Any] | np.void
"""One request: a row of `EVENT_DTYPE` (or an array holding one), or a dict of features (see `event_of`)."""

Parts = dict[str, np.dtype[Any]]
"""The records that a statistic's record nests, by their names in the account's record."""

_INTEGERS = ("time", "offset", "identity", "end_user", "output_tokens", "endpoint", "flags", "origin", "origin_offset")
_KNOWN = {*_INTEGERS, "code", "length"}


def event_of(x: Request) -> np.void:
    """The row of `EVENT_DTYPE` that a request is; what a dict leaves out is unknown.

    A dict may hold the columns of `EVENT_DTYPE` under their names. All its other numbers are features of the request's
    content and are folded into the code by signed random projection (Charikar 2002): the signs of a feature are the
    first bits of the SHA-256 of its name, and a bit of the code says whether the features' sum so signed is positive.
    Other values (text, NaN, None) are passed over. A request with neither code nor features has no content.

    Raises
    ------
    TypeError
        `x` is neither a row of `EVENT_DTYPE` nor a mapping.

    Examples
    --------
    >>> event = event_of({"time": 1_700_000_000_000, "warmth": 0.5, "length": 80})
    >>> int(event["time"]), float(event["length"]), int(event["output_tokens"])
    (1700000000000, 80.0, -1)
    >>> bool((event["code"] == event_of({"warmth": 2.0})["code"]).all())
    True
    """
    event = np.zeros(1, EVENT_DTYPE)
    if isinstance(x, np.ndarray | np.void):
        if x.dtype != EVENT_DTYPE or x.size != 1:
            raise TypeError(f"a request must be one row of EVENT_DTYPE, not {x.dtype} of shape {x.shape}")
        event[:] = x
        return _row(event)
    if not isinstance(x, Mapping):
        raise TypeError(f"a request must be a row of EVENT_DTYPE or a mapping of features, not {type(x).__name__}")
    event["time"] = ABSENT_TIME
    event["offset"] = ABSENT_OFFSET
    event["output_tokens"] = UNKNOWN
    for name in _INTEGERS:
        if _is_number(x.get(name)):
            bounds = np.iinfo(EVENT_DTYPE[name])
            event[name] = min(max(int(x[name]), int(bounds.min)), int(bounds.max))
    if _is_number(x.get("length")):
        event["length"] = min(max(float(x["length"]), 0.0), 1e9)
    code = x.get("code")
    event["code"] = _folded(x) if code is None else np.asarray(code, np.uint64)
    if code is None and not event["code"].any():
        event["flags"] |= NO_CONTENT
    return _row(event)


def _row(event: NDArray[Any]) -> np.void:
    row: np.void = event[0]
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_) and math.isfinite(value)


def _folded(x: Mapping[Any, Any]) -> NDArray[np.uint64]:
    """The code of a dict's features, zeros when it has none; their order does not matter."""
    features = sorted(
        (str(name), float(value)) for name, value in x.items() if name not in _KNOWN and _is_number(value)
    )
    if not features:
        return np.zeros(WORDS, np.uint64)
    total = np.zeros(BITS)
    for name, value in features:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
        signs = np.unpackbits(np.frombuffer(digest, np.uint8), count=BITS)
        total += value * (2.0 * signs - 1.0)
    return np.packbits(total > 0.0).view("<u8").astype(np.uint64)


def is_covered(event: np.void) -> bool:
    """Whether the request covered something: it has content and did not fail."""
    return not int(event["flags"]) & (FAILED | NO_CONTENT | DECLARED)


class RecordEstimator(base.Estimator):
    """Base of the estimators whose whole state is one record.

    A subclass names the parts of its record (`PARTS`) and takes one request into them (`_take`).
    """

    PARTS: ClassVar[Parts]

    def __init__(self) -> None:
        self._state = np.zeros(1, self.dtype())

    @classmethod
    def dtype(cls) -> np.dtype[Any]:
        """Layout of the estimator's record."""
        return np.dtype(list(cls.PARTS.items()))

    @classmethod
    def view(cls, row: NDArray[Any], **parameters: Any) -> Self:
        """An estimator on somebody else's record, which it shares: what either learns, both know.

        Parameters
        ----------
        row
            Array of shape `(1,)`, for instance `slab[i : i + 1]`, whose record holds the fields of `PARTS`. Learning
            moves these fields and no other, so a whole account is best taught through its `AccountModel`.
        parameters
            Those of the class.

        Raises
        ------
        TypeError
            The record lacks a part, or has another layout.
        """
        held: Mapping[str, Any] = row.dtype.fields or {}
        wrong = [name for name, dtype in cls.PARTS.items() if name not in held or held[name][0] != dtype]
        if row.shape != (1,) or wrong:
            raise TypeError(f"{cls.__name__} needs an array of shape (1,) with {list(cls.PARTS)}; wrong: {wrong}")
        self = cls(**parameters)
        self._state = row
        return self

    @classmethod
    def from_bytes(cls, data: bytes, **parameters: Any) -> Self:
        """An estimator with the state that `to_bytes` gave; raises ValueError when the size is another."""
        self = cls(**parameters)
        self._restore(data)
        return self

    def to_bytes(self) -> bytes:
        """The whole state, little-endian; of a view, the fields of `PARTS`."""
        return self._copy().tobytes()

    def learn_one(self, x: Request) -> None:
        """Take one request into the state."""
        self._take(self._state[0], event_of(x))

    def _take(self, record: Record, event: np.void) -> None:
        raise NotImplementedError

    def _copy(self) -> NDArray[Any]:
        """The state as a record of its own."""
        own = np.zeros(1, self.dtype())
        for name in self.PARTS:
            own[name] = self._state[name]
        return own

    def _restore(self, data: bytes) -> None:
        if len(data) != self.dtype().itemsize:
            raise ValueError(f"a state of {type(self).__name__} has {self.dtype().itemsize} bytes, not {len(data)}")
        self._state = np.frombuffer(bytearray(data), self.dtype())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": self.to_bytes()}

    def __setstate__(self, held: dict[str, Any]) -> None:
        self.__dict__.update(held)
        self._restore(held["_state"])

    @property
    def _raw_memory_usage(self) -> int:
        return int(self.dtype().itemsize)


class RecordDetector(RecordEstimator, base.AnomalyDetector):
    """Base of the statistics that speak for or against extraction: the higher the score, the less organic.

    A subclass says what its statistic is (`_value`), and, where a low value is the suspicious one, what it scores.
    """

    def get(self) -> float:
        """The statistic, of all that was learnt."""
        return self._value(self._state[0])

    def score_one(self, x: Request) -> float:
        """How little the traffic looks organic once `x` has been taken in; nothing is learnt."""
        trial = self._copy()
        self._take(trial[0], event_of(x))
        return self._score(trial[0])

    def _value(self, record: Record) -> float:
        raise NotImplementedError

    def _score(self, record: Record) -> float:
        return self._value(record)


class RecordTransformer(RecordEstimator, base.Transformer):
    """Base of the statistics that describe an account without speaking for or against extraction."""

    def get(self) -> dict[str, float]:
        """The statistics by name, of all that was learnt."""
        raise NotImplementedError

    def transform_one(self, x: Request) -> dict[base.typing.FeatureName, Any]:
        """The statistics by name, of all that was learnt before `x`."""
        return dict(self.get().items())
