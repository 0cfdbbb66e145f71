"""What this repository ships, under the same protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import calibration
from detectors.baseline import load_default
from detectors.fit import fit, head_scores
from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import Training


class Stillwatch:
    """A baseline fitted as `stillwatch fit` does it; the score is the surprise that the engine holds to the knob."""

    def fit(self, training: Training) -> None:
        """Fit a baseline."""
        self._model = fit([a.events for a in training.accounts], load_default().encoder).baseline.model

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        return surprises(self._model, head_scores(self._model, account.looks))


def surprises(model: NDArray[Any], scores: Floats) -> Floats:
    """Surprise at each look, from the heads' scores."""
    return np.array([calibration.surprise(model[0], row) for row in scores])
