"""A worker on a real Kafka that is sent two thousand hostile records: the stream goes on and nothing is quoted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from detectors import state
from schemas.dead_letter import OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER
from schemas.origin import read_origin
from streams.detection import make_engine, make_ingest, read_baseline
from streams.settings import Settings, load_settings
from streams.simulation import simulate
from streams.topics import TopicNames, create_topics
from streams.transport.partitioner import positive_murmur2
from tests.integration.streams.running import ENCODER_HASH, Worker, read, request_counts, states, wait_done, wait_until
from tests.property.hostile.grammar import (
    ACCOUNT_MARK,
    ANY,
    DUPLICATE,
    PROMPT_MARK,
    SCORED,
    SENT_BACK,
    Hostile,
    records,
)

COUNT = 2_000
SEED = 8
PARTITIONS = 4
NOW = int(time.time() * 1000)
MEGABYTES = b"x" * 3_000_000


def beyond_the_brokers_limits() -> list[Hostile]:
    """Records that pass the brokers because they are compressed, and whose copies, uncompressed, would not."""
    event = orjson.dumps({"time": NOW, "account": f"{ACCOUNT_MARK}-0", "prompt": PROMPT_MARK})
    return [
        Hostile("key of megabytes on no JSON", "not_json", b"{", MEGABYTES),
        Hostile("key of megabytes", SENT_BACK, event, MEGABYTES),
        Hostile("headers of megabytes on no JSON", "not_json", b"{", b"k", [("x", MEGABYTES), ("y", None)]),
        Hostile("headers of megabytes, sent back", SENT_BACK, event, b"k", [("x", MEGABYTES), ("y", None)]),
        Hostile("header without a value on no JSON", "not_json", b"{", b"k", [("x", None)]),
        Hostile("3 MB", "oversize", MEGABYTES, b"k"),
    ]


def honest() -> list[Hostile]:
    """Requests of which some extract, each prompt marked, up to now."""
    events = simulate(seed=3, days=4, organic=3, planted=2).events
    shift = NOW - events[-1]["time"]
    made = []
    for event in events:
        marked = event | {"time": event["time"] + shift, "prompt": f"{event['prompt']} {PROMPT_MARK}"}
        made.append(Hostile("honest", SCORED, orjson.dumps(marked), event["account"].encode()))
    return made


class Place(NamedTuple):
    """Where a record lies."""

    partition: int
    offset: int


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> Settings:
    return load_settings(brokers=kafka, topic_prefix=topic_prefix, partitions=PARTITIONS)


@pytest.fixture
async def topics(settings: Settings) -> TopicNames:
    await create_topics(settings)
    return TopicNames.of(settings)


@pytest.fixture(params=["original", "redacted"])
def worker(request: pytest.FixtureRequest, kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Worker]:
    given: dict[str, Any] = {"brokers": kafka, "topic_prefix": topic_prefix, "group_id": topic_prefix}
    given |= {"store": "memory", "dead_letter_content": request.param, "log_level": "DEBUG"}
    started = Worker(tmp_path, given | {"account_ids": "hashed", "account_hash_key": "a key of the test"})
    yield started
    started.kill()


async def send_all(
    kafka: str, topic: str, sent: Sequence[Hostile], monkeypatch: pytest.MonkeyPatch
) -> dict[Place, Hostile]:
    """Send records, compressed, and say where each lies."""
    # The builder in C insists on names that are text.
    monkeypatch.setattr(message_accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    places: dict[Place, Hostile] = {}
    producer = AIOKafkaProducer(bootstrap_servers=kafka, compression_type="gzip")
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            there = [record for record in sent if _partition_of(record) == partition]
            while there:
                batch, fitting = producer.create_batch(), 0
                while fitting < len(there) and _append(batch, there[fitting]):
                    fitting += 1
                first = (await (await producer.send_batch(batch, topic, partition=partition))).offset
                places |= {Place(partition, first + i): there[i] for i in range(fitting)}
                del there[:fitting]
    finally:
        await producer.stop()
        monkeypatch.undo()
    return places


def _partition_of(record: Hostile) -> int:
    home = positive_murmur2(record.key) if record.key is not None else 0
    return (home + record.astray) % PARTITIONS


def _append(batch: Any, record: Hostile) -> bool:
    added = batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None


def expected_reasons(log: Sequence[Any], sent: dict[Place, Hostile]) -> dict[Place, str]:
    """What is to come of each record of the topic, but for those that were damaged at random."""
    expected = {}
    for record in log:
        place, origin = Place(record.partition, record.offset), read_origin(record.headers)
        if place in sent:
            meant = sent[place]
        else:
            assert origin is not None
            meant = sent[Place(origin.partition, origin.offset)]
        if meant.outcome == ANY:
            continue
        if place in sent:
            expected[place] = meant.outcome
        else:
            expected[place] = "dimension" if meant.kind == "wrong dimension under a wrong key" else SCORED
    return expected


def counted_in_one_go(settings: Settings, log: Sequence[Any]) -> dict[str, int]:
    """Requests by account when the topic is scored without a worker."""
    baseline = read_baseline(settings)
    ingest = make_ingest(settings, baseline, lambda key: positive_murmur2(key) % PARTITIONS)
    engine = make_engine(settings, baseline, lambda partition, account: None)
    counts: dict[str, int] = {}
    for partition in range(PARTITIONS):
        engine.apply(partition, ingest([record for record in log if record.partition == partition]).batch)
        for account, envelope in engine.snapshot(partition):
            counts[account.decode()] = int(state.unseal(envelope, ENCODER_HASH)["header"]["requests"][0])
    return counts


async def test_hostile_records_stop_nothing_and_leave_no_trace_of_what_they_say(
    kafka: str,
    settings: Settings,
    topics: TopicNames,
    topic_prefix: str,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hostile = [*records(SEED, COUNT, NOW), *beyond_the_brokers_limits()]
    regular = honest()
    together = [r for i in range(max(len(hostile), len(regular))) for r in (*regular[i : i + 1], *hostile[i : i + 1])]
    sent = await send_all(kafka, topics.requests, together, monkeypatch)
    await wait_done(kafka, topic_prefix, topics.requests, 120, worker)

    log = await read(kafka, topics.requests)
    dead = await read(kafka, topics.dead_letters)
    reasons: dict[Place, str] = {}
    for letter in dead:
        # The last ones are ours: a record's own headers, forged ones too, come before.
        headers = dict(letter.headers)
        place = Place(int(headers[PARTITION_HEADER]), int(headers[OFFSET_HEADER]))
        assert place not in reasons
        reasons[place] = headers[REASON_HEADER].decode()
    expected = expected_reasons(log, sent)
    wrong = Counter(
        (sent[place].kind if place in sent else "sent back", outcome, reasons.get(place))
        for place, outcome in expected.items()
        if reasons.get(place) != (None if outcome in (SCORED, DUPLICATE, SENT_BACK) else outcome)
    )
    assert not wrong
    assert "internal" not in reasons.values()

    sent_back = [record for record in log if Place(record.partition, record.offset) not in sent]
    wait_until(lambda: worker.metric("stillwatch_records_total") == len(log), 10, worker)
    duplicates = sum(outcome == DUPLICATE for outcome in expected.values())
    # What the engine counts is passed on once a second.
    wait_until(lambda: worker.metric("stillwatch_skipped_events_total") == duplicates > 0, 10, worker)
    assert worker.metric("stillwatch_dead_letters_total") == len(dead)
    assert worker.metric("stillwatch_rekeyed_records_total") == len(sent_back)
    scored = len(log) - len(dead) - len(sent_back) - duplicates
    wait_until(lambda: worker.metric("stillwatch_scored_events_total") == scored, 10, worker)
    assert await request_counts(kafka, topics.state) == counted_in_one_go(settings, log)
    metrics = worker.get("/metrics")[1]
    assert worker.stop() == 0

    alerts = await read(kafka, topics.alerts)
    assert any(ACCOUNT_MARK.encode() not in alert.key for alert in alerts)
    stored = [
        state.unseal(envelope, ENCODER_HASH).tobytes() for envelope in (await states(kafka, topics.state)).values()
    ]
    ours = [value for letter in dead for name, value in letter.headers if name.startswith("stillwatch-") and value]
    for text in [*(alert.value for alert in alerts), *stored, *ours, metrics.encode(), worker.log.encode()]:
        assert PROMPT_MARK.encode() not in text
    for text in [metrics, worker.log]:
        assert ACCOUNT_MARK not in text
    by_place = {Place(record.partition, record.offset): record for record in log}
    for place, letter in zip(reasons, dead, strict=True):
        if letter.value != by_place[place].value:
            assert orjson.loads(letter.value)["reason"] == reasons[place]
            assert PROMPT_MARK.encode() not in letter.value
