"""Codes are those of the formula, bit for bit, whoever else is in the batch; their distance is the angle."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.encoder import LANES, Encoder, padded_size, rotation_signs
from detectors.events import BITS, WORDS

DIMENSIONS = (3, 256, 300, 1024)  # padded to 128, 256, 512 and 1024: even and odd powers of two


def encoder_of(dimension: int) -> Encoder:
    mean = np.random.default_rng(dimension).normal(0.0, 0.05, dimension).astype(np.float32)
    return Encoder(mean, rotation_signs(dimension), "any")


def embeddings(rows: int, dimension: int) -> NDArray[np.float32]:
    """Embeddings of very different lengths."""
    rng = np.random.default_rng(rows)
    return (rng.normal(size=(rows, dimension)) * 10.0 ** rng.uniform(-6, 6, (rows, 1))).astype(np.float32)


def by_the_formula(encoder: Encoder, x: NDArray[np.float32]) -> NDArray[np.uint64]:
    """One row's code: scale, centre, then three times flip and transform step by step, in float32."""
    square = np.cumsum(x.astype(np.float64) ** 2)[-1]  # adds from left to right, unlike np.sum
    v = np.zeros(padded_size(len(x)), np.float32)
    v[: len(x)] = x * np.float32(1.0 / np.sqrt(square)) - encoder.mean
    for signs in encoder.signs.astype(np.float32):
        v *= signs
        half = 1
        while half < len(v):
            pairs = v.reshape(-1, 2, half)
            v = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
            half *= 2
    return np.packbits(v[:BITS] >= 0, bitorder="little").view(np.uint64)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_codes_are_those_of_the_formula(dimension: int) -> None:
    encoder, x = encoder_of(dimension), embeddings(2 * LANES + 5, dimension)
    expected = np.array([by_the_formula(encoder, row) for row in x])
    assert (encoder.encode(x) == expected).all()


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("size", [1, 7, LANES, LANES + 1])
def test_a_code_does_not_depend_on_the_rest_of_the_batch(dimension: int, size: int) -> None:
    encoder, x = encoder_of(dimension), embeddings(2 * LANES + 5, dimension)
    apart = np.concatenate([encoder.encode(x[i : i + size]) for i in range(0, len(x), size)])
    assert (apart == encoder.encode(x)).all()


def test_no_embeddings_have_no_codes() -> None:
    assert encoder_of(256).encode(np.zeros((0, 256), np.float32)).shape == (0, WORDS)


def test_the_distance_of_two_codes_is_their_angle() -> None:
    encoder = Encoder(np.zeros(256, np.float32), rotation_signs(256), "any")
    rng = np.random.default_rng(1)
    a, other = rng.normal(size=(2, 400, 256))
    other -= a * (a * other).sum(axis=1, keepdims=True) / (a * a).sum(axis=1, keepdims=True)
    angle = np.linspace(0.05, np.pi - 0.05, 400)[:, None]
    b = np.cos(angle) * a / np.linalg.norm(a, axis=1, keepdims=True) + np.sin(angle) * other / np.linalg.norm(
        other, axis=1, keepdims=True
    )
    distance = np.bitwise_count(encoder.encode(a.astype(np.float32)) ^ encoder.encode(b.astype(np.float32))).sum(axis=1)
    error = distance / BITS - angle[:, 0] / np.pi
    assert abs(error.mean()) < 0.01
    assert np.abs(error).max() < 0.2


@pytest.mark.parametrize("shape", [(2, 255), (256,), (1, 2, 256)])
def test_embeddings_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        encoder_of(256).encode(np.ones(shape, np.float32))


@pytest.mark.parametrize(
    ("mean", "signs", "message"),
    [
        (np.zeros(0, np.float32), rotation_signs(1), "mean"),
        (np.full(256, np.nan, np.float32), rotation_signs(256), "mean"),
        (np.zeros(300, np.float32), rotation_signs(256), "signs"),
        (np.zeros(256, np.float32), np.zeros((3, 256), np.int8), "signs"),
    ],
)
def test_an_encoder_that_makes_no_sense_is_refused(
    mean: NDArray[np.float32], signs: NDArray[np.int8], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(mean, signs, "any")
