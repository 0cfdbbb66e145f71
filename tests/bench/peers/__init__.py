"""Other people's methods, each from its paper, under one protocol (`peers.protocol`).

Every method sees the same accounts, speaks at the same looks, and has its threshold set in the same way
(`tests.bench.comparison`). What a paper leaves open on this kind of traffic is settled in the module that holds it.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.durations import HOUR_MS
from tests.bench.peers.boosted_trees import BoostedTrees
from tests.bench.peers.cap import Cap
from tests.bench.peers.date import Date
from tests.bench.peers.half_space_trees import HalfSpaceTrees
from tests.bench.peers.mahalanobis import Mahalanobis
from tests.bench.peers.mmd import LinearMmd
from tests.bench.peers.prada import Prada
from tests.bench.peers.protocol import Peer
from tests.bench.peers.request_rate import RequestRate
from tests.bench.peers.seat import Seat
from tests.bench.peers.stillwatch import Stillwatch

PEERS: dict[str, Callable[[], Peer]] = {
    "stillwatch": Stillwatch,
    "PRADA": Prada,
    "CAP": Cap,
    "SEAT": Seat,
    "DATE": Date,
    "linear-time MMD": LinearMmd,
    "Mahalanobis": Mahalanobis,
    "HalfSpaceTrees": HalfSpaceTrees,
    "requests an hour": lambda: RequestRate(HOUR_MS),
    "requests a day": lambda: RequestRate(24 * HOUR_MS),
    "boosted trees": BoostedTrees,
}
"""Name to a fresh method."""
