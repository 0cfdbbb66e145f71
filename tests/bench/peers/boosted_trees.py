"""Boosted trees on our own statistics: what naming the rivals costs, or gains."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

from detectors.account import F
from detectors.fit import AFTER_TAKEOVER, MAX_TRAINING_REQUESTS
from detectors.rivals import BURST_REQUESTS, LEAST_REQUESTS, OUTSIDE_BURST
from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import SILENT, Training

LEAST_MIXED = 64


class BoostedTrees:
    """Gradient-boosted trees that tell organic looks from looks of made-up extraction.

    The same statistics, the same extraction side (`detectors.synthetic`), the same rule of when an account may be
    judged at all (`detectors.rivals`), every account weighing the same: only the model differs.

    References
    ----------
    [^1]: Friedman, J. H. (2001). Greedy function approximation: a gradient boosting machine. Annals of
          Statistics 29(5).
    [^2]: Ke, G. et al. (2017). LightGBM: a highly efficient gradient boosting decision tree. NeurIPS. (The histograms.)
    """

    def fit(self, training: Training) -> None:
        """Learn to tell both sides apart."""
        organic = [_short(a.looks, LEAST_REQUESTS[0]) for a in training.accounts]
        made = []
        for stream, looks in training.extraction:
            begins = stream.starts + AFTER_TAKEOVER if stream.starts else 0
            made.append(_short(looks, max(begins, LEAST_MIXED if stream.kind == "mixed" else LEAST_REQUESTS[0])))
        x = np.concatenate([*organic, *made])
        label = np.concatenate([np.zeros(sum(map(len, organic))), np.ones(sum(map(len, made)))])
        weight = np.concatenate([_weights(organic), _weights(made)])
        self._trees = HistGradientBoostingClassifier(
            max_iter=200, max_leaf_nodes=15, learning_rate=0.1, early_stopping=False, random_state=0
        )
        self._trees.fit(x, label, sample_weight=weight * len(x))

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        looks = account.looks
        may_speak = (looks[:, F["n"]] >= BURST_REQUESTS) | (looks[:, F["outside_burst"]] >= OUTSIDE_BURST)
        return np.where(may_speak, self._trees.decision_function(looks), SILENT)


def _short(looks: Floats, least: float) -> Floats:
    """Looks of a history that the rivals are fitted on, too."""
    return looks[(looks[:, F["n"]] >= least) & (looks[:, F["n"]] <= MAX_TRAINING_REQUESTS)]


def _weights(accounts: list[Floats]) -> Floats:
    """Weights that sum to one half, each account's looks to the same."""
    held = [looks for looks in accounts if len(looks)]
    return np.concatenate([np.full(len(looks), 0.5 / len(held) / len(looks)) for looks in held])
