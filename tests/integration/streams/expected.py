"""What an undisturbed run finds, from the detectors alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from detectors.events import EventBatch
from schemas.alert import Alert, decode_alert
from streams.detection import make_engine, make_ingest, read_baseline
from streams.settings import load_settings
from tests.integration.streams.running import Request

Finding = tuple[str, int, str, int, bytes]
"""uid, sequence, activity, time and evidence of an alert."""


class Expected(NamedTuple):
    """Alerts, and requests that count, by account."""

    findings: set[Finding]
    counts: dict[str, int]


class _Line(NamedTuple):
    offset: int
    value: bytes | None
    topic: str = "file"
    partition: int = 0
    timestamp: int = int(time.time() * 1000)
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def expected_of(requests: Sequence[Request]) -> Expected:
    """Score requests in one go, as a file."""
    settings = load_settings()
    baseline = read_baseline(settings)
    engine = make_engine(settings, baseline, lambda partition, account: None)
    ingested = make_ingest(settings, baseline)([_Line(at, sent.value) for at, sent in enumerate(requests)])
    assert not ingested.dead
    batch: EventBatch = ingested.batch
    alerts = engine.apply(0, batch)
    assert engine.counters.duplicates == 0
    return Expected({finding(alert) for alert in alerts}, dict(Counter(batch.accounts)))


def finding(alert: Alert) -> Finding:
    """What must be the same in every run."""
    evidence = orjson.dumps([evidence.data for evidence in alert.evidences], option=orjson.OPT_SORT_KEYS)
    return alert.finding_info.uid, alert.metadata.sequence, alert.activity_name, alert.time, evidence


def findings_on(records: Iterable[Any]) -> set[Finding]:
    """Findings of records of the alerts topic; one that was sent twice counts once."""
    return {finding(decode_alert(record.value)) for record in records}
