"""Making topics, and saying how those that are there differ, on a real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.settings import load_settings
from streams.topics import TopicNames, TopicsError, admin_of, check_topics, create_topics, differences
from tests.integration.broker import Broker, start_on_free_ports
from tests.integration.streams.running import Prepare

CREATES_BY_ITSELF = "auto.create.topics.enable=true"
"""Kafka's own default, which the tests' broker has off."""


async def test_what_was_just_made_differs_in_nothing(prepare: Prepare) -> None:
    settings = await prepare(3)
    assert list((await differences(settings)).values()) == [[], [], [], []]


async def test_more_than_asked_for_is_no_difference(prepare: Prepare) -> None:
    settings = await prepare(3)
    less = settings.model_copy(update={"partitions": 2, "max_record_bytes": 2048})
    assert less.model_fields_set >= {"partitions", "max_record_bytes"}
    assert not any((await differences(less)).values())


async def test_what_differs_is_named(prepare: Prepare) -> None:
    settings = await prepare(3)
    names = TopicNames.of(settings)
    more = settings.model_copy(update={"partitions": 6, "replication_factor": 3, "max_record_bytes": 2 * 1024 * 1024})
    found = await differences(more)
    assert "3 partitions, not 6" in found[names.state]
    assert "replication factor 1, not 3" in found[names.alerts]
    assert any(each.startswith("max.message.bytes=") for each in found[names.requests])


async def test_settings_that_someone_changed_are_named(kafka: str, topic_prefix: str, make_topics) -> None:
    settings = load_settings(brokers=kafka, topic_prefix=topic_prefix)
    names = TopicNames.of(settings)
    await make_topics(names.dead_letters, partitions=2, config={"retention.ms": "-1"})
    assert "retention.ms=-1, not 259200000" in (await differences(settings))[names.dead_letters]
    # Nobody has named a number of partitions.
    assert not any("partitions" in each for each in (await differences(settings))[names.dead_letters])


async def test_asking_makes_no_topic(tmp_path: Path) -> None:
    broker = start_on_free_ports(lambda attempt: Broker(tmp_path / str(attempt), properties=CREATES_BY_ITSELF))
    try:
        settings = load_settings(brokers=broker.bootstrap, partitions=3)
        with pytest.raises(TopicsError, match="topics are missing"):
            await check_topics(settings)
        assert await differences(settings) == {}
        async with admin_of(settings) as admin:
            assert not set(TopicNames.of(settings)) & set(await admin.list_topics())
        assert all((await create_topics(settings)).values())
        assert set((await check_topics(settings)).values()) == {3}
    finally:
        broker.stop()
