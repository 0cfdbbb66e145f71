"""CAP: how much of the embedding space an account has covered."""

from __future__ import annotations

import numpy as np

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import Training

BUCKETS = 2048
RECENT = 100
SEED = 7

# As in LabRAI/mmd-llm-mea-detection, CAP/cap_detector.py.
BASE, ALPHA, BETA = 0.0005, 8.0, 0.19
COVERAGE_WEIGHT, NOVELTY_WEIGHT, SPREAD_WEIGHT = 0.05, 0.35, 0.45


class Cap:
    """Coverage-aware perturbation, as a detector: the cost that its coverage earns an account.

    A random hyperplane hash puts each query into one of 2,048 buckets. With c the share of buckets that the account has
    filled, v the share of its last 100 queries that filled a new one, and s the root mean square distance of its
    embeddings from their mean, the cost is

        lambda + w_c (exp(c / beta log(alpha / lambda)) - 1) + alpha w_v v + alpha w_s s

    The exponential in c is B4B's (section 3.3: next to nothing below beta, alpha at it). CAP perturbs answers by the
    cost; as a detector it is held against a threshold (LabRAI/mmd-llm-mea-detection, whose constants these are).

    References
    ----------
    [^1]: Stealing and defending the ends of LLMs: coverage-aware perturbation (2025). OpenReview dOS3e1kC5u.
    [^2]: Dubiński, J., Pawlak, S., Boenisch, F., Trzciński, T., Dziedzic, A. (2023). Bucks for buckets (B4B): active
          defenses against stealing encoders. NeurIPS.
    """

    def fit(self, training: Training) -> None:
        """Nothing is learnt: the hash is random."""

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        bits = BUCKETS.bit_length() - 1
        planes = np.random.default_rng(SEED).standard_normal((account.vectors.shape[1], bits))
        bucket = (account.vectors @ planes >= 0.0) @ (1 << np.arange(bits))
        fresh = np.zeros(len(bucket))
        fresh[np.unique(bucket, return_index=True)[1]] = 1.0
        filled = np.concatenate([[0.0], np.cumsum(fresh)])
        n = account.seen
        begin = np.maximum(n - RECENT, 0)
        novelty = (filled[n] - filled[begin]) / (n - begin)
        return cost(filled[n] / BUCKETS, novelty, spread(account.vectors)[n - 1])


def spread(vectors: np.ndarray) -> Floats:
    """Root mean square distance from the mean, of the first 1, 2, ... unit vectors."""
    n = np.arange(1, len(vectors) + 1)
    mean = np.cumsum(vectors, axis=0, dtype=np.float64) / n[:, None]
    return np.asarray(np.sqrt(np.maximum(1.0 - (mean * mean).sum(axis=1), 0.0)))


def cost(coverage: Floats, novelty: Floats, spread: Floats) -> Floats:
    """CAP's cost; see the class."""
    covered = COVERAGE_WEIGHT * np.expm1(np.minimum(coverage / BETA * np.log(ALPHA / BASE), 700.0))
    return np.asarray(BASE + covered + ALPHA * (NOVELTY_WEIGHT * novelty + SPREAD_WEIGHT * np.minimum(spread, 1.0)))
