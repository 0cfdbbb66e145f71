"""The canary: a made-up extraction through the live service, so that no findings are known to mean nothing found.

A fresh account is sent whose name begins with `canary_prefix`, and its alert awaited on the alerts topic. Its requests
go the way of all others, the times in them lie spread over the hours before, as a burst of a few minutes is judged by
nobody (`detectors.rivals.judge`). At the end the account is forgotten, found or not.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import orjson

from detectors.baseline import Baseline
from schemas.alert import Activity, Alert, decode_alert
from schemas.durations import HOUR_MS
from streams.detection import read_baseline, text_model
from streams.forget import Order, forget
from streams.sending import Sender, make_producer
from streams.settings import Settings
from streams.simulation.curriculum import exercises
from streams.topic_window import TopicWindow
from streams.topics import TopicNames

REQUESTS = 800
"""With the built-in baseline 60 canaries were found after 160 requests at most, half of them after 80. At a twentieth
of the default knob it was 576 at most."""

SPAN_HOURS = 12.0
JITTER = 0.4
"""By so much of the mean gap requests come early or late."""

Event = dict[str, Any]


class Outcome(NamedTuple):
    """What became of a canary.

    Attributes
    ----------
    account
        Its name.
    alert
        The alert that opened its finding, None when none came in time.
    seconds
        From the last request sent to that alert seen, or to when it was given up.
    requests
        Its requests up to the one that raised the alert, all of them without one.
    order
        The order to forget it.
    """

    account: str
    alert: Alert | None
    seconds: float
    requests: int
    order: Order


def new_name(prefix: str, now_ms: int) -> str:
    """A name that no canary had before: prefix, time, and chance, so that nobody can send it beforehand."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{prefix}{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def events_of(account: str, baseline: Baseline, now_ms: int) -> list[Event]:
    """The canary's requests, in order of time, the last of them a moment ago; the same name gives the same ones.

    Prompts when the baseline is for the text model here, else embeddings of the baseline's model that have nothing to
    do with each other.
    """
    rng = Random(account)  # noqa: S311 - made-up traffic
    gap = SPAN_HOURS * HOUR_MS / REQUESTS
    times = sorted(int(now_ms - (number + JITTER * rng.random()) * gap) for number in range(REQUESTS))
    contents = _prompts(rng) if baseline.encoder.model == text_model().name else _embeddings(account, baseline)
    return [
        {
            "time": time,
            "account": account,
            "id": f"{account}-{number}",
            "endpoint": "chat.completions",
            "output_tokens": rng.randint(150, 900),
            "status": 200,
            **content,
        }
        for number, (time, content) in enumerate(zip(times, contents, strict=True))
    ]


def _prompts(rng: Random) -> list[Event]:
    return [{"prompt": text} for text in exercises(REQUESTS, rng)]


def _embeddings(account: str, baseline: Baseline) -> list[Event]:
    """Directions as far from each other, seen from the population's mean, as unrelated requests are."""
    mean = baseline.encoder.mean
    chance = np.random.default_rng(list(account.encode()))
    around = chance.normal(0.0, 1.0, (REQUESTS, len(mean)))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    vectors = (mean + around * np.sqrt(max(0.1, 1.0 - float(mean @ mean)))).astype("<f4")
    model = baseline.encoder.model
    return [{"embedding": base64.b64encode(v.tobytes()).decode(), "embedding_model": model} for v in vectors]


async def send_canary(settings: Settings, wait_seconds: float, now_ms: int) -> Outcome:
    """Send a canary, wait for its alert at most so long, and have it forgotten.

    Raises `TopicError`, `TopicsError`, `KafkaError` and `OSError` when topics do not fit, or brokers cannot be reached
    or refuse.
    """
    names, account = TopicNames.of(settings), new_name(settings.canary_prefix, now_ms)
    events = events_of(account, read_baseline(settings), now_ms)
    try:
        async with TopicWindow(settings, names.alerts) as window:
            async with make_producer(settings) as producer:
                await _send(Sender(producer, names.requests), events)
            began = monotonic()
            alert = await _opening(window, account, wait_seconds)
            seconds = monotonic() - began
    finally:
        order = await forget(settings, account, wait_seconds)
    requests = len(events) if alert is None else sum(event["time"] <= alert.time for event in events)
    return Outcome(account, alert, seconds, requests, order)


async def _send(sender: Sender, events: Sequence[Event]) -> None:
    for event in events:
        await sender.send(orjson.dumps(event))
    await sender.confirm()


async def _opening(window: TopicWindow, account: str, wait_seconds: float) -> Alert | None:
    """The alert that opens the account's finding; what is no alert of ours is passed over."""
    end = monotonic() + wait_seconds
    key = account.encode()
    while monotonic() < end:
        for record in await window.later():
            if record.key == key:
                alert = decode_alert(record.value)
                if alert.activity_id == Activity.CREATE:
                    return alert
    return None
