"""Mahalanobis: how far an account's queries lie from what the population asks."""

from __future__ import annotations

import numpy as np

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import Training, trailing_means

PER_ACCOUNT = 64
RIDGE = 1e-6
SEED = 13


class Mahalanobis:
    """Marginal Mahalanobis distance, averaged over the account's latest queries.

    One mean and one covariance of all organic embeddings (the *marginal* variant: there are no classes), and each
    query's squared distance under them. The paper scores single queries; LabRAI/mmd-llm-mea-detection averages over a
    window, as here, with the same ridge.

    References
    ----------
    [^1]: Podolskiy, A., Lipin, D., Bout, A., Artemova, E., Piontkovskaya, I. (2021). Revisiting Mahalanobis distance
          for transformer-based out-of-domain detection. AAAI.
    [^2]: Lee, K., Lee, K., Lee, H., Shin, J. (2018). A simple unified framework for detecting out-of-distribution
          samples and adversarial attacks. NeurIPS. (Section 2.1.)
    """

    def fit(self, training: Training) -> None:
        """Mean and covariance of organic queries."""
        vectors = training.vectors(PER_ACCOUNT, np.random.default_rng(SEED)).astype(np.float64)
        self._mean = vectors.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(vectors.T, bias=True))
        self._whiten = axes / np.sqrt(np.maximum(variances, 0.0) + RIDGE)

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        return trailing_means(self.distances(account.vectors), account.seen)

    def distances(self, vectors: np.ndarray) -> Floats:
        """Squared distance of each embedding."""
        whitened = (vectors - self._mean) @ self._whiten
        return np.asarray((whitened * whitened).sum(axis=1))
