"""What changed between two baselines: what moved most comes first, and a passing score passes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from detectors import calibration, rivals
from detectors.account import F
from detectors.baseline import Baseline
from detectors.baseline_change import KNOT, moved, passing_score, weighed
from tests.made_up import plain_baseline


def changed(statistic: str, by: float) -> Baseline:
    """The plain baseline with people's quantiles of a statistic moved."""
    baseline = plain_baseline()
    return dataclasses.replace(
        baseline, quantiles={**baseline.quantiles, statistic: baseline.quantiles[statistic] + by}
    )


def test_the_statistic_that_moved_most_comes_first_in_widths_of_what_was_usual() -> None:
    first, *others = moved(plain_baseline(), changed("near", -0.25))
    assert (first.statistic, first.was, first.now) == ("near", 0.5, 0.25)
    assert first.widths == pytest.approx(-0.25)  # the plain baseline's quantiles span 0 to 1
    assert all(m.widths == 0.0 for m in others)
    assert {m.statistic for m in (first, *others)} == set(rivals.SCALES)


def test_of_each_pair_the_weight_that_changed_most_is_named() -> None:
    old, new = plain_baseline(), plain_baseline()
    pair = list(rivals.PAIRS).index("person/memoryless")
    new.model["weight"][0, pair, KNOT, 0] += 1.0
    new.model["weight"][0, pair, KNOT, 1 + F["nearest_lag"]] += 2.0
    new.model["weight"][0, pair, KNOT, 1 + F["vn_recent"]] -= 1.0
    found = weighed(old, new)
    assert [w.pair for w in found] == list(rivals.PAIRS)
    assert found[pair] == ("person/memoryless", 5.0, 6.0, "nearest_lag", 1.5, 3.5)
    assert all(w.was == w.now and w.bias_was == w.bias_now for k, w in enumerate(found) if k != pair)


@pytest.mark.parametrize("head", rivals.HEADS)
def test_a_score_passes_from_the_passing_score_on(head: str) -> None:
    baseline = plain_baseline()
    threshold = -np.log(calibration.allowed_share(1.0, baseline.days_per_account))
    for above, passes in ((1e-6, True), (-1e-3, False)):
        scores = np.full(len(rivals.HEADS), rivals.SILENT)
        scores[rivals.HEADS.index(head)] = passing_score(baseline, head, 1.0) + above
        assert bool(calibration.surprise(baseline.model[0], scores) >= threshold) is passes


def test_a_stricter_knob_needs_a_higher_score() -> None:
    scores = [passing_score(plain_baseline(), "memoryless", knob) for knob in (30.0, 1.0, 0.1)]
    assert scores == sorted(scores)
    assert scores[0] < scores[2]
