"""Traces of a real worker on a real Kafka, as a collector gets them, and as it goes without one."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import orjson
import pytest

from schemas.alert import Activity, decode_alert
from streams.simulation import simulate
from streams.topics import TopicNames
from tests.collector import FAILED, Span, collecting
from tests.integration.broker import free_port
from tests.integration.streams.running import (
    Prepare,
    Request,
    Start,
    Worker,
    read,
    request,
    send,
    wait_done,
    wait_until,
)

PARTITIONS = 2
NOW = int(time.time() * 1000)
PROMPT = "the secret plan"
ALERT_HEADERS = [
    "content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_dataschema",
]  # fmt: skip


@pytest.fixture
async def topics(prepare: Prepare) -> TopicNames:
    return TopicNames.of(await prepare(PARTITIONS))


def traceparent(number: int) -> bytes:
    """Of the trace that a request came with."""
    return f"00-{number + 1:032x}-{number + 1:016x}-01".encode()


def planted() -> list[Request]:
    """Requests of organic accounts and two extractions, each with a trace of its own."""
    events = simulate(seed=3, days=4, organic=6, planted=2).events
    return [
        Request(event["account"].encode(), orjson.dumps(event), headers=[("traceparent", traceparent(number))])
        for number, event in enumerate(events)
    ]


async def score(kafka: str, topics: TopicNames, group: str, requests: Sequence[Request], worker: Worker) -> None:
    await send(kafka, topics.requests, requests)
    await wait_done(kafka, group, topics.requests, 90, worker)


def children(spans: Sequence[Span]) -> dict[str, set[str]]:
    """Names of spans, and under each those of its children; "" for what has no parent."""
    names = {span.id: span.name for span in spans} | {b"": ""}
    found = defaultdict(set)
    for span in spans:
        found[names[span.parent]].add(span.name)
    return found


async def test_traces_show_what_a_worker_did_join_the_labs_and_quote_nothing(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    requests = planted()
    refused = [Request(b"acct-refused", f"{{{PROMPT}".encode())]
    with collecting() as collector:
        worker = start(store="rocksdict", otlp_endpoint=collector.url)
        worker.wait_ready()
        await score(kafka, topics, topic_prefix, [*requests, *refused], worker)
        assert worker.stop() == 0
    spans = collector.spans()
    assert {span.status for span in spans} == {0}

    process, checkpoint = f"process {topics.requests}", "checkpoint"
    create, commit = f"create {topics.alerts}", f"commit {topics.requests}"
    sent = {f"send {topic}" for topic in (topics.alerts, topics.state, topics.dead_letters)}
    found = children(spans)
    assert found[""] == {process, checkpoint, f"recover {topics.state}"}
    assert found[process] == {"decode", "score", create}
    assert found[checkpoint] - {"probe"} == {*sent, "store", commit}
    kinds = {span.name: span.kind for span in spans}
    assert (kinds[process], kinds[create], kinds[commit], kinds["score"]) == (
        "CONSUMER", "PRODUCER", "CLIENT", "INTERNAL",
    )  # fmt: skip

    batches = [span.attributes for span in spans if span.name == process]
    counted = sum(batch["messaging.batch.message_count"] for batch in batches)
    assert counted == len(requests) + len(refused)
    assert {batch["messaging.destination.partition.id"] for batch in batches} == {"0", "1"}
    for batch in batches:
        assert batch["messaging.system"] == "kafka"
        assert batch["messaging.destination.name"] == topics.requests
        assert batch["messaging.consumer.group.name"] == topic_prefix
        assert batch["messaging.operation.type"] == "process"
    firsts = {(b["messaging.destination.partition.id"], b["messaging.kafka.offset"]) for b in batches}
    assert {("0", 0), ("1", 0)} <= firsts
    decoded = [span.attributes for span in spans if span.name == "decode"]
    assert sum(span["stillwatch.dead_letters"] for span in decoded) == 1
    assert spans[0].resource["service.name"] == "stillwatch"

    await check_alerts(kafka, topics, spans, found[create] == set())

    accounts = {request.key for request in [*requests, *refused]}
    words = [PROMPT.encode(), *filter(None, accounts), *prompts(requests)]
    assert len(words) > 1000
    assert [word for word in words if any(word in body for body in collector.bodies)] == []


def prompts(requests: Sequence[Request]) -> Iterator[bytes]:
    """What they ask, long enough to be told from what else there is."""
    for sent in requests:
        prompt = orjson.loads(sent.value or b"{}").get("prompt")
        if isinstance(prompt, str) and len(prompt) > 12:
            yield prompt.encode()


async def check_alerts(kafka: str, topics: TopicNames, spans: Sequence[Span], are_leaves: bool) -> None:
    """Each alert's record names the span that made it, which names the request's; what sent it names that one."""
    assert are_leaves
    traced = {
        (record.partition, record.offset): dict(record.headers).get("traceparent")
        for record in await read(kafka, topics.requests)
    }
    made = {(span.trace, span.id): span for span in spans if span.name == f"create {topics.alerts}"}
    sent = [link for span in spans if span.name == f"send {topics.alerts}" for link in span.links]
    alerts = await read(kafka, topics.alerts)
    assert len(alerts) == len(made) == len(sent) >= 2
    joined = 0
    for record in alerts:
        assert [name for name, _ in record.headers] == [*ALERT_HEADERS, "traceparent"]
        _, trace, span, flags = record.headers[-1][1].decode().split("-")
        assert int(flags, 16) & 1
        named = (bytes.fromhex(trace), bytes.fromhex(span))
        assert named in sent
        alert = decode_alert(record.value)
        attributes = made[named].attributes
        assert attributes["stillwatch.finding.activity"] == Activity(alert.activity_id).name.lower()
        assert attributes["messaging.destination.partition.id"] == str(record.partition)
        if alert.activity_id == Activity.CLOSE:
            assert made[named].links == []
            continue
        source = alert.unmapped["stillwatch"]["source"]
        header = traced[source["partition"], source["offsets"][-1]]
        assert header is not None
        _, trace, span, _ = header.decode().split("-")
        assert made[named].links == [(bytes.fromhex(trace), bytes.fromhex(span))]
        joined += 1
    assert joined >= 2


async def test_a_fault_is_marked_by_its_type_where_it_happened(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    with collecting() as collector:
        command = ("-m", "tests.integration.streams.faulty_worker")
        worker = start(command=command, otlp_endpoint=collector.url)
        worker.wait_ready()
        boom = [request("acct-with-a-fault", NOW + k, id="boom" if k == 3 else f"{k}") for k in range(6)]
        await score(kafka, topics, topic_prefix, boom, worker)
        assert worker.stop() == 0
    failed = [span for span in collector.spans() if span.status == FAILED]
    assert {span.name for span in failed} == {f"process {topics.requests}", "score"}
    assert {span.attributes["error.type"] for span in failed} == {"RuntimeError"}
    assert not any(b"acct-with-a-fault" in body or b"quotes" in body for body in collector.bodies)


@contextmanager
def no_collector() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def deaf_collector() -> Iterator[str]:
    """One that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("away", [no_collector, deaf_collector])
async def test_a_collector_that_is_away_holds_up_neither_the_stream_nor_the_end(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start, away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few spans fit, so that they are dropped: what holds when a collector is away for hours.
    for name, value in {"MAX_QUEUE_SIZE": 16, "MAX_EXPORT_BATCH_SIZE": 8, "SCHEDULE_DELAY": 50}.items():
        monkeypatch.setenv(f"OTEL_BSP_{name}", str(value))
    grace_seconds = 10
    with away() as endpoint:
        worker = start(otlp_endpoint=endpoint, shutdown_grace_seconds=grace_seconds)
        worker.wait_ready()
        requests = planted()
        await score(kafka, topics, topic_prefix, requests, worker)
        wait_until(lambda: "dropping Span" in worker.log, 60, worker)
        assert worker.stop(grace_seconds) == 0
    assert len(await read(kafka, topics.alerts)) >= 2
    told = [line for line in worker.log.splitlines() if "opentelemetry" in line or "Span" in line or "spans" in line]
    assert 1 <= len(told) <= 6, told


async def test_without_traces_alerts_have_the_headers_of_a_cloudevent(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    worker = start()
    await score(kafka, topics, topic_prefix, planted(), worker)
    assert worker.stop() == 0
    alerts = await read(kafka, topics.alerts)
    assert len(alerts) >= 2
    assert all([name for name, _ in record.headers] == ALERT_HEADERS for record in alerts)
