"""The topology: requests in, one state an account, alerts out.

    <prefix>requests ──▶ score ──▶ <prefix>alerts
                           │  └──▶ <prefix>requests.dlq    what cannot be scored
                           │  └──▶ <prefix>requests        what was keyed wrongly, once more
                           ▼
                        accounts ──▶ <prefix>state         its changelog

Records travel in batches (`streams.transport`), results in checkpoints (`streams.checkpoint`); outputs leave with the
checkpoint, so there is no `send` here. Runs with `stillwatch worker`, or `faust -A streams.app worker`.
"""

from __future__ import annotations

import sys
from typing import Any

from faust.types import StreamT

from streams.service import STATE_TABLE, Service
from streams.settings import Settings, SettingsError, load_settings
from streams.transport.batch import Batch

RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
"""Bytes are bytes. Without the serializers Faust would still decode JSON, and recovery would wait forever."""

QUEUED_BATCHES = 4
"""Fetched batches waiting to be scored; Faust's default, 4096, counts events and would hold 4096 batches."""

SAVE_EVERY_SECONDS = 0.2
MEASURE_EVERY_SECONDS = 2.0
CREDENTIALS_EVERY_SECONDS = 5.0


def build(settings: Settings) -> Service:
    """The application for these settings. Raises `SettingsError` when the baseline cannot be used."""
    app = Service(settings)

    # `acks=False`: offsets are the checkpoint's, so Faust has none to count and none to commit.
    requests = app.topic(app.names.requests, **RAW, maxsize=QUEUED_BATCHES, acks=False)
    changelog = app.topic(app.names.state, **RAW, acks=False, internal=True)
    app.Table(STATE_TABLE, key_type=bytes, value_type=bytes, changelog_topic=changelog)

    @app.agent(requests, concurrency=1)  # one at a time: a partition's records are scored in their order
    async def score(batches: StreamT[Batch]) -> None:
        async for batch in batches:
            await app.scorer.score(batch)

    app.timer(SAVE_EVERY_SECONDS)(app.scorer.tick)
    app.timer(MEASURE_EVERY_SECONDS)(app.measure)
    app.timer(CREDENTIALS_EVERY_SECONDS)(app.mind_credentials)

    return app


def __getattr__(name: str) -> Any:
    """`streams.app.app` for the `faust` command, from the environment; importing this module makes nothing."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        return build(load_settings())
    except SettingsError as error:
        sys.stderr.write(f"stillwatch: {error}\n")
        raise SystemExit(2) from None
