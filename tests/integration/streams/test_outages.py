"""Brokers that go away: a worker waits and goes on, or, told to stop, ends in time all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from streams.simulation import simulate
from streams.topics import TopicNames
from tests.integration.broker import Broker
from tests.integration.streams.expected import expected_of, findings_on
from tests.integration.streams.running import (
    Prepare,
    Request,
    Worker,
    read,
    request_counts,
    send,
    wait_done,
    wait_until,
)

AWAY_SECONDS = 8
GRACE_SECONDS = 10


@pytest.fixture
async def topics(prepare: Prepare) -> TopicNames:
    return TopicNames.of(await prepare(4))


async def test_an_outage_is_waited_out_and_a_stop_in_one_ends_hard(
    broker: Broker, kafka: str, topics: TopicNames, topic_prefix: str, tmp_path: Path
) -> None:
    events = simulate(seed=5, days=4, organic=10, planted=2).events
    requests = [Request(event["account"].encode(), orjson.dumps(event)) for event in events]
    await send(kafka, topics.requests, requests)
    settings = {
        "brokers": kafka, "topic_prefix": topic_prefix, "group_id": topic_prefix, "instance_id": "a",
        "store": "memory", "max_batch_records": 20, "checkpoint_interval_seconds": 0.1,
        "session_timeout_seconds": 6, "request_timeout_seconds": 6, "shutdown_grace_seconds": GRACE_SECONDS,
    }  # fmt: skip
    worker = Worker(tmp_path, settings)
    try:
        wait_until(lambda: worker.metric("stillwatch_records_total") > 0, 60, worker)
        broker.kill()
        await asyncio.sleep(AWAY_SECONDS)
        broker.start()
        await wait_done(kafka, topic_prefix, topics.requests, 90, worker)
        assert worker.process.poll() is None
        expected = expected_of(requests)
        assert await request_counts(kafka, topics.state) == expected.counts
        assert findings_on(await read(kafka, topics.alerts)) == expected.findings

        await send(kafka, topics.requests, requests[:1])
        broker.kill()
        started = time.monotonic()
        assert worker.stop(GRACE_SECONDS + 5) in (0, 75)
        assert time.monotonic() - started < GRACE_SECONDS + 5
    finally:
        worker.kill()
        broker.stop()
        broker.start()
