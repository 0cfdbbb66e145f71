"""Embeddings to 128-bit codes: centre, rotate, keep the signs.

The Hamming distance between two codes estimates the angle between two centred embeddings (Charikar 2002: each bit
differs with probability angle / pi), and costs two XORs and popcounts where a cosine costs 256 multiplications.

The rotation is three rounds of "flip signs, then Walsh-Hadamard", the usual stand-in for a random orthogonal matrix
(Ailon and Chazelle 2009; Andoni et al. 2015). It needs additions only, in one fixed order, so that every batch size
and every x86 gives the same bits, which no BLAS promises.

References
----------
[^1]: Charikar, M. S. (2002). Similarity estimation techniques from rounding algorithms. STOC.
[^2]: Ailon, N. and Chazelle, B. (2009). The fast Johnson-Lindenstrauss transform. SIAM J. Comput. 39(1).
[^3]: Andoni, A. et al. (2015). Practical and optimal LSH for angular distance. NeurIPS.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from detectors.events import BITS, WORDS
from detectors.kernel import Scalar, Vector, kernel

ROUNDS = 3
MAX_DIMENSION = 8192


LANES = 16
"""Rows that are turned together, number beside number, so that all loops run over neighbours in memory, many at a time
(0.4 instead of 2.4 µs a row). Each row's sums keep their own order: its bits do not depend on its company."""


@kernel
def _encode(x: Vector, mean: Vector, signs: Vector, codes: Vector) -> None:
    """Write the code of each row of `x` into `codes`; every loop runs in one fixed order."""
    dimension = x.shape[1]
    padded = signs.shape[1]
    v = np.empty(padded * LANES, np.float32)  # number j of row k at j * lanes + k
    square = np.empty(LANES, np.float64)
    scale = np.empty(LANES, np.float32)
    bits = np.empty(LANES, np.uint64)
    for first in range(0, x.shape[0], LANES):
        lanes = min(LANES, x.shape[0] - first)
        for k in range(lanes):
            square[k] = 0.0
            for j in range(dimension):
                v[j * lanes + k] = x[first + k, j]
        for j in range(dimension):
            for k in range(lanes):
                square[k] += np.float64(v[j * lanes + k]) * np.float64(v[j * lanes + k])
        for k in range(lanes):
            scale[k] = np.float32(1.0 / np.sqrt(square[k]))
        for j in range(dimension):
            for k in range(lanes):
                v[j * lanes + k] = v[j * lanes + k] * scale[k] - mean[j]
        for i in range(dimension * lanes, padded * lanes):
            v[i] = np.float32(0.0)
        for r in range(signs.shape[0]):
            for j in range(padded):
                for k in range(lanes):
                    v[j * lanes + k] = v[j * lanes + k] * signs[r, j]
            _hadamard(v[: padded * lanes], lanes)
        for word in range(WORDS):
            for k in range(lanes):
                bits[k] = np.uint64(0)
            for b in range(64):
                for k in range(lanes):
                    if v[(word * 64 + b) * lanes + k] >= np.float32(0.0):
                        bits[k] |= np.uint64(1) << np.uint64(b)
            for k in range(lanes):
                codes[first + k, word] = bits[k]


@kernel
def _hadamard(v: Vector, lanes: Scalar) -> None:
    """Transform `lanes` vectors in place: sums and differences of neighbours, then of pairs, then of fours, and so on.

    Two of these steps at a time, which adds the same numbers in the same order with half the walks through memory.
    Slices, since the compiler then knows that indices are not negative.
    """
    half = lanes
    while 4 * half <= len(v):
        for start in range(0, len(v), 4 * half):
            first, second = v[start : start + half], v[start + half : start + 2 * half]
            third, fourth = v[start + 2 * half : start + 3 * half], v[start + 3 * half : start + 4 * half]
            for j in range(half):
                plus, minus = first[j] + second[j], first[j] - second[j]
                later_plus, later_minus = third[j] + fourth[j], third[j] - fourth[j]
                first[j], second[j] = plus + later_plus, minus + later_minus
                third[j], fourth[j] = plus - later_plus, minus - later_minus
        half *= 4
    if half < len(v):
        left, right = v[:half], v[half:]
        for j in range(half):
            left[j], right[j] = left[j] + right[j], left[j] - right[j]


class Encoder:
    """Turns embeddings of one model into codes; part of the baseline, so that live and replay agree.

    Parameters
    ----------
    mean
        Mean of the population's unit embeddings, float32, shape `(dimension,)`.
    signs
        The rotation's sign flips, +1 or -1, int8, shape `(3, padded)` where `padded` is the least power of two that
        holds both the dimension and the bits of a code.
    model
        Name of the embedding model that the mean was learnt from.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = Encoder(np.zeros(4, np.float32), rotation_signs(4), "toy")
    >>> a, b = encoder.encode(np.array([[1, 2, 3, 5], [-1, -2, -3, -5]], np.float32))
    >>> int(np.bitwise_count(a ^ b).sum())
    128
    """

    def __init__(self, mean: NDArray[np.float32], signs: NDArray[np.int8], model: str) -> None:
        if mean.ndim != 1 or not 1 <= len(mean) <= MAX_DIMENSION or not np.isfinite(mean).all():
            raise ValueError(f"mean must be 1 to {MAX_DIMENSION} finite numbers")
        if signs.shape != (ROUNDS, padded_size(len(mean))) or not (np.abs(signs) == 1).all():
            raise ValueError(f"signs must be +1 or -1, shape {(ROUNDS, padded_size(len(mean)))}")
        self.mean = np.ascontiguousarray(mean, np.float32)
        self.signs = np.ascontiguousarray(signs, np.int8)
        self.model = model
        self._signs32 = self.signs.astype(np.float32)
        digest = hashlib.sha256()
        for part in (self.mean.astype("<f4").tobytes(), self.signs.tobytes(), model.encode()):
            digest.update(part)
        self.hash = digest.hexdigest()[:16]

    @property
    def dimension(self) -> int:
        """Length of the embeddings that this encoder takes."""
        return len(self.mean)

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Codes of `embeddings`, float32, shape `(n, dimension)`, finite and not all zero; uint64, shape `(n, 2)`."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise ValueError(f"embeddings must have shape (n, {self.dimension}), not {embeddings.shape}")
        codes = np.empty((len(embeddings), WORDS), np.uint64)
        _encode(np.ascontiguousarray(embeddings, np.float32), self.mean, self._signs32, codes)
        return codes


def padded_size(dimension: int) -> int:
    """The least power of two that holds `dimension` numbers and at least the bits of a code."""
    return max(BITS, 1 << (dimension - 1).bit_length())


def rotation_signs(dimension: int) -> NDArray[np.int8]:
    """Sign flips for a new encoder: the bits of SHA-256 in counter mode, so nobody chose them."""
    count = ROUNDS * padded_size(dimension)
    stream = b"".join(hashlib.sha256(b"stillwatch rotation %d" % i).digest() for i in range(-(-count // 256)))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[:count]
    return (bits.astype(np.int8) * 2 - 1).reshape(ROUNDS, -1)
