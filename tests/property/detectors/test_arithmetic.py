"""The arithmetic that replays rest on: logarithms without the C library, popcounts and hashes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import portable_math
from detectors.statistics import bits

WORDS = st.integers(0, 2**64 - 1)


@given(st.floats(1e-300, 1e300))
def test_log_is_as_exact_as_the_librarys(x: float) -> None:
    assert portable_math.log(x) == pytest.approx(math.log(x), rel=1e-15, abs=1e-15)


@given(st.floats(-700.0, 700.0))
def test_exp_is_as_exact_as_the_librarys(x: float) -> None:
    assert portable_math.exp(x) == pytest.approx(math.exp(x), rel=4e-16)


@pytest.mark.parametrize(("x", "expected"), [(-701.0, 0.0), (-1e300, 0.0), (701.0, math.exp(700.0)), (0.0, 1.0)])
def test_exp_is_clamped(x: float, expected: float) -> None:
    assert portable_math.exp(x) == pytest.approx(expected, rel=4e-16)


@given(st.floats(1e-6, 1e9))
def test_log_gamma_is_exact_to_eleven_digits(x: float) -> None:
    assert portable_math.log_gamma(x) == pytest.approx(math.lgamma(x), rel=1e-12, abs=1e-11)


@given(st.floats(-1e4, 1e4), st.floats(-600.0, 600.0))
def test_log_add_is_the_log_of_a_sum(a: float, difference: float) -> None:
    expected = max(a, a + difference) + math.log1p(math.exp(-abs(difference)))
    assert portable_math.log_add(a, a + difference) == pytest.approx(expected, rel=1e-14, abs=1e-12)
    assert portable_math.log_add(a, a + difference) == portable_math.log_add(a + difference, a)


@given(WORDS)
def test_popcount_counts_set_bits(x: int) -> None:
    assert bits.popcount(np.uint64(x)) == x.bit_count()


@given(st.lists(WORDS, min_size=4, max_size=4))
def test_hamming_is_the_number_of_differing_bits(words: list[int]) -> None:
    a, b = np.array(words[:2], np.uint64), np.array(words[2:], np.uint64)
    assert bits.hamming(a, b) == sum((x ^ y).bit_count() for x, y in zip(words[:2], words[2:], strict=True))


@given(WORDS)
def test_mix_is_splitmix64(x: int) -> None:
    z = (x + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    assert bits.mix(np.uint64(x)) == z ^ z >> 31
