"""Calibration: from scores to how many organic accounts would ever score as high.

Evidence is not multiplied over time: an account's kind persists, so its looks are dependent. The unit is an organic
account's *maximum over all its looks*, which pays for looking often. Each head's maxima give a tail: the observed
quantiles, and beyond the 94 % point a generalised Pareto (Pickands 1975) whose shape is kept between exponential and
0.25, so that it is never lighter than exponential. The largest surprise over the heads is an account's combined
surprise, and its maxima give the last tail.

The knob counts findings for each 1,000 account-days; with D days an account it allows the share knob x D / 1,000 of
accounts to be found wrongly.

References
----------
[^1]: Pickands, J. (1975). Statistical inference using extreme order statistics. Annals of Statistics 3(1).
[^2]: Hosking, J. R. M. and Wallis, J. R. (1987). Parameter and quantile estimation for the generalized Pareto
      distribution. Technometrics 29(3). (The moment estimator.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import portable_math
from detectors.kernel import Record, Scalar, Vector, kernel
from detectors.rivals import HEADS, QUANTILES, TAIL_DTYPE

Floats = NDArray[np.float64]

TAIL_QUANTILE = 0.94
MAX_SHAPE = 0.25
LEAST_ACCOUNTS = 40


@kernel
def beyond(tail: Record, score: Scalar) -> Scalar:
    """Share of organic accounts whose maximum exceeds `score`; never 0."""
    if score > tail["threshold"]:
        z = (score - tail["threshold"]) / tail["scale"]
        if tail["shape"] > 1e-6:
            decay = portable_math.exp(-portable_math.log(1.0 + tail["shape"] * z) / tail["shape"])
        else:
            decay = portable_math.exp(-z)
        return max(tail["beyond_threshold"] * decay, 1e-300)
    grid = tail["score"]
    k = 0
    while k < QUANTILES - 1 and score >= grid[k + 1]:
        k += 1
    if score <= grid[0] or k == QUANTILES - 1:
        share = tail["beyond"][k]
    else:
        width = grid[k + 1] - grid[k]
        part = (score - grid[k]) / width if width > 0.0 else 0.0
        # In this form a higher score never has a larger share, not even by a rounding.
        share = max(tail["beyond"][k] - (tail["beyond"][k] - tail["beyond"][k + 1]) * part, tail["beyond"][k + 1])
    return max(share, tail["beyond_threshold"])


@kernel
def surprise(model: Record, scores: Vector) -> Scalar:
    """-log of the share of organic accounts whose largest head ever surprises as much as these `scores`."""
    largest = 0.0
    for head in range(len(HEADS)):
        largest = max(largest, -portable_math.log(beyond(model["tail"][head], scores[head])))
    return 0.0 - portable_math.log(beyond(model["combined"], largest))


@kernel
def leading_head(model: Record, scores: Vector) -> Scalar:
    """Index of the head whose score surprises most."""
    best = 0
    for head in range(1, len(HEADS)):
        if beyond(model["tail"][head], scores[head]) < beyond(model["tail"][best], scores[best]):
            best = head
    return best


@kernel
def combined_maxima(model: Record, maxima: Vector, out: Vector) -> None:
    """Largest surprise over the heads for each row of `maxima`, shape `(accounts, heads)`."""
    for i in range(len(maxima)):
        out[i] = 0.0
        for head in range(len(HEADS)):
            out[i] = max(out[i], -portable_math.log(beyond(model["tail"][head], maxima[i, head])))


def fit_tail(maxima: Floats) -> NDArray[Any]:
    """The tail of one score from accounts' maxima, as a record of `TAIL_DTYPE`, shape `(1,)`.

    Raises
    ------
    ValueError
        With fewer than 40 accounts there is no tail to speak of.
    """
    if len(maxima) < LEAST_ACCOUNTS:
        raise ValueError(f"a tail needs at least {LEAST_ACCOUNTS} accounts, not {len(maxima)}")
    ordered = np.sort(maxima)
    threshold = float(ordered[int(np.ceil(TAIL_QUANTILE * len(ordered))) - 1])
    excess = ordered[ordered > threshold] - threshold
    tail = np.zeros(1, TAIL_DTYPE)
    positions = np.linspace(0.0, TAIL_QUANTILE, QUANTILES)
    tail["score"][0] = np.quantile(ordered, positions)
    tail["beyond"][0] = 1.0 - positions
    tail["threshold"] = threshold
    tail["beyond_threshold"] = max(len(excess), 1) / len(ordered)
    mean = float(excess.mean()) if len(excess) else 1.0
    variance = float(excess.var()) if len(excess) > 1 else mean * mean
    shape = 0.5 * (1.0 - mean * mean / variance) if variance > 0.0 else 0.0
    tail["shape"] = min(max(shape, 0.0), MAX_SHAPE)
    tail["scale"] = max(mean * (1.0 - float(tail["shape"][0])), 1e-3)
    return tail


def calibrate(model: NDArray[Any], maxima: Floats) -> None:
    """Fill in the tails of `model` from accounts' maxima, shape `(accounts, heads)`, scored by fits without them."""
    for head in range(len(HEADS)):
        model["tail"][0, head] = fit_tail(maxima[:, head])[0]
    combined = np.zeros(len(maxima))
    combined_maxima(model[0], maxima, combined)
    model["combined"][0] = fit_tail(combined)[0]


def allowed_share(false_findings_per_1000_account_days: float, days_per_account: float) -> float:
    """Share of organic accounts that the knob allows to be found, at most one half."""
    return min(0.5, false_findings_per_1000_account_days * days_per_account / 1000.0)
