"""Shape: what the requests look like, whatever they say.

Share of answers of at most eight tokens (a classifier's answers; unknown counts are left out), mean log of the answer's
tokens, von Neumann's ratio of the log length (a person's lengths come in runs, a shuffled list's do not), and the share
of the code's bits that nearly every request has alike: one frame with many fillings.

Half-life 88 requests. Bytes: 88. Cost: two logarithms a request.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors import portable_math
from detectors.events import BITS
from detectors.kernel import Record, Scalar, Vector, kernel
from detectors.statistics.coverage import FULL, KEEP, RATE
from detectors.statistics.estimator import Parts, RecordDetector, RecordTransformer, is_covered

SHORT_TOKENS = 8
FRAME_MARGIN = 0.4

DTYPE = np.dtype(
    [
        ("answers", "<f8"),  # decayed number of answers of known length
        ("short", "<f8"),
        ("log_tokens", "<f8"),
        ("lengths", "<f8"),
        ("lengths2", "<f8"),
        ("mean", "<f8"),
        ("square", "<f8"),
        ("step", "<f8"),  # decayed sum of squared steps of the log length
        ("steps", "<f8"),
        ("last", "<f8"),
        ("endpoint", "<u4"),
        ("endpoints", "<u4"),  # changes of endpoint
    ]
)


@kernel
def log_length(length: Scalar) -> Scalar:
    """Natural log of a length in characters + 1; -1 when it is unknown (0)."""
    return portable_math.log(length + 1.0) if length > 0.0 else -1.0


@kernel
def update(s: Record, log_length: Scalar, output_tokens: Scalar, endpoint: Scalar) -> None:
    """Take one request: log length and answered tokens (negative when unknown), endpoint's hash (0 when absent)."""
    if output_tokens >= 0:
        s["answers"] = s["answers"] * KEEP + RATE
        s["short"] = s["short"] * KEEP + (RATE if output_tokens <= SHORT_TOKENS else 0.0)
        s["log_tokens"] = s["log_tokens"] * KEEP + RATE * portable_math.log(np.float64(output_tokens) + 1.0)
    if log_length >= 0.0:
        if s["lengths"] > 0.0:
            step = log_length - s["last"]
            s["step"] = s["step"] * KEEP + RATE * step * step
            s["steps"] = s["steps"] * KEEP + RATE
        s["lengths"] = s["lengths"] * KEEP + RATE
        s["lengths2"] = s["lengths2"] * KEEP * KEEP + RATE * RATE
        s["mean"] = s["mean"] * KEEP + RATE * log_length
        s["square"] = s["square"] * KEEP + RATE * log_length * log_length
        s["last"] = log_length
    if s["endpoint"] != np.uint32(0) and s["endpoint"] != np.uint32(endpoint):
        s["endpoints"] = np.uint32(np.int64(s["endpoints"]) + 1)
    s["endpoint"] = np.uint32(endpoint)


@kernel
def short_share(s: Record) -> Scalar:
    """Decayed share of answers of at most 8 tokens among those of known length; 0 when none is known."""
    return s["short"] / s["answers"] if s["answers"] > 0.0 else 0.0


@kernel
def length_ratio(s: Record) -> Scalar:
    """Von Neumann's ratio of the log length; 1 when the lengths are unknown or all alike."""
    if s["steps"] <= 0.0:
        return 1.0
    mean = s["mean"] / s["lengths"]
    variance = s["square"] / s["lengths"] - mean * mean
    effective = s["lengths"] * s["lengths"] / s["lengths2"]
    if variance <= 1e-4 or effective <= 1.001:
        return 1.0
    return (s["step"] / s["steps"]) / (2.0 * variance * effective / (effective - 1.0) + 1e-3)


@kernel
def frame(share: Vector, weight: Scalar) -> Scalar:
    """Share of the bits that at least nine in ten recent requests have alike, from `coverage`'s decayed shares."""
    if weight <= 0.0:
        return 0.0
    scale = 1.0 / (FULL * weight)
    fixed = 0
    for j in range(BITS):
        if abs(np.float64(share[j]) * scale - 0.5) > FRAME_MARGIN:
            fixed += 1
    return fixed / BITS


def _learn(record: Record, event: np.void) -> None:
    if is_covered(event):
        length = log_length(np.float64(event["length"]))
        update(record["shape"], length, np.int64(event["output_tokens"]), np.int64(event["endpoint"]))


class LengthRatio(RecordDetector):
    """Von Neumann's ratio of the log length of the prompts: 1 for a list in no order, below it for a person.

    The mean square step from one log length to the next over twice the variance, decayed with a half-life of 88
    requests; 1 while lengths are unknown or all alike.

    Examples
    --------
    >>> from detectors.statistics import LengthRatio
    >>> runs, listed = LengthRatio(), LengthRatio()
    >>> for i in range(200):
    ...     runs.learn_one({"question": 1.0, "length": 400 if i % 50 < 25 else 40})
    ...     listed.learn_one({"question": 1.0, "length": 400 if i * i % 199 < 100 else 40})
    >>> round(runs.get(), 2), round(listed.get(), 2)
    (0.07, 1.0)

    References
    ----------
    [^1]: von Neumann, J. (1941). Distribution of the ratio of the mean square successive difference to the variance.
          Annals of Mathematical Statistics 12(4).
    """

    PARTS: ClassVar[Parts] = {"shape": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        _learn(record, event)

    def _value(self, record: Record) -> float:
        return float(length_ratio(record["shape"]))


class ShortAnswerShare(RecordTransformer):
    """Share of answers of at most eight tokens, which are a classifier's; answers of unknown length are left out.

    Decayed with a half-life of 88 requests; 0 while no answer's length is known.

    Examples
    --------
    >>> from detectors.statistics import ShortAnswerShare
    >>> share = ShortAnswerShare()
    >>> for tokens in (1, 2, 300, 1):
    ...     share.learn_one({"question": 1.0, "output_tokens": tokens})
    >>> round(share.get()["short_answer_share"], 2)
    0.75
    """

    PARTS: ClassVar[Parts] = {"shape": DTYPE}

    def get(self) -> dict[str, float]:
        """The share, of all that was learnt."""
        return {"short_answer_share": float(short_share(self._state[0]["shape"]))}

    def _take(self, record: Record, event: np.void) -> None:
        _learn(record, event)
