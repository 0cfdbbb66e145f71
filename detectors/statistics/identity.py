"""Identity: which requests were counted already, and where the latest ones stand.

A ring of the last eight requests (hash of the identity, time, offset). A streaming answer that was logged twice is
counted once; an alert quotes the ring so that an analyst with the right to can look the requests up.

Bytes: 200. Cost: eight comparisons a request.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.kernel import Record, Scalar, kernel
from detectors.statistics.estimator import Parts, RecordDetector, Request, event_of

RING = 8

DTYPE = np.dtype([("count", "<i8"), ("identity", "<u8", (RING,)), ("time", "<i8", (RING,)), ("offset", "<i8", (RING,))])


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


class Duplicates(RecordDetector):
    """Was the request logged before? 1 when its identity is among the last eight, else 0.

    A duplicate is not remembered again. A request without an identity (0 or none given) is never one.

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
        return float(event["identity"] != 0 and is_known(self._state[0]["identity"], event["identity"]))

    def get(self) -> float:
        """Number of different requests that were remembered."""
        return float(self._state["identity"]["count"][0])

    def _take(self, record: Record, event: np.void) -> None:
        if event["identity"] != 0 and not is_known(record["identity"], event["identity"]):
            update(record["identity"], event["identity"], event["time"], event["offset"])
