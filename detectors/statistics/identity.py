"""Identity: which requests were counted already, and where the latest ones stand.

A ring of the last eight requests (hash of the identity, time, offset). A streaming answer that was logged twice is
counted once; an alert quotes the ring so that an analyst with the right to can look the requests up.

A request that lay under a wrong key or on a wrong partition comes as a copy, and a crash of who sends copies on repeats
any number of them, long after the ring has forgotten them. But the copies of one partition come in its order, and so do
the repeated ones. So it is enough to know how far each partition's copies have come, of the last four that the account
had any from. One is a repeat when neither its offset there nor its time is beyond the furthest: the time as well, so
that an offset that was forged, or of a topic that has been made anew since, does not void all that come after it.
With copies from more than four partitions in turn (records without a key), what a crash repeats may count again.

Bytes: 296. Cost: eight comparisons a request, and up to twelve more of a copy.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.kernel import Record, Scalar, kernel
from detectors.statistics.estimator import Parts, RecordDetector, Request, event_of

RING = 8

ORIGINS = 4

DTYPE = np.dtype(
    [
        ("count", "<i8"),
        ("identity", "<u8", (RING,)),
        ("time", "<i8", (RING,)),
        ("offset", "<i8", (RING,)),
        ("origin", "<u8", (ORIGINS,)),  # latest used first; 0 is none
        ("origin_offset", "<i8", (ORIGINS,)),
        ("origin_time", "<i8", (ORIGINS,)),
    ]
)


@kernel
def is_known(s: Record, identity: Scalar) -> bool:
    """Whether `identity` is among the last eight."""
    for k in range(min(s["count"], RING)):
        if s["identity"][k] == identity:
            return True
    return False


@kernel
def update(s: Record, identity: Scalar, time_ms: Scalar, offset: Scalar) -> None:
    """Remember one request."""
    k = s["count"] % RING
    s["identity"][k] = identity
    s["time"][k] = time_ms
    s["offset"][k] = offset
    s["count"] += 1


@kernel
def is_repeated(s: Record, origin: Scalar, offset: Scalar, time_ms: Scalar) -> bool:
    """Whether a copy from this place came before: its partition's copies have come as far, in offset and time."""
    for k in range(ORIGINS):
        if s["origin"][k] == origin:
            is_repeat: bool = offset <= s["origin_offset"][k] and time_ms <= s["origin_time"][k]
            return is_repeat
    return False


@kernel
def follow(s: Record, origin: Scalar, offset: Scalar, time_ms: Scalar) -> None:
    """Remember how far a partition's copies have come; the one that was longest unused gives way."""
    k = 0
    while k < ORIGINS - 1 and s["origin"][k] != origin:
        k += 1
    if s["origin"][k] == origin:
        offset = max(offset, s["origin_offset"][k])
        time_ms = max(time_ms, s["origin_time"][k])
    while k > 0:
        s["origin"][k] = s["origin"][k - 1]
        s["origin_offset"][k] = s["origin_offset"][k - 1]
        s["origin_time"][k] = s["origin_time"][k - 1]
        k -= 1
    s["origin"][0] = origin
    s["origin_offset"][0] = offset
    s["origin_time"][0] = time_ms


class Duplicates(RecordDetector):
    """Was the request logged before? 1 when its identity is among the last eight, or it is a repeated copy; else 0.

    A duplicate is not remembered again. A request without an identity (0 or none given) is none but as a copy.

    Examples
    --------
    >>> from detectors.statistics import Duplicates
    >>> duplicates = Duplicates()
    >>> duplicates.learn_one({"identity": 213, "time": 1_700_000_000_000})
    >>> duplicates.score_one({"identity": 213}), duplicates.score_one({"identity": 214})
    (1.0, 0.0)
    """

    PARTS: ClassVar[Parts] = {"identity": DTYPE}

    def score_one(self, x: Request) -> float:
        """1 for a request that was logged before, else 0."""
        event = event_of(x)
        return float(_is_duplicate(self._state[0]["identity"], event))

    def get(self) -> float:
        """Number of different requests that were remembered."""
        return float(self._state["identity"]["count"][0])

    def _take(self, record: Record, event: np.void) -> None:
        held = record["identity"]
        if event["identity"] != 0 and not _is_duplicate(held, event):
            update(held, event["identity"], event["time"], event["offset"])
        if event["origin"] != 0:
            follow(held, event["origin"], event["origin_offset"], event["time"])


def _is_duplicate(s: Record, event: np.void) -> bool:
    if event["origin"] != 0 and is_repeated(s, event["origin"], event["origin_offset"], event["time"]):
        return True
    return bool(event["identity"] != 0 and is_known(s, event["identity"]))
