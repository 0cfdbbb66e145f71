"""Traces: what settings ask for, what headers may hold, and spans as a collector gets them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from opentelemetry.trace import format_span_id, format_trace_id

from schemas.alert import Activity, Alert, decode_alert
from schemas.publish import published
from streams import open_telemetry, tracing
from streams.open_telemetry import MAX_HEADERS, MAX_LINKS, MAX_STEPS, context_of
from streams.scoring import cause_of
from streams.settings import SettingsError, load_settings
from streams.tracing import OFF, Traces
from streams.transport.delivery import Outgoing
from tests.collector import FAILED, Collector, collecting
from tests.sent import Sent

ROOT = Path(__file__).parents[3]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
QUOTED = "a fault that quotes acct-7"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings of OpenTelemetry are no part of a test."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def traces_to(collector: Collector, **settings: str) -> Traces:
    return tracing.start(load_settings(otlp_endpoint=collector.url, **settings))


def alert(**fields: object) -> Alert:
    return msgspec.structs.replace(decode_alert(published()["alert.example.json"]), **fields)


# ---- settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("https://otel.example/tenant/", "https://otel.example/tenant"),
        ("http://otel:4318/v1/traces", "http://otel:4318"),
        ("http://[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_a_collectors_address_is_kept_without_the_path_of_traces(given: str, kept: str) -> None:
    assert load_settings(otlp_endpoint=given).otlp_endpoint == kept


@pytest.mark.parametrize(
    "given",
    ["otel:4318", "127.0.0.1:4318", "grpc://otel:4317", "http://", "http://otel:99999", "http://otel:0", "http://[::1",
     "http://o tel", "http://otel?x=1", "http://otel#x", "localhost"],
)  # fmt: skip
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match=r"^otlp_endpoint=.*not the http:// or https:// address of a collector"):
        load_settings(otlp_endpoint=given)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        load_settings(otlp_endpoint="http://me:hunter2@otel:4318")
    assert "hunter2" not in str(refused.value)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, open_telemetry.__name__)
    monkeypatch.delattr("streams.open_telemetry")
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(SettingsError, match=r"not installed \(opentelemetry.context\): install stillwatch\[otel\]"):
        tracing.start(load_settings(otlp_endpoint="http://127.0.0.1:4318"))


def test_what_open_telemetry_refuses_of_its_variables_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(SettingsError, match=r"OTEL_.*max_queue_size must be a positive integer"):
        tracing.start(load_settings(otlp_endpoint="http://127.0.0.1:4318"))


def test_a_worker_without_traces_does_not_even_import_them() -> None:
    script = (
        "import sys; from streams.app import build; from streams.settings import load_settings\n"
        "build(load_settings(store='memory')); print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert tracing.start(load_settings()) is OFF
    assert list(OFF.alert("alerts", 0, alert(), Sent(b"", 1, headers=[("traceparent", PARENT.encode())]))) == []


# ---- headers


def test_a_valid_header_names_a_span() -> None:
    context = context_of([("other", None), ("traceparent", PARENT.encode())])
    assert context is not None
    assert (format_trace_id(context.trace_id), format_span_id(context.span_id)) == (TRACE, SPAN)
    assert context.is_remote


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"00",
        b"\xff" * 55,
        PARENT.upper().encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"{PARENT}-more".encode(),
        f"01-{TRACE}-{SPAN}-01-{'x' * 1000}".encode(),
        PARENT.encode() + b" " * 1_000_000,
    ],
)
def test_an_invalid_header_names_none_and_is_not_worth_a_line(
    value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert context_of([("traceparent", value)]) is None
    assert caplog.messages == []


def test_two_headers_are_none_and_many_are_not_looked_through() -> None:
    header = ("traceparent", PARENT.encode())
    assert context_of([header, header]) is None
    assert context_of([("x", b"")] * (MAX_HEADERS - 1) + [header]) is not None
    assert context_of([("x", b"")] * MAX_HEADERS + [header]) is None


def test_the_request_that_raised_an_alert_is_the_latest_that_it_names() -> None:
    records = [Sent(b"", offset) for offset in (3, 5, 9)]
    raised = alert(unmapped={"stillwatch": {"source": {"partition": 0, "offsets": [2, 3, 5]}}})
    assert cause_of(raised, records) is records[1]
    assert cause_of(msgspec.structs.replace(raised, unmapped={}), records) is None
    for offset in (4, 99):
        other = {"stillwatch": {"source": {"partition": 0, "offsets": [3, offset]}}}
        assert cause_of(msgspec.structs.replace(raised, unmapped=other), records) is None
    closing = alert(
        activity_id=Activity.CLOSE, activity_name="", type_uid=0, type_name="", status_id=msgspec.UNSET, status="",
        unmapped=raised.unmapped,
    )  # fmt: skip
    assert cause_of(closing, records) is None


# ---- spans


def test_a_span_tells_an_errors_type_and_nothing_of_its_text(collector: Collector) -> None:
    traces = traces_to(collector)
    with pytest.raises(KeyError), traces.batch("requests", 0, 5, 2), traces.step("score"):
        raise KeyError(QUOTED)
    traces.recovery_failed("state", TimeoutError(QUOTED))
    traces.close(30)
    for span in collector.spans():
        assert span.status == FAILED
        assert span.attributes["error.type"] == span.status_message
        assert span.events == 0
    assert {span.name: span.status_message for span in collector.spans()} == {
        "process requests": "KeyError", "score": "KeyError", "recover state": "TimeoutError",
    }  # fmt: skip
    assert not any(QUOTED.encode() in body for body in collector.bodies)


def test_a_batch_scored_record_by_record_has_bounded_steps(collector: Collector) -> None:
    traces = traces_to(collector)
    for _ in range(2):
        with traces.batch("requests", 0, 5, 500):
            for _ in range(500):
                with traces.step("score"):
                    pass
    traces.close(30)
    assert len(collector.spans("score")) == 2 * MAX_STEPS


def test_a_checkpoint_inside_a_batch_has_steps_of_its_own(collector: Collector) -> None:
    traces = traces_to(collector)
    with traces.batch("requests", 0, 5, 500):
        for _ in range(MAX_STEPS - 1):
            with traces.step("score"):
                pass
        with traces.checkpoint([0]), traces.step("store"):
            pass
        for _ in range(3):
            with traces.step("score"):
                pass
    traces.close(30)
    assert len(collector.spans("store")) == 1
    assert len(collector.spans("score")) == MAX_STEPS


def test_links_of_what_is_sent_are_bounded(collector: Collector) -> None:
    traces = traces_to(collector)
    records = [Outgoing("dlq", 1, None, b"", [("traceparent", PARENT.encode())])] * (MAX_LINKS + 10)
    with traces.sending("dlq", 1, records):
        pass
    traces.close(30)
    (span,) = collector.spans("send dlq")
    assert span.links == [(bytes.fromhex(TRACE), bytes.fromhex(SPAN))] * MAX_LINKS
    assert span.attributes["messaging.batch.message_count"] == MAX_LINKS + 10


def test_spans_say_whose_they_are_and_variables_win(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    traces_to(collector, instance_id="worker-3").close(30)
    assert collector.bodies == []
    for variables in ({}, {"OTEL_SERVICE_NAME": "theirs", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        traces = traces_to(collector, instance_id="worker-3")
        with traces.checkpoint([0, 1]):
            pass
        traces.close(30)
    ours, theirs = (span.resource for span in collector.spans("checkpoint"))
    assert collector.paths == ["/v1/traces"] * 2
    assert (ours["service.name"], ours["service.instance.id"]) == ("stillwatch", "worker-3")
    assert (theirs["service.name"], theirs["deployment.environment"]) == ("theirs", "test")
    assert theirs["service.instance.id"] == "worker-3"


@pytest.mark.parametrize(
    ("variable", "value", "sampled"),
    [
        ("OTEL_TRACES_SAMPLER", "always_on", [1]),
        ("OTEL_TRACES_SAMPLER", "always_off", [0]),
        ("OTEL_SDK_DISABLED", "true", []),
    ],
)
def test_alerts_say_whether_their_trace_is_sampled(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sampled: list[int]
) -> None:
    monkeypatch.setenv(variable, value)
    traces = traces_to(collector)
    headers = traces.alert("alerts", 0, alert(), Sent(b"", 1, headers=[("traceparent", PARENT.encode())]))
    traces.close(30)
    assert [int(value.rpartition(b"-")[2], 16) & 1 for _, value in headers] == sampled
    assert len(collector.spans()) == sum(sampled)
