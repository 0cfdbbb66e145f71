"""What deploy/kafka promises to the tests that stand on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.integration.broker import KAFKA_SCRIPT, Broker, create_topics


async def values_of(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read `count` records of a topic from its beginning."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def send(bootstrap: str, topic: str, *values: bytes) -> None:
    """Write records and wait until they are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def test_records_come_back_in_order(kafka: str, topic_prefix: str, make_topics) -> None:
    topic = topic_prefix + "echo"
    await make_topics(topic)
    sent = [b"first", b"second", b"third"]
    await send(kafka, topic, *sent)
    assert await values_of(kafka, topic, 3) == sent


async def test_topics_have_the_partitions_asked_for(kafka: str, topic_prefix: str, make_topics) -> None:
    await make_topics(topic_prefix + "a", topic_prefix + "b", partitions=6, config={"cleanup.policy": "compact"})
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        described = await admin.describe_topics([topic_prefix + "a", topic_prefix + "b"])
    finally:
        await admin.close()
    assert [len(topic["partitions"]) for topic in described] == [6, 6]


async def test_topics_are_not_made_on_first_use(kafka: str, topic_prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        described = await admin.describe_topics([topic_prefix + "never-declared"])
    finally:
        await admin.close()
    unknown_topic = 3
    assert described[0]["error_code"] == unknown_topic


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill])
async def test_an_ended_broker_comes_back_with_its_data(end: Callable[[Broker], None], tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka")
    broker.start()
    try:
        await create_topics(broker.bootstrap, "kept")
        await send(broker.bootstrap, "kept", b"before")
        end(broker)
        broker.start()
        await send(broker.bootstrap, "kept", b"after")
        assert await values_of(broker.bootstrap, "kept", 2) == [b"before", b"after"]
    finally:
        broker.stop()


def test_a_taken_port_is_told_in_one_line(broker: Broker, tmp_path: Path) -> None:
    environment = os.environ | {"KAFKA_PORT": str(broker.port), "KAFKA_FOLDER": str(tmp_path)}
    refused = subprocess.run([KAFKA_SCRIPT, "start"], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"port {broker.port} of 127.0.0.1 is taken" in refused.stderr


def test_kafkas_own_tools_are_there(broker: Broker, topic_prefix: str) -> None:
    def use(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (KAFKA_SCRIPT, "tool", tool, "--bootstrap-server", broker.bootstrap, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    topic = f"{topic_prefix}by-hand"
    assert use("kafka-topics", "--create", "--topic", topic, "--partitions", "2").returncode == 0
    changed = use("kafka-configs", "--alter", "--topic", topic, "--add-config", "retention.ms=1000")
    assert changed.returncode == 0, changed.stderr
    group = ("--group", topic, "--topic", topic)
    moved = use("kafka-consumer-groups", *group, "--reset-offsets", "--to-earliest", "--execute")
    assert moved.stdout.count(topic) == 4, "a line for each partition, with group and topic"
    refused = use("kafka-streams-application-reset")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_start_and_stop_may_be_said_twice(tmp_path: Path) -> None:
    node = Broker(tmp_path)
    environment = os.environ | {
        "KAFKA_PORT": str(node.port),
        "KAFKA_CONTROLLER_PORT": str(node.controller_port),
        "KAFKA_FOLDER": str(tmp_path),
    }

    def say(word: str) -> str:
        answer = subprocess.run(
            [KAFKA_SCRIPT, word], env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        return answer.stdout

    try:
        assert f"Kafka serves on 127.0.0.1:{node.port}" in say("start")
        assert f"already serves on 127.0.0.1:{node.port}" in say("start")
    finally:
        stopped = say("stop")
    assert "is stopped" in stopped
    assert "No Kafka of ours runs" in say("stop")
