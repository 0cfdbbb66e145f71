"""The way out: sizes of records, and what goes out in place of one that is too large."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from streams.transport.delivery import Delivered, DeliveryError, Outgoing, deliver


def test_headers_count_with_their_names_and_may_be_null() -> None:
    assert Outgoing("t", 0, b"key", b"value", [("name", None), ("other", b"xyz")]).size == 3 + 5 + 4 + 5 + 3
    assert Outgoing("t", 0, None, None).size == 0


class Refusing:
    """A producer whose brokers refuse one topic."""

    def create_batch(self) -> Any:
        return Batch()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if topic == "refused":
            future.set_exception(TopicAuthorizationFailedError(topic))
        else:
            future.set_result(Metadata())
        return future


class Batch:
    def append(self, **record: Any) -> object:
        return record


class Metadata:
    offset = 7


async def test_a_failed_delivery_tells_what_went_through() -> None:
    records = [Outgoing("refused", 0, b"k", b"v"), Outgoing("taken", 1, b"k", b"v")]
    with pytest.raises(DeliveryError, match="TopicAuthorizationFailedError: refused") as failed:
        await deliver(Refusing(), records)
    assert failed.value.delivered == {("taken", 1)}


class Narrow:
    """A producer with two records a batch, whose brokers hold a log for each topic and take no value beyond 9 bytes."""

    def __init__(self) -> None:
        self.logs: dict[str, list[bytes]] = {}

    def create_batch(self) -> Pair:
        return Pair()

    async def send_batch(self, batch: Pair, topic: str, *, partition: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        log = self.logs.setdefault(topic, [])
        if any(len(value) > 9 for value in batch.values):
            future.set_exception(MessageSizeTooLargeError(topic))
        else:
            metadata = Metadata()
            metadata.offset = len(log)
            log += batch.values
            future.set_result(metadata)
        return future


class Pair:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **record: Any) -> object:
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return value


def to_requests(number: int, *, large: bool = False, elsewhere: bool = False) -> Outgoing:
    small = Outgoing("letters" if elsewhere else "requests", 0, None, b"%d small" % number)
    return Outgoing("requests", 0, None, b"%d" % number + b" large one" * large, small=lambda: small)


async def test_what_goes_out_in_place_of_a_record_comes_before_what_follows_it() -> None:
    producer = Narrow()
    records = [to_requests(number, large=number in (1, 4)) for number in range(7)]
    delivered = await deliver(producer, records)
    assert producer.logs["requests"] == [b"0", b"1 small", b"2", b"3", b"4 small", b"5", b"6"]
    assert not delivered["requests", 0].contiguous


async def test_records_that_are_too_large_share_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    large = [to_requests(number, large=True, elsewhere=number > 5) for number in range(9)]
    await deliver(Narrow(), [to_requests(9), *large])
    assert [record.message for record in caplog.records] == [
        "records that the brokers find too large: 6; less of them is sent",
        "records that the brokers find too large: 3; they go to letters",
    ]


async def test_a_delivery_of_several_batches_has_the_offsets_of_all(caplog: pytest.LogCaptureFixture) -> None:
    producer = Narrow()
    values = [b"%d" % number for number in range(5)]
    delivered = await deliver(producer, [Outgoing("state", 0, b"k", value) for value in values])
    assert delivered == {("state", 0): Delivered(0, 4, True)}
    assert producer.logs["state"] == values
    assert not caplog.records
