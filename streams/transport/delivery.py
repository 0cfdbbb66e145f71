"""The way out: records to partitions in batches, each delivery awaited."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

log = logging.getLogger(__name__)

Header = tuple[str, bytes | None]

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""What brokers answer to a batch beyond `max.message.bytes`, or beyond a segment of the log."""


class Outgoing(NamedTuple):
    """A record on its way out.

    `timestamp` in epoch milliseconds, None for now. `small` makes what goes out in its place, wherever that belongs,
    should the brokers refuse its size; without it the delivery fails. `on_delivered` is called when the brokers hold
    it, and not when they hold what went out in its place.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp: int | None = None
    small: Callable[[], Outgoing] | None = None
    on_delivered: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, roughly."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class Delivered(NamedTuple):
    """Offsets of a delivery to one partition; `contiguous`: nobody else wrote in between.

    Without that they are not worth much: parts may have gone elsewhere.
    """

    first: int
    last: int
    contiguous: bool


class DeliveryError(KafkaError):  # type: ignore[misc]
    """A delivery failed; the message is the first reason. `delivered`: the topics and partitions that have theirs."""

    def __init__(self, reason: KafkaError, delivered: frozenset[tuple[str, int]]) -> None:
        super().__init__(f"{type(reason).__name__}: {reason}")
        self.delivered = delivered


async def deliver(producer: Any, records: Iterable[Outgoing]) -> dict[tuple[str, int], Delivered]:
    """Write records, in order within each partition, and wait until the brokers hold them all.

    `producer` is an `AIOKafkaProducer`. Batches are built here: 7 µs for a record of 300 bytes against 20 µs for
    `send`, and one future a batch. Raises `DeliveryError` when a delivery fails.
    """
    grouped: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
    for record in records:
        grouped[record.topic, record.partition].append(record)
    deliveries = (_deliver_to(producer, *where, group) for where, group in grouped.items())
    results = dict(zip(grouped, await asyncio.gather(*deliveries, return_exceptions=True), strict=True))
    delivered = {where: result for where, result in results.items() if isinstance(result, Delivered)}
    for result in results.values():
        if isinstance(result, KafkaError):
            raise DeliveryError(result, frozenset(delivered)) from result
        if isinstance(result, BaseException):
            raise result
    return delivered


async def _deliver_to(producer: Any, topic: str, partition: int, records: Sequence[Outgoing]) -> Delivered:
    sent = []
    for batch, batched in _batches(producer, records):
        sent.append((batched, await producer.send_batch(batch, topic, partition=partition)))
    first, last, contiguous = -1, -1, True
    for batched, future in sent:
        try:
            base = (await future).offset  # offset of the batch's first record
        except TOO_LARGE:
            base = (await _deliver_smaller(producer, topic, partition, batched)).first
            contiguous = False
        else:
            _tell_delivered(batched)
        contiguous = contiguous and (first < 0 or base == last + 1)
        first = base if first < 0 else first
        last = base + len(batched) - 1
    return Delivered(first, last, contiguous)


def _tell_delivered(records: Sequence[Outgoing]) -> None:
    for record in records:
        if record.on_delivered is not None:
            record.on_delivered()


def _batches(producer: Any, records: Sequence[Outgoing]) -> Iterable[tuple[Any, list[Outgoing]]]:
    """The producer's batches, filled to its `max_batch_size`; a larger record makes a batch of its own."""
    batched: list[Outgoing] = []
    batch = producer.create_batch()
    for record in records:
        if not _append(batch, record):
            yield batch, batched
            batch, batched = producer.create_batch(), []
            _append(batch, record)
        batched.append(record)
    if batched:
        yield batch, batched


def _append(batch: Any, record: Outgoing) -> bool:
    added = batch.append(
        timestamp=record.timestamp, key=record.key, value=record.value, headers=[(k, v) for k, v in record.headers]
    )
    return added is not None


async def _deliver_smaller(producer: Any, topic: str, partition: int, records: Sequence[Outgoing]) -> Delivered:
    """A batch the brokers found too large: one by one, and in place of what is alone too large its small one."""
    if len(records) > 1:
        parts = [await _deliver_to(producer, topic, partition, [record]) for record in records]
        return Delivered(parts[0].first, parts[-1].last, False)
    (record,) = records
    if record.small is None:
        raise MessageSizeTooLargeError(f"{topic} refuses a record of {record.size} bytes: raise its max.message.bytes")
    small = record.small()
    less = f"it goes to {small.topic}" if small.topic != topic else "less of it is sent"
    log.warning("the brokers refuse a record's size: %s", less, extra={"topic": topic})
    return await _deliver_to(producer, small.topic, small.partition, [small])
