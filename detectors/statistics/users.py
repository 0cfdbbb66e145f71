"""Users: how many people seem to stand behind the account.

Distinct `end_user` values by linear counting in 256 bits (Whang et al. 1990), and how many requests named one. Nearly
unique users (a fresh id on each call) say nothing. The number can be invented, so it only raises the weight of the
service as an explanation and never silences an account.

Bytes: 48. Cost: one hash a request.

References
----------
[^1]: Whang, K.-Y., Vander-Zanden, B. T. and Taylor, H. M. (1990). A linear-time probabilistic counting algorithm for
      database applications. ACM TODS 15(2).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors import portable_math
from detectors.kernel import Record, Scalar, kernel
from detectors.statistics.bits import mix, popcount
from detectors.statistics.estimator import Parts, RecordTransformer

DTYPE = np.dtype([("named", "<i8"), ("requests", "<i8"), ("bitmap", "<u8", (4,))])


@kernel
def update(s: Record, end_user: Scalar) -> None:
    """Take one request's hash of its end user, 0 when it named none."""
    s["requests"] += 1
    if end_user == np.uint64(0):
        return
    s["named"] += 1
    h = np.int64(mix(end_user) & np.uint64(255))
    s["bitmap"][h // 64] |= np.uint64(1) << np.uint64(h % 64)


@kernel
def distinct(s: Record) -> Scalar:
    """Estimated number of distinct end users (at most about 1,400 can be told apart)."""
    occupied = popcount(s["bitmap"][0]) + popcount(s["bitmap"][1]) + popcount(s["bitmap"][2]) + popcount(s["bitmap"][3])
    empty = max(1, 256 - occupied)
    return 256.0 * portable_math.log(256.0 / np.float64(empty))


@kernel
def plausible(s: Record) -> Scalar:
    """1 when users are named on most requests, are several, and come back; else 0."""
    if s["named"] * 2 < s["requests"] or s["named"] < 8:
        return 0.0
    users = distinct(s)
    return 1.0 if 4.0 <= users <= 0.7 * np.float64(s["named"]) else 0.0


@kernel
def merge(into: Record, other: Record) -> None:
    """Union of the two accounts' users."""
    into["named"] += other["named"]
    into["requests"] += other["requests"]
    for w in range(4):
        into["bitmap"][w] |= other["bitmap"][w]


class DistinctUsers(RecordTransformer):
    """Number of different end users behind the account, and whether they are plausible as users of a service.

    Linear counting: of m = 256 bits, hashed users set some; with e bits empty the estimate is m ln(m / e), with a
    standard error of about 6 % at 100 users. Plausible (1) are several users who are named on most requests and come
    back.

    Examples
    --------
    >>> from detectors.statistics import DistinctUsers
    >>> users = DistinctUsers()
    >>> for i in range(300):
    ...     users.learn_one({"end_user": 1 + i % 50})
    >>> {name: round(value) for name, value in users.get().items()}
    {'distinct_users': 48, 'plausible': 1}

    References
    ----------
    [^1]: Whang, K.-Y., Vander-Zanden, B. T. and Taylor, H. M. (1990). A linear-time probabilistic counting algorithm
          for database applications. ACM TODS 15(2).
    """

    PARTS: ClassVar[Parts] = {"users": DTYPE}

    def get(self) -> dict[str, float]:
        """Estimate and plausibility, of all that was learnt."""
        s = self._state[0]["users"]
        return {"distinct_users": float(distinct(s)), "plausible": float(plausible(s))}

    def _take(self, record: Record, event: np.void) -> None:
        update(record["users"], event["end_user"])
