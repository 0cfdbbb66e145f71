"""A stretch of a topic, read without a group: nothing is committed, nobody's partitions move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

import streams.transport  # noqa: F401 - so that aiokafka reads records whatever their headers are called
from streams.partition_choice import PartitionChoice, all_partitions
from streams.settings import RECORD_HEADROOM_BYTES, Settings

STALL_SECONDS = 60.0
"""A topic that gives nothing for so long before its fixed end is reached is given up rather than waited for."""


class TopicError(Exception):
    """A topic is not there, or stopped giving records; the message is one line for a person."""


class TopicWindow:
    """The records of a topic between two times of their timestamps; the end is fixed when it is opened.

    Partitions are read one after the other. They share no accounts, so this changes no finding, and the alerts come in
    the same order each time.

    Parameters
    ----------
    settings
        Where the brokers are.
    topic
        Topic to read.
    since_ms, until_ms
        Epoch milliseconds; None for the beginning, and for what the topic holds now.
    choice
        Which partitions to read; None for all.

    Raises
    ------
    TopicError
        On entering: the topic, or a partition of the choice, is not there. While reading: it stopped giving records.
    KafkaError
        Brokers cannot be reached, or refused.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        choice: PartitionChoice | None = None,
    ) -> None:
        self._settings, self._topic = settings, topic
        self._since_ms, self._until_ms = since_ms, until_ms
        self._choice = choice or all_partitions
        self._bounds: dict[TopicPartition, tuple[int, int]] = {}
        self._following = False

    async def __aenter__(self) -> TopicWindow:
        settings = self._settings
        self._consumer = AIOKafkaConsumer(
            **settings.client_options(),
            enable_auto_commit=False,
            isolation_level="read_committed",  # as the worker reads
            max_partition_fetch_bytes=max(1 << 20, settings.max_record_bytes + RECORD_HEADROOM_BYTES),
        )
        try:
            await self._consumer.start()
            partitions = await _partitions(settings, self._topic)
            self._count = len(partitions)
            chosen = self._chosen(partitions)
            self._bounds = await _bounds(self._consumer, chosen, self._since_ms, self._until_ms) if chosen else {}
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._consumer.stop()

    @property
    def partitions(self) -> int:
        """Number of partitions of the topic, read or not: it decides where a key belongs."""
        return self._count

    def _chosen(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        try:
            return [partitions[number] for number in self._choice(len(partitions))]
        except ValueError as error:
            raise TopicError(f"{self._topic}: {error}") from None

    @property
    def size(self) -> int:
        """Number of offsets in the window."""
        return sum(end - start for start, end in self._bounds.values())

    async def batches(
        self, batch_records: int, advance: Callable[[int], None] | None = None
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """(partition, consecutive records); `advance` is called with the number of offsets passed."""
        for partition, (start, end) in self._bounds.items():
            async for records in _partition_batches(self._consumer, partition, start, end, batch_records, advance):
                yield partition.partition, records

    async def later(self) -> list[Any]:
        """What has come in after the window's end, waiting for it up to a second. To be called after `batches`."""
        if not self._following:
            self._following = True
            self._consumer.assign(list(self._bounds))
            for partition, (start, end) in self._bounds.items():
                self._consumer.seek(partition, max(start, end))
        fetched = await self._consumer.getmany(timeout_ms=1000)
        return [record for records in fetched.values() for record in records]


async def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """Partitions of a topic. The brokers are asked: a consumer knows only those of topics that it follows already."""
    admin = AIOKafkaAdminClient(**settings.client_options())
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"] != 0:
        raise TopicError(f"there is no topic {topic}")
    return [TopicPartition(topic, number) for number in sorted(p["partition"] for p in described["partitions"])]


async def _bounds(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since_ms: int | None, until_ms: int | None
) -> dict[TopicPartition, tuple[int, int]]:
    """First offset and the one after the last, for each partition."""
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    starts = await consumer.beginning_offsets(partitions)
    if since_ms is not None:
        starts = _later(starts, await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms)), ends)
    if until_ms is not None:
        ends = _later(starts, await consumer.offsets_for_times(dict.fromkeys(partitions, until_ms)), ends)
    return {partition: (starts[partition], ends[partition]) for partition in partitions}


def _later(
    starts: dict[TopicPartition, int], found: dict[TopicPartition, Any], ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Offset of the first record at or after a time; the end where there is none."""
    return {p: max(starts[p], found[p].offset) if found.get(p) is not None else ends[p] for p in starts}


async def _partition_batches(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    start: int,
    end: int,
    size: int,
    advance: Callable[[int], None] | None,
) -> AsyncIterator[list[Any]]:
    if start >= end:
        return
    consumer.assign([partition])
    consumer.seek(partition, start)
    passed, progress = start, monotonic()
    while passed < end:
        fetched = await consumer.getmany(partition, timeout_ms=1000, max_records=size)
        records = [record for record in fetched.get(partition, ()) if record.offset < end]
        if records:
            yield records
        # Markers of transactions take offsets and are never handed out: the position tells, not the last record.
        position = min(await consumer.position(partition), end)
        if position > passed:
            progress = monotonic()
            if advance is not None:
                advance(position - passed)
            passed = position
        elif monotonic() - progress > STALL_SECONDS:
            raise TopicError(
                f"{partition.topic}[{partition.partition}] gave nothing for {STALL_SECONDS:.0f} s "
                f"at offset {passed} of {end}"
            )
