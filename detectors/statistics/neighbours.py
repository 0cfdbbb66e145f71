"""Neighbours: is what lies nearest to a request also what was asked just before or after it?

People follow up on themselves, so of all that an account remembers the nearest to a request is often among the few
requests around it; in a list in no order it is anywhere. Each of the last `RING` requests keeps its nearest so far
among the 16 before it, those after it, and the sample of older ones, and how many requests away that is: at most `FAR`,
which also stands for the sample. A request that leaves the ring adds its lag to a decayed mean. Ranks of distances only
enter, so the shape of the space does not matter, and both sides of a request count, which tells a list from a person in
fewer requests than looking back alone.

Null: with m candidates in no order, 2 (FAR - 1) of which are nearer than `FAR` requests, the nearest is among these
with chance 2 (FAR - 1) / m. Half-life 88 requests. Bytes: 48. Cost: one pass over the distances.

References
----------
[^1]: Friedman, J. H. and Rafsky, L. C. (1979). Multivariate generalizations of the Wald-Wolfowitz and Smirnov
      two-sample tests. Annals of Statistics 7(4). (Neighbours in place of ranks where there is no order.)
[^2]: Schilling, M. F. (1986). Multivariate two-sample tests based on nearest neighbors. JASA 81(395).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.kernel import Record, Scalar, Vector, kernel
from detectors.statistics import memory
from detectors.statistics.coverage import KEEP
from detectors.statistics.estimator import Parts, RecordDetector, is_covered
from detectors.statistics.memory import ABSENT, RING

FAR = 8
NOTHING = 255
"""Distance to the nearest of a request that has none yet."""

DTYPE = np.dtype(
    [
        ("lags", "<f8"),  # decayed sum of the lags of requests that left the ring
        ("weight", "<f8"),
        ("distance", "u1", (RING,)),  # of each of the last requests to its nearest, by its number modulo RING
        ("lag", "u1", (RING,)),  # from 1; 0 where there is no request yet
    ]
)


@kernel
def leaving(s: Record, number: Scalar) -> Scalar:
    """Lag of the request that will leave the ring for the request of this number, 0 when none will."""
    return np.float64(s["lag"][number % RING])


@kernel
def update(s: Record, distances: Vector, number: Scalar) -> None:
    """Take one request: its distances from `memory.recall`, and its number from 0."""
    left = leaving(s, number)
    if left > 0.0:
        s["lags"] = s["lags"] * KEEP + left
        s["weight"] = s["weight"] * KEEP + 1.0
    nearest = NOTHING
    lag = FAR
    for k in range(RING):
        d = distances[k]
        if d == ABSENT:
            break
        away = min(k + 1, FAR)
        if d < nearest:
            nearest = d
            lag = away
        neighbour = (number - 1 - k) % RING
        if d < s["distance"][neighbour]:
            s["distance"][neighbour] = np.uint8(d)
            s["lag"][neighbour] = np.uint8(away)
    for k in range(RING, len(distances)):
        if distances[k] < nearest:
            nearest = distances[k]
            lag = FAR
    s["distance"][number % RING] = np.uint8(nearest)
    s["lag"][number % RING] = np.uint8(lag)


@kernel
def mean_lag(s: Record) -> Scalar:
    """Mean lag of the nearest; `FAR` before there are two requests."""
    total = s["lags"]
    weight = s["weight"]
    for k in range(RING):
        if s["lag"][k] > 0:
            total += np.float64(s["lag"][k])
            weight += 1.0
    return total / weight if weight > 0.0 else np.float64(FAR)


class NearestLag(RecordDetector):
    """How many requests away the nearest request lies: near 1 for who follows up, larger for a list in no order.

    For each request the nearest among the 16 before it, up to 15 after it and a sample of 32 older ones; 8 stands for
    8 requests or more. Decayed with a half-life of 88 requests.

    Examples
    --------
    >>> from detectors.statistics import NearestLag
    >>> person, listed = NearestLag(), NearestLag()
    >>> for i in range(200):
    ...     person.learn_one({f"topic {i // 8}": 1.0, f"verb {i}": 0.8, f"noun {i}": 0.8})
    ...     listed.learn_one({f"topic {i * i % 199}": 1.0, f"verb {i}": 0.8, f"noun {i}": 0.8})
    >>> round(person.get(), 1), round(listed.get(), 1)
    (3.1, 6.7)

    References
    ----------
    [^1]: Schilling, M. F. (1986). Multivariate two-sample tests based on nearest neighbors. JASA 81(395).
    """

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "neighbours": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            held = record["memory"]
            update(record["neighbours"], memory.distances_to(held, event["code"]), held["count"])
            memory.remember(held, event["code"])

    def _value(self, record: Record) -> float:
        return float(mean_lag(record["neighbours"]))
