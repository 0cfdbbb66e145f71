"""The rule that every gateway has: who sends the most."""

from __future__ import annotations

import numpy as np

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import Training


class RequestRate:
    """Requests of the account within the last `window_ms` before each look, that of the look included.

    Parameters
    ----------
    window_ms
        Length of the window in milliseconds.
    """

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms

    def fit(self, training: Training) -> None:
        """Nothing is learnt: the limit is the threshold."""

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        result = np.zeros(len(account.at))
        for k, index in enumerate(account.at):
            times = account.events["time"][: index + 1]
            result[k] = (times > times[-1] - self.window_ms).sum()
        return result
