"""Fixtures of the tests that run on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from tests.integration.broker import Broker, BrokerError, create_topics, start_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole session. A test that stops it starts it again before it ends."""
    try:
        started = start_broker(tmp_path_factory.mktemp("kafka"))
    except BrokerError as error:
        pytest.fail(f"no Kafka to test on. {error}", pytrace=False)
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
