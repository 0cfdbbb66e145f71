"""The logistic regressions behind the rivals: sign-constrained, weights that vary smoothly with history length.

Weights sit at knots of log2 n (16, 32, ... 512 requests) and are linear between them (hat functions); a ridge keeps
them small and a second penalty keeps neighbouring knots alike. Signs are bounds of L-BFGS-B (Byrd et al. 1995), so
that no statistic can ever count the wrong way round.

References
----------
[^1]: Byrd, R. H. et al. (1995). A limited memory algorithm for bound constrained optimization. SIAM J. Sci. Comput. 16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from detectors.account import FEATURES, F
from detectors.rivals import FIRST_KNOT, KNOTS, SCALES

Floats = NDArray[np.float64]

SMOOTHNESS = 5e-3
RIDGE = 3e-4
MAX_ITERATIONS = 300


def hats(n: Floats) -> Floats:
    """Weight of each knot for histories of `n` requests, shape `(len(n), KNOTS)`; rows sum to one."""
    position = np.clip(np.log2(np.maximum(n, 1.0)) - FIRST_KNOT, 0.0, KNOTS - 1.0)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(KNOTS)[None]))


def scaled(looks: Floats, name: str) -> Floats:
    """One statistic as the logistic sees it: clipped, less its value under extraction."""
    scale = SCALES[name]
    return np.clip(looks[:, F[name]], scale.low, scale.high) - scale.null


def fit_logistic(
    signs: dict[str, int],
    positive: Floats,
    positive_weight: Floats,
    negative: Floats,
    negative_weight: Floats,
    ridge: float = RIDGE,
) -> Floats:
    """Weights that tell `positive` looks (extraction) from `negative` ones, both classes weighted alike.

    Returns
    -------
    Floats
        Shape `(KNOTS, 1 + len(FEATURES))`, the bias first, in the units of the statistics.
    """
    looks = np.concatenate([positive, negative])
    label = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    weight = np.concatenate([positive_weight / positive_weight.sum(), negative_weight / negative_weight.sum()]) / 2.0
    hat = hats(looks[:, F["n"]])
    deviation = [scaled(looks, name).std() + 1e-6 for name in signs]
    design = np.concatenate(
        [hat] + [hat * (scaled(looks, name) / sd)[:, None] for name, sd in zip(signs, deviation, strict=True)], axis=1
    )
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * KNOTS
    for sign in signs.values():
        bounds += [(0.0, None) if sign > 0 else (None, 0.0)] * KNOTS

    def loss(flat: Floats) -> tuple[float, Floats]:
        z = design @ flat
        table = flat.reshape(-1, KNOTS)
        steps = np.diff(table, axis=1)
        value = (weight * (np.logaddexp(0.0, z) - label * z)).sum()
        value += SMOOTHNESS * (steps**2).sum() + ridge * (table[1:] ** 2).sum()
        gradient = (design.T @ (weight * (1.0 / (1.0 + np.exp(-z)) - label))).reshape(-1, KNOTS)
        gradient[:, 1:] += 2.0 * SMOOTHNESS * steps
        gradient[:, :-1] -= 2.0 * SMOOTHNESS * steps
        gradient[1:] += 2.0 * ridge * table[1:]
        return value, gradient.ravel()

    fitted = minimize(
        loss, np.zeros(design.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS}
    ).x.reshape(-1, KNOTS)
    weights = np.zeros((KNOTS, 1 + len(FEATURES)))
    weights[:, 0] = fitted[0]
    for row, (name, sd) in enumerate(zip(signs, deviation, strict=True), start=1):
        weights[:, 1 + F[name]] = fitted[row] / sd
    return weights
