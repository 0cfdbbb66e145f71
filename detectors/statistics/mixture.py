"""Mixture: extraction hidden in, or following on, a person's own traffic.

Extraction prompts are longer than most of what people type, so order is measured once more among the account's own
longest quarter (a running quantile by stochastic approximation, Robbins and Monro 1951): von Neumann's ratio of each
long request against the long one before it, and how many requests away the nearest to a long one lies (`neighbours`).
An honest person's long requests follow up on something; a list's do not. A take-over is found because this and `order`
forget: after some ninety requests an account is measured by its new self.

Half-life 88 long requests. Bytes: 344. Cost: one pass over 128 small integers for a quarter of the requests.

References
----------
[^1]: Robbins, H. and Monro, S. (1951). A stochastic approximation method. Annals of Mathematical Statistics 22(3).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.events import BITS, WORDS
from detectors.kernel import Code, Record, Scalar, kernel
from detectors.statistics import shape
from detectors.statistics.bits import hamming
from detectors.statistics.coverage import FULL, KEEP, RATE, spread_of
from detectors.statistics.estimator import Parts, RecordDetector, is_covered
from detectors.statistics.memory import RING

QUANTILE = 0.75
STEP = 0.1
WARM_UP = 8

DTYPE = np.dtype(
    [
        ("seen", "<i8"),  # requests of known length
        ("threshold", "<f8"),  # running upper quartile of the log length
        ("weight", "<f8"),
        ("weight2", "<f8"),
        ("share", "<u2", (BITS,)),
        ("last", "<u8", (WORDS,)),
        ("distance", "<f8"),
        ("pairs", "<f8"),
        ("lags", "<f8"),  # decayed sum of the lags of long requests that left the ring
        ("lag_weight", "<f8"),
        ("long", "<i8"),  # which of the last requests are long: a bit each, by number modulo RING
    ]
)


@kernel
def update(s: Record, code: Code, log_length: Scalar, number: Scalar, leaving: Scalar) -> None:
    """Take one request: code, log length (negative when unknown), number, and `neighbours.leaving` at that number."""
    own = np.int64(1) << np.int64(number % RING)
    if s["long"] & own and leaving > 0.0:
        s["lags"] = s["lags"] * KEEP + leaving
        s["lag_weight"] = s["lag_weight"] * KEEP + 1.0
    s["long"] &= ~own
    if log_length < 0.0:
        return
    if s["seen"] == 0:
        s["threshold"] = log_length
    is_long = log_length >= s["threshold"]
    s["threshold"] += STEP * (QUANTILE if log_length > s["threshold"] else QUANTILE - 1.0)
    s["seen"] += 1
    if not is_long or s["seen"] <= WARM_UP:
        return
    s["long"] |= own
    if s["weight"] > 0.0:
        s["distance"] = s["distance"] * KEEP + np.float64(hamming(code, s["last"]))
        s["pairs"] = s["pairs"] * KEEP + 1.0
    s["weight"] = s["weight"] * KEEP + RATE
    s["weight2"] = s["weight2"] * KEEP * KEEP + RATE * RATE
    share = s["share"]
    for word in range(WORDS):
        x = code[word]
        s["last"][word] = x
        for b in range(64):
            bit = np.int64((x >> np.uint64(b)) & np.uint64(1))
            j = word * 64 + b
            held = np.int64(share[j])
            share[j] = np.uint16(held + ((bit * FULL - held + 64) >> 7))


@kernel
def long_ratio(s: Record) -> Scalar:
    """Von Neumann's ratio among the longest quarter, shrunk to .95 as if by eight pairs."""
    expected = spread_of(s["share"], s["weight"], s["weight2"])
    if expected < 2.0:
        return 0.95
    return (s["distance"] / expected + 8.0 * 0.95) / (s["pairs"] + 8.0)


@kernel
def long_lag(s: Record, near: Record) -> Scalar:
    """Mean lag of the nearest to a request of the longest quarter (`near`: `neighbours`), shrunk to 6 as if by six."""
    total = s["lags"] + 6.0 * 6.0
    weight = s["lag_weight"] + 6.0
    for k in range(RING):
        if (s["long"] >> np.int64(k)) & 1 and near["lag"][k] > 0:
            total += np.float64(near["lag"][k])
            weight += 1.0
    return total / weight


class LongestQuarterRatio(RecordDetector):
    """Von Neumann's ratio among the account's longest quarter of requests: 1 when a list hides there.

    The quarter is told by a running quantile of the log length; each long request is compared with the long one before
    it. Decayed with a half-life of 88 long requests, shrunk to 0.95 as if by eight pairs. Requests of unknown length
    are left out.

    Examples
    --------
    A person of one topic at a time, among whose requests a list of long ones is hidden:

    >>> from detectors.statistics import LongestQuarterRatio
    >>> person, mixed = LongestQuarterRatio(), LongestQuarterRatio()
    >>> for i in range(400):
    ...     length = 400 if i % 4 == 3 else 40 + i % 7
    ...     asked = {f"topic {i // 40}": 1.0, f"verb {i}": 0.8, f"noun {i}": 0.8, "length": length}
    ...     person.learn_one(asked)
    ...     mixed.learn_one({f"item {i}": 1.0, "length": length} if i % 4 == 3 else asked)
    >>> round(person.get(), 2), round(mixed.get(), 2)
    (0.81, 1.0)

    References
    ----------
    [^1]: Robbins, H. and Monro, S. (1951). A stochastic approximation method. Annals of Mathematical Statistics 22(3).
    """

    PARTS: ClassVar[Parts] = {"mixture": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            # Without neighbours: only the ratio is asked for.
            update(record["mixture"], event["code"], shape.log_length(np.float64(event["length"])), 0, 0.0)

    def _value(self, record: Record) -> float:
        return float(long_ratio(record["mixture"]))
