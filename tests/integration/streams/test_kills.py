"""Workers that are killed, stopped and joined by others in the middle of a backlog: nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames, create_topics
from tests.integration.streams.expected import expected_of, findings_on
from tests.integration.streams.running import (
    Request,
    Worker,
    producer_of,
    read,
    request_counts,
    wait_done,
)

KILLS = 3
BACKLOG_SHARE = 0.3
"""Of the requests, there before the first worker starts; the rest comes while workers are killed."""

SENDING_SECONDS = 18
SESSION_SECONDS = 6

Start = Callable[[str], Worker]


@pytest.fixture
def seed() -> int:
    """Another one each run, shown when a test fails; STILLWATCH_TEST_SEED repeats one."""
    chosen = int(os.environ.get("STILLWATCH_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"STILLWATCH_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
async def topics(kafka: str, topic_prefix: str) -> TopicNames:
    settings = load_settings(brokers=kafka, topic_prefix=topic_prefix, partitions=4)
    await create_topics(settings)
    return TopicNames.of(settings)


@pytest.fixture(params=["memory", "rocksdict"])
def start(request: pytest.FixtureRequest, kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Start]:
    """`start("a")` starts a worker; the same name again is the same member, with the same disk."""
    workers: list[Worker] = []

    def start_worker(name: str) -> Worker:
        settings: dict[str, Any] = {
            "brokers": kafka,
            "topic_prefix": topic_prefix,
            "group_id": topic_prefix,
            "instance_id": name,
            "store": request.param,
            "data_dir": tmp_path / name,
            "session_timeout_seconds": SESSION_SECONDS,
            # Small batches and checkpoints, and a slab that holds few of the accounts: many moments to be killed in.
            "max_batch_records": 50,
            "checkpoint_interval_seconds": 0.2,
            "slab_rows": 16,
        }
        workers.append(Worker(tmp_path, settings))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.kill()


def traffic(seed: int) -> list[Request]:
    events = simulate(seed=seed, days=4, organic=30, planted=4).events
    return [Request(event["account"].encode(), orjson.dumps(event)) for event in events]


async def send_slowly(kafka: str, topic: str, requests: Sequence[Request]) -> None:
    """A backlog at once, the rest over some time."""
    backlog = int(len(requests) * BACKLOG_SHARE)
    chunks = [requests[:backlog]]
    step = max(1, (len(requests) - backlog) // (SENDING_SECONDS * 10))
    chunks += [requests[at : at + step] for at in range(backlog, len(requests), step)]
    async with producer_of(kafka) as producer:
        for chunk in chunks:
            for sent in chunk:
                await producer.send(topic, sent.value, key=sent.key)
            await producer.flush()
            await asyncio.sleep(0.1)


async def test_killed_three_times_and_joined_by_a_second_worker(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start, seed: int
) -> None:
    rng = random.Random(seed)
    requests = traffic(seed)
    sending = asyncio.create_task(send_slowly(kafka, topics.requests, requests))
    worker = start("a")
    for _ in range(KILLS):
        await asyncio.to_thread(worker.wait_ready)
        await asyncio.sleep(rng.uniform(0.05, 2.5))
        worker.kill()
        worker = start("a")
    second = start("b")
    await sending
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker, second)
    for running in (worker, second):
        await asyncio.to_thread(running.wait_ready)
        assert running.stop() == 0
    await assert_undisturbed(kafka, topics, requests)


@pytest.mark.parametrize("start", ["memory"], indirect=True)
async def test_a_worker_that_was_stopped_and_comes_back_rolls_nothing_back(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start, seed: int
) -> None:
    rng = random.Random(seed)
    requests = traffic(seed)
    sending = asyncio.create_task(send_slowly(kafka, topics.requests, requests))
    stopped, other = start("a"), start("b")
    await asyncio.to_thread(stopped.wait_ready)
    await asyncio.to_thread(other.wait_ready)
    await asyncio.sleep(rng.uniform(0.5, 2.0))
    stopped.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(3, 6))
    stopped.process.send_signal(signal.SIGCONT)
    await sending
    await wait_done(kafka, topic_prefix, topics.requests, 60, stopped, other)
    for worker in (stopped, other):
        if worker.process.poll() is None:
            worker.stop()
    await assert_undisturbed(kafka, topics, requests)


async def assert_undisturbed(kafka: str, topics: TopicNames, requests: Sequence[Request]) -> None:
    expected = expected_of(requests)
    assert len(expected.findings) >= 2
    assert await request_counts(kafka, topics.state) == expected.counts
    assert findings_on(await read(kafka, topics.alerts)) == expected.findings
    assert await read(kafka, topics.dead_letters) == []
