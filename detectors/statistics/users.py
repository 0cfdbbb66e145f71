"""Users: how many people seem to stand behind the account, and does each follow up on what was their own?

An account may name the user behind each request. The names cost nothing to invent, so they are tested like anything
else. Three things are kept:

- *number*: distinct users by linear counting in 256 bits (Whang et al. 1990);
- *shape*: how often two of the last sixteen requests are the same user's (Simpson 1949), as a multiple of what users
  who come equally often would give. A crowd has regulars and sittings and comes to 3 and more; names dealt out evenly
  come to 1;
- *order*: distance of successive requests of the same user over that of any two of the account's, von Neumann's ratio
  inside each user's stream. Users follow up on themselves, ask again, and have subjects of their own: well below 1. A
  list under invented names has 1, unless they are dealt out by subject.

The order is kept for the users of `SEATS` seats, one of which each user's hash points to; who comes later to a taken
seat takes it. Shape and order forget with every request, named or not (half-life 88), and users explain an account only
while most of its recent requests follow one of their own user's: neither an honest past nor the named part of the
traffic excuses the rest. So a fresh id on each call says nothing.

Requests that were answered count, from the first that names a user on. Bytes: 640. Cost: nothing until then, afterwards
one distance and sixteen comparisons a request.

References
----------
[^1]: Whang, K.-Y., Vander-Zanden, B. T. and Taylor, H. M. (1990). A linear-time probabilistic counting algorithm for
      database applications. ACM TODS 15(2).
[^2]: Simpson, E. H. (1949). Measurement of diversity. Nature 163.
[^3]: von Neumann, J. (1941). Distribution of the ratio of the mean square successive difference to the variance.
      Annals of Mathematical Statistics 12(4).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors import portable_math
from detectors.events import WORDS
from detectors.kernel import Code, Record, Scalar, kernel
from detectors.statistics import coverage, memory
from detectors.statistics.bits import hamming, mix, popcount
from detectors.statistics.coverage import KEEP
from detectors.statistics.estimator import Parts, RecordDetector, RecordTransformer, is_covered

SEATS = 32
RECENT = 16
TAGS = 255
CROWDED = 2.0
"""Least multiple of an even crowd's that the shape of plausible users has; names dealt out evenly stay below."""

LEAST_USERS = 4.0

LEAST_COMPARED = 50.0
"""Pairs of recent requests below which the shape of users cannot be told."""

LEAST_FOLLOWING = 0.5
"""Share of the recent requests that must follow an earlier one of the same user for users to explain the account."""

DTYPE = np.dtype(
    [
        ("named", "<i8"),
        ("bitmap", "<u8", (4,)),
        ("weight", "<f8"),  # decayed number of requests, as everything down to the pairs
        ("compared", "<f8"),  # pairs of requests at most RECENT apart among those of named users
        ("same", "<f8"),  # of them, by the same user
        ("distance", "<f8"),  # sum of distances of successive requests of the same user
        ("pairs", "<f8"),
        ("recent", "u1", (RECENT,)),  # tags of the latest requests' users, by the number of the named request
        ("tag", "u1", (SEATS,)),  # of the user in each seat, from 1; 0 in an empty one
        ("code", "<u8", (SEATS, WORDS)),  # that user's latest request
    ]
)


@kernel
def _tag(end_user: Scalar) -> Scalar:
    """From 1 to `TAGS`; independent of the user's seat and bit."""
    return np.int64((mix(end_user) >> np.uint64(16)) % np.uint64(TAGS)) + 1


@kernel
def update(s: Record, end_user: Scalar, code: Code) -> None:
    """Take one covered request: the hash of its end user, 0 when it named none, and its code.

    Nothing is kept of an account before the first request that names a user; most never do.
    """
    if end_user == np.uint64(0) and s["named"] == 0:
        return
    s["weight"] = s["weight"] * KEEP + 1.0
    s["compared"] *= KEEP
    s["same"] *= KEEP
    s["distance"] *= KEEP
    s["pairs"] *= KEEP
    if end_user == np.uint64(0):
        return
    tag = _tag(end_user)
    for k in range(min(s["named"], RECENT)):
        s["compared"] += 1.0
        if np.int64(s["recent"][k]) == tag:
            s["same"] += 1.0
    s["recent"][s["named"] % RECENT] = np.uint8(tag)
    s["named"] += 1
    h = np.int64(mix(end_user) & np.uint64(255))
    s["bitmap"][h // 64] |= np.uint64(1) << np.uint64(h % 64)
    seat = np.int64((mix(end_user) >> np.uint64(32)) % np.uint64(SEATS))
    if np.int64(s["tag"][seat]) == tag:
        s["distance"] += np.float64(hamming(code, s["code"][seat]))
        s["pairs"] += 1.0
    s["tag"][seat] = np.uint8(tag)
    for w in range(WORDS):
        s["code"][seat, w] = code[w]


@kernel
def distinct(s: Record) -> Scalar:
    """Estimated number of distinct end users (at most about 1,400 can be told apart)."""
    occupied = popcount(s["bitmap"][0]) + popcount(s["bitmap"][1]) + popcount(s["bitmap"][2]) + popcount(s["bitmap"][3])
    empty = max(1, 256 - occupied)
    return 256.0 * portable_math.log(256.0 / np.float64(empty))


@kernel
def crowding(s: Record) -> Scalar:
    """How often two requests are the same user's, in multiples of users who come equally often; 0 for too few."""
    if s["compared"] < LEAST_COMPARED:
        return 0.0
    by_chance = 1.0 / TAGS
    share = s["same"] / s["compared"]
    return max(0.0, (share - by_chance) / (1.0 - by_chance)) * distinct(s)


@kernel
def plausible(s: Record) -> Scalar:
    """1 when the named users are several, do not come equally often, and account for the recent requests; else 0."""
    if s["pairs"] < LEAST_FOLLOWING * s["weight"]:
        return 0.0
    return 1.0 if distinct(s) >= LEAST_USERS and crowding(s) >= CROWDED else 0.0


@kernel
def ratio(s: Record, expected: Scalar) -> Scalar:
    """Von Neumann's ratio inside the users' streams; 1 (no evidence of memory) before it can be told."""
    if s["pairs"] <= 0.0 or expected < 2.0:
        return 1.0
    return s["distance"] / s["pairs"] / expected


@kernel
def merge(into: Record, other: Record) -> None:
    """Union of the two accounts' users; what is decayed stays the account's own."""
    into["named"] += other["named"]
    for w in range(4):
        into["bitmap"][w] |= other["bitmap"][w]


class DistinctUsers(RecordTransformer):
    """Number of different end users behind the account, and whether they are plausible as users of a service.

    Linear counting: of m = 256 bits, hashed users set some; with e bits empty the estimate is m ln(m / e), with a
    standard error of about 6 % at 100 users. Plausible (1) are several users whose requests follow one another on most
    of the recent requests, and who do not come equally often, as invented ones do: their crowding is how often two
    requests of the last sixteen are the same user's, in multiples of what an even crowd would give.

    Examples
    --------
    >>> from detectors.statistics import DistinctUsers
    >>> users, invented = DistinctUsers(), DistinctUsers()
    >>> for i in range(300):
    ...     users.learn_one({"end_user": 1 + i // 10, f"word {i}": 1.0})
    ...     invented.learn_one({"end_user": 1 + i % 50, f"word {i}": 1.0})
    >>> {name: round(value) for name, value in users.get().items()}
    {'distinct_users': 29, 'crowding': 8, 'plausible': 1}
    >>> {name: round(value) for name, value in invented.get().items()}
    {'distinct_users': 48, 'crowding': 0, 'plausible': 0}

    References
    ----------
    [^1]: Whang, K.-Y., Vander-Zanden, B. T. and Taylor, H. M. (1990). A linear-time probabilistic counting algorithm
          for database applications. ACM TODS 15(2).
    [^2]: Simpson, E. H. (1949). Measurement of diversity. Nature 163.
    """

    PARTS: ClassVar[Parts] = {"users": DTYPE}

    def get(self) -> dict[str, float]:
        """Estimate, crowding and plausibility, of all that was learnt."""
        s = self._state[0]["users"]
        return {
            "distinct_users": float(distinct(s)),
            "crowding": float(crowding(s)),
            "plausible": float(plausible(s)),
        }

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            update(record["users"], event["end_user"], event["code"])


class UserRatio(RecordDetector):
    """Distance of successive requests of the same end user over that of any two: 1 for a list under invented names.

    Von Neumann's ratio inside each user's stream, over the users of 32 seats. Decayed with a half-life of 88 requests.

    Examples
    --------
    >>> from detectors.statistics import UserRatio
    >>> app, listed = UserRatio(), UserRatio()
    >>> for i in range(200):
    ...     name, words = 1 + i * i % 7, {f"verb {i}": 0.8, f"noun {i}": 0.8}
    ...     app.learn_one({"end_user": name, f"topic {name}": 1.0, **words})
    ...     listed.learn_one({"end_user": name, f"topic {i * 7 % 25}": 1.0, **words})
    >>> round(app.get(), 2), round(listed.get(), 2)
    (0.81, 1.02)

    References
    ----------
    [^1]: von Neumann, J. (1941). Distribution of the ratio of the mean square successive difference to the variance.
          Annals of Mathematical Statistics 12(4).
    """

    PARTS: ClassVar[Parts] = {"memory": memory.DTYPE, "coverage": coverage.DTYPE, "users": DTYPE}

    def _take(self, record: Record, event: np.void) -> None:
        if is_covered(event):
            coverage.update(record["coverage"], event["code"], memory.distances_to(record["memory"], event["code"]))
            update(record["users"], event["end_user"], event["code"])
            memory.remember(record["memory"], event["code"])

    def _value(self, record: Record) -> float:
        return float(ratio(record["users"], coverage.expected_distance(record["coverage"])))
