"""Cadence: when the requests come. Secondary evidence, since it is the sender's to choose.

Log-gaps (natural log of seconds + 1/2) with decayed mean, variance and mean absolute change: a clock has no spread, a
few workers some, a person a great deal. Hours occupied: of the hours that pass, the share in which something was sent;
people sleep. The densest quarter of an hour (over adjacent clock bins of 15 minutes) says how much of the traffic came
outside one burst, without which the first night of an evaluation looks like a small extraction run.

Half-life 88 requests. Bytes: 136. Cost: one logarithm a request.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors import portable_math
from detectors.events import DECLARED
from detectors.kernel import Record, Scalar, kernel
from detectors.statistics import header
from detectors.statistics.coverage import KEEP, RATE
from detectors.statistics.estimator import ABSENT_TIME, Parts, RecordTransformer
from schemas.durations import HOUR_MS

BIN_MS = 900_000

DTYPE = np.dtype(
    [
        ("gaps", "<i8"),
        ("weight", "<f8"),
        ("mean", "<f8"),  # decayed sum of log-gaps
        ("square", "<f8"),
        ("change", "<f8"),  # decayed sum of |log-gap - the one before|
        ("change_weight", "<f8"),
        ("last_log_gap", "<f8"),
        ("hour", "<i8"),  # hour of the last request, since the epoch
        ("entered", "<f8"),  # decayed sum of hours newly entered
        ("passed", "<f8"),  # decayed sum of hours passed
        ("bin", "<i8"),
        ("in_bin", "<i8"),
        ("in_previous", "<i8"),
        ("densest", "<i8"),
        ("late", "<i8"),  # requests whose time lies before their predecessor's
        ("failed", "<i8"),
        ("parallel", "<i8"),  # requests less than half a second after their predecessor
    ]
)


@kernel
def update(s: Record, time_ms: Scalar, gap_ms: Scalar) -> None:
    """Take one request: event time and milliseconds since the one before (negative: late; `first` has its own call)."""
    if gap_ms < 0:
        s["late"] += 1
        return
    slot = time_ms // BIN_MS
    if slot != s["bin"]:
        s["in_previous"] = s["in_bin"] if slot == s["bin"] + 1 else 0
        s["in_bin"] = 0
        s["bin"] = slot
    s["in_bin"] += 1
    s["densest"] = max(s["densest"], s["in_bin"] + s["in_previous"])
    if gap_ms < 500:
        s["parallel"] += 1
    log_gap = portable_math.log(np.float64(gap_ms) / 1000.0 + 0.5)
    s["weight"] = s["weight"] * KEEP + RATE
    s["mean"] = s["mean"] * KEEP + RATE * log_gap
    s["square"] = s["square"] * KEEP + RATE * log_gap * log_gap
    if s["gaps"] > 0:
        s["change"] = s["change"] * KEEP + RATE * abs(log_gap - s["last_log_gap"])
        s["change_weight"] = s["change_weight"] * KEEP + RATE
    s["last_log_gap"] = log_gap
    s["gaps"] += 1
    hour = time_ms // HOUR_MS
    s["entered"] = s["entered"] * KEEP + (1.0 if hour != s["hour"] else 0.0)
    s["passed"] = s["passed"] * KEEP + np.float64(gap_ms) / HOUR_MS
    s["hour"] = hour


@kernel
def first(s: Record, time_ms: Scalar) -> None:
    """Take the account's first request."""
    s["bin"] = time_ms // BIN_MS
    s["in_bin"] = 1
    s["densest"] = 1
    s["hour"] = time_ms // HOUR_MS


@kernel
def spread(s: Record) -> Scalar:
    """Decayed standard deviation of the log-gap."""
    if s["weight"] <= 0.0:
        return 0.0
    mean = s["mean"] / s["weight"]
    variance = s["square"] / s["weight"] - mean * mean
    return np.sqrt(variance) if variance > 0.0 else 0.0


@kernel
def change(s: Record) -> Scalar:
    """Decayed mean absolute change from one log-gap to the next."""
    return s["change"] / s["change_weight"] if s["change_weight"] > 0.0 else 0.0


@kernel
def location(s: Record) -> Scalar:
    """Decayed mean log-gap."""
    return s["mean"] / s["weight"] if s["weight"] > 0.0 else 0.0


@kernel
def occupied(s: Record) -> Scalar:
    """Share of the hours passed in which something was sent, decayed; between 0 and 1."""
    return min(1.0, (s["entered"] + 1.0) / (s["passed"] + 1.0))


class Cadence(RecordTransformer):
    """When the requests come: location, spread and change of the log-gap, and the share of hours in which any came.

    The gap's unit is ln(seconds + 1/2). A clock has neither spread nor change, a person a great deal of both. All
    decayed with a half-life of 88 requests.

    Examples
    --------
    >>> from detectors.statistics import Cadence
    >>> clock = Cadence()
    >>> for i in range(100):
    ...     clock.learn_one({"time": 1_700_000_000_000 + i * 1_800_000})
    >>> for name, value in clock.get().items():
    ...     print(f"{name}: {value:.2f}")
    gap_location: 7.50
    gap_spread: 0.00
    gap_change: 0.00
    hours_occupied: 0.99

    References
    ----------
    [^1]: Finch, T. (2009). Incremental calculation of weighted mean and variance. University of Cambridge.
    """

    PARTS: ClassVar[Parts] = {"header": header.DTYPE, "cadence": DTYPE}

    def get(self) -> dict[str, float]:
        """The four statistics, of all that was learnt."""
        s = self._state[0]["cadence"]
        return {
            "gap_location": float(location(s)),
            "gap_spread": float(spread(s)),
            "gap_change": float(change(s)),
            "hours_occupied": float(occupied(s)),
        }

    def _take(self, record: Record, event: np.void) -> None:
        progress = record["header"]
        time = event["time"] if event["time"] != ABSENT_TIME else progress["last_time"]
        if progress["requests"] == 0:
            first(record["cadence"], time)
        else:
            update(record["cadence"], time, header.gap(progress, time))
        header.update(progress, time, event["offset"], int(event["flags"]) & DECLARED)
