"""More workers than partitions: those without one are healthy too, and take over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from streams.settings import load_settings
from streams.topics import TopicNames
from tests.integration.streams.running import Start

WATCHDOG_SECONDS = 15
"""Enough to join a group on a busy machine."""


async def test_a_worker_without_partitions_is_ready_and_live(
    topic_prefix: str, start: Start, make_topics: Callable[..., Awaitable[None]]
) -> None:
    topics = TopicNames.of(load_settings(topic_prefix=topic_prefix))
    await make_topics(topics.requests, topics.alerts, topics.dead_letters, partitions=1)
    await make_topics(topics.state, partitions=1, config={"cleanup.policy": "compact"})
    workers = [start(instance_id=name, watchdog_seconds=WATCHDOG_SECONDS) for name in ("a", "b")]
    for worker in workers:
        worker.wait_ready()
    assert sum('"partitions": 1' in worker.log or "partitions=1" in worker.log for worker in workers) >= 1
    await asyncio.sleep(1.2 * WATCHDOG_SECONDS)
    assert [worker.get("/ready")[0] for worker in workers] == [200, 200]
    assert [worker.get("/live")[0] for worker in workers] == [200, 200]
