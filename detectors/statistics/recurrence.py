"""Recurrence: does the account ask the same again?

Services, jobs and evaluations do, and people now and then; a list made for extraction is deduplicated. A request is
known by a 16-bit fingerprint of its code in a table of 256, filled first and then sampled (Vitter 1985); counted are
repeats, hot repeats (the fourth asking or later: what popular questions do and a re-asked list does not), the share of
repeats among the last nine, and near repeats (an old or recent request at less than half the distance of
unrelated ones).

Null: an extraction list has none, so that the number expected of a service grows as n squared against it.
Bytes: 648. Cost: one scan of 256 fingerprints a request.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.events import BITS
from detectors.kernel import Code, Record, Scalar, Vector, kernel
from detectors.statistics import memory
from detectors.statistics.bits import mix
from detectors.statistics.coverage import KEEP, RATE
from detectors.statistics.estimator import Parts, RecordDetector, is_covered

TABLE = 256
HOT = 4
NEAR_BITS = BITS // 4
RUN_KEEP = 8.0 / 9.0

DTYPE = np.dtype(
    [
        ("distinct", "<i8"),  # fingerprints offered to the table
        ("requests", "<i8"),
        ("repeats", "<i8"),
        ("hot", "<i8"),
        ("run", "<f8"),  # decayed share of repeats, over about nine requests
        ("recent", "<f8"),  # decayed share of repeats, half-life 88
        ("recent_hot", "<f8"),  # decayed share of hot repeats
        ("near", "<f8"),  # decayed share of near repeats
        ("weight", "<f8"),
        ("fingerprint", "<u2", (TABLE,)),
        ("times", "u1", (TABLE // 4,)),  # askings less one of each, two bits, at most 3
    ]
)


@kernel
def fingerprint_of(code: Code) -> Scalar:
    """16 bits of a code's hash, never 0."""
    h = mix(code[0] ^ mix(code[1]))
    return np.int64(h % np.uint64(65535)) + 1


@kernel
def update(s: Record, code: Code, distances: Vector) -> None:
    """Take one request's code, and its distances from `memory.recall`."""
    mark = np.uint16(fingerprint_of(code))
    held = min(s["distinct"], TABLE)
    table = s["fingerprint"]
    hit = -1
    for k in range(held):
        if table[k] == mark:
            hit = k
            break
    is_repeat = 0.0
    is_hot = 0.0
    if hit >= 0:
        is_repeat = 1.0
        s["repeats"] += 1
        packed = np.int64(s["times"][hit // 4])
        shift = 2 * (hit % 4)
        earlier = (packed >> shift) & 3
        if earlier + 2 >= HOT:
            s["hot"] += 1
            is_hot = 1.0
        if earlier < 3:
            s["times"][hit // 4] = np.uint8(packed + (1 << shift))
    else:
        slot = s["distinct"]
        s["distinct"] += 1
        if slot >= TABLE:
            slot = np.int64(mix(np.uint64(s["distinct"])) % np.uint64(s["distinct"]))
        if slot < TABLE:
            table[slot] = mark
            s["times"][slot // 4] = np.uint8(np.int64(s["times"][slot // 4]) & ~(3 << (2 * (slot % 4))))
    s["requests"] += 1
    nearest = NEAR_BITS
    for k in range(len(distances)):
        nearest = min(nearest, distances[k])
    is_near = 1.0 if nearest < NEAR_BITS else 0.0
    s["run"] = s["run"] * RUN_KEEP + (1.0 - RUN_KEEP) * is_repeat
    s["recent"] = s["recent"] * KEEP + RATE * is_repeat
    s["recent_hot"] = s["recent_hot"] * KEEP + RATE * is_hot
    s["near"] = s["near"] * KEEP + RATE * is_near
    s["weight"] = s["weight"] * KEEP + RATE


@kernel
def merge(into: Record, other: Record) -> None:
    """Add the counts of another account's requests and repeats.

    A repeat is one within an account: what both have asked is none. The table and what is decayed stay the account's
    own.
    """
    into["requests"] += other["requests"]
    into["repeats"] += other["repeats"]
    into["hot"] += other["hot"]


@kernel
def near_share(s: Record) -> Scalar:
    """Decayed share of near repeats."""
    return s["near"] / s["weight"] if s["weight"] > 0.0 else 0.0


@kernel
def recent_share(s: Record) -> Scalar:
    """Decayed share of repeats."""
    return s["recent"] / s["weight"] if s["weight"] > 0.0 else 0.0


class RepeatShare(RecordDetector):
    """Share of recent requests that were asked before: 0 for a deduplicated list, high for a service.

    Known requests are held as 16-bit fingerprints in a table of 256. Decayed with a half-life of 88 requests; the
    score is one minus the share.

    Examples
    --------
    >>> from detectors.statistics import RepeatShare
    >>> service, listed = RepeatShare(), RepeatShare()
    >>> for i in range(200):
    ...     service.learn_one({f"question {i * i % 61}": 1.0})
    ...     listed.learn_one({f"question {i}": 1.0})
    >>> round(service.get(), 2), round(listed.get(), 2)
    (0.93, 0.0)

    References
    ----------
    [^1]: Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).
    """

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "recurrence": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            update(record["recurrence"], event["code"], memory.distances_to(record["memory"], event["code"]))
            memory.remember(record["memory"], event["code"])

    def _value(self, record: Record) -> float:
        return float(recent_share(record["recurrence"]))

    def _score(self, record: Record) -> float:
        return 1.0 - self._value(record)
