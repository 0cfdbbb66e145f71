"""Coverage: how much of the embedding space the account's requests spread over.

The expected distance of two independent requests of a stream is the sum over the code's bits of 2 p (1 - p), p being
the bit's share of ones: the yardstick of von Neumann's ratio, and by itself the breadth of the traffic. The decayed
shares forget with a half-life of 88 requests (factor 127/128), so an account that is taken over is soon measured by its
new self. Beside them stand the sums that add up over accounts (campaigns pool them), the novelty of each request
against the account's own past, and how many of 256 cells of the space were ever entered.

Direction is not kept: "looks like a maths question" must not convict.

Null: a broad stream has breadth near 1 (in units of half the code's bits) and goes on entering new cells; a heartbeat
has 0. Bytes: 480. Cost: two passes over 128 small integers a request.

References
----------
[^1]: Good, I. J. (1953). The population frequencies of species and the estimation of population parameters.
      Biometrika 40. (The share of first visits estimates the unseen mass.)
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.events import BITS, UNRELATED, WORDS
from detectors.kernel import Code, Record, Scalar, Vector, kernel
from detectors.statistics import memory
from detectors.statistics.estimator import Parts, RecordDetector, RecordTransformer, is_covered
from detectors.statistics.memory import ABSENT, RING

FULL = 65535
MAX_TOTAL = 254
RATE = 1.0 / 128.0
KEEP = 127.0 / 128.0

DTYPE = np.dtype(
    [
        ("weight", "<f8"),  # sum of the decayed weights
        ("weight2", "<f8"),  # sum of their squares
        ("share", "<u2", (BITS,)),  # decayed share of ones, of 65535 x weight
        ("requests", "<i8"),
        ("stride", "<i8"),  # every stride-th request is in `ones`
        ("total", "<i8"),  # requests in `ones`
        ("ones", "u1", (BITS,)),  # of them, those with the bit set: adds over accounts
        ("novelty", "<f8"),  # decayed distance to the nearest of the sample, in bits
        ("novelty_weight", "<f8"),
        ("fresh", "<f8"),  # decayed share of requests that entered a cell never entered before
        ("cells", "<u8", (4,)),
    ]
)


@kernel
def _add_to_sums(s: Record, code: Code) -> None:
    """Add every stride-th request to the sums; when a byte could overflow, halve them and double the stride."""
    if s["stride"] == 0:
        s["stride"] = 1
    s["requests"] += 1
    if s["requests"] % s["stride"] != 0:
        return
    ones = s["ones"]
    for word in range(WORDS):
        x = code[word]
        for b in range(64):
            j = word * 64 + b
            ones[j] = np.uint8(np.int64(ones[j]) + np.int64((x >> np.uint64(b)) & np.uint64(1)))
    s["total"] += 1
    if s["total"] >= MAX_TOTAL:
        s["total"] = s["total"] // 2
        s["stride"] *= 2
        for j in range(BITS):
            ones[j] = np.uint8(np.int64(ones[j]) // 2)


@kernel
def merge(into: Record, other: Record) -> None:
    """Add another account's sums, and the cells that it entered; what is decayed stays the account's own.

    Sums over every k-th request are brought to the larger stride of the two first, and halved once more if bytes could
    overflow. So merged sums are those of all requests as long as these are fewer than 254, and beyond that a sample of
    them, every account's in proportion to its requests, whose `total` times `stride` falls short of `requests` by less
    than two strides.
    """
    into["requests"] += other["requests"]
    for w in range(len(into["cells"])):
        into["cells"][w] |= other["cells"][w]
    if other["stride"] == 0:
        return
    stride = max(into["stride"], other["stride"])
    own = stride // max(into["stride"], 1)
    others = stride // other["stride"]
    if into["total"] // own + other["total"] // others >= MAX_TOTAL:
        stride, own, others = 2 * stride, 2 * own, 2 * others
    into["stride"] = stride
    into["total"] = into["total"] // own + other["total"] // others
    for j in range(BITS):
        into["ones"][j] = np.uint8(np.int64(into["ones"][j]) // own + np.int64(other["ones"][j]) // others)


@kernel
def update(s: Record, code: Code, distances: Vector) -> None:
    """Take one request's code, and its distances from `memory.recall`."""
    s["weight"] = s["weight"] * KEEP + RATE
    s["weight2"] = s["weight2"] * KEEP * KEEP + RATE * RATE
    share = s["share"]
    for word in range(WORDS):
        x = code[word]
        for b in range(64):
            bit = np.int64((x >> np.uint64(b)) & np.uint64(1))
            j = word * 64 + b
            held = np.int64(share[j])
            share[j] = np.uint16(held + ((bit * FULL - held + 64) >> 7))
    _add_to_sums(s, code)
    nearest = ABSENT
    for k in range(RING, len(distances)):
        nearest = min(nearest, distances[k])
    if nearest < ABSENT:
        s["novelty"] = s["novelty"] * KEEP + RATE * np.float64(nearest)
        s["novelty_weight"] = s["novelty_weight"] * KEEP + RATE
    cell = np.int64(code[0] & np.uint64(255))
    place = cell // 64
    mask = np.uint64(1) << np.uint64(cell % 64)
    is_fresh = 0.0
    if (s["cells"][place] & mask) == np.uint64(0):
        s["cells"][place] |= mask
        is_fresh = 1.0
    s["fresh"] = s["fresh"] * KEEP + RATE * is_fresh


@kernel
def spread_of(share: Vector, weight: Scalar, weight2: Scalar) -> Scalar:
    """Expected Hamming distance of two requests, from decayed shares of ones; 0 before there are two."""
    if weight <= 0.0 or weight * weight <= weight2 * 1.000001:
        return 0.0
    scale = 1.0 / (FULL * weight)
    total = 0.0
    for j in range(BITS):
        p = np.float64(share[j]) * scale
        if p > 1.0:
            p = 1.0
        total += 2.0 * p * (1.0 - p)
    effective = weight * weight / weight2
    return total * effective / (effective - 1.0)


@kernel
def expected_distance(s: Record) -> Scalar:
    """Expected Hamming distance of two of the account's recent requests, in bits; 0 before there are two."""
    return spread_of(s["share"], s["weight"], s["weight2"])


@kernel
def novelty(s: Record) -> Scalar:
    """Mean distance to the nearest sampled old request, over that of unrelated ones; 0 before there is a sample."""
    return s["novelty"] / s["novelty_weight"] / UNRELATED if s["novelty_weight"] > 0.0 else 0.0


def _take(record: Record, event: np.void) -> None:
    """Take an event through memory and coverage."""
    if is_covered(event):
        update(record["coverage"], event["code"], memory.distances_to(record["memory"], event["code"]))
        memory.remember(record["memory"], event["code"])


class Breadth(RecordDetector):
    """How wide the requests spread over the embedding space: 0 for a heartbeat, near 1 for the population as a whole.

    The expected distance of two recent requests, in units of that of unrelated ones: the sum over the code's bits of
    2 p (1 - p), p being the bit's decayed share of ones (half-life 88 requests), without bias from a short history.

    Examples
    --------
    >>> from detectors.statistics import Breadth
    >>> heartbeat, broad = Breadth(), Breadth()
    >>> for i in range(100):
    ...     heartbeat.learn_one({"subject": 1.0})
    ...     broad.learn_one({f"subject {i}": 1.0})
    >>> round(heartbeat.get(), 2), round(broad.get(), 2)
    (0.0, 1.0)

    References
    ----------
    [^1]: Simpson, E. H. (1949). Measurement of diversity. Nature 163. (The chance that two draws differ.)
    """

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "coverage": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        _take(record, event)

    def _value(self, record: Record) -> float:
        return float(expected_distance(record["coverage"])) / UNRELATED


class Novelty(RecordTransformer):
    """How far each request lies from the account's own old ones: 1 when it is unrelated to all of them.

    Decayed mean (half-life 88 requests) of the distance to the nearest of 32 sampled old requests, in units of
    the distance of unrelated ones; 0 before there is a sample. Person and list alike are novel, a service is not, so it
    describes and does not accuse.

    Examples
    --------
    >>> from detectors.statistics import Novelty
    >>> heartbeat, broad = Novelty(), Novelty()
    >>> for i in range(100):
    ...     heartbeat.learn_one({"subject": 1.0})
    ...     broad.learn_one({f"subject {i}": 1.0})
    >>> round(heartbeat.get()["novelty"], 2), round(broad.get()["novelty"], 2)
    (0.0, 0.83)
    """

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "coverage": DTYPE}

    def get(self) -> dict[str, float]:
        """The mean, of all that was learnt."""
        return {"novelty": float(novelty(self._state[0]["coverage"]))}

    def _take(self, record: Record, event: np.void) -> None:
        _take(record, event)
