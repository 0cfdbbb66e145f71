"""Prints a digest of the alerts and states of a short stream: run with numba's switches, the digest must not change."""

from __future__ import annotations

import hashlib
import sys

import numpy as np

from detectors.engine import Engine
from detectors.statistics import NearestLag
from schemas.alert import encode_alert
from tests.made_up import listed, person, plain_baseline, service, stream_of, with_failures


def digest(requests: int) -> str:
    """SHA-256 of everything that a stream of a few hundred requests leads to."""
    users = np.arange(requests // 2) % 7
    log = stream_of(
        {
            "list": listed(requests, 1, account="list"),
            "failing": with_failures(listed(requests // 2, 2, account="failing"), 0.3, 3),
            "person": person(requests // 2, 4, account="person"),
            "service": service(requests // 2, 5, account="service", questions=30, end_user=users),
        }
    )
    engine = Engine(plain_baseline(), capacity=3)
    found = hashlib.sha256()
    alerts = engine.apply(0, log)
    for alert in alerts:
        found.update(encode_alert(alert))
    for name, envelope in sorted(engine.snapshot(0)):
        found.update(name + envelope)
    model = NearestLag()
    for event in log.columns[:40]:
        model.learn_one(event)
    found.update(model.to_bytes())
    return f"{len(alerts)} {engine.counters.evictions} {found.hexdigest()}"


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
