"""What the detectors see of a request: one fixed-size row, and the few strings that an alert may need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""Marks a count that the request's source did not report; it is never the same as zero."""

FAILED = 1
"""Flag: the status was 4xx or 5xx, so the request is activity but covered nothing."""

NO_CONTENT = 2
"""Flag: neither an embedding nor any text came with the request, so it is activity but covered nothing."""

DECLARED = 4
"""Flag: the operator has declared what the request is, so it is activity and is not judged."""

BITS = 128
"""Sign bits of a code. With 256 a single distance would be a third less noisy and every state half as large
again, and detection measured alike: what limits it is how few requests there are."""

WORDS = BITS // 64

UNRELATED = BITS / 2
"""Bits in which the codes of two unrelated requests differ on average: the unit of distances that are reported."""

EVENT_DTYPE = np.dtype(
    [
        ("time", "<i8"),  # event time, epoch milliseconds
        ("offset", "<i8"),  # offset in the partition; the line number when read from a file
        ("identity", "<u8"),  # hash of (account, id, time), else of (topic, partition, offset)
        ("end_user", "<u8"),  # hash of the account's own user id, 0 when absent
        ("code", "<u8", (WORDS,)),  # sign bits of the centred, rotated embedding; zeros when there is no content
        ("length", "<f4"),  # characters of the embedded text, else input tokens x 4.2; 0 when unknown
        ("output_tokens", "<i4"),  # tokens answered, UNKNOWN when not reported
        ("endpoint", "<u4"),  # hash of the endpoint's name, 0 when absent
        ("flags", "<u4"),  # FAILED | NO_CONTENT | DECLARED
        ("origin", "<u8"),  # of a copy that was sent on under its account's key: hash of the partition it comes from,
        ("origin_offset", "<i8"),  # and its offset there; 0 and 0 of any other request
    ]
)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Consecutive requests of one partition, in the order of the log.

    Attributes
    ----------
    accounts
        Account of each row.
    ids
        The request's own id of each row, "" when it has none. Only quoted in alerts.
    columns
        Array of `EVENT_DTYPE`, shape `(n,)`.
    """

    accounts: list[str]
    ids: list[str]
    columns: NDArray[Any]

    def __len__(self) -> int:
        return len(self.accounts)

    def __post_init__(self) -> None:
        if self.columns.dtype != EVENT_DTYPE:
            raise TypeError(f"columns must be of EVENT_DTYPE, not {self.columns.dtype}")
        if not len(self.accounts) == len(self.ids) == len(self.columns):
            raise ValueError("accounts, ids and columns differ in length")
