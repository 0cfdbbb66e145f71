"""Identity: which requests were counted already, and where the latest ones stand.

A ring of the last eight requests (hash of the identity, time, offset). A streaming answer that was logged twice is
counted once; an alert quotes the ring so that an analyst with the right to can look the requests up.

Bytes: 200. Cost: eight comparisons a request.
"""

from __future__ import annotations

import numpy as np

from detectors.kernel import Record, Scalar, kernel

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
