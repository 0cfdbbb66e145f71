"""What tests of the comparison share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.bench.accounts import Account, looks_of
from tests.made_up import events_of, random_codes

MakeAccount = Callable[..., Account]


@pytest.fixture
def make_account() -> MakeAccount:
    """Makes an account of `n` requests a minute apart, or of events; looks at every request unless told where."""

    def make(
        n: int = 0,
        *,
        events: Any = None,
        vectors: Any = None,
        words: Any = None,
        label: str = "organic",
        archetype: str = "person",
        starts: int = 0,
        pool: str = "",
        name: str = "a",
    ) -> Account:
        if events is None:
            n = n or len(vectors if vectors is not None else words)
            events = events_of(random_codes(n, np.random.default_rng(n)), 60_000 * np.arange(n))
            at = np.arange(n)
            looks = np.zeros((n, 1))
        else:
            looks, at = looks_of(events)
        made = np.zeros((len(events), 2), np.float32) if vectors is None else np.asarray(vectors, np.float32)
        found = [np.zeros(0, np.uint16)] * len(events) if words is None else words
        return Account(name, label, archetype, starts, pool, events, looks, at, at + 1, made, found)

    return make
