"""The logistic regressions: signs that hold, directions that are found, weights that vary with the history's length."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import rivals
from detectors.account import FEATURES, F
from detectors.logistic import _loss, fit_logistic, positions, scaled
from tests.made_up import generator


def looks(n: int, requests: int, seed: int, **means: float) -> np.ndarray:
    rng = generator(seed)
    x = np.zeros((n, len(FEATURES)))
    x[:, F["n"]] = requests
    for name, mean in means.items():
        x[:, F[name]] = rng.normal(mean, 0.03, n)
    return x


def fitted(signs: dict[str, int], positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return fit_logistic(signs, positive, np.ones(len(positive)), negative, np.ones(len(negative)))


def test_histories_lie_between_the_knots_by_the_logarithm_of_their_length() -> None:
    found = positions(np.array([1.0, 16.0, 20.0, 32.0, 512.0, 1e6]))
    assert found == pytest.approx([0.0, 0.0, np.log2(20 / 16), 1.0, rivals.KNOTS - 1, rivals.KNOTS - 1])


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = generator(1)
    design, table = rng.normal(size=(50, 3)), rng.normal(size=(3, rivals.KNOTS))
    place = positions(rng.uniform(10.0, 600.0, 50))
    knot = np.minimum(place.astype(np.int64), rivals.KNOTS - 2)
    looks_as_they_are = (design, knot, place - knot, (rng.random(50) < 0.5).astype(float), rng.random(50))
    gradient = np.zeros(table.shape)
    value = _loss(*looks_as_they_are, table, gradient)
    z = [d @ [np.interp(at, range(rivals.KNOTS), row) for row in table] for d, at in zip(design, place, strict=True)]
    label, weight = looks_as_they_are[3:]
    assert value == pytest.approx((weight * (np.logaddexp(0.0, z) - label * np.array(z))).sum())
    for at in np.ndindex(table.shape):
        step = np.zeros(table.shape)
        step[at] = 1e-6
        higher, lower = (_loss(*looks_as_they_are, table + s, np.zeros(table.shape)) for s in (step, -step))
        assert gradient[at] == pytest.approx((higher - lower) / 2e-6, abs=1e-6)


def test_a_known_direction_is_found_and_separates() -> None:
    signs = {"vn1": 1, "nearest_lag": 1}
    positive = looks(400, 64, 1, vn1=0.99, nearest_lag=7.0)
    negative = looks(400, 64, 2, vn1=0.88, nearest_lag=4.0)
    weights = fitted(signs, positive, negative)[2]
    assert weights[1 + F["vn1"]] > 1.0
    assert weights[1 + F["nearest_lag"]] > 0.1
    score = [weights[0] + sum(weights[1 + F[name]] * scaled(x, name) for name in signs) for x in (positive, negative)]
    assert (score[0] > 0.0).mean() > 0.95
    assert (score[1] < 0.0).mean() > 0.95


def test_a_statistic_cannot_count_the_wrong_way_round() -> None:
    # The history would have it that lists have more order than people.
    weights = fitted(
        {"vn1": 1, "nearest_lag": 1},
        looks(300, 64, 1, vn1=0.85, nearest_lag=4.0),
        looks(300, 64, 2, vn1=0.99, nearest_lag=7.0),
    )
    assert (weights[:, 1 + F["vn1"]] == 0.0).all()
    assert (weights[:, 1 + F["nearest_lag"]] == 0.0).all()


def test_statistics_that_are_not_named_have_no_weight() -> None:
    weights = fitted({"vn1": 1}, looks(100, 64, 1, vn1=0.99, near=0.5), looks(100, 64, 2, vn1=0.9, near=0.1))
    named = [0, 1 + F["vn1"]]
    assert np.delete(weights, named, axis=1).any() == np.False_
    assert weights.shape == (rivals.KNOTS, 1 + len(FEATURES))


def test_weights_vary_smoothly_with_the_history() -> None:
    # Only long histories separate.
    positive = np.concatenate([looks(300, 16, 1, vn1=0.93), looks(300, 512, 2, vn1=0.99)])
    negative = np.concatenate([looks(300, 16, 3, vn1=0.93), looks(300, 512, 4, vn1=0.87)])
    weight = fitted({"vn1": 1}, positive, negative)[:, 1 + F["vn1"]]
    assert (np.diff(weight) >= -1e-6).all()
    assert weight[-1] > 2.0 * weight[0]


def test_an_accounts_looks_weigh_as_one_account() -> None:
    busy, rare = looks(1000, 64, 1, vn1=0.99), looks(10, 64, 2, vn1=0.86)
    negative = looks(300, 64, 3, vn1=0.92)
    alike = fit_logistic(
        {"vn1": 1},
        np.concatenate([busy, rare]),
        np.concatenate([np.full(1000, 1e-3), np.full(10, 0.1)]),
        negative,
        np.ones(300),
    )
    by_look = fitted({"vn1": 1}, np.concatenate([busy, rare]), negative)
    assert alike[2, 1 + F["vn1"]] < by_look[2, 1 + F["vn1"]]


def test_the_compiled_logistic_is_the_fitted_one() -> None:
    weights = fitted(
        {"vn1": 1, "nearest_lag": 1},
        looks(200, 64, 1, vn1=0.99, nearest_lag=7.0),
        looks(200, 64, 2, vn1=0.9, nearest_lag=5.0),
    )
    model = rivals.blank_model()
    pair = list(rivals.PAIRS).index("person/memoryless")
    model["weight"][0, pair] = weights
    for n in (3, 16, 50, 100, 400, 5000):
        x = looks(1, n, n, vn1=0.95, nearest_lag=6.5)
        at = positions(x[:, F["n"]])[0]
        row = [np.interp(at, range(rivals.KNOTS), column) for column in weights.T]
        expected = row[0] + sum(row[1 + F[name]] * scaled(x, name)[0] for name in ("vn1", "nearest_lag"))
        assert rivals.logistic(model[0], pair, x[0]) == pytest.approx(expected, rel=1e-9)
