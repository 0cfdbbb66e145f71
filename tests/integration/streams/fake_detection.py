"""Stand-ins for the detectors, so that the transport can be tested by itself: an account's state is its count."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from detectors.encoder import Encoder, rotation_signs
from schemas import alert as a
from streams.ingest import Ingest

ALERT_EVERY = 50
STATE = struct.Struct("<4sQqQ")
MAGIC = b"FAKE"
PADDING = b"\0" * 300


class StateError(ValueError):
    pass


def read_state(envelope: bytes) -> tuple[int, int, int]:
    """Count, fence and sum of times."""
    if envelope[:4] != MAGIC:
        raise StateError("not a state")
    return STATE.unpack_from(envelope)[1:]


def fence_of(envelope: bytes) -> int:
    return read_state(envelope)[1]


@dataclass(frozen=True)
class EngineOptions:
    false_findings_per_1000_account_days: float = 1.0
    finding_quiet_hours: float = 72.0
    state_expiry_days: float = 45.0


def none_known(partition: int, account: bytes) -> bytes | None:
    return None


class Engine:
    """Counts requests of each account, with the real engine's contract: fences, a bounded slab, snapshots.

    An account named `poison...` raises at its third request; one named `bad...` only where an id says `boom`.
    """

    def __init__(
        self,
        baseline: Any,
        options: EngineOptions = EngineOptions(),
        *,
        lookup: Callable[[int, bytes], bytes | None] = none_known,
        capacity: int = 20_000,
    ) -> None:
        self._lookup = lookup
        self._capacity = capacity
        self._rows: dict[tuple[int, bytes], list[int]] = {}
        self._dirty: dict[int, set[bytes]] = {}
        self._saving: dict[int, dict[bytes, bytes]] = {}
        self._left: dict[int, dict[bytes, bytes]] = {}
        self.counters = SimpleNamespace(
            events=0, duplicates=0, fenced=0, late=0, cold_starts=0, evictions=0, unreadable_states=0,
            encoder_changes=0, expired=0,
        )  # fmt: skip

    @property
    def accounts(self) -> int:
        return len(self._rows)

    def apply(self, partition: int, batch: Any) -> list[a.Alert]:
        alerts = []
        for account, identifier, event in zip(batch.accounts, batch.ids, batch.columns, strict=True):
            if identifier == "boom":
                raise RuntimeError(f"a fault that quotes {account}")
            key, offset = account.encode(), int(event["offset"])
            row = self._row(partition, key)
            if offset <= row[1]:
                self.counters.fenced += 1
                continue
            row[0] += 1
            row[1] = offset
            row[2] += int(event["time"])
            self.counters.events += 1
            self._dirty.setdefault(partition, set()).add(key)
            if row[0] % ALERT_EVERY == 0:
                alerts.append(fake_alert(account, row[0], int(event["time"])))
        return alerts

    def _row(self, partition: int, key: bytes) -> list[int]:
        row = self._rows.pop((partition, key), None)
        if row is None:
            self._evict()
            envelope = (
                self._left.get(partition, {}).pop(key, None)
                or self._saving.get(partition, {}).get(key)
                or self._lookup(partition, key)
            )
            row = [0, -1, 0] if envelope is None else list(read_state(envelope))
        self._rows[partition, key] = row
        return row

    def _evict(self) -> None:
        while len(self._rows) >= self._capacity:
            (partition, key), row = next(iter(self._rows.items()))
            del self._rows[partition, key]
            self.counters.evictions += 1
            if key in self._dirty.get(partition, set()):
                self._left.setdefault(partition, {})[key] = envelope_of(row)

    def snapshot(self, partition: int) -> list[tuple[bytes, bytes]]:
        left = self._left.pop(partition, {})
        self._saving[partition] = {
            key: left[key] if key in left else envelope_of(self._rows[partition, key])
            for key in self._dirty.pop(partition, set())
        }
        return list(self._saving[partition].items())

    def mark_dirty(self, partition: int, accounts: Any) -> None:
        for key in accounts:
            self._dirty.setdefault(partition, set()).add(key)
            if (partition, key) not in self._rows:
                self._left.setdefault(partition, {}).setdefault(key, self._saving[partition][key])

    def pending(self) -> int:
        return sum(map(len, self._dirty.values()))

    def drop(self, partition: int) -> None:
        for held in (self._dirty, self._left, self._saving):
            held.pop(partition, None)
        for key in [key for key in self._rows if key[0] == partition]:
            del self._rows[key]


def envelope_of(row: list[int]) -> bytes:
    return STATE.pack(MAGIC, *row) + PADDING


def fake_alert(account: str, count: int, time: int) -> a.Alert:
    sequence = count // ALERT_EVERY
    return a.Alert(
        activity_id=a.Activity.CREATE if sequence == 1 else a.Activity.UPDATE,
        time=time,
        severity_id=a.Severity.HIGH,
        confidence_id=a.Confidence.HIGH,
        message="fake",
        count=count,
        finding_info=a.FindingInfo(
            uid=account, title="fake", desc="fake", analytic=a.Analytic(name="fake", version="0"),
            attacks=(a.EXTRACT_AI_MODEL,), first_seen_time=time, last_seen_time=time, created_time=time,
        ),
        observables=(a.account_observable(account),),
        metadata=a.Metadata(product=a.Product(version="0"), uid=f"{account}-{sequence}", sequence=sequence),
    )  # fmt: skip


def install() -> None:
    """Put the stand-ins where `streams` looks for the detectors."""
    for name, contents in {
        "detectors.engine": {"Engine": Engine, "EngineOptions": EngineOptions},
        "detectors.state": {"fence_of": fence_of, "StateError": StateError},
    }.items():
        module = ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module
    from streams import detection

    encoder = Encoder(np.zeros(16, np.float32), rotation_signs(16), "fake")
    detection.read_baseline = lambda settings: SimpleNamespace(
        encoder=encoder, hash="fake", provenance=SimpleNamespace(made_at="")
    )
    detection.make_ingest = lambda settings, baseline, expected: Ingest(
        encoder=encoder, embedder=None, expected_partition=expected
    )


if __name__ == "__main__":
    install()
    from streams.worker import main

    main()
