"""With the chart's rights and no others each user can do their work, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    for_code,
)
from confluent_kafka import OFFSET_BEGINNING, Consumer
from confluent_kafka import TopicPartition as ConfluentPartition

from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames, create_topics
from tests.integration.security.conftest import Command
from tests.integration.security.guarded_broker import GuardedBroker, start_guarded_broker
from tests.integration.session import started_for_the_session
from tests.integration.streams.running import Worker, read, request, send, wait_done
from tests.unit.deploy.manifests import of_kind, render

PREFIX = "guarded."
GROUP = "guarded-workers"
TOPICS = TopicNames.of(load_settings(topic_prefix=PREFIX))
ROLES = ("worker", "gateway", "analyst", "deadLetters", "replay", "canary")
USERS = {role: f"the-{role.lower()}" for role in ROLES}
WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    """The broker with the chart's topics and its users' rights."""
    objects = render(
        {
            "strimzi": {"enabled": True, "cluster": "c", "users": USERS},
            "kafka": {"topicPrefix": PREFIX, "groupId": GROUP},
        }
    )
    users = of_kind(objects, "KafkaUser")
    assert {user["metadata"]["name"] for user in users} == set(USERS.values())
    folder = tmp_path_factory.mktemp("guarded")
    started = started_for_the_session(lambda place: start_guarded_broker(place, USERS.values()), folder)
    started.allow(users)
    settings = load_settings(brokers=started.broker.bootstrap, topic_prefix=PREFIX, partitions=2)
    asyncio.run(create_topics(settings))
    yield started
    started.broker.stop()


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traffic with something to find in it."""
    file = tmp_path_factory.mktemp("events") / "events.jsonl"
    traffic = simulate(seed=3, days=3, organic=2, planted=2)
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in traffic.events))
    return file


def test_each_user_can_do_their_work(guarded: GuardedBroker, command: Command, events: Path, tmp_path: Path) -> None:
    def settings(role: str) -> dict[str, Any]:
        return guarded.settings(USERS[role], topic_prefix=PREFIX, group_id=GROUP)

    lines = events.read_bytes().splitlines()
    assert f"{len(lines)} requests sent" in command(settings("gateway"), "produce", events).err
    # One under another key, which is sent back to the topic, and one that nobody can read.
    stray = request("stray", orjson.loads(lines[-1])["time"])._replace(key=b"another")
    bad = stray._replace(value=b"{")
    asyncio.run(send(guarded.broker.bootstrap, TOPICS.requests, [stray, bad]))

    worker_settings = settings("worker")
    assert command(worker_settings, "topics", "check").code == 0
    prefix = {"canary_prefix": "canary-7e2a9b-"}
    worker = Worker(tmp_path, worker_settings | {"instance_id": "pod-0"} | prefix)
    try:
        asyncio.run(wait_done(guarded.broker.bootstrap, GROUP, TOPICS.requests, 180, worker))
        account = orjson.loads(lines[0])["account"]
        forgotten = command(worker_settings, "forget", account)
        assert (forgotten.code, forgotten.err) == (0, "")
        canary = command(settings("canary") | prefix, "canary")
        assert (canary.code, canary.err) == (0, ""), "found, and forgotten"
        assert worker.metric("stillwatch_canary_findings_total") >= 1
        assert worker.metric("stillwatch_rekeyed_records_total") == 1
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert "uthorization" not in worker.log
    assert "WARNING" not in worker.log

    alerts = command(settings("analyst"), "alerts", "--json").out.splitlines()
    assert len(alerts) >= 3
    replayed = command(settings("replay") | prefix, "replay", "--topic", TOPICS.requests, "--no-close")
    assert len(replayed.out.splitlines()) == len(alerts)
    for role, topic, group, count in (
        ("analyst", TOPICS.alerts, f"{GROUP}-alerts-siem", len(alerts)),
        ("deadLetters", TOPICS.dead_letters, f"{GROUP}-dead-letters-desk", 1),
    ):
        assert asyncio.run(subscribe(settings(role), topic, group, count)) == count
    assert len(asyncio.run(read(guarded.broker.bootstrap, TOPICS.dead_letters))) == 1


async def subscribe(settings: dict[str, Any], topic: str, group: str, count: int) -> int:
    """Read so many records as a consumer group does, and commit."""
    options = load_settings(**settings).client_options()
    consumer = AIOKafkaConsumer(topic, **options, group_id=group, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            seen = 0
            while seen < count:
                seen += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
            await consumer.commit()
            return seen
    finally:
        await consumer.stop()


# ---- and nothing else

Options = dict[str, Any]


async def writes(options: Options, topic: str) -> None:
    producer = AIOKafkaProducer(**options)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"{}", partition=0)
    finally:
        await producer.stop()


async def reads(options: Options, topic: str) -> None:
    """With librdkafka: aiokafka waits in silence for a topic that it may not even see."""
    consumer = Consumer(
        {
            "bootstrap.servers": options["bootstrap_servers"],
            "security.protocol": options["security_protocol"],
            "sasl.mechanism": options["sasl_mechanism"],
            "sasl.username": options["sasl_plain_username"],
            "sasl.password": options["sasl_plain_password"],
            "group.id": "nobody's",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign([ConfluentPartition(topic, 0, OFFSET_BEGINNING)])
        message = await asyncio.to_thread(consumer.poll, 10.0)
        if message is not None and message.error() is not None:
            raise for_code(message.error().code())
    finally:
        consumer.close()


async def joins(options: Options, group: str) -> None:
    consumer = AIOKafkaConsumer(**options, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPICS.alerts, 0)])
        await consumer.committed(TopicPartition(TOPICS.alerts, 0))
    finally:
        await consumer.stop()


async def administers(options: Options, what: str) -> None:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        if what == "create":
            answer = await admin.create_topics([NewTopic(f"{PREFIX}more", 1, 1)])
            code = answer.topic_errors[0][1]
        elif what == "delete":
            answer = await admin.delete_topics([TOPICS.state])
            code = answer.topic_error_codes[0][1]
        else:
            resource = ConfigResource(ConfigResourceType.TOPIC, TOPICS.state, configs={"cleanup.policy": "delete"})
            (response,) = await admin.alter_configs([resource])
            code = response.resources[0][0]
        if code:
            raise for_code(code)
    finally:
        await admin.close()


class Attempt(NamedTuple):
    """Something that a user must not be able to do."""

    role: str
    does: Callable[[Options, str], Awaitable[None]]
    what: str


def attempts() -> Iterator[Attempt]:
    may_write = {"worker": set(TOPICS), "gateway": {TOPICS.requests}, "canary": {TOPICS.requests}}
    may_read = {
        "worker": {TOPICS.requests, TOPICS.state}, "analyst": {TOPICS.alerts}, "deadLetters": {TOPICS.dead_letters},
        "replay": {TOPICS.requests}, "canary": {TOPICS.alerts, TOPICS.state},
    }  # fmt: skip
    for role in ROLES:
        yield from (Attempt(role, writes, topic) for topic in TOPICS if topic not in may_write.get(role, ()))
        yield from (Attempt(role, reads, topic) for topic in TOPICS if topic not in may_read.get(role, ()))
        yield from (Attempt(role, administers, what) for what in ("create", "delete", "alter"))
        # The canary may see how far the workers' group is, which is all that `joins` asks for.
        yield Attempt(role, joins, GROUP if role not in ("worker", "canary") else f"{GROUP}-alerts-siem")


REFUSED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


@pytest.mark.parametrize("attempt", list(attempts()), ids=lambda a: f"{a.role} {a.does.__name__} {a.what}")
async def test_nobody_can_do_what_is_not_theirs(guarded: GuardedBroker, attempt: Attempt) -> None:
    options = load_settings(**guarded.settings(USERS[attempt.role])).client_options()
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(REFUSED):
            await attempt.does(options, attempt.what)
