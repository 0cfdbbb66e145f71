"""Mixture: extraction hidden in, or following on, a person's own traffic.

Extraction prompts are longer than most of what people type, so order is measured once more among the account's own
longest quarter (a running quantile by stochastic approximation, Robbins and Monro 1951): von Neumann's ratio of each
long request against the long one before it, and the local win of long requests. An honest person's long requests follow
up on something; a list's do not. For a take-over, the recent window is compared with the account's own whole life: the
order of all successive distances against the decayed ones.

Half-life 88 long requests. Bytes: 592. Cost: one pass over 256 small integers for a quarter of the requests.

References
----------
[^1]: Robbins, H. and Monro, S. (1951). A stochastic approximation method. Annals of Mathematical Statistics 22(3).
"""

from __future__ import annotations

import numpy as np

from detectors.kernel import Code, Record, Scalar, kernel
from detectors.statistics.bits import hamming
from detectors.statistics.coverage import BITS, FULL, KEEP, RATE, spread_of

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
        ("last", "<u8", (4,)),
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
    for word in range(4):
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
