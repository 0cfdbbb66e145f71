"""What becomes of one account: its events through the service's own ingest and engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson

from detectors.baseline import Baseline, load_default
from detectors.calibration import leading_head
from detectors.embedding import load_wordllama
from detectors.engine import Engine, EngineOptions
from detectors.events import EventBatch
from detectors.rivals import HEADS, PRIORS, RIVALS, SILENT
from schemas.alert import Activity, Alert
from schemas.durations import DAY_MS
from streams.history import joined
from streams.ingest import Ingest, Ingested
from streams.replay import FILE_PARTITION, FileRecord
from tests.redteam.traffic import Event, Events, is_answered

BATCH = 5000


@dataclass(frozen=True)
class Verdict:
    """What the detector thought of an account.

    Attributes
    ----------
    requests, days
        Requests sent, and days from the first to the last.
    delay
        Requests from the first of the list's on until the first alert after it, that one included; for a customer, from
        its first request. None without an alert.
    leaked
        Share of the list that was answered before that alert; 1 without one, 0 for a customer.
    price
        Requests sent since the list began for each of its prompts that was answered; 0 for a customer.
    peak
        Largest surprise less the threshold: above 0 there is an alert, -1 is a factor of e short of one.
    rival
        The organic explanation hardest to reject where the surprise was largest: of an alert the one that came closest
        to holding, without an alert the one that held. "too early" when the account was never judged.
    head
        The kind of extraction that was looked for there.
    message
        The first alert's message, "" without one.
    refused
        Dead letters: none if all goes well.
    """

    requests: int
    days: float
    delay: int | None
    leaked: float
    price: float
    peak: float
    rival: str
    head: str
    message: str
    refused: int

    @property
    def alerted(self) -> bool:
        """Whether there was an alert (for an attack: once its list had begun)."""
        return self.delay is not None


class Trial:
    """Judges accounts by one baseline and one setting of the knob.

    Parameters
    ----------
    baseline
        What to judge by.
    options
        The engine's.
    """

    def __init__(self, baseline: Baseline, options: EngineOptions) -> None:
        self._baseline, self._options = baseline, options
        self._ingest = Ingest(encoder=baseline.encoder, embedder=load_wordllama(), expected_partition=None)

    def __call__(self, events: Events, listed: set[str]) -> Verdict:
        """Verdict on one account, of whose events those with an id in `listed` carry a list's prompts."""
        parts = [self._ingest(records) for records in records_of(events)]
        batch = joined([part.batch for part in parts])
        engine = Engine(self._baseline, self._options, capacity=2)
        alerts = engine.apply(FILE_PARTITION, batch)
        begin = next((i for i, event in enumerate(events) if event["id"] in listed), 0)
        at, alert = _first_alert(events, alerts, begin)
        peak, head, rival = _peak(engine, batch)
        answered = [i for i, event in enumerate(events) if event["id"] in listed and is_answered(event)]
        return Verdict(
            requests=len(events),
            days=(int(events[-1]["time"]) - int(events[0]["time"])) / DAY_MS,
            delay=None if at is None else at - begin + 1,
            leaked=sum(at is None or i < at for i in answered) / max(1, len(answered)),
            price=(len(events) - begin) / len(answered) if answered else 0.0,
            peak=peak,
            head=head,
            rival=rival,
            message=alert.message if alert else "",
            refused=sum(len(part.dead) for part in parts),
        )


def ingested(events: Events) -> list[Ingested]:
    """What the service's ingest makes of some events, with the default baseline's encoder."""
    return [_default_ingest()(records) for records in records_of(events)]


@cache
def _default_ingest() -> Ingest:
    return Ingest(encoder=load_default().encoder, embedder=load_wordllama(), expected_partition=None)


def records_of(events: Sequence[Event]) -> Iterator[list[FileRecord]]:
    """Events as records of a file, some thousands at a time."""
    for begin in range(0, len(events), BATCH):
        yield [
            FileRecord("redteam", FILE_PARTITION, begin + i, -1, None, orjson.dumps(event), ())
            for i, event in enumerate(events[begin : begin + BATCH])
        ]


def _first_alert(events: Sequence[Event], alerts: Sequence[Alert], begin: int) -> tuple[int | None, Alert | None]:
    """Index of the event that raised the first alert from event `begin` on, and the alert."""
    places = {event["id"]: i for i, event in enumerate(events)}
    for alert in alerts:
        if alert.activity_id != Activity.CLOSE:
            at = places[alert.evidences[0].data["decided_by"]["id"]]
            if at >= begin:
                return at, alert
    return None, None


def _peak(engine: Engine, batch: EventBatch) -> tuple[float, str, str]:
    """(largest surprise less the threshold, head, strongest rival) over the account's life."""
    looks: list[dict[str, Any]] = engine.trace(batch, batch.accounts[0]) if len(batch) else []
    looks = [look for look in looks if max(look[f"score/{head}"] for head in HEADS) > SILENT]
    if not looks:
        return -engine.threshold, "", "too early"
    look = max(looks, key=lambda look: float(look["surprise"]))
    head = HEADS[int(leading_head(engine.baseline.model[0], np.array([look[f"score/{head}"] for head in HEADS])))]
    priors = PRIORS[int(look["users"] > 0.0)]
    held = {r: math.log(p) - look[f"ratio/{head}/{r}"] for r, p in zip(RIVALS, priors, strict=True) if p > 0.0}
    return float(look["surprise"]) - engine.threshold, head, max(held, key=lambda rival: held[rival])
