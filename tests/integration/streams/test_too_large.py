"""Records that a topic held compressed and does not take back as large as they are: kept, counted, in nobody's way."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from schemas.dead_letter import REASON_HEADER
from streams.settings import load_settings
from streams.topics import TopicNames
from tests.integration.streams.running import Start, read, request, request_counts, send, wait_done, wait_until

NOW = int(time.time() * 1000)
LARGEST = 20_000
SIZE = 200_000
PROMPT = "the secret plan "


async def send_compressed(kafka: str, topic: str, key: bytes, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, compression_type="gzip") as producer:
        await producer.send_and_wait(topic, value, key=key)


@pytest.mark.parametrize(
    ("content", "largest_dead_letter", "keeps"),
    [("original", 1_000_000, True), ("original", LARGEST, False), ("redacted", LARGEST, False)],
    ids=["the dead-letter topic takes it", "nor does the dead-letter topic", "redacted"],
)
async def test_a_record_that_its_topic_does_not_take_back_is_a_dead_letter_and_stops_nothing(
    kafka: str,
    topic_prefix: str,
    make_topics: Callable[..., Awaitable[None]],
    start: Start,
    content: str,
    largest_dead_letter: int,
    keeps: bool,
) -> None:
    names = TopicNames.of(load_settings(topic_prefix=topic_prefix))
    await make_topics(names.requests, config={"max.message.bytes": str(LARGEST)})
    await make_topics(names.dead_letters, config={"max.message.bytes": str(largest_dead_letter)})
    await make_topics(names.alerts)
    await make_topics(names.state, config={"cleanup.policy": "compact"})
    prompt = (PROMPT * SIZE)[:SIZE]
    large = orjson.dumps({"time": NOW, "account": "large", "prompt": prompt})
    small = request("small", NOW)._replace(key=b"another")
    await send(kafka, names.requests, [request("a", NOW, id="before")])
    await send_compressed(kafka, names.requests, b"another", large)
    await send(kafka, names.requests, [small, request("a", NOW, id="after")])

    worker = start(dead_letter_content=content, log_level="DEBUG")
    wait_until(lambda: worker.metric("stillwatch_scored_events_total") == 3, 60, worker)
    await wait_done(kafka, topic_prefix, names.requests, 30, worker)
    assert worker.metric("stillwatch_dead_letters_total") == 1
    assert worker.metric("stillwatch_rekeyed_records_total") == 1
    assert worker.metric("stillwatch_records_total") == 5
    assert worker.metric("stillwatch_checkpoint_failures_total") == 0
    assert worker.stop() == 0

    assert await request_counts(kafka, names.state) == {"a": 2, "small": 1}
    (letter,) = await read(kafka, names.dead_letters)
    headers = dict(letter.headers)
    assert headers[REASON_HEADER] == b"oversize"
    assert int(headers["stillwatch-offset"]) == 1
    assert letter.key == b"another"
    if keeps:
        assert letter.value == large
    else:
        told = orjson.loads(letter.value)
        assert (told["reason"], told["bytes"]) == ("oversize", len(large))
        assert PROMPT.strip() not in letter.value.decode()
    assert PROMPT.strip() not in worker.log
