"""The logistic regressions behind the rivals: sign-constrained, weights that vary smoothly with history length.

Weights sit at knots of log2 n (16, 32, ... 512 requests) and are linear between them; a ridge keeps them small and a
second penalty keeps neighbouring knots alike. Signs are bounds of L-BFGS-B (Byrd et al. 1995), so that no statistic can
ever count the wrong way round.

The loss and its gradient are one compiled loop in one fixed order, not BLAS: the same looks give the same bits on any
number of cores, and fits can run side by side in threads, since compiled code does without the interpreter's lock. Of a
look only the two knots beside its history's length count.

References
----------
[^1]: Byrd, R. H. et al. (1995). A limited memory algorithm for bound constrained optimization. SIAM J. Sci. Comput. 16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from detectors import portable_math
from detectors.account import FEATURES, F
from detectors.kernel import Scalar, Vector, kernel
from detectors.rivals import FIRST_KNOT, KNOTS, SCALES

Floats = NDArray[np.float64]

SMOOTHNESS = 5e-3
RIDGE = 3e-4
MAX_ITERATIONS = 300


def positions(n: Floats) -> Floats:
    """Where histories of `n` requests lie among the knots, 0 to `KNOTS` - 1."""
    result: Floats = np.clip(np.log2(np.maximum(n, 1.0)) - FIRST_KNOT, 0.0, KNOTS - 1.0)
    return result


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
    position = positions(looks[:, F["n"]])
    deviation = [scaled(looks, name).std() + 1e-6 for name in signs]
    columns = [np.ones(len(looks))] + [scaled(looks, name) / sd for name, sd in zip(signs, deviation, strict=True)]
    design = np.ascontiguousarray(np.stack(columns, axis=1))
    knot = np.minimum(position.astype(np.int64), KNOTS - 2)
    part = position - knot
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * KNOTS
    for sign in signs.values():
        bounds += [(0.0, None) if sign > 0 else (None, 0.0)] * KNOTS

    def loss(flat: Floats) -> tuple[float, Floats]:
        table = flat.reshape(-1, KNOTS)
        gradient = np.zeros(table.shape)
        value = _loss(design, knot, part, label, weight, table, gradient)
        steps = np.diff(table, axis=1)
        value += SMOOTHNESS * (steps**2).sum() + ridge * (table[1:] ** 2).sum()
        gradient[:, 1:] += 2.0 * SMOOTHNESS * steps
        gradient[:, :-1] -= 2.0 * SMOOTHNESS * steps
        gradient[1:] += 2.0 * ridge * table[1:]
        return value, gradient.ravel()

    start = np.zeros(design.shape[1] * KNOTS)
    options = {"maxiter": MAX_ITERATIONS}
    fitted = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x.reshape(-1, KNOTS)
    weights = np.zeros((KNOTS, 1 + len(FEATURES)))
    weights[:, 0] = fitted[0]
    for row, (name, sd) in enumerate(zip(signs, deviation, strict=True), start=1):
        weights[:, 1 + F[name]] = fitted[row] / sd
    return weights


@kernel
def _loss(
    design: Vector, knot: Vector, part: Vector, label: Vector, weight: Vector, table: Vector, gradient: Vector
) -> Scalar:
    """Weighted log-loss of a table of weights, shape `(columns, KNOTS)`; adds its gradient to `gradient`, same shape.

    `design` has shape `(looks, columns)`; `knot` is the knot before each look and `part` how far it lies to the next.
    """
    total = 0.0
    for i in range(len(design)):
        left = knot[i]
        far = part[i]
        near = 1.0 - far
        z = 0.0
        for j in range(design.shape[1]):
            z += design[i, j] * (table[j, left] * near + table[j, left + 1] * far)
        decay = portable_math.exp(-abs(z))
        total += weight[i] * (max(z, 0.0) + portable_math.log(1.0 + decay) - label[i] * z)
        probability = 1.0 / (1.0 + decay) if z > 0.0 else decay / (1.0 + decay)
        residual = weight[i] * (probability - label[i])
        for j in range(design.shape[1]):
            slope = residual * design[i, j]
            gradient[j, left] += slope * near
            gradient[j, left + 1] += slope * far
    return total
