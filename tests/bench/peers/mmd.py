"""Linear-time MMD: whether an account's queries are drawn from what the population asks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import LEAST, SILENT, WINDOW, Training

PER_ACCOUNT = 64
SEED = 11
BANDWIDTH_SAMPLE = 1000


class LinearMmd:
    """The linear-time two-sample statistic of Gretton et al. (2012, section 6), over its standard error.

        MMD_l = mean of h over pairs,  h = k(x, x') + k(y, y') - k(x, y') - k(x', y)

    x, x' are successive queries of the account, y, y' random ones of the population, k is Gauss's kernel with the
    median distance as its width. Each query is used once, so h is averaged in linear time and its mean is normal
    (corollary 16): divided by its standard error it can be compared over windows of different length.
    LabRAI/mmd-llm-mea-detection tests windows with the quadratic statistic; its windows are of many users, with queries
    in random order, where successive queries are independent. Of one account they are not.

    References
    ----------
    [^1]: Gretton, A., Borgwardt, K., Rasch, M., Schölkopf, B., Smola, A. (2012). A kernel two-sample test. JMLR 13.
    [^2]: An embarrassingly simple detector for model extraction attacks in large language model API traffic (2026).
          arXiv:2606.05725.
    """

    def fit(self, training: Training) -> None:
        """Draw the population's side, and the kernel's width."""
        rng = np.random.default_rng(SEED)
        self._reference = training.vectors(PER_ACCOUNT, rng)
        sample = self._reference[:BANDWIDTH_SAMPLE]
        squares = np.maximum(2.0 - 2.0 * sample @ sample.T, 0.0)[np.triu_indices(len(sample), 1)]
        self._double_width = 2.0 * float(np.median(squares)) or 1.0

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        pairs = len(account.vectors) // 2
        x, other_x = account.vectors[: 2 * pairs : 2], account.vectors[1 : 2 * pairs : 2]
        drawn = np.resize(np.arange(len(self._reference)), 2 * pairs)
        y, other_y = self._reference[drawn[::2]], self._reference[drawn[1::2]]
        h = self._kernel(x, other_x) + self._kernel(y, other_y) - self._kernel(x, other_y) - self._kernel(other_x, y)
        return np.array([studentised(h[max(n - WINDOW, 0) // 2 : n // 2]) for n in account.seen])

    def _kernel(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
        """Gauss's kernel of unit vectors, row by row."""
        squares = np.maximum(2.0 - 2.0 * (a * b).sum(axis=1, dtype=np.float64), 0.0)
        return np.asarray(np.exp(-squares / self._double_width))


def studentised(h: Floats) -> float:
    """Mean of h over its standard error; `SILENT` for few."""
    if len(h) < LEAST // 2:
        return SILENT
    return float(h.mean() / max(h.std() / np.sqrt(len(h)), 1e-9))
