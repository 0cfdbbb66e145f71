"""Header: how far the account's log was taken in, and between which times.

Not a statistic: the gap to the request before and the request's number are what the statistics ask it for. The last
time is the latest, so a late request does not turn the clock back.

Offsets count within a log. When a topic was deleted and made anew, or lost its end, offsets begin again; the number of
the log tells its states from those of the logs before.

Bytes: 64. Cost: a few comparisons a request.
"""

from __future__ import annotations

import numpy as np

from detectors.kernel import Record, Scalar, kernel

DTYPE = np.dtype(
    [
        ("requests", "<i8"),  # all that were counted, failed and declared ones too
        ("declared", "<i8"),  # those that the operator has declared, and that are not judged
        ("covered", "<i8"),  # those with content that did not fail and were not declared
        ("first_time", "<i8"),  # of the first that was not declared
        ("last_time", "<i8"),
        ("judged_time", "<i8"),  # latest of those that were not declared
        ("log", "<i8"),  # which log the offset counts in: 0, and one more each time that offsets begin again
        ("offset", "<i8"),  # fence: last applied offset
    ]
)


@kernel
def gap(s: Record, time_ms: Scalar) -> Scalar:
    """Milliseconds from the latest request that is judged to `time_ms`: negative if late, -1 for the first."""
    if s["requests"] == s["declared"]:
        return np.int64(-1)
    return time_ms - s["judged_time"]


@kernel
def update(s: Record, time_ms: Scalar, offset: Scalar, is_declared: Scalar) -> None:
    """Count one request."""
    if is_declared:
        s["declared"] += 1
    elif s["requests"] == s["declared"]:
        s["first_time"] = s["judged_time"] = time_ms
    else:
        s["judged_time"] = max(s["judged_time"], time_ms)
    if s["requests"] == 0 or time_ms > s["last_time"]:
        s["last_time"] = time_ms
    s["requests"] += 1
    s["offset"] = offset
