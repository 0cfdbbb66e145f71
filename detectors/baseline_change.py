"""What a new baseline says otherwise than the one before it: people's statistics, weights, and the scores that pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectors import rivals
from detectors.account import F
from detectors.baseline import QUANTILE_LEVELS, Baseline
from detectors.calibration import allowed_share, beyond

REQUESTS = 128
"""Length of history at which the two are compared: about when a list is found."""

KNOT = round(np.log2(REQUESTS) - rivals.FIRST_KNOT)
LOW, MEDIAN, HIGH = (QUANTILE_LEVELS.index(level) for level in (0.05, 0.5, 0.95))
HIGHEST_SCORE = 1000.0
HALVINGS = 60


class Moved(NamedTuple):
    """A statistic whose median over people's accounts moved.

    Attributes
    ----------
    was, now
        Medians after 128 requests.
    widths
        How far it moved, in widths of the 5 % to 95 % before; positive is up.
    """

    statistic: str
    was: float
    now: float
    widths: float


class Weighed(NamedTuple):
    """How a pair of a kind of extraction and a rival is weighed after 128 requests.

    Attributes
    ----------
    pair
        One of `rivals.PAIRS`.
    bias_was, bias_now
        Log-likelihood ratio of what looks in every statistic like a list.
    statistic
        The one whose weight changed most.
    was, now
        What it adds to the ratio from one end of the 5 % to 95 % of people's accounts to the other.
    """

    pair: str
    bias_was: float
    bias_now: float
    statistic: str
    was: float
    now: float


def moved(old: Baseline, new: Baseline) -> list[Moved]:
    """Statistics by how far people's medians moved, farthest first; those that count requests are left out."""
    found = []
    for name in rivals.SCALES:
        was, now = (baseline.quantiles_at(name, REQUESTS) for baseline in (old, new))
        width = max(was[HIGH] - was[LOW], 1e-3)
        widths = float((now[MEDIAN] - was[MEDIAN]) / width)
        found.append(Moved(name, float(was[MEDIAN]), float(now[MEDIAN]), widths))
    return sorted(found, key=lambda m: -abs(m.widths))


def weighed(old: Baseline, new: Baseline) -> list[Weighed]:
    """Each pair's weights before and after, in the order of `rivals.PAIRS`."""
    found = []
    for k, (pair, signs) in enumerate(rivals.PAIRS.items()):
        before, after = (baseline.model["weight"][0, k, KNOT] for baseline in (old, new))
        width = {name: float(np.ptp(new.quantiles_at(name, REQUESTS)[[LOW, HIGH]])) for name in signs}
        worth = {name: tuple(float(w[1 + F[name]]) * width[name] for w in (before, after)) for name in signs}
        most = max(worth, key=lambda name: abs(worth[name][1] - worth[name][0]))
        found.append(Weighed(pair, float(before[0]), float(after[0]), most, *worth[most]))
    return found


def passing_score(baseline: Baseline, head: str, knob: float) -> float:
    """The score at which this head alone opens a finding, at a setting of the knob."""
    model = baseline.model[0]
    share = allowed_share(knob, baseline.days_per_account)
    surprise = _score_of(model["combined"], share)
    return _score_of(model["tail"][rivals.HEADS.index(head)], float(np.exp(-surprise)))


def _score_of(tail: np.void, share: float) -> float:
    """The lowest score that at most this share of accounts exceeds, by halving: shares only fall as scores rise."""
    low, high = -HIGHEST_SCORE, HIGHEST_SCORE
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if beyond(tail, middle) > share:
            low = middle
        else:
            high = middle
    return high
