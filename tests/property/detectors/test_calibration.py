"""Calibration: a score's tail is what share of accounts went beyond it, and falls ever after."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors import calibration, rivals
from tests.made_up import generator

MAXIMA = st.integers(0, 2**32).flatmap(
    lambda seed: st.tuples(st.just(seed), st.integers(40, 400), st.sampled_from(["normal", "heavy", "ties", "alike"]))
)


def maxima_of(drawn: tuple[int, int, str]) -> np.ndarray:
    seed, n, kind = drawn
    rng = generator(seed)
    if kind == "normal":
        return rng.normal(0.0, 3.0, n)
    if kind == "heavy":
        return rng.standard_t(2, n) * 4.0
    return np.round(rng.normal(0.0, 2.0, n)) if kind == "ties" else np.full(n, rivals.SILENT)


@given(MAXIMA, st.floats(-30.0, 60.0), st.floats(0.0, 30.0))
@example((0, 40, "ties"), 2.220446049250313e-16, 2.220446049250313e-16)
@settings(max_examples=200)
def test_a_higher_score_is_never_less_surprising(drawn: tuple[int, int, str], score: float, more: float) -> None:
    tail = calibration.fit_tail(maxima_of(drawn))
    low, high = calibration.beyond(tail[0], score), calibration.beyond(tail[0], score + more)
    assert 0.0 < high <= low <= 1.0


@given(MAXIMA)
@settings(max_examples=100)
def test_below_the_threshold_it_is_the_share_that_was_seen(drawn: tuple[int, int, str]) -> None:
    maxima = maxima_of(drawn)
    if drawn[2] != "normal":
        return
    tail = calibration.fit_tail(maxima)
    for score in np.quantile(maxima, [0.1, 0.5, 0.8]):
        seen = (maxima > score).mean()
        assert calibration.beyond(tail[0], score) == pytest.approx(
            seen, abs=2.0 / calibration.QUANTILES + 2 / len(maxima)
        )


@given(st.integers(0, 2**32), st.floats(0.2, 3.0))
@settings(max_examples=50)
def test_an_exponential_tail_is_found_beyond_the_accounts(seed: int, scale: float) -> None:
    maxima = generator(seed).exponential(scale, 4000)
    tail = calibration.fit_tail(maxima)
    share = calibration.beyond(tail[0], scale * math.log(20_000))
    assert 0.0 <= tail["shape"][0] <= calibration.MAX_SHAPE
    assert -math.log(share) == pytest.approx(math.log(20_000), abs=3.5)


@given(MAXIMA)
def test_no_tail_is_lighter_than_exponential_or_heavier_than_a_quarter(drawn: tuple[int, int, str]) -> None:
    tail = calibration.fit_tail(maxima_of(drawn))
    assert 0.0 <= tail["shape"][0] <= calibration.MAX_SHAPE
    assert tail["scale"][0] > 0.0
    assert np.isfinite(tail["score"]).all()


def test_a_tail_of_few_accounts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 40 accounts, not 39"):
        calibration.fit_tail(np.zeros(39))


def test_an_accounts_surprise_pays_for_having_five_heads() -> None:
    rng = generator(1)
    model = rivals.blank_model()
    calibration.calibrate(model, rng.normal(0.0, 1.0, (1000, len(rivals.HEADS))))
    fresh = rng.normal(0.0, 1.0, (4000, len(rivals.HEADS)))
    surprise = np.array([calibration.surprise(model[0], scores) for scores in fresh])
    for share in (0.2, 0.05, 0.01):
        assert (surprise > -math.log(share)).mean() == pytest.approx(share, rel=0.5)


def test_the_leading_head_is_the_one_that_surprises_most() -> None:
    model = rivals.blank_model()
    maxima = generator(1).normal(0.0, 1.0, (200, len(rivals.HEADS)))
    maxima[:, 2] *= 10.0
    calibration.calibrate(model, maxima)
    assert calibration.leading_head(model[0], np.array([0.0, 3.0, 6.0, 0.0, 0.0])) == 1
    assert calibration.surprise(model[0], np.full(len(rivals.HEADS), rivals.SILENT)) == 0.0


@pytest.mark.parametrize(("knob", "days", "share"), [(1.0, 8.0, 0.008), (0.0, 8.0, 0.0), (1000.0, 30.0, 0.5)])
def test_the_knob_in_accounts(knob: float, days: float, share: float) -> None:
    assert calibration.allowed_share(knob, days) == pytest.approx(share)
