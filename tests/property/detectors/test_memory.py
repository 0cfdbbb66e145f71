"""What an account remembers of its requests, against a plain list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.events import WORDS
from detectors.statistics import memory
from tests.made_up import generator, random_codes


def remembered(codes: np.ndarray) -> np.ndarray:
    held = np.zeros(1, memory.DTYPE)
    for code in codes:
        memory.remember(held[0], code)
    return held


@given(st.integers(0, 200), st.integers(0, 2**32))
def test_distances_are_to_the_last_sixteen_newest_first(n: int, seed: int) -> None:
    codes = random_codes(n + 1, generator(seed))
    distances = memory.distances_to(remembered(codes[:n])[0], codes[n])
    expected = [int(np.bitwise_count(codes[n] ^ code).sum()) for code in codes[:n][::-1][: memory.RING]]
    assert list(distances[: memory.RING]) == expected + [memory.ABSENT] * (memory.RING - len(expected))


@given(st.integers(0, 300), st.integers(0, 2**32))
def test_the_sample_holds_different_requests_that_left_the_ring(n: int, seed: int) -> None:
    codes = random_codes(n, generator(seed))
    held = remembered(codes)[0]
    size = int(memory.sampled(held))
    assert size == min(max(n - memory.RING, 0), memory.RESERVOIR)
    old = {code.tobytes() for code in codes[: max(n - memory.RING, 0)]}
    sample = {code.tobytes() for code in held["sample"][:size]}
    assert len(sample) == size
    assert sample <= old


def test_every_old_request_is_as_likely_in_the_sample() -> None:
    # The coin is a hash of the request's number, so chance is over numbers: many lengths stand in for many samples.
    codes = np.zeros((4000, WORDS), np.uint64)
    codes[:, 0] = np.arange(4000)
    held = np.zeros(1, memory.DTYPE)
    ages = []
    for n, code in enumerate(codes):
        memory.remember(held[0], code)
        if n >= 200 and n % 40 == 0:
            ages += list(held["sample"][0, :, 0] / (n - memory.RING))
    shares = np.histogram(ages, bins=4, range=(0.0, 1.0))[0] / len(ages)
    assert shares == pytest.approx([0.25] * 4, abs=0.08)
    assert np.mean(ages) == pytest.approx(0.5, abs=0.05)
