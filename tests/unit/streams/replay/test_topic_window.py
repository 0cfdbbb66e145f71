"""Reading a stretch of a topic, on the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from time import monotonic
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streams.embedded_broker import PARTITIONS, EmbeddedBroker
from streams.partition_choice import partition_choice
from streams.sending import Sender, key_of, make_producer
from streams.settings import Settings, load_settings
from streams.topic_window import TopicError, TopicWindow
from streams.transport.partitioner import positive_murmur2


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return load_settings(brokers=broker.address)


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid4().hex[:8]}"


@pytest.fixture
async def producer(settings: Settings, topic: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = make_producer(settings)
    await producer.start()
    assert len(await producer.partitions_for(topic)) == PARTITIONS
    yield producer
    await producer.stop()


async def send(producer: AIOKafkaProducer, topic: str, first: int, count: int) -> None:
    sender = Sender(producer, topic)
    for number in range(first, first + count):
        await sender.send(orjson.dumps({"account": f"a{number % 7}", "number": number}))
    await sender.confirm()


async def test_everything_is_read_once_in_order_and_by_partition(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, 0, 500)
    passed: list[int] = []
    async with TopicWindow(settings, topic) as window:
        assert (window.partitions, window.size) == (PARTITIONS, 500)
        batches = [(p, records) async for p, records in window.batches(40, passed.append)]
    order = [partition for partition, _ in batches]
    assert order == sorted(order)
    assert max(len(records) for _, records in batches) <= 40
    numbers = [orjson.loads(record.value)["number"] for _, records in batches for record in records]
    assert sorted(numbers) == list(range(500))
    for partition in range(PARTITIONS):
        own = [orjson.loads(r.value)["number"] for p, records in batches if p == partition for r in records]
        assert own == sorted(own)
    assert sum(passed) == 500


async def test_the_end_is_fixed_and_what_comes_later_comes_from_later(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, 0, 30)
    async with TopicWindow(settings, topic) as window:
        await send(producer, topic, 30, 20)
        before = [record async for _, records in window.batches(100) for record in records]
        assert len(before) == 30
        after: list[int] = []
        while len(after) < 20:
            after += [orjson.loads(record.value)["number"] for record in await window.later()]
    assert sorted(after) == list(range(30, 50))


async def test_an_empty_topic_gives_nothing_and_then_what_comes(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    async with TopicWindow(settings, topic) as window:
        assert [batch async for batch in window.batches(10)] == []
        await send(producer, topic, 0, 3)
        got: list[object] = []
        while len(got) < 3:
            got += await window.later()
    assert len(got) == 3


async def test_events_are_keyed_by_account_and_partitioned_by_murmur2(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, 0, 50)
    async with TopicWindow(settings, topic) as window:
        async for partition, records in window.batches(100):
            for record in records:
                assert record.key == orjson.loads(record.value)["account"].encode()
                assert positive_murmur2(record.key) % PARTITIONS == partition


async def test_a_line_without_account_is_sent_all_the_same_and_counted(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    sender = Sender(producer, topic)
    await sender.send(b"no JSON")
    await sender.confirm()
    assert (sender.sent, sender.unkeyed) == (1, 1)
    async with TopicWindow(settings, topic) as window:
        (record,) = [r async for _, records in window.batches(10) for r in records]
    assert (record.key, record.value) == (None, b"no JSON")


async def test_a_rate_is_kept(settings: Settings, topic: str, producer: AIOKafkaProducer) -> None:
    began = monotonic()
    sender = Sender(producer, topic, rate=100)
    for _ in range(50):
        await sender.send(b"{}")
    assert monotonic() - began > 0.4


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"account": "acme"}', b"acme"),
        (b'{"prompt": "\xff", "account": "acme"}', b"acme"),
        (rb'{"prompt": "\ud83d", "account": "acme"}', b"acme"),
        ('{"account": "東京"}'.encode(), "東京".encode()),
        (b'{"account": 5}', None),
        (b"[]", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_key_is_the_account_as_far_as_it_can_be_read(line: bytes, key: bytes | None) -> None:
    assert key_of(line) == key


async def test_only_the_partitions_that_were_asked_for_are_read(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, 0, 200)
    read: list[int] = []
    for reader in range(3):
        async with TopicWindow(settings, topic, choice=partition_choice(f"{reader}/3")) as window:
            assert window.partitions == PARTITIONS
            partitions, numbers = set(), []
            async for partition, records in window.batches(40):
                partitions.add(partition)
                numbers += [orjson.loads(record.value)["number"] for record in records]
        assert {partition % 3 for partition in partitions} <= {reader}
        read += numbers
    assert sorted(read) == list(range(200))


async def test_more_readers_than_partitions_leave_some_with_nothing(settings: Settings, topic: str) -> None:
    async with TopicWindow(settings, topic, choice=partition_choice(f"{PARTITIONS}/{PARTITIONS + 1}")) as window:
        assert (window.size, [batch async for batch in window.batches(40)]) == (0, [])


async def test_a_partition_that_is_not_there_is_named(
    settings: Settings, topic: str, producer: AIOKafkaProducer
) -> None:
    with pytest.raises(TopicError, match=rf"{topic}: there is no partition {PARTITIONS}: they are 0 to"):
        async with TopicWindow(settings, topic, choice=partition_choice(str(PARTITIONS))):
            pass
