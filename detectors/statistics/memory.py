"""What an account remembers of its own requests: the last sixteen, and a sample of everything older.

Order, recurrence and coverage all ask how far a new request lies from the recent ones and from the old ones, so the
distances are taken once, here.

The sample is Vitter's algorithm R (1985) over the requests that have left the last `LOCAL`; its coin is a hash of the
request's number, so a replay draws the same sample. Bytes: 1,032. Cost: 32 Hamming distances a request.

References
----------
[^1]: Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).
"""

from __future__ import annotations

import numpy as np

from detectors.kernel import Code, Record, Scalar, Vector, kernel
from detectors.statistics.bits import hamming, mix

RING = 16
RESERVOIR = 16
LOCAL = 8
ABSENT = 999

DTYPE = np.dtype([("count", "<i8"), ("ring", "<u8", (RING, 4)), ("reservoir", "<u8", (RESERVOIR, 4))])


@kernel
def sampled(s: Record) -> Scalar:
    """Number of old requests in the sample."""
    return min(max(s["count"] - LOCAL, 0), RESERVOIR)


@kernel
def recall(s: Record, code: Code, distances: Vector) -> None:
    """Fill `distances` (int64, `(32,)`): to the request k ago at k - 1, then to the sample; `ABSENT` where none."""
    count = s["count"]
    for k in range(RING):
        distances[k] = hamming(code, s["ring"][(count - 1 - k) % RING]) if k < count else ABSENT
    held = min(max(count - LOCAL, 0), RESERVOIR)
    for k in range(RESERVOIR):
        distances[RING + k] = hamming(code, s["reservoir"][k]) if k < held else ABSENT


@kernel
def remember(s: Record, code: Code) -> None:
    """Push `code` onto the ring; what leaves the last `LOCAL` becomes a candidate for the sample."""
    count = s["count"]
    if count >= LOCAL:
        age = count - LOCAL
        slot = age
        if age >= RESERVOIR:
            slot = np.int64(mix(np.uint64(count)) % np.uint64(age + 1))
        if slot < RESERVOIR:
            old = s["ring"][(count - LOCAL) % RING]
            for w in range(4):
                s["reservoir"][slot, w] = old[w]
    for w in range(4):
        s["ring"][count % RING, w] = code[w]
    s["count"] = count + 1
