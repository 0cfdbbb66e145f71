"""What becomes of states on a real Kafka: those of idle accounts go, and they outlive the requests topic."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from schemas.durations import DAY_MS
from streams.exit_codes import ExitCode
from streams.topics import TopicNames
from tests.integration.streams.running import (
    Prepare,
    Request,
    Start,
    read,
    request,
    request_counts,
    send,
    wait_done,
    wait_until,
)
from tests.unit.streams.disk_store import flip_bytes

NOW = int(time.time() * 1000)


@pytest.fixture
async def topics(prepare: Prepare) -> TopicNames:
    return TopicNames.of(await prepare(1))


async def test_states_of_idle_accounts_are_deleted_here_and_on_the_changelog(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    worker = start(store="rocksdict", state_expiry_days=10)
    worker.wait_ready()
    for days_ago, accounts in ((25, 30), (15, 3), (0, 1), (0, 1)):
        sent = [request(f"{days_ago}-{a}", NOW - days_ago * DAY_MS) for a in range(accounts)]
        await send(kafka, topics.requests, sent)
        await wait_done(kafka, topic_prefix, topics.requests, 30, worker)
    wait_until(lambda: worker.metric("stillwatch_deleted_states_total") == 30, 20, worker)
    assert worker.stop() == 0
    assert await request_counts(kafka, topics.state) == {"15-0": 1, "15-1": 1, "15-2": 1, "0-0": 2}


def each(account: str, count: int) -> list[Request]:
    return [request(account, NOW + k, id=f"{k}") for k in range(count)]


async def test_when_the_requests_topic_is_made_anew_its_records_count_and_that_is_told(
    kafka: str,
    topics: TopicNames,
    topic_prefix: str,
    start: Start,
    make_topics: Callable[..., Awaitable[None]],
) -> None:
    worker = start()
    await send(kafka, topics.requests, each("a", 50))
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_topics([topics.requests])
    await admin.close()
    await make_topics(topics.requests, partitions=1)
    await send(kafka, topics.requests, [*each("a", 20), *each("b", 3)])
    worker = start()
    wait_until(lambda: worker.metric("stillwatch_void_fences_total") == 1, 60, worker)
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    assert worker.log.count("the log is shorter than what was scored of it") == 1
    # States of the new log stand against those of the old one, whose offsets were higher.
    assert await request_counts(kafka, topics.state) == {"a": 70, "b": 3}


async def test_a_worker_with_a_damaged_store_says_what_to_do_and_that_loses_nothing(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start, tmp_path: Path
) -> None:
    accounts = [f"account-{k}" for k in range(50)]
    settings = {"store": "rocksdict", "data_dir": tmp_path / "states"}
    await send(kafka, topics.requests, [request(account, NOW) for account in accounts])
    for _ in range(2):  # what is in RocksDB's log goes into a file at the next start
        worker = start(**settings)
        worker.wait_ready()
        await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
        assert worker.stop() == 0
    flip_bytes(tmp_path / "states", 0.5)
    await send(kafka, topics.requests, [request(account, NOW + 1) for account in accounts])
    worker = start(**settings)
    wait_until(lambda: worker.process.poll() is not None, 60, worker)
    assert worker.process.returncode == ExitCode.INPUT, worker.log
    assert worker.log.count("the store of states cannot be read. Delete data_dir") == 1
    shutil.rmtree(tmp_path / "states")
    worker = start(**settings)
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    assert await request_counts(kafka, topics.state) == dict.fromkeys(accounts, 2)
    assert await read(kafka, topics.dead_letters) == []
