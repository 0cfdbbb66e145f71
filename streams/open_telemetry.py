"""Traces by OpenTelemetry: spans in its conventions for messaging, sent to a collector from a thread of their own.

Nothing here waits for the collector: finished spans go into a queue, and are dropped when it is full. OpenTelemetry's
own variables hold: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SDK_DISABLED and the rest.

Names of attributes: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/ (their Python package calls them
incubating and not for import).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OpenTelemetrySpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.alert import Activity
from schemas.version import VERSION
from streams.settings import Settings
from streams.tracing import OFFSET, TRACEPARENT, Span, Traces

if TYPE_CHECKING:
    from schemas.alert import Alert
    from streams.ingest import Record
    from streams.transport.delivery import Header, Outgoing

log = logging.getLogger(__name__)

TRACES_PATH: Final = "/v1/traces"

MAX_TRACEPARENT_BYTES: Final = 128
"""Version 00 of W3C Trace Context has 55; a later one may add to them."""

MAX_HEADERS: Final = 64
"""Headers of a record that are looked through: whoever writes requests chooses how many there are."""

MAX_LINKS: Final = 64
MAX_LOOKED_THROUGH: Final = 1000
"""Links of a span, and records looked through for them."""

MAX_STEPS: Final = 50
"""Steps of a batch that become spans. One that is scored record by record, after a failure, has thousands."""

_STEPS: Final[ContextVar[Iterator[int] | None]] = ContextVar("steps", default=None)
"""Steps so far of the batch or checkpoint that is open: one may run while another waits for the brokers."""

_W3C: Final = TraceContextTextMapPropagator()


@contextmanager
def _bounded() -> Iterator[None]:
    """Count steps from here on anew, and go on with the count from before at the end."""
    token = _STEPS.set(count())
    try:
        yield
    finally:
        _STEPS.reset(token)


class Recorded(Span):
    """A span of OpenTelemetry's."""

    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span

    def set(self, name: str, value: str | int) -> None:
        """Add an attribute."""
        self._span.set_attribute(name, value)

    def failed(self, error: BaseException) -> None:
        """Mark it by the type of an error. Its text stays out: a library may have put a record's content into it."""
        kind = type(error).__name__
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, kind))


class OpenTelemetry(Traces):
    """Sends spans to the collector that `otlp_endpoint` names.

    Raises `ValueError` when variables of OpenTelemetry hold what it does not take.
    """

    def __init__(self, settings: Settings) -> None:
        self._group = settings.group_id
        # `shutdown_on_exit` would wait for a collector that is away, half a minute and after everything else.
        self._provider = TracerProvider(resource=_resource(settings), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint + TRACES_PATH)))
        self._tracer = self._provider.get_tracer("stillwatch", VERSION)
        log.info("traces are on", extra={"collector": settings.otlp_endpoint})

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, str | int] | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Recorded]:
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, links=links, record_exception=False, set_status_on_exception=False
        ) as span:
            recorded = Recorded(span)
            try:
                yield recorded
            except BaseException as error:
                recorded.failed(error)
                raise

    @contextmanager
    def batch(self, topic: str, partition: int, first: int, records: int) -> Iterator[Span]:
        """`process TOPIC`, the root of a trace."""
        attributes = _messaging("process", "process", topic, partition) | {
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": records,
            OFFSET: first,
        }
        with self._span(f"process {topic}", SpanKind.CONSUMER, attributes) as span, _bounded():
            yield span

    @contextmanager
    def step(self, name: str) -> Iterator[Span]:
        """A child of what is open, for as many steps as a batch or a checkpoint may have."""
        steps = _STEPS.get()
        if steps is not None and next(steps) >= MAX_STEPS:
            yield Span()
            return
        with self._span(name) as span:
            yield span

    def alert(self, topic: str, partition: int, alert: Alert, cause: Record | None) -> Sequence[tuple[str, bytes]]:
        """`create TOPIC` in the batch's trace, linked to the trace that the request came with."""
        context = None if cause is None else context_of(cause.headers)
        attributes = _messaging("create", "create", topic, partition) | {
            "stillwatch.finding.activity": Activity(alert.activity_id).name.lower(),
            "stillwatch.finding.severity": alert.severity.lower(),
        }
        span = self._tracer.start_span(
            f"create {topic}",
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=[] if context is None else [Link(context)],
        )
        span.end()
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(span))
        return [(name, value.encode()) for name, value in carrier.items()]

    @contextmanager
    def checkpoint(self, partitions: Iterable[int]) -> Iterator[Span]:
        """`checkpoint`: a trace of its own, or a part of the batch that cannot go on without."""
        attributes: dict[str, str | int] = {"stillwatch.partitions": len(list(partitions))}
        with self._span("checkpoint", attributes=attributes) as span, _bounded():
            yield span

    @contextmanager
    def sending(self, topic: str, partition: int, records: Sequence[Outgoing]) -> Iterator[Span]:
        """`send TOPIC`, linked to where its records were made: alerts here, requests that are put aside elsewhere."""
        attributes = _messaging("send", "send", topic, partition) | {"messaging.batch.message_count": len(records)}
        headers = (record.headers for record in islice(records, MAX_LOOKED_THROUGH) if record.headers)
        made = islice(filter(None, map(context_of, headers)), MAX_LINKS)
        with self._span(f"send {topic}", SpanKind.CLIENT, attributes, [Link(context) for context in made]) as span:
            yield span

    @contextmanager
    def committing(self, topic: str) -> Iterator[Span]:
        """`commit TOPIC`."""
        attributes = _messaging("commit", "settle", topic) | {"messaging.consumer.group.name": self._group}
        with self._span(f"commit {topic}", SpanKind.CLIENT, attributes) as span:
            yield span

    def recovered(self, topic: str, partitions: int, records: int, seconds: float) -> None:
        """`recover TOPIC`, a trace of its own."""
        now = time.time_ns()
        attributes = _messaging("recover", "receive", topic) | {
            "messaging.batch.message_count": records,
            "stillwatch.partitions": partitions,
        }
        began = now - int(seconds * 1e9)
        self._tracer.start_span(
            f"recover {topic}", Context(), kind=SpanKind.CONSUMER, attributes=attributes, start_time=began
        ).end(now)

    def recovery_failed(self, topic: str, error: BaseException) -> None:
        """`recover TOPIC` with what went wrong; how long that took is not known."""
        attributes = _messaging("recover", "receive", topic)
        span = self._tracer.start_span(f"recover {topic}", Context(), kind=SpanKind.CONSUMER, attributes=attributes)
        Recorded(span).failed(error)
        span.end()

    def close(self, seconds: float) -> None:
        """Send what is left, or give it up after so long. OpenTelemetry itself would wait for half a minute."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(seconds)
        if closing.is_alive():
            log.warning("the last spans are given up: the collector did not take them in time")


def context_of(headers: Iterable[Header]) -> SpanContext | None:
    """The span that a record's `traceparent` names (W3C Trace Context, level 1); None without a valid one.

    Headers are untrusted: any producer may set them. Two of them are none, as in HTTP, and more than `MAX_HEADERS` are
    not looked through.
    """
    found = [value for name, value in islice(headers, MAX_HEADERS) if name == TRACEPARENT]
    if len(found) != 1 or found[0] is None or len(found[0]) > MAX_TRACEPARENT_BYTES:
        return None
    named = _W3C.extract({TRACEPARENT: found[0].decode("ascii", "replace")}, Context())
    context = get_current_span(named).get_span_context()
    return context if context.is_valid else None


def _messaging(name: str, kind: str, topic: str, partition: int | None = None) -> dict[str, str | int]:
    """Attributes that every span about records has."""
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
    return attributes


def _resource(settings: Settings) -> Resource:
    """Who we are: as the variables say, else `stillwatch` and a name that tells the workers apart."""
    ours = {
        "service.name": "stillwatch",
        "service.version": VERSION,
        "service.instance.id": settings.instance_id or socket.gethostname(),
    }
    return Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())
