"""PRADA: whether the distances between an account's queries are normally distributed."""

from __future__ import annotations

import numpy as np
from scipy.stats import shapiro

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import SILENT, Training

LEAST_DISTANCES = 100
OUTLIER_DEVIATIONS = 3.0


class Prada:
    """PRADA (section V, algorithm 3): 1 less Shapiro and Wilk's W of the distances to the growing set.

    Each query's distance to the nearest of a *growing set* of the account's queries is kept; a query joins the set when
    that distance exceeds a threshold, which is the mean less the standard deviation of the distances at which members
    joined, and never falls. Organic distances are held to be normal, so a small W alarms. More than 100 distances are
    needed, and those beyond three standard deviations are left out.

    The paper keeps a set for each class that the model answers; texts have none, so there is one set. Its distance is
    Euclid's, here of unit embeddings. It never forgets, so the statistic of an account that is taken over late mixes
    both owners, as in the paper.

    References
    ----------
    [^1]: Juuti, M., Szyller, S., Marchal, S., Asokan, N. (2019). PRADA: protecting against DNN model stealing attacks.
          IEEE European Symposium on Security and Privacy.
    """

    def fit(self, training: Training) -> None:
        """Nothing is learnt: only the threshold on W comes from organic accounts."""

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        distances = nearest_distances(account)
        return np.array([departure_from_normal(distances[: max(n - 1, 0)]) for n in account.seen])


def nearest_distances(account: Account) -> Floats:
    """Distance of each query but the first to the growing set as it was then."""
    vectors = account.vectors
    grown = np.empty_like(vectors)
    grown[:1] = vectors[:1]
    size, threshold = 1, 0.0
    count, mean, squares = 1, 0.0, 0.0  # of the distances at which members joined; the first joined at 0
    distances = np.zeros(max(len(vectors) - 1, 0))
    for i in range(1, len(vectors)):
        nearest = np.sqrt(max(2.0 - 2.0 * float((grown[:size] @ vectors[i]).max()), 0.0))
        distances[i - 1] = nearest
        if nearest > threshold:
            grown[size] = vectors[i]
            size, count = size + 1, count + 1
            step = nearest - mean
            mean += step / count
            squares += step * (nearest - mean)
            threshold = max(threshold, mean - np.sqrt(squares / count))
    return distances


def departure_from_normal(distances: Floats) -> float:
    """1 less W of the distances without outliers; `SILENT` for too few, 1 when all are alike."""
    if len(distances) <= LEAST_DISTANCES:
        return SILENT
    deviation = distances.std()
    if deviation < 1e-9:
        return 1.0
    kept = distances[np.abs(distances - distances.mean()) < OUTLIER_DEVIATIONS * deviation]
    return 1.0 - float(shapiro(kept).statistic) if np.ptp(kept) > 0.0 else 1.0
