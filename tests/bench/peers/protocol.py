"""What a method has to do to be compared, and what it is given to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.fit import SYNTHETIC_STREAMS
from detectors.synthetic import Stream, streams
from tests.bench.accounts import Account, Floats, looks_of

SILENT = -np.inf
"""Score at a look at which a method has no opinion yet."""

WINDOW = 256
"""Latest covered requests that a method of windows looks at. LabRAI/mmd-llm-mea-detection measures windows of 100 to
1,500 requests of many users at once; one account seldom sends as many."""

LEAST = 50
"""Covered requests before a method of windows speaks: of fewer a mean is mostly noise, and its threshold is set by the
noisiest look of anybody."""


class Training:
    """Organic accounts to learn from, and extraction made up from them, which is made only if a method asks.

    Parameters
    ----------
    accounts
        Organic, all.
    """

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.accounts = accounts

    @cached_property
    def extraction(self) -> list[tuple[Stream, Floats]]:
        """The made-up extraction streams of `detectors.fit`, with their statistics at each look."""
        made = streams([a.events for a in self.accounts], SYNTHETIC_STREAMS, 5)
        looked = [(stream, looks_of(stream.events)[0]) for stream in made]
        return [(stream, looks) for stream, looks in looked if len(looks)]

    def vectors(self, per_account: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Embeddings of requests, in random order: at most so many an account, so that nobody's traffic dominates."""
        chosen = [a.vectors[rng.permutation(len(a.vectors))[:per_account]] for a in self.accounts]
        mixed = np.concatenate(chosen)
        return mixed[rng.permutation(len(mixed))]


class Peer(Protocol):
    """A method. Made afresh for each fit."""

    def fit(self, training: Training) -> None:
        """Learn from organic accounts. Called once, before any score; none of these accounts is scored later."""

    def scores(self, account: Account) -> Floats:
        """How suspicious the account is at each of its looks, shape `(looks,)`: higher is more, `SILENT` is unheard.

        A score uses nothing of the account but what came up to its look. It does not depend on what was scored before.
        """


def trailing_means(values: Floats, seen: NDArray[np.int64]) -> Floats:
    """Mean of the last `WINDOW` of the first `seen[k]` values, for each k; `SILENT` below `LEAST`."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    begin = np.maximum(seen - WINDOW, 0)
    return np.where(seen >= LEAST, (total[seen] - total[begin]) / np.maximum(seen - begin, 1), SILENT)
