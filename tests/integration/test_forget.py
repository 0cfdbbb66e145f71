"""`stillwatch forget` on a real Kafka: with a worker, without one, and with one that is killed again and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

import orjson
import pytest

from schemas.order import forget_headers
from streams.forget import Carried, Order, forget, what_remains
from streams.settings import Settings
from streams.simulation import simulate
from streams.topics import TopicNames
from streams.transport.partitioner import positive_murmur2
from tests.integration.streams.expected import Finding, expected_of, findings_on
from tests.integration.streams.running import (
    Prepare,
    Request,
    Start,
    read,
    request,
    request_counts,
    send,
    states,
    wait_done,
    wait_until,
)

PARTITIONS = 2
NOW = int(time.time() * 1000)
KILLS = 3

SENDING_SECONDS = 10
"""So long requests and orders come in while workers are killed."""


@pytest.fixture
async def settings(prepare: Prepare) -> Settings:
    return await prepare(PARTITIONS)


@pytest.fixture
def start(start: Start) -> Start:
    """Always the same member, so that nobody waits for one that was killed; it saves five times a second."""
    return partial(start, instance_id="a", checkpoint_interval_seconds=0.2)


def requests_of(account: str, count: int, since: int = 0) -> list[Request]:
    return [request(account, NOW + at, id=f"{account}-{at}") for at in range(since, since + count)]


async def test_a_running_worker_erases_an_account_and_its_next_request_starts_anew(
    kafka: str, settings: Settings, start: Start
) -> None:
    names = TopicNames.of(settings)
    await send(kafka, names.requests, requests_of("gone", 30) + requests_of("stays", 20))
    worker = start(store="rocksdict")
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)

    order = await forget(settings, "gone", 30)
    assert order.carried is Carried.OUT
    assert await request_counts(kafka, names.state) == {"stays": 20}
    assert b"gone" not in await states(kafka, names.state)
    assert worker.metric("stillwatch_erased_accounts_total") == 1
    assert "gone" not in worker.log

    # An account that nobody knows, or that is gone already, is erased all the same.
    assert (await forget(settings, "gone", 30)).carried is Carried.OUT
    await send(kafka, names.requests, requests_of("gone", 7, since=30))
    await wait_done(kafka, settings.group_id, names.requests, 30, worker)
    assert await request_counts(kafka, names.state) == {"stays": 20, "gone": 7}

    worker.kill()
    worker = start(store="rocksdict")
    await send(kafka, names.requests, requests_of("gone", 1, since=37))
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    assert worker.stop() == 0
    assert await request_counts(kafka, names.state) == {"stays": 20, "gone": 8}
    assert await read(kafka, names.dead_letters) == []


async def test_without_a_worker_the_order_waits_for_the_next_one(kafka: str, settings: Settings, start: Start) -> None:
    names = TopicNames.of(settings)
    await send(kafka, names.requests, requests_of("gone", 30))
    order = await forget(settings, "gone", 30)
    assert order == Order(order.partition, 30, Carried.NO_WORKER, 30)
    await send(kafka, names.requests, requests_of("gone", 5, since=30))

    worker = start(store="memory")
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    assert await request_counts(kafka, names.state) == {"gone": 5}
    assert worker.stop() == 0
    # The group is empty again, but the order before this one was carried out.
    assert (await forget(settings, "gone", 30)).carried is Carried.NO_WORKER
    assert await request_counts(kafka, names.state) == {"gone": 5}


async def test_an_order_on_the_wrong_partition_is_sent_back_to_its_place(
    kafka: str, settings: Settings, start: Start
) -> None:
    names = TopicNames.of(settings)
    astray = (positive_murmur2(b"gone") + 1) % PARTITIONS
    await send(kafka, names.requests, requests_of("gone", 10))
    await send(kafka, names.requests, [Request(b"gone", None, astray, forget_headers())])
    worker = start(store="memory")
    wait_until(lambda: worker.metric("stillwatch_erased_accounts_total") == 1, 60, worker)
    await wait_done(kafka, settings.group_id, names.requests, 30, worker)
    assert worker.metric("stillwatch_rekeyed_records_total") == 1
    assert worker.stop() == 0
    assert await request_counts(kafka, names.state) == {}


async def test_a_state_written_late_is_seen_and_does_not_bring_the_account_back(
    kafka: str, settings: Settings, start: Start
) -> None:
    names = TopicNames.of(settings)
    await send(kafka, names.requests, requests_of("gone", 30))
    worker = start(store="memory")
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    old = (await states(kafka, names.state))[b"gone"]
    order = await forget(settings, "gone", 30)
    worker.kill()
    # As a worker does that was stopped before the order, and goes on after it.
    await send(kafka, names.state, [Request(b"gone", old, order.partition)])

    worker = start(store="memory")
    await send(kafka, names.requests, requests_of("gone", 3, since=30))
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    wait_until(lambda: worker.metric("stillwatch_late_state_writes_total") == 1, 10, worker)
    assert worker.stop() == 0
    assert await request_counts(kafka, names.state) == {"gone": 3}


async def test_orders_are_exact_while_workers_are_killed(kafka: str, settings: Settings, start: Start) -> None:
    rng = random.Random(7)
    names = TopicNames.of(settings)
    traffic = simulate(seed=7, days=3, organic=10, planted=4)
    log = [Request(event["account"].encode(), orjson.dumps(event)) for event in traffic.events]
    for account in [*traffic.planted, *rng.sample(sorted(traffic.accounts), 5)] * 2:
        log.insert(rng.randrange(len(log)), Request(account.encode(), None, headers=forget_headers()))
    await send(kafka, names.requests, log[: len(log) // 3])
    many_moments = {"max_batch_records": 20, "checkpoint_interval_seconds": 0.1, "slab_rows": 16, "store": "memory"}
    worker = start(**many_moments)
    sending = asyncio.create_task(send_slowly(kafka, names.requests, log[len(log) // 3 :]))
    for _ in range(KILLS):
        await asyncio.to_thread(worker.wait_ready)
        await asyncio.sleep(rng.uniform(0.05, 1.0))
        worker.kill()
        worker = start(**many_moments)
    await sending
    await wait_done(kafka, settings.group_id, names.requests, 60, worker)
    await asyncio.to_thread(worker.wait_ready)
    assert worker.stop() == 0

    findings, counts = expected_with_orders(log)
    assert findings != expected_of([sent for sent in log if sent.value]).findings
    assert await request_counts(kafka, names.state) == counts
    assert findings_on(await read(kafka, names.alerts)) == findings
    assert await read(kafka, names.dead_letters) == []


async def send_slowly(kafka: str, topic: str, log: Sequence[Request]) -> None:
    step = max(1, len(log) // (SENDING_SECONDS * 10))
    for at in range(0, len(log), step):
        await send(kafka, topic, log[at : at + step])
        await asyncio.sleep(0.1)


def expected_with_orders(log: Sequence[Request]) -> tuple[set[Finding], dict[str, int]]:
    """Findings and counts when each order makes another account of its account."""
    orders: Counter[bytes | None] = Counter()
    lives: defaultdict[int, list[Request]] = defaultdict(list)
    for sent in log:
        if sent.value is None:
            orders[sent.key] += 1
        else:
            lives[orders[sent.key]].append(sent)
    findings: set[Finding] = set()
    counts: dict[str, int] = {}
    for life, requests in sorted(lives.items()):
        expected = expected_of(requests)
        findings |= expected.findings
        counts |= {name: count for name, count in expected.counts.items() if orders[name.encode()] == life}
    return findings, counts


async def test_what_remains_names_every_topic_and_how_long(settings: Settings) -> None:
    remains = dict(await what_remains(settings))
    names = TopicNames.of(settings)
    assert set(names) < set(remains)
    assert "for 90 days" in remains[names.alerts]
    assert "for 3 days" in remains[names.dead_letters]
    assert "until compaction, 1 hour from now or later" in remains[names.state]
