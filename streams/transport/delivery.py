"""The way out: records to partitions in batches, each delivery awaited."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from streams.tracing import OFF, OFFSET, Traces

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
    """Offsets of the first and last record of a delivery to a partition; `contiguous`: nobody else wrote in between.

    Rely on `first` and `last` only while `contiguous` holds. Otherwise the brokers may have refused a record's size,
    and then either may be the offset of what went out in its place, on another topic and partition.
    """

    first: int
    last: int
    contiguous: bool


class DeliveryError(KafkaError):  # type: ignore[misc]
    """A delivery failed; the message is the first reason. `delivered`: the topics and partitions that have theirs."""

    def __init__(self, reason: KafkaError, delivered: frozenset[tuple[str, int]]) -> None:
        super().__init__(f"{type(reason).__name__}: {reason}")
        self.delivered = delivered


async def deliver(producer: Any, records: Iterable[Outgoing], traces: Traces = OFF) -> dict[tuple[str, int], Delivered]:
    """Write records, in order within each partition, and wait until the brokers hold them all.

    `producer` is an `AIOKafkaProducer`. Batches are built here: 7 µs for a record of 300 bytes against 20 µs for
    `send`, and one future a batch. Raises `DeliveryError` when a delivery fails.

    The producer must not be idempotent: aiokafka counts a batch that the brokers refuse as sent, and they refuse all
    that follow on its partition then (OutOfOrderSequenceNumber). So its retries may write a batch twice. Repeated
    alerts are known by uid and sequence, states by their fence, requests that are sent back by their origin.
    """
    grouped: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
    for record in records:
        grouped[record.topic, record.partition].append(record)
    delivery = _Delivery(producer)
    deliveries = (_traced(delivery, traces, *where, group) for where, group in grouped.items())
    results = dict(zip(grouped, await asyncio.gather(*deliveries, return_exceptions=True), strict=True))
    delivery.tell_refused()
    delivered = {where: result for where, result in results.items() if isinstance(result, Delivered)}
    for result in results.values():
        if isinstance(result, KafkaError):
            raise DeliveryError(result, frozenset(delivered)) from result
        if isinstance(result, BaseException):
            raise result
    return delivered


async def _traced(
    delivery: _Delivery, traces: Traces, topic: str, partition: int, records: Sequence[Outgoing]
) -> Delivered:
    with traces.sending(topic, partition, records) as span:
        delivered = await delivery.to(topic, partition, records)
        span.set(OFFSET, delivered.first)
        return delivered


class _Delivery:
    """One delivery to any number of partitions, and how many records it had to make smaller."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._refused: Counter[tuple[str, str]] = Counter()
        """Records whose size the brokers refused, by their topic and the topic that they went to instead."""

    async def to(self, topic: str, partition: int, records: Sequence[Outgoing]) -> Delivered:
        """Deliver records to one partition, those that may be refused batch by batch.

        Why: what goes out in place of a refused record must come before what follows it. Copies of requests that are
        sent back are held for repeated when later ones came before (`detectors.statistics.identity`).
        """
        in_turn = any(record.small is not None for record in records)
        parts: list[Delivered] = []
        sent: list[tuple[list[Outgoing], Any]] = []
        for batch, batched in _batches(self._producer, records):
            sent.append((batched, await self._producer.send_batch(batch, topic, partition=partition)))
            if in_turn:
                parts.append(await self._end(topic, partition, *sent.pop()))
        parts += [await self._end(topic, partition, batched, future) for batched, future in sent]
        contiguous = all(part.contiguous for part in parts) and all(
            after.first == before.last + 1 for before, after in pairwise(parts)
        )
        return Delivered(parts[0].first, parts[-1].last, contiguous)

    async def _end(self, topic: str, partition: int, batched: Sequence[Outgoing], future: Any) -> Delivered:
        """Wait for a batch that is sent, and send its records anew when it is too large."""
        try:
            base = (await future).offset  # offset of the batch's first record
        except TOO_LARGE:
            return (await self._smaller(topic, partition, batched))._replace(contiguous=False)
        for record in batched:
            if record.on_delivered is not None:
                record.on_delivered()
        return Delivered(base, base + len(batched) - 1, True)

    async def _smaller(self, topic: str, partition: int, records: Sequence[Outgoing]) -> Delivered:
        """A batch the brokers found too large: one by one, and in place of what is alone too large its small one."""
        if len(records) > 1:
            parts = [await self.to(topic, partition, [record]) for record in records]
            return Delivered(parts[0].first, parts[-1].last, False)
        (record,) = records
        if record.small is None:
            raise MessageSizeTooLargeError(
                f"{topic} refuses a record of {record.size} bytes: raise its max.message.bytes"
            )
        small = record.small()
        self._refused[topic, small.topic] += 1
        return await self.to(small.topic, small.partition, [small])

    def tell_refused(self) -> None:
        """Log what became of refused records, in a line for all that went the same way."""
        for (topic, other), number in self._refused.items():
            less = f"they go to {other}" if other != topic else "less of them is sent"
            log.warning("records that the brokers find too large: %d; %s", number, less, extra={"topic": topic})


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
