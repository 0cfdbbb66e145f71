"""Ordering that an account be forgotten, and seeing that it was (`streams.orders` says how it is carried out)."""

from __future__ import annotations

import asyncio
from enum import Enum
from time import monotonic
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas.durations import DAY_MS, HOUR_MS
from schemas.order import forget_headers
from streams.sending import make_producer
from streams.settings import Settings
from streams.topics import TopicNames, admin_of, check_topics, topic_config
from streams.transport.partitioner import positive_murmur2

LOOK_SECONDS = 0.3
"""How often the group is asked how far it is."""

NOBODY = frozenset({"Empty", "Dead"})
"""States of a group without members."""


class Carried(Enum):
    """What has become of an order."""

    OUT = "out"
    """The account is erased."""

    NO_WORKER = "no worker"
    """No worker runs; the next one carries it out."""

    NOT_YET = "not yet"
    """Workers have not come to it in time; they will."""

    PASSED_OVER = "passed over"
    """Workers have read it, and the account's state is there all the same."""


class Order(NamedTuple):
    """An order to forget an account: where it stands, and what has become of it.

    `behind` is the number of records before it that were not scored yet.
    """

    partition: int
    offset: int
    carried: Carried
    behind: int


async def forget(settings: Settings, account: str, wait_seconds: float) -> Order:
    """Write the order, and wait until it is carried out: at most so long, and not at all when no worker runs.

    Raises `TopicsError`, `KafkaError` and `OSError` when topics do not fit, or brokers cannot be reached or refuse.
    """
    names, key = TopicNames.of(settings), account.encode()
    partitions = await check_topics(settings)
    partition = positive_murmur2(key) % partitions[names.requests]
    requests, states = TopicPartition(names.requests, partition), TopicPartition(names.state, partition)
    async with AIOKafkaConsumer(**settings.client_options(), enable_auto_commit=False) as consumer:
        consumer.assign([states])
        before = (await consumer.end_offsets([states]))[states]
        offset = await _send(settings, names.requests, partition, key)
        async with admin_of(settings) as admin:
            carried, behind = await _wait(admin, settings.group_id, requests, offset, wait_seconds)
        if carried is Carried.OUT and not await _is_gone(consumer, states, before, key, offset):
            carried = Carried.PASSED_OVER
        return Order(partition, offset, carried, behind)


async def _send(settings: Settings, topic: str, partition: int, key: bytes) -> int:
    async with make_producer(settings) as producer:
        sent = await producer.send_and_wait(topic, None, key=key, partition=partition, headers=forget_headers())
    return int(sent.offset)


async def _wait(
    admin: AIOKafkaAdminClient, group: str, requests: TopicPartition, offset: int, seconds: float
) -> tuple[Carried, int]:
    end = monotonic() + seconds
    while True:
        # The commit comes last in a checkpoint: once it is past the order, the state is deleted.
        behind = max(0, offset + 1 - max(0, await _committed(admin, group, requests)))
        if not behind:
            return Carried.OUT, 0
        if await _has_nobody(admin, group):
            return Carried.NO_WORKER, behind - 1
        if monotonic() > end:
            return Carried.NOT_YET, behind - 1
        await asyncio.sleep(LOOK_SECONDS)


async def _committed(admin: AIOKafkaAdminClient, group: str, partition: TopicPartition) -> int:
    """The group's offset, -1 for none: a cluster on which no group ever was makes its coordinator now, in a while."""
    try:
        return int((await admin.list_consumer_group_offsets(group, partitions=[partition]))[partition].offset)
    except GroupCoordinatorNotAvailableError:
        return -1


async def _has_nobody(admin: AIOKafkaAdminClient, group: str) -> bool:
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return False
    return all(described[2] in NOBODY for described in answer.groups)


async def _is_gone(consumer: AIOKafkaConsumer, states: TopicPartition, start: int, key: bytes, offset: int) -> bool:
    """Whether the changelog, read from before the order on, ends for the account in a deletion or in a newer state.

    A worker of an older version passes an order over; a worker that was stopped can still write an old state, late.
    """
    from detectors.state import StateError, header_of  # here: loading takes a second, which `--help` should not

    last: Any = None
    end = (await consumer.end_offsets([states]))[states]
    consumer.seek(states, start)
    while await consumer.position(states) < end:
        for record in (await consumer.getmany(states, timeout_ms=1000)).get(states, ()):
            last = record if record.key == key else last
    try:
        return last is not None and (last.value is None or header_of(last.value).offset > offset)
    except StateError:
        return False


class Remains(NamedTuple):
    """What is left of an erased account in a place, and until when."""

    place: str
    what: str


async def what_remains(settings: Settings) -> list[Remains]:
    """Everywhere that something of an erased account is left, in plain words."""
    names = TopicNames.of(settings)
    async with admin_of(settings) as admin:
        requests, dead_letters, alerts, state = [await topic_config(admin, name) for name in names]
    return [
        Remains(names.requests, f"its requests, and this order: {_retention(requests)}"),
        Remains(names.dead_letters, f"records of it that could not be scored: {_retention(dead_letters)}"),
        Remains(names.alerts, f"its alerts: {_retention(alerts)}. A finding that was open is not closed any more"),
        Remains(names.state, f"older copies of its state: {_compaction(state)}"),
        Remains("workers", "overwritten pages of local stores; the disk of one that is off, until it starts"),
        Remains("elsewhere", "logs that name it, whatever reads the topics (a SIEM), files and backups"),
    ]


def _retention(config: dict[str, str]) -> str:
    """How long a topic keeps a record, by its settings; empty ones were not to be had."""
    if not config:
        return "until the topic's retention is over"
    if "delete" not in config.get("cleanup.policy", "delete"):
        return "for good, the topic deletes nothing (cleanup.policy)"
    kept = int(config.get("retention.ms", -1))
    return "for good, the topic's retention is off" if kept < 0 else f"for {_span(kept)} (the topic's retention)"


def _compaction(config: dict[str, str]) -> str:
    waits = [int(config.get(name, 0)) for name in ("segment.ms", "min.compaction.lag.ms")]
    return f"until compaction, {_span(max(waits))} from now or later" if any(waits) else "until compaction"


def _span(milliseconds: int) -> str:
    """A span in words.

    >>> _span(7 * DAY_MS), _span(HOUR_MS), _span(90 * 60_000)
    ('7 days', '1 hour', '2 hours')
    """
    amount, unit = (milliseconds / DAY_MS, "day") if milliseconds >= 2 * DAY_MS else (milliseconds / HOUR_MS, "hour")
    whole = max(1, round(amount))
    return f"{whole} {unit}" if whole == 1 else f"{whole} {unit}s"
