"""What deploy/README.md has an operator do to topics, on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import orjson
import pytest
from aiokafka.admin import NewPartitions
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

from detectors import state
from streams.settings import Settings
from streams.simulation import simulate
from streams.topics import TopicNames, admin_of, create_topics
from streams.transport.partitioner import positive_murmur2
from tests.integration.streams.expected import expected_of, findings_on
from tests.integration.streams.running import (
    ENCODER_HASH,
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

BEFORE, AFTER = 2, 6
NOW = int(time.time() * 1000)


@pytest.fixture
async def settings(prepare: Prepare) -> Settings:
    return await prepare(BEFORE)


@pytest.fixture
def start(start: Start) -> Start:
    """Always the same member, so that nobody waits for one that is gone."""
    return partial(start, instance_id="a")


async def scored(kafka: str, settings: Settings, start: Start, accounts: list[str]) -> None:
    """Five requests of each account, and a worker that has scored them and ended."""
    requests = [request(account, NOW + k, id=f"{account}-{k}") for k in range(5) for account in accounts]
    await send(kafka, TopicNames.of(settings).requests, requests)
    worker = start()
    await wait_done(kafka, settings.group_id, TopicNames.of(settings).requests, 60, worker)
    assert worker.stop() == 0


async def test_after_partitions_are_added_accounts_that_move_start_anew_and_nothing_is_lost(
    kafka: str, settings: Settings, start: Start
) -> None:
    names, accounts = TopicNames.of(settings), [f"acct-{k}" for k in range(40)]
    await scored(kafka, settings, start, accounts)

    async with admin_of(settings) as admin:
        await admin.create_partitions({name: NewPartitions(AFTER) for name in (names.requests, names.state)})
    await send(kafka, names.requests, [request(account, NOW + 9, id=f"{account}-9") for account in accounts])
    worker = start(instance_id="b")  # the same member, back within its session, would keep its two partitions at first
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    wait_until(lambda: worker.metric("stillwatch_partitions") == AFTER, 30, worker)
    assert worker.metric("stillwatch_rekeyed_records_total") == 0
    assert worker.stop() == 0

    stays = {a for a in accounts if positive_murmur2(a.encode()) % BEFORE == positive_murmur2(a.encode()) % AFTER}
    assert 0 < len(stays) < len(accounts) / 2
    held = {
        (record.key.decode(), record.partition): int(state.unseal(record.value, ENCODER_HASH)["header"]["requests"][0])
        for record in await read(kafka, names.state)
    }
    expected = {(a, positive_murmur2(a.encode()) % AFTER): 6 if a in stays else 1 for a in accounts}
    # What those that moved had learnt lies where it lay, and nobody reads it any more.
    expected |= {(a, positive_murmur2(a.encode()) % BEFORE): 5 for a in accounts if a not in stays}
    assert held == expected
    assert await read(kafka, names.dead_letters) == []


async def test_the_history_of_all_accounts_can_be_kept_by_reading_the_requests_once_more(
    kafka: str, settings: Settings, start: Start
) -> None:
    names, accounts = TopicNames.of(settings), [f"acct-{k}" for k in range(40)]
    await scored(kafka, settings, start, accounts)

    async with admin_of(settings) as admin:
        await admin.create_partitions({names.requests: NewPartitions(AFTER)})
        await admin.delete_topics([names.state])
    await asyncio.to_thread(begin_at_the_beginning, kafka, settings)
    await wait_created(settings.model_copy(update={"partitions": AFTER}))
    await send(kafka, names.requests, [request(account, NOW + 9, id=f"{account}-9") for account in accounts])
    worker = start()
    wait_until(lambda: worker.metric("stillwatch_scored_events_total") == 6 * len(accounts), 60, worker)
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    assert worker.stop() == 0
    assert await request_counts(kafka, names.state) == dict.fromkeys(accounts, 6)


async def test_one_topic_with_more_partitions_than_the_other_keeps_workers_from_starting(
    kafka: str, settings: Settings, start: Start
) -> None:
    names = TopicNames.of(settings)
    async with admin_of(settings) as admin:
        await admin.create_partitions({names.requests: NewPartitions(AFTER)})
    worker = start()
    assert await asyncio.to_thread(worker.process.wait, 60) == 4
    assert "they must have the same number" in worker.log


async def test_what_the_requests_topic_still_holds_brings_accounts_and_findings_back(
    kafka: str, settings: Settings, start: Start, tmp_path: Path
) -> None:
    names = TopicNames.of(settings)
    events = simulate(seed=3, days=4, organic=6, planted=2).events
    requests = [Request(event["account"].encode(), orjson.dumps(event)) for event in events]
    await send(kafka, names.requests, requests)
    worker = start(store="rocksdict")
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    assert worker.stop() == 0
    before = [record.value for record in await read(kafka, names.alerts)]

    # As the runbook says: the state topic and the local stores are gone, the group begins at the beginning.
    async with admin_of(settings) as admin:
        await admin.delete_topics([names.state])
    await asyncio.to_thread(begin_at_the_beginning, kafka, settings)
    await wait_created(settings)
    worker = start(store="rocksdict", data_dir=tmp_path / "anew")
    await wait_done(kafka, settings.group_id, names.requests, 90, worker)
    assert worker.stop() == 0

    expected = expected_of(requests)
    assert await request_counts(kafka, names.state) == expected.counts
    alerts = await read(kafka, names.alerts)
    assert findings_on(alerts) == expected.findings
    # Each came once more, with the same bytes: whoever keeps one of each metadata.uid sees nothing new.
    assert sorted(record.value for record in alerts) == sorted(before * 2)


def begin_at_the_beginning(kafka: str, settings: Settings) -> None:
    """What `kafka-consumer-groups --reset-offsets --to-earliest` does; the brokers refuse while a member is there."""
    partitions = [ConfluentPartition(TopicNames.of(settings).requests, p, 0) for p in range(BEFORE)]
    admin = AdminClient({"bootstrap.servers": kafka})
    end = time.monotonic() + 30
    while True:
        asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(settings.group_id, partitions)])
        try:
            (done,) = [future.result() for future in asked.values()]
            refused = [str(partition.error) for partition in done.topic_partitions if partition.error]
        except KafkaException as error:
            refused = [str(error)]
        if not refused:
            return
        assert time.monotonic() < end, refused
        time.sleep(1)


async def wait_created(settings: Settings) -> None:
    """Make what is missing, once the brokers are done with deleting."""
    for _ in range(100):
        if (await create_topics(settings))[TopicNames.of(settings).state]:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the state topic was never gone")
