"""The way out: sizes of records, and what goes out in place of one that is too large."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from streams.transport.delivery import DeliveryError, Outgoing, deliver


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
