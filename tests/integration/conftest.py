"""Fixtures of the tests that run on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.settings import Settings, load_settings
from tests.integration.broker import Broker, create_topics, start_broker
from tests.integration.session import started_for_the_session
from tests.integration.streams.running import WORKER, Prepare, Start, Worker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole session. A test that stops it starts it again before it ends."""
    started = started_for_the_session(start_broker, tmp_path_factory.mktemp("kafka"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def kafka(broker: Broker) -> str:
    """The bootstrap address of a real Kafka, `host:port`."""
    return broker.bootstrap


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses, for topics and groups, ending in a dot."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture
def make_topics(kafka: str) -> Callable[..., Awaitable[None]]:
    """`await make_topics("a", "b", partitions=4, config={"cleanup.policy": "compact"})` on the test's broker."""
    return partial(create_topics, kafka)


@pytest.fixture
def prepare(kafka: str, topic_prefix: str) -> Prepare:
    """`await prepare(4)`: settings of the test's own group, whose topics are there with so many partitions."""

    async def prepared(partitions: int) -> Settings:
        settings = load_settings(brokers=kafka, topic_prefix=topic_prefix, group_id=topic_prefix, partitions=partitions)
        await topics.create_topics(settings)
        return settings

    return prepared


@pytest.fixture
def start(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Start]:
    """`start(store="rocksdict")` starts a worker in the test's own group; with the memory store if nothing is said."""
    workers: list[Worker] = []
    usual = {"brokers": kafka, "topic_prefix": topic_prefix, "group_id": topic_prefix, "store": "memory"}

    def start_worker(command: Sequence[str] = WORKER, **settings: Any) -> Worker:
        workers.append(Worker(tmp_path, usual | settings, command))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.kill()
