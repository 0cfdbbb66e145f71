"""What an account remembers of its own requests: the last sixteen, and a sample of 32 older ones.

Order, recurrence and coverage all ask how far a new request lies from the recent ones and from the old ones, so the
distances are taken once, here.

The sample is Vitter's algorithm R (1985) over the requests that have left the ring; its coin is a hash of the
request's number, so a replay draws the same sample. Bytes: 776. Cost: 48 Hamming distances a request.

References
----------
[^1]: Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detectors.events import UNRELATED, WORDS
from detectors.kernel import Code, Record, Scalar, Vector, kernel
from detectors.statistics.bits import hamming, mix
from detectors.statistics.estimator import Parts, RecordDetector, is_covered

RING = 16
RESERVOIR = 32
HELD = RING + RESERVOIR
ABSENT = 999

DTYPE = np.dtype(
    [
        ("count", "<i8"),
        ("ring", "<u8", (RING, WORDS)),
        ("sample", "<u8", (RESERVOIR, WORDS)),
    ]
)


@kernel
def sampled(s: Record) -> Scalar:
    """Number of old requests in the sample."""
    return min(max(s["count"] - RING, 0), RESERVOIR)


@kernel
def recall(s: Record, code: Code, distances: Vector) -> None:
    """Fill `distances` (int64, `(HELD,)`): to the request k ago at k - 1, then to the sample; `ABSENT` where none."""
    count = s["count"]
    for k in range(RING):
        distances[k] = hamming(code, s["ring"][(count - 1 - k) % RING]) if k < count else ABSENT
    held = sampled(s)
    for k in range(RESERVOIR):
        distances[RING + k] = hamming(code, s["sample"][k]) if k < held else ABSENT


@kernel
def remember(s: Record, code: Code) -> None:
    """Push `code` onto the ring; what leaves it becomes a candidate for the sample."""
    count = s["count"]
    if count >= RING:
        age = count - RING
        slot = age
        if age >= RESERVOIR:
            slot = np.int64(mix(np.uint64(count)) % np.uint64(age + 1))
        if slot < RESERVOIR:
            old = s["ring"][count % RING]
            for w in range(WORDS):
                s["sample"][slot, w] = old[w]
    for w in range(WORDS):
        s["ring"][count % RING, w] = code[w]
    s["count"] = count + 1


def distances_to(s: Record, code: Code) -> NDArray[np.int64]:
    """What `recall` writes, as a new array."""
    distances = np.empty(HELD, np.int64)
    recall(s, code, distances)
    return distances


class NearestRemembered(RecordDetector):
    """Distance to the nearest of what the account remembers: its last 16 requests and a sample of 32 older ones.

    The nearest-neighbour score of outlier detection, over a bounded memory of the account's own past: in units of the
    distance of unrelated requests. Person and list alike score high on it, so it says what is new and not
    what is extraction.

    Examples
    --------
    >>> from detectors.statistics import NearestRemembered
    >>> nearest = NearestRemembered()
    >>> for x in ({"warmth": 1.0, "light": 0.2}, {"warmth": 1.1, "light": 0.3}, {"warmth": 0.1, "light": 1.0}):
    ...     print(nearest.score_one(x))
    ...     nearest.learn_one(x)
    0.0
    0.0
    1.015625

    References
    ----------
    [^1]: Knorr, E. M. and Ng, R. T. (1998). Algorithms for mining distance-based outliers in large datasets. VLDB.
    [^2]: Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).
    """

    PARTS: ClassVar[Parts] = {"memory": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            remember(record["memory"], event["code"])

    def _value(self, record: Record) -> float:
        """Distance of the last request to the nearest before it; 0 before there are two."""
        count = int(record["memory"]["count"])
        if count < 2:
            return 0.0
        distances = distances_to(record["memory"], record["memory"]["ring"][(count - 1) % RING])
        return float(distances[1:].min()) / UNRELATED
