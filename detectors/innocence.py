"""What would have made an account innocent: for each rival, the least change with which it looks ordinary.

All but one explanation stay as they are. Towards a person, everything that tells order moves together from the
account's value to the median of people's accounts with as long a history, in small steps; cadence moves with it only
where order alone would not do. Towards a service, more and more of the recent window was asked before, a third of it
often, as popular questions are. Towards a batch job, more and more answers are short. Towards users who are named, each
follows up on their own requests, more and more. The first step at which the account looks no more like extraction than
one organic account in ten does at some time is the answer; an explanation that would not do even at its end has none.
(Below the threshold it would be sooner, but a finding opens just beyond it, and how little is missing there tells an
analyst nothing.)

Cost: some ten microseconds a step, and only an alert asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detectors import calibration, rivals
from detectors.account import F
from detectors.baseline import QUANTILE_LEVELS, Baseline

Floats = NDArray[np.float64]

ORDERLY = tuple(
    dict.fromkeys(
        name for pair, signs in rivals.PAIRS.items() for name in signs if pair != "batch" and name not in rivals.CADENCE
    )
)
"""Statistics that move on the way to a person."""

ORDINARY = 2.302585092994046  # log 10
"""Surprise of what one organic account in ten looks like at some time."""

STEPS = 40
HOT_SHARE = 3
"""Of the repeats of a service one in so many is asked for the fourth time or more."""


def excuses(baseline: Baseline, x: Floats, threshold: float) -> dict[str, Floats]:
    """For each rival that could do it, the account's statistics `x` with the least change that makes it innocent.

    Innocent is what is ordinary, and below the `threshold` too, should that be lower.
    """
    found = {}
    for rival, ways in WAYS.items():
        for changed in ways(baseline, x):
            if surprise_of(baseline, changed) < min(threshold, ORDINARY):
                found[rival] = changed
                break
    return found


def surprise_of(baseline: Baseline, x: Floats) -> float:
    """The surprise of an account with statistics `x`."""
    ratios = np.zeros((len(rivals.HEADS), len(rivals.RIVALS)))
    scores = np.zeros(len(rivals.HEADS))
    rivals.judge(baseline.model[0], x, ratios, scores)
    return float(calibration.surprise(baseline.model[0], scores))


def _followed_up(baseline: Baseline, x: Floats) -> Iterator[Floats]:
    middle = QUANTILE_LEVELS.index(0.5)
    for names in (ORDERLY, (*ORDERLY, *rivals.CADENCE)):
        columns = [F[name] for name in names]
        usual = np.array([baseline.quantiles_at(name, float(x[F["n"]]))[middle] for name in names])
        for step in range(1, STEPS + 1):
            changed = x.copy()
            changed[columns] += (usual - x[columns]) * step / STEPS
            yield changed


def _asked_again(baseline: Baseline, x: Floats) -> Iterator[Floats]:
    window = x[F["window"]]
    for more in range(1, int(window - x[F["window_repeats"]]) + 1):
        changed = x.copy()
        for name in ("repeats", "window_repeats"):
            changed[F[name]] += more
        for name in ("hot", "window_hot"):
            changed[F[name]] += more // HOT_SHARE
        changed[F["recent_repeats"]] = changed[F["window_repeats"]] / window
        yield changed


def _answered_shortly(baseline: Baseline, x: Floats) -> Iterator[Floats]:
    least = max(float(x[F["short"]]), 0.0)
    for step in range(1, STEPS + 1):
        changed = x.copy()
        changed[F["short"]] = least + (1.0 - least) * step / STEPS
        yield changed


def _followed_up_by_each(baseline: Baseline, x: Floats) -> Iterator[Floats]:
    if x[F["users"]] <= 0.0 or x[F["user_pairs"]] < 1.0:
        return
    ratio = float(x[F["vn_user"]])
    for step in range(1, STEPS + 1):
        changed = x.copy()
        changed[F["vn_user"]] = ratio + (min(ratio, 1.0 - rivals.USER_REACH) - ratio) * step / STEPS
        yield changed


WAYS = {
    "person": _followed_up,
    "service": _asked_again,
    "batch": _answered_shortly,
    "users": _followed_up_by_each,
}
"""Statistics on the way to each rival, a step at a time."""
