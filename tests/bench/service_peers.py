"""What `tests.bench.service` measures beside the service, each its own process: stock Faust, and aiokafka alone.

    python -m tests.bench.service_peers (stock | stock-table | getmany) BROKERS TOPIC GROUP FOLDER

They read the same topic from its beginning, do nothing with it (or count in a table), and commit offsets.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer

BATCH = 2_000
COMMIT_RECORDS = 20_000
"""As the service does by default."""


def stock(brokers: str, topic: str, group: str, folder: Path, *, table: bool) -> None:
    """A plain agent as Faust's own documentation has it; JSON goes through orjson, which Faust finds installed."""
    app = faust.App(
        group,
        broker=f"kafka://{brokers}",
        datadir=str(folder),
        store="memory://",
        web_enabled=False,
        topic_partitions=4,
    )
    requests = app.topic(topic, key_serializer="raw", value_serializer="json")
    if table:
        counts = app.Table("counts", default=int, partitions=4)

        @app.agent(requests)
        async def count(events: faust.StreamT[Any]) -> None:
            async for event in events:
                counts[event["account"]] += 1

    else:

        @app.agent(requests)
        async def nothing(events: faust.StreamT[Any]) -> None:
            async for _ in events:
                pass

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


async def getmany(brokers: str, topic: str, group: str) -> None:
    """aiokafka's consumer, its records looked at by nobody."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    waiting = 0
    while True:
        fetched = await consumer.getmany(timeout_ms=100, max_records=BATCH)
        waiting += sum(map(len, fetched.values()))
        if waiting >= COMMIT_RECORDS:
            await consumer.commit()
            waiting = 0


def main(given: list[str]) -> None:
    """Run one until it is killed."""
    what, brokers, topic, group, folder = given
    peers: dict[str, Callable[[], None]] = {
        "stock": lambda: stock(brokers, topic, group, Path(folder), table=False),
        "stock-table": lambda: stock(brokers, topic, group, Path(folder), table=True),
        "getmany": lambda: asyncio.run(getmany(brokers, topic, group)),
    }
    peers[what]()


if __name__ == "__main__":
    main(sys.argv[1:])
