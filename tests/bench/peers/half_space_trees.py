"""Half-space trees: how rare an account's statistics are among organic ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees as RiverHalfSpaceTrees

from detectors.account import FEATURES
from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import Training

LOOKS_AN_ACCOUNT = 20
GRID = np.linspace(0.0, 1.0, 101)
SEED = 17


class HalfSpaceTrees:
    """River's `HalfSpaceTrees` (25 trees of height 8) on the scalar statistics of `detectors.account`.

    The trees cut the unit cube at random and count organic looks in each cell; where few fell, the score is high. They
    expect features between 0 and 1, so each statistic is replaced by its rank among organic looks. They learn from
    organic accounts once, `LOOKS_AN_ACCOUNT` looks of each in random order, in one window; scored accounts teach
    nothing, so that the order of scoring does not matter.

    References
    ----------
    [^1]: Tan, S. C., Ting, K. M., Liu, T. F. (2011). Fast anomaly detection for streaming data. IJCAI.
    """

    def fit(self, training: Training) -> None:
        """Learn organic looks."""
        rng = np.random.default_rng(SEED)
        chosen = [a.looks[rng.permutation(len(a.looks))[:LOOKS_AN_ACCOUNT]] for a in training.accounts]
        looks = np.concatenate(chosen)
        looks = looks[rng.permutation(len(looks))]
        self._quantiles = np.quantile(looks, GRID, axis=0)
        self._trees: Any = RiverHalfSpaceTrees(n_trees=25, height=8, window_size=len(looks), seed=SEED)
        for ranks in self.ranks(looks):
            self._trees.learn_one(dict(zip(FEATURES, ranks, strict=True)))

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        return np.array([self._trees.score_one(dict(zip(FEATURES, r, strict=True))) for r in self.ranks(account.looks)])

    def ranks(self, looks: Floats) -> list[list[float]]:
        """Share of organic looks below each statistic; ties (a statistic that most share) in their middle."""
        below = [np.searchsorted(q, x, "left") for q, x in zip(self._quantiles.T, looks.T, strict=True)]
        within = [np.searchsorted(q, x, "right") for q, x in zip(self._quantiles.T, looks.T, strict=True)]
        ranks: list[list[float]] = ((np.array(below) + np.array(within)) / (2.0 * len(GRID))).T.tolist()
        return ranks
