"""A collector of OpenTelemetry traces: takes OTLP over HTTP, and keeps what it was sent."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

FAILED = Status.STATUS_CODE_ERROR


class Span(NamedTuple):
    """A span as it came."""

    name: str
    kind: str
    trace: bytes
    id: bytes
    parent: bytes
    attributes: dict[str, Any]
    links: list[tuple[bytes, bytes]]
    status: int
    status_message: str
    events: int
    resource: dict[str, Any]


class Collector:
    """What was received so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.paths: list[str] = []
        self.bodies: list[bytes] = []

    def spans(self, name: str | None = None) -> list[Span]:
        """All spans, or those of a name."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        found = [
            _span(span, _attributes(of.resource.attributes))
            for request in requests
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        return [span for span in found if name in (None, span.name)]


def _span(span: WireSpan, resource: dict[str, Any]) -> Span:
    return Span(
        span.name,
        WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        _attributes(span.attributes),
        [(link.trace_id, link.span_id) for link in span.links],
        span.status.code,
        span.status.message,
        len(span.events),
        resource,
    )


def _attributes(given: Any) -> dict[str, Any]:
    def value(entry: KeyValue) -> Any:
        return getattr(entry.value, entry.value.WhichOneof("value"))

    return {entry.key: value(entry) for entry in given}


@contextmanager
def collecting(answer_after_seconds: float = 0.0) -> Iterator[Collector]:
    """A collector on a free port, which may take its time to answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.append(self.path)
            collector.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            time.sleep(answer_after_seconds)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing of it on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
