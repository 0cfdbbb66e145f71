"""Order: does a request follow from the ones before it?

People follow up on themselves, so successive requests lie closer together than two of their requests picked at random;
a shuffled list of prompts has no memory.

Von Neumann's ratio at a lag k: mean distance of requests k apart over the expected distance of two independent ones
(`coverage.expected_distance`). 1 for any exchangeable stream, below it for a person. The *recent* ratio is over the
last 16 requests at once, with weights exp(-k / 3): at 48 requests it finds twice as many lists as lag 1 does at the
same false rate. The *session* ratio is lag 1 over pairs less than ten minutes apart, where a person's follow-ups are.

All decayed with a half-life of 88 requests. Bytes: 80. Cost: a few dozen operations a request.

References
----------
[^1]: von Neumann, J. (1941). Distribution of the ratio of the mean square successive difference to the variance.
      Annals of Mathematical Statistics 12(4).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from detectors.events import DECLARED
from detectors.kernel import Record, Scalar, Vector, kernel
from detectors.statistics import coverage, header, memory
from detectors.statistics.coverage import KEEP
from detectors.statistics.estimator import ABSENT_TIME, Parts, RecordDetector, is_covered
from detectors.statistics.memory import ABSENT, RING

LAGS = (1, 16)
REACH = 3.0
NEARER = math.exp(-1.0 / REACH)
SESSION_MS = 600_000

DTYPE = np.dtype(
    [
        ("distance", "<f8", (len(LAGS),)),  # decayed sums of the distance at each lag
        ("pairs", "<f8", (len(LAGS),)),
        ("recent_distance", "<f8"),  # the same over the last 16 at once, weighted by nearness
        ("recent_pairs", "<f8"),
        ("session_distance", "<f8"),
        ("session_pairs", "<f8"),
        ("successive", "<i8"),  # sum of all distances of successive requests: adds over accounts
        ("successions", "<i8"),
    ]
)


@kernel
def update(s: Record, distances: Vector, gap_ms: Scalar) -> None:
    """Take one request: its distances, and milliseconds since the request before (-1 for the first)."""
    for i in range(len(LAGS)):
        d = distances[LAGS[i] - 1]
        if d < ABSENT:
            s["distance"][i] = s["distance"][i] * KEEP + np.float64(d)
            s["pairs"][i] = s["pairs"][i] * KEEP + 1.0
    weight = 1.0
    distance = 0.0
    pairs = 0.0
    for k in range(RING):
        if distances[k] == ABSENT:
            break
        weight *= NEARER
        distance += weight * np.float64(distances[k])
        pairs += weight
    s["recent_distance"] = s["recent_distance"] * KEEP + distance
    s["recent_pairs"] = s["recent_pairs"] * KEEP + pairs
    d = distances[0]
    if d < ABSENT:
        s["successive"] += d
        s["successions"] += 1
        if 0 <= gap_ms < SESSION_MS:
            s["session_distance"] = s["session_distance"] * KEEP + np.float64(d)
            s["session_pairs"] = s["session_pairs"] * KEEP + 1.0


@kernel
def ratio(s: Record, lag: Scalar, expected: Scalar) -> Scalar:
    """Von Neumann's ratio at `LAGS[lag]`; 1 (no evidence of memory) before it can be told."""
    if s["pairs"][lag] <= 0.0 or expected < 2.0:
        return 1.0
    return s["distance"][lag] / s["pairs"][lag] / expected


@kernel
def recent_ratio(s: Record, expected: Scalar) -> Scalar:
    """Von Neumann's ratio over the last 16 requests at once, near ones weighing most; 1 before it can be told."""
    if s["recent_pairs"] <= 0.0 or expected < 2.0:
        return 1.0
    return s["recent_distance"] / s["recent_pairs"] / expected


@kernel
def session_ratio(s: Record, expected: Scalar) -> Scalar:
    """Von Neumann's ratio inside sessions, shrunk to the overall one as if by eight pairs."""
    if s["pairs"][0] <= 0.0 or expected < 2.0:
        return 1.0
    mean = s["distance"][0] / s["pairs"][0]
    return (s["session_distance"] + 8.0 * mean) / (s["session_pairs"] + 8.0) / expected


@kernel
def merge(into: Record, other: Record) -> None:
    """Add the successive distances, which pool over accounts."""
    into["successive"] += other["successive"]
    into["successions"] += other["successions"]


class OrderDetector(RecordDetector):
    """Base of the statistics of order: header, memory, coverage and order in one record."""

    PARTS: ClassVar[Parts] = {
        "header": header.DTYPE,
        "memory": memory.DTYPE,
        "coverage": coverage.DTYPE,
        "order": DTYPE,
    }

    def _take(self, record: Record, event: np.void) -> None:
        progress = record["header"]
        time = event["time"] if event["time"] != ABSENT_TIME else progress["last_time"]
        gap = header.gap(progress, time)
        header.update(progress, time, event["offset"], int(event["flags"]) & DECLARED)
        if not is_covered(event):
            return
        distances = memory.distances_to(record["memory"], event["code"])
        coverage.update(record["coverage"], event["code"], distances)
        update(record["order"], distances, gap)
        memory.remember(record["memory"], event["code"])
        progress["covered"] += 1


class VonNeumannRatio(OrderDetector):
    """Distance of requests `lag` apart over that of any two: 1 for a list in no order, below it for a person.

    Von Neumann's ratio of the mean square successive difference to the variance, for binary codes under Hamming's
    distance: the yardstick is the sum over the bits of 2 p (1 - p). Decayed with a half-life of 88 requests.

    Parameters
    ----------
    lag
        How many requests apart: 1, 2, 4 or 16.
    within_sessions
        Only pairs of successive requests less than ten minutes apart (for `lag` 1), shrunk to the ratio of all pairs.

    Examples
    --------
    >>> from detectors.statistics import VonNeumannRatio
    >>> person, listed = VonNeumannRatio(), VonNeumannRatio()
    >>> for i in range(200):
    ...     person.learn_one({f"topic {i // 8}": 1.0, f"verb {i}": 0.8, f"noun {i}": 0.8})
    ...     listed.learn_one({f"topic {i * 7 % 25}": 1.0, f"verb {i}": 0.8, f"noun {i}": 0.8})
    >>> round(person.get(), 2), round(listed.get(), 2)
    (0.78, 1.0)

    References
    ----------
    [^1]: von Neumann, J. (1941). Distribution of the ratio of the mean square successive difference to the variance.
          Annals of Mathematical Statistics 12(4).
    """

    def __init__(self, lag: int = 1, within_sessions: bool = False) -> None:
        if lag not in LAGS or (within_sessions and lag != 1):
            raise ValueError(f"lag must be one of {LAGS}, and 1 within sessions, not {lag}")
        super().__init__()
        self.lag = lag
        self.within_sessions = within_sessions

    def _value(self, record: Record) -> float:
        expected = coverage.expected_distance(record["coverage"])
        if self.within_sessions:
            return float(session_ratio(record["order"], expected))
        return float(ratio(record["order"], LAGS.index(self.lag), expected))
