"""What a worker promises on a real Kafka: alerts, dead letters, offsets, a restart that goes on, a stop in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames
from streams.transport.partitioner import positive_murmur2
from tests.integration.streams.expected import expected_of, findings_on
from tests.integration.streams.running import (
    Prepare,
    Request,
    Start,
    read,
    request,
    request_counts,
    send,
    wait_done,
    wait_until,
)

PARTITIONS = 4
SLOW = 12
FAULTY = ("-m", "tests.integration.streams.faulty_worker")
NOW = int(time.time() * 1000)


@pytest.fixture
async def topics(prepare: Prepare) -> TopicNames:
    return TopicNames.of(await prepare(PARTITIONS))


def requests_of(accounts: int, each: int) -> list[Request]:
    return [request(f"acct-{a}", NOW + i, id=f"{a}-{i}") for i in range(each) for a in range(accounts)]


async def test_a_worker_alerts_commits_and_goes_on_after_a_restart(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    events = simulate(seed=3, days=4, organic=6, planted=2).events
    requests = [Request(event["account"].encode(), orjson.dumps(event)) for event in events]
    for half in (requests[: len(requests) // 2], requests[len(requests) // 2 :]):
        await send(kafka, topics.requests, half)
        worker = start(store="rocksdict")
        await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
        assert worker.stop() == 0

    expected = expected_of(requests)
    assert len(expected.findings) >= 2
    assert await request_counts(kafka, topics.state) == expected.counts
    alerts = await read(kafka, topics.alerts)
    assert findings_on(alerts) == expected.findings
    assert len(alerts) == len(expected.findings)
    assert all(record.partition == positive_murmur2(record.key) % PARTITIONS for record in alerts)
    assert dict(alerts[0].headers)["ce_type"] == b"stillwatch.finding.create"


async def test_metrics_tell_how_far_a_worker_is_and_what_it_holds(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    events = simulate(seed=3, days=4, organic=6, planted=2).events
    # Some that take their time, so that there is a lag to see however late we look.
    events = [{**events[0], "id": "slow"} for _ in range(SLOW)] + events
    await send(kafka, topics.requests, [Request(e["account"].encode(), orjson.dumps(e)) for e in events])
    worker = start(FAULTY, store="rocksdict", max_batch_records=1)
    wait_until(lambda: worker.metric("stillwatch_lag_seconds") > 0, 120, worker)
    assert worker.metric("stillwatch_lag") > 0
    await wait_done(kafka, topic_prefix, topics.requests, 90, worker)
    wait_until(lambda: worker.metric("stillwatch_surprise_ratio_sum") > 0, 10, worker)
    wait_until(lambda: worker.metric("stillwatch_lag") == worker.metric("stillwatch_lag_seconds") == 0, 10, worker)

    assert worker.metric("stillwatch_batch_records_count") == worker.metric("stillwatch_records_total") == len(events)
    looks = worker.metric("stillwatch_surprise_ratio_count")
    below = [
        line
        for line in worker.get("/metrics")[1].splitlines()
        if line.startswith('stillwatch_surprise_ratio_bucket{le="1.0"}')
    ]
    assert 0 < float(below[0].rpartition(" ")[2]) < looks, "the planted accounts passed the threshold, others did not"
    assert worker.metric("stillwatch_partitions") == PARTITIONS
    assert worker.metric("stillwatch_assignments_total") >= 1
    assert worker.metric("stillwatch_recovery_seconds_count") >= 1
    assert worker.metric("stillwatch_store_bytes") > 8 * 1000
    assert worker.metric("stillwatch_build_info") == 1


@pytest.mark.parametrize("content", ["original", "redacted"])
async def test_what_cannot_be_scored_is_kept_with_its_reason(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start, content: str
) -> None:
    prompt = "the secret plan"
    bad = {
        "not_json": Request(b"a", f"{{{prompt}".encode()),
        "clock": request("a", NOW * 1000, prompt=prompt),
        "embedding_model": request("a", NOW, embedding=[1.0, 2.0], embedding_model=prompt),
    }
    await send(kafka, topics.requests, [*bad.values(), request("a", NOW)])
    worker = start(dead_letter_content=content, log_level="DEBUG")
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    metric = worker.metric("stillwatch_dead_letters_total")
    assert worker.stop() == 0

    dead = await read(kafka, topics.dead_letters)
    by_reason = {dict(record.headers)["stillwatch-reason"].decode(): record for record in dead}
    assert by_reason.keys() == bad.keys()
    assert metric == len(bad)
    for reason, record in by_reason.items():
        headers = dict(record.headers)
        assert headers["stillwatch-topic"].decode() == topics.requests
        assert int(headers["stillwatch-offset"]) == list(bad).index(reason)
        assert record.key == b"a"
        if content == "original":
            assert record.value == bad[reason].value
        else:
            assert prompt.encode() not in record.value
    assert await request_counts(kafka, topics.state) == {"a": 1}
    assert prompt not in worker.log


async def test_records_keyed_wrongly_are_sent_back_and_counted_once(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    right = request("acct-1", NOW, id="right")
    home = positive_murmur2(b"acct-1") % PARTITIONS
    keyless = request("acct-1", NOW, id="no key")._replace(key=None)
    astray = request("acct-1", NOW, id="astray")._replace(partition=(home + 1) % PARTITIONS)
    await send(kafka, topics.requests, [right, keyless, astray])
    worker = start()
    wait_until(lambda: worker.metric("stillwatch_scored_events_total") >= 3, 60, worker)
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.metric("stillwatch_rekeyed_records_total") == 2
    assert worker.stop() == 0

    assert await request_counts(kafka, topics.state) == {"acct-1": 3}
    sent_back = [r for r in await read(kafka, topics.requests) if any("origin" in name for name, _ in r.headers)]
    assert {record.key for record in sent_back} == {b"acct-1"}
    assert {record.partition for record in sent_back} == {home}
    assert all(dict(r.headers)["stillwatch-origin-topic"].decode() == topics.requests for r in sent_back)


async def test_records_that_are_sent_back_once_more_after_a_crash_count_once(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    astray = (positive_murmur2(b"acct-1") + 1) % PARTITIONS
    strays = [request("acct-1", NOW + number)._replace(partition=astray) for number in range(40)]
    await send(kafka, topics.requests, strays)
    worker = start()
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    # As a worker leaves it that dies between the delivery of what it sends back and its commit. With automatic commits
    # the consumer would commit in the end where it began, and undo that.
    async with AIOKafkaConsumer(bootstrap_servers=kafka, group_id=topic_prefix, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topics.requests, astray)])
        await consumer.commit({TopicPartition(topics.requests, astray): 0})
    worker = start()
    wait_until(lambda: worker.metric('stillwatch_skipped_events_total{why="duplicate"}') >= 40, 60, worker)
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.metric("stillwatch_rekeyed_records_total") == 40
    assert worker.metric('stillwatch_skipped_events_total{why="duplicate"}') == 40
    assert worker.stop() == 0
    assert await request_counts(kafka, topics.state) == {"acct-1": 40}


async def test_a_stop_signal_commits_everything_within_the_grace(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    await send(kafka, topics.requests, requests_of(accounts=50, each=100))
    # No checkpoint is due before the stop: all of it is saved and committed by the stop itself.
    worker = start(checkpoint_interval_seconds=60, checkpoint_max_events=10**6, shutdown_grace_seconds=15)
    wait_until(lambda: worker.metric("stillwatch_scored_events_total") == 5000, 60, worker)
    assert await request_counts(kafka, topics.state) == {}
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 15
    await wait_done(kafka, topic_prefix, topics.requests, 1, worker)
    assert await request_counts(kafka, topics.state) == {f"acct-{a}": 100 for a in range(50)}


async def test_a_worker_told_to_stop_before_it_subscribed_never_joins(topics: TopicNames, start: Start) -> None:
    worker = start(log_level="DEBUG")  # Faust tells of its start
    wait_until(lambda: "Waiting for tables to be registered" in worker.log, 60, worker)
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 10
    assert "oining group" not in worker.log


async def test_a_stop_does_not_wait_for_a_rebalance_that_another_member_holds_up(
    topics: TopicNames, start: Start, tmp_path: Path
) -> None:
    patient = {"session_timeout_seconds": 60, "rebalance_timeout_seconds": 60, "request_timeout_seconds": 60}
    suspended = start(data_dir=tmp_path / "suspended", **patient)
    suspended.wait_ready()
    suspended.process.send_signal(signal.SIGSTOP)
    worker = start(shutdown_grace_seconds=30, log_level="DEBUG", **patient)
    wait_until(lambda: "(Re-)joining group" in worker.log, 60, worker)
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 20
    assert "still rebalancing" in worker.log


async def test_a_record_that_breaks_the_scoring_stops_nobody_else(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    sent = requests_of(accounts=10, each=40)
    sent[171] = request("acct-1", NOW, id="boom")
    await send(kafka, topics.requests, sent)
    worker = start(FAULTY, max_batch_records=100)
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    (dead,) = await read(kafka, topics.dead_letters)
    assert dict(dead.headers)["stillwatch-reason"] == b"internal"
    assert await request_counts(kafka, topics.state) == {f"acct-{a}": 40 - (a == 1) for a in range(10)}
    assert "a fault that quotes" not in worker.log


async def test_beyond_max_accounts_the_longest_idle_are_forgotten_also_on_the_changelog(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    worker = start(max_accounts=100, slab_rows=50, checkpoint_interval_seconds=0.1)
    worker.wait_ready()
    for wave in range(3):
        await send(kafka, topics.requests, [request(f"wave-{wave}-{a}", NOW) for a in range(100)])
        await wait_done(kafka, topic_prefix, topics.requests, 30, worker)
    await send(kafka, topics.requests, [request("last", NOW)])
    await wait_done(kafka, topic_prefix, topics.requests, 30, worker)
    wait_until(lambda: worker.metric("stillwatch_forgotten_accounts_total") == 201, 30, worker)
    assert worker.metric("stillwatch_accounts") == 100
    assert worker.stop() == 0
    left = await request_counts(kafka, topics.state)
    assert "last" in left
    # A deletion goes out with the next checkpoint of its partition, so those of the last wave may still be to come.
    assert not [account for account in left if account.startswith("wave-0")]
    assert worker.log.count("more accounts than max_accounts") == 1


async def test_missing_topics_are_named_with_the_command_that_makes_them(start: Start) -> None:
    worker = start()
    assert worker.process.wait(30) == 4
    assert "stillwatch topics create" in worker.log
    assert "Traceback" not in worker.log


async def test_unreachable_brokers_give_one_line(start: Start) -> None:
    worker = start(brokers="127.0.0.1:1")
    assert worker.process.wait(60) == 4
    assert worker.log.count("\n") == 1
    assert "127.0.0.1:1" in worker.log


async def test_the_port_serves_readiness_and_metrics(kafka: str, topics: TopicNames, start: Start) -> None:
    worker = start()
    wait_until(lambda: worker.get("/ready")[0] in (200, 503), 30, worker)
    worker.wait_ready()
    status, text = worker.get("/metrics")
    assert status == 200
    assert "stillwatch_baseline{hash=" in text
    assert worker.get("/table/accounts")[0] == 404


async def test_the_faust_command_runs_the_same_worker(
    kafka: str, topics: TopicNames, topic_prefix: str, start: Start
) -> None:
    await send(kafka, topics.requests, requests_of(accounts=5, each=10))
    worker = start(command=("-m", "faust", "-A", "streams.app", "worker"))
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.get("/ready")[0] == 200
    assert worker.stop() == 0
    assert await request_counts(kafka, topics.state) == {f"acct-{a}": 10 for a in range(5)}


async def test_a_dead_letter_too_large_for_its_topic_goes_out_without_its_content(
    kafka: str, topic_prefix: str, start: Start, make_topics: Callable[..., Awaitable[None]]
) -> None:
    topics = TopicNames.of(load_settings(topic_prefix=topic_prefix))
    await make_topics(topics.requests, topics.alerts, partitions=1)
    await make_topics(topics.state, partitions=1, config={"cleanup.policy": "compact"})
    await make_topics(topics.dead_letters, partitions=1, config={"max.message.bytes": "2000"})
    large = Request(b"a", b"{" + b"x" * 5000)
    await send(kafka, topics.requests, [Request(b"a", b"{x"), large, request("a", NOW)])
    worker = start()
    await wait_done(kafka, topic_prefix, topics.requests, 60, worker)
    assert worker.stop() == 0
    small, redacted = await read(kafka, topics.dead_letters)
    assert small.value == b"{x"
    assert orjson.loads(redacted.value)["bytes"] == len(large.value)
    assert await request_counts(kafka, topics.state) == {"a": 1}
