"""Mixture: extraction hidden in, or following on, a person's own traffic.

Extraction prompts are longer than most of what people type, so order is measured once more among the account's own
longest quarter (a running quantile by stochastic approximation, Robbins and Monro 1951): von Neumann's ratio of each
long request against the long one before it, and the local win of long requests. An honest person's long requests follow
up on something; a list's do not. A take-over is found because this and `order` forget: after some ninety requests an
account is measured by its new self.

Half-life 88 long requests. Bytes: 336. Cost: one pass over 128 small integers for a quarter of the requests.

References
----------
[^1]: Robbins, H. and Monro, S. (1951). A stochastic approximation method. Annals of Mathematical Statistics 22(3).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.events import BITS, WORDS
from detectors.kernel import Code, Record, Scalar, kernel
from detectors.statistics import memory, order, shape
from detectors.statistics.bits import hamming
from detectors.statistics.coverage import FULL, KEEP, RATE, spread_of
from detectors.statistics.estimator import Parts, RecordDetector, is_covered

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
        ("wins", "<f8"),
        ("contests", "<f8"),
    ]
)


@kernel
def update(s: Record, code: Code, log_length: Scalar, win: Scalar) -> None:
    """Take one request: its code, log length (negative when unknown) and local win (`order.local_win`)."""
    if log_length < 0.0:
        return
    if s["seen"] == 0:
        s["threshold"] = log_length
    is_long = log_length >= s["threshold"]
    s["threshold"] += STEP * (QUANTILE if log_length > s["threshold"] else QUANTILE - 1.0)
    s["seen"] += 1
    if not is_long or s["seen"] <= WARM_UP:
        return
    if win >= 0.0:
        s["wins"] = s["wins"] * KEEP + win
        s["contests"] = s["contests"] * KEEP + 1.0
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
def long_win_rate(s: Record) -> Scalar:
    """Local wins among the longest quarter, shrunk to .6 as if by six contests."""
    return (s["wins"] + 6.0 * 0.6) / (s["contests"] + 6.0)


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

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "mixture": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if not is_covered(event):
            return
        held = record["memory"]
        win = order.local_win(memory.distances_to(held, event["code"]), held["count"])
        update(record["mixture"], event["code"], shape.log_length(np.float64(event["length"])), win)
        memory.remember(held, event["code"])

    def _value(self, record: Record) -> float:
        return float(long_ratio(record["mixture"]))
