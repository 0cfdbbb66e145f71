"""What scores, put together from settings: baseline, ingest, engine. The same for the service and for a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from detectors.baseline import Baseline, BaselineError, load_default
from detectors.embedding import TextEmbedder, lazy_wordllama
from detectors.engine import Engine, EngineOptions
from schemas.durations import HOUR_MS
from schemas.request import RequestLimits
from streams.ingest import Ingest
from streams.settings import Settings, SettingsError

WARM_UP_TIME = 1_700_000_000_000
WARM_UP_OFFSETS = range(20)
"""Enough requests of one account for a look at its statistics."""


class _MadeUpRecord(NamedTuple):
    """A record as `Ingest` reads it."""

    offset: int
    value: bytes
    topic: str = "warm-up"
    partition: int = 0
    timestamp: int = -1
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def read_baseline(settings: Settings) -> Baseline:
    """The baseline that settings name, else the built-in one. Raises `SettingsError` when it cannot be used."""
    if settings.baseline_file is None:
        return load_default()
    try:
        return Baseline.from_bytes(settings.baseline_file.read_bytes())
    except (OSError, BaselineError) as error:
        raise SettingsError(f"baseline_file {settings.baseline_file}: {error}") from None


def text_model() -> TextEmbedder:
    """The model that texts are embedded with here; it takes its memory with the first text."""
    return lazy_wordllama()


def make_ingest(
    settings: Settings, baseline: Baseline, expected_partition: Callable[[bytes], int] | None = None
) -> Ingest:
    """Records to events; `expected_partition` as `Ingest` wants it."""
    try:
        return Ingest(
            encoder=baseline.encoder,
            embedder=text_model(),
            limits=RequestLimits(
                record_bytes=settings.max_record_bytes, clock_skew_ms=int(settings.max_clock_skew_hours * HOUR_MS)
            ),
            expected_partition=expected_partition,
            embedding_model=settings.embedding_model,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def make_engine(settings: Settings, baseline: Baseline, lookup: Callable[[int, bytes], bytes | None]) -> Engine:
    """Events to alerts; `lookup` finds the stored state of an account that the engine does not hold."""
    options = EngineOptions(
        false_findings_per_1000_account_days=settings.false_findings_per_1000_account_days,
        finding_quiet_hours=settings.finding_quiet_hours,
        state_expiry_days=settings.state_expiry_days,
        canary_prefix=settings.canary_prefix,
    )
    return Engine(baseline, options, lookup=lookup, capacity=settings.slab_rows)


def warm_up(settings: Settings, baseline: Baseline) -> None:
    """Compile what scoring needs, on made-up requests that leave no trace.

    Done before a worker joins its group: for seconds on the first run, compilation would hold up its event loop.
    """
    ingest = make_ingest(settings, baseline)
    content: list[dict[str, Any]] = [{"embedding": [1.0] * baseline.encoder.dimension}]
    if baseline.encoder.model == text_model().name:
        content.append({"prompt": "warm up"})
    records = [
        _MadeUpRecord(at, orjson.dumps({"time": WARM_UP_TIME + at, "account": "warm-up", **content[at % len(content)]}))
        for at in WARM_UP_OFFSETS
    ]
    make_engine(settings.model_copy(update={"slab_rows": 2}), baseline, lambda partition, account: None).apply(
        0, ingest(records).batch
    )
