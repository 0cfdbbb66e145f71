"""Hamming distances of codes, and an integer hash: the instructions that every statistic shares."""

from __future__ import annotations

import numpy as np

from detectors.kernel import Code, Scalar, inlined, kernel

_M1 = np.uint64(0x5555555555555555)
_M2 = np.uint64(0x3333333333333333)
_M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_FOUR = np.uint64(4)
_TOP = np.uint64(56)


@inlined
def popcount(x: Scalar) -> Scalar:
    """Number of set bits of a uint64 (Warren, Hacker's Delight, 5-1)."""
    x = x - ((x >> _ONE) & _M1)
    x = (x & _M2) + ((x >> _TWO) & _M2)
    x = (x + (x >> _FOUR)) & _M4
    return np.int64((x * _BYTES) >> _TOP)


@inlined
def hamming(a: Code, b: Code) -> Scalar:
    """Number of differing bits of two codes, each uint64 of shape `(2,)`."""
    return popcount(a[0] ^ b[0]) + popcount(a[1] ^ b[1])


@kernel
def mix(x: Scalar) -> Scalar:
    """A well-spread uint64 for the uint64 `x` (finaliser of SplitMix64, Steele et al. 2014)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
