"""SEAT: how many pairs of an account's queries are alike."""

from __future__ import annotations

import numpy as np

from tests.bench.accounts import Account, Floats
from tests.bench.peers.protocol import SILENT, Training

PAIRS = 50


class Seat:
    """SEAT's detector: an account is cancelled when more than `PAIRS` pairs of its queries are more alike than delta.

    For a fixed number N of pairs, delta is what is calibrated on organic accounts (as in the paper). More than N pairs
    reach delta exactly when the (N + 1)-th largest similarity does, so that one is the score, and its threshold is
    delta.

    The paper trains its similarity encoder adversarially, on images, against attacks that perturb their queries.
    Prompts are not perturbed pixel by pixel; here similarity is the cosine of the embeddings, as in
    LabRAI/mmd-llm-mea-detection (`SEAT/`, N = 50).

    References
    ----------
    [^1]: Zhang, Z., Chen, Y., Wagner, D. (2021). SEAT: similarity encoder by adversarial training for detecting model
          extraction attack queries. AISec.
    """

    def fit(self, training: Training) -> None:
        """Nothing is learnt: delta is the threshold."""

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        largest = np.zeros(0, np.float32)
        result = np.full(len(account.seen), SILENT)
        done = 0
        for k, n in enumerate(account.seen):
            similar = account.vectors[done:n] @ account.vectors[:n].T
            pairs = similar[np.arange(n)[None] < np.arange(done, n)[:, None]]
            if len(largest) > PAIRS:
                pairs = pairs[pairs > largest[0]]
            largest = np.sort(np.concatenate([largest, pairs]))[-(PAIRS + 1) :]
            if len(largest) > PAIRS:
                # Rounded, since equal prompts are equally alike whatever their vectors' last bits.
                result[k] = round(float(largest[0]), 5)
            done = n
        return result
