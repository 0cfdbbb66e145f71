"""What the service counts: one list of metrics, and the port that serves them with readiness."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from detectors.finding import SURPRISE_EDGES
from schemas.alert import Activity, Severity
from schemas.dead_letter import DeadLetterReason

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECOVERY_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
RECORDS = (1.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0)

FINDING_SEVERITIES = (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
"""What a finding can be (`detectors.finding`)."""


class Metric(NamedTuple):
    """One line of the list: what Prometheus calls it, its kind, its unit, its labels, what it means.

    `buckets` are a histogram's upper bounds, in that unit.
    """

    name: str
    kind: type[Counter | Gauge | Histogram]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


METRICS = {
    "records": Metric("stillwatch_records", Counter, "records", (), "Records read from the requests topic."),
    "scored": Metric("stillwatch_scored_events", Counter, "events", (), "Requests that went into an account's state."),
    "skipped": Metric(
        "stillwatch_skipped_events",
        Counter,
        "events",
        ("why",),
        "Requests not counted: 'duplicate' (logged twice), 'fenced' (read again after a restart).",
    ),
    "late": Metric(
        "stillwatch_late_events",
        Counter,
        "events",
        (),
        "Requests with a time before their account's latest. They are scored like any other.",
    ),
    "not_judged": Metric(
        "stillwatch_declared_events",
        Counter,
        "events",
        (),
        "Requests that the gateway declares to be granted (`declared`): counted as scored, and not judged.",
    ),
    "lost_records": Metric(
        "stillwatch_lost_records",
        Counter,
        "records",
        (),
        "Records that retention deleted before they were read.",
    ),
    "dead_letters": Metric(
        "stillwatch_dead_letters", Counter, "records", ("reason",), "Records sent to the dead-letter topic."
    ),
    "rekeyed": Metric(
        "stillwatch_rekeyed_records", Counter, "records", (), "Records sent back under the key of their account."
    ),
    "findings": Metric(
        "stillwatch_findings",
        Counter,
        "alerts",
        ("activity", "severity"),
        "Alerts that the brokers hold: findings opened, updated and closed.",
    ),
    "canary_findings": Metric(
        "stillwatch_canary_findings",
        Counter,
        "alerts",
        ("activity",),
        "Alerts of canary accounts (`canary_prefix`) that the brokers hold; `stillwatch_findings_total` lacks them.",
    ),
    "surprise": Metric(
        "stillwatch_surprise_ratio",
        Histogram,
        "surprise over threshold",
        (),
        "Score at each look at an account, as a share of what opens a finding: from 1 on there is one.",
        SURPRISE_EDGES,
    ),
    "batch_records": Metric(
        "stillwatch_batch_records",
        Histogram,
        "records",
        (),
        "Records scored together: one fetch of a partition.",
        RECORDS,
    ),
    "lag": Metric("stillwatch_lag", Gauge, "records", (), "Records on our partitions that are not scored yet."),
    "lag_seconds": Metric(
        "stillwatch_lag_seconds",
        Gauge,
        "seconds",
        (),
        "Age of the oldest record on our partitions that is not scored yet, by its own timestamp; 0 when all are.",
    ),
    "partitions": Metric(
        "stillwatch_partitions", Gauge, "partitions", (), "Partitions that this worker scores; 0 while it stands by."
    ),
    "assignments": Metric(
        "stillwatch_assignments",
        Counter,
        "assignments",
        (),
        "Times that the group gave this worker partitions to score.",
    ),
    "recovery_seconds": Metric(
        "stillwatch_recovery_seconds",
        Histogram,
        "seconds",
        (),
        "From partitions assigned to their states restored.",
        RECOVERY_SECONDS,
    ),
    "accounts": Metric("stillwatch_accounts", Gauge, "accounts", (), "Accounts with a state on this worker."),
    "accounts_ready": Metric(
        "stillwatch_accounts_ready", Gauge, "accounts", (), "Accounts held ready for scoring, at most slab_rows."
    ),
    "evictions": Metric(
        "stillwatch_evicted_accounts",
        Counter,
        "accounts",
        (),
        "Accounts that gave way to others among those held ready; many a second mean that slab_rows is too small.",
    ),
    "forgotten": Metric(
        "stillwatch_forgotten_accounts", Counter, "accounts", (), "Idle accounts forgotten because of max_accounts."
    ),
    "deleted_states": Metric(
        "stillwatch_deleted_states",
        Counter,
        "states",
        (),
        "States of accounts idle for longer than twice state_expiry_days, deleted from the store and the state topic.",
    ),
    "erased": Metric(
        "stillwatch_erased_accounts", Counter, "accounts", (), "Accounts erased by order (`stillwatch forget`)."
    ),
    "late_writes": Metric(
        "stillwatch_late_state_writes",
        Counter,
        "states",
        (),
        "States on the state topic that were older than what they would have replaced: a worker that was stopped.",
    ),
    "cold_starts": Metric(
        "stillwatch_cold_starts",
        Counter,
        "accounts",
        ("why",),
        "Accounts that started anew though a state was there: 'unreadable', 'encoder' (another baseline), 'expired'.",
    ),
    "migrated_states": Metric(
        "stillwatch_migrated_states", Counter, "states", (), "States of an older version that were carried over."
    ),
    "void_fences": Metric(
        "stillwatch_void_fences",
        Counter,
        "accounts",
        (),
        "Accounts whose state had seen more than there is of the requests topic (made anew, or its end was lost).",
    ),
    "checkpoint_seconds": Metric(
        "stillwatch_checkpoint_seconds",
        Histogram,
        "seconds",
        (),
        "From snapshot to commit, of checkpoints that held.",
        SECONDS,
    ),
    "checkpoint_failures": Metric(
        "stillwatch_checkpoint_failures", Counter, "checkpoints", (), "Checkpoints that failed and are tried again."
    ),
    "state_bytes": Metric("stillwatch_state_bytes", Counter, "bytes", (), "States written to the state topic."),
    "store_bytes": Metric(
        "stillwatch_store_bytes",
        Gauge,
        "bytes",
        (),
        "States in the local store: their own length in memory, files and buffers of RocksDB on disk.",
    ),
    "scoring_failures": Metric(
        "stillwatch_scoring_failures", Counter, "batches", (), "Batches whose scoring raised: a fault of stillwatch."
    ),
    "ready": Metric("stillwatch_ready", Gauge, "0 or 1", (), "1 while this worker scores what comes in."),
    "refit": Metric(
        "stillwatch_refit",
        Gauge,
        "0 or 1",
        (),
        "1 once this worker has seen that its accounts are no longer those of the baseline; the log says how.",
    ),
    "drift": Metric(
        "stillwatch_drift",
        Gauge,
        "ratio",
        ("count",),
        "Accounts over what the baseline promises, in the last 1,000 account-days: 'findings', and 'near_30' and "
        "'near_10', which came as near to one as the knob at these settings.",
    ),
    "drift_calls": Metric(
        "stillwatch_drift_calls", Counter, "calls", ("count",), "How often such a count was held to be off."
    ),
    "beyond": Metric(
        "stillwatch_beyond_people",
        Gauge,
        "share",
        ("statistic",),
        "Share of accounts of late whose statistic is outside the range of people's accounts (5 % to 95 %).",
    ),
    "baseline": Metric(
        "stillwatch_baseline",
        Gauge,
        "epoch seconds",
        ("hash",),
        "When the loaded baseline was made (0: it does not say), with its decision hash.",
    ),
    "build": Metric("stillwatch_build_info", Gauge, "always 1", ("version",), "The version of stillwatch that runs."),
}
"""Every metric of the service. Prometheus adds `_total` to counters."""

REQUEST_SECONDS = 5.0
"""A client of the port that does not finish its request by then is cut off."""


class Metrics:
    """One set of the metrics above, each an attribute; separate sets do not share counts."""

    records: Counter
    scored: Counter
    skipped: Counter
    late: Counter
    not_judged: Counter
    lost_records: Counter
    dead_letters: Counter
    rekeyed: Counter
    findings: Counter
    canary_findings: Counter
    surprise: Histogram
    batch_records: Histogram
    lag: Gauge
    lag_seconds: Gauge
    partitions: Gauge
    assignments: Counter
    recovery_seconds: Histogram
    accounts: Gauge
    accounts_ready: Gauge
    evictions: Counter
    forgotten: Counter
    deleted_states: Counter
    erased: Counter
    late_writes: Counter
    cold_starts: Counter
    migrated_states: Counter
    void_fences: Counter
    checkpoint_seconds: Histogram
    checkpoint_failures: Counter
    state_bytes: Counter
    store_bytes: Gauge
    scoring_failures: Counter
    ready: Gauge
    refit: Gauge
    drift: Gauge
    drift_calls: Counter
    beyond: Gauge
    baseline: Gauge
    build: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for attribute, metric in METRICS.items():
            extra: dict[str, Any] = {"buckets": metric.buckets} if metric.kind is Histogram else {}
            meaning = f"{metric.meaning} Unit: {metric.unit}."
            made = metric.kind(metric.name, meaning, metric.labels, registry=self.registry, **extra)
            setattr(self, attribute, made)
        # At 0 from the start: of a series that begins at 5, Prometheus sees no increase.
        for reason in DeadLetterReason:
            self.dead_letters.labels(reason=reason.value)
        for activity in Activity:
            for severity in FINDING_SEVERITIES:
                self.findings.labels(activity=activity.name.lower(), severity=severity.name.lower())

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)


class Following:
    """Feeds a counter from a running total that somebody else keeps.

    >>> metrics = Metrics()
    >>> forgotten = Following(metrics.forgotten)
    >>> forgotten.follow(3); forgotten.follow(5)
    >>> metrics.forgotten._value.get()
    5.0
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._seen = 0

    def follow(self, total: int) -> None:
        """The total now; it never falls."""
        if total > self._seen:
            self._counter.inc(total - self._seen)
            self._seen = total


class FollowingHistogram:
    """Feeds a histogram from running totals that somebody else keeps: one for each bucket, and the sum of all values.

    >>> metrics = Metrics()
    >>> following = FollowingHistogram(metrics.surprise)
    >>> following.follow([2] + [0] * 14, 0.1); following.follow([2, 1] + [0] * 13, 0.3)
    >>> metrics.registry.get_sample_value("stillwatch_surprise_ratio_count")
    3.0
    """

    def __init__(self, histogram: Histogram) -> None:
        # Its own way in, `observe`, takes a value at a time.
        self._buckets, self._sum = histogram._buckets, histogram._sum
        self._seen, self._seen_sum = [0] * len(self._buckets), 0.0

    def follow(self, totals: Sequence[int], total: float) -> None:
        """The totals now, of the bucket beyond the last bound as well; they never fall."""
        for bucket, seen, now in zip(self._buckets, self._seen, totals, strict=True):
            bucket.inc(now - seen)
        self._sum.inc(total - self._seen_sum)
        self._seen, self._seen_sum = list(totals), total


def serve(
    metrics: Metrics, ready: Callable[[], bool], live: Callable[[], bool], host: str, port: int
) -> ThreadingHTTPServer:
    """Serve /metrics, /ready and /live (200 or 503), from threads of their own: they answer while scoring is busy.

    Raises `OSError` when the address cannot be had. `shutdown` of the result ends it.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, metrics.text())
            elif self.path == "/ready":
                self._answer_whether("ready", ready())
            elif self.path == "/live":
                self._answer_whether("live", live())
            else:
                self._answer(404, "text/plain", b"there is /metrics, /ready and /live\n")

        def _answer_whether(self, what: str, holds: bool) -> None:
            self._answer(200 if holds else 503, "text/plain", f"{'' if holds else 'not '}{what}\n".encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a line for each scrape helps nobody."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
