"""What workers of one group score together, by their number and that of the partitions.

    python -m tests.bench.scaling [--requests 300000] [--out FILE.md]

Each row has a backlog of its own on a Kafka that this starts: requests of 10,000 accounts with embeddings, as in
`tests.bench.service`. The workers are ready, and suspended until the backlog is there.

- *µs a request* is CPU time of all workers together over the requests, of the whole backlog. While it stays the same,
  twice the workers on twice the cores score twice as much.
- *Requests a second* is by the wall clock, up to the last commit. The machine has so many cores as the
  head says, for the workers, Kafka and this script together: from there on more workers share them.
- *Idle* are workers without a partition.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.settings import load_settings
from streams.topics import TopicNames, create_topics
from tests.bench.service import TEMPLATE_ACCOUNTS, TEMPLATE_REQUESTS, cpu_seconds, reader_of
from tests.bench.service_report import circumstances
from tests.bench.service_traffic import Mould, copies, fill, usual
from tests.integration.broker import start_broker
from tests.integration.streams.running import Worker

PLANS = ((1, 1), (1, 4), (1, 12), (1, 48), (2, 1), (2, 4), (2, 12), (3, 12))
"""Workers and partitions of each row."""

ACCOUNTS = 10_000
WAIT_SECONDS = 600
POLL_SECONDS = 0.05


class Row(NamedTuple):
    """What one plan came to."""

    workers: int
    partitions: int
    microseconds: float
    requests_a_second: float


@contextmanager
def started(bootstrap: str, folder: Path, prefix: str, number: int) -> Iterator[list[Worker]]:
    """So many workers of one group, ready."""
    settings = {"brokers": bootstrap, "topic_prefix": prefix, "group_id": prefix + "group", "log_level": "WARNING"}
    # While they are suspended the group must not take them for dead.
    settings |= {"session_timeout_seconds": "120", "request_timeout_seconds": "120"}
    workers = [
        Worker(folder, settings | {"instance_id": f"w{at}", "data_dir": folder / f"{prefix}{at}"})
        for at in range(number)
    ]
    try:
        for worker in workers:
            worker.wait_ready()
        yield workers
    finally:
        for worker in workers:
            worker.kill()


async def measure(bootstrap: str, folder: Path, plan: tuple[int, int], traffic: list[Mould], requests: int) -> Row:
    """Have a plan's workers score a backlog."""
    number, partitions = plan
    prefix = f"{number}-{partitions}."
    names = TopicNames.of(load_settings(topic_prefix=prefix))
    await create_topics(load_settings(brokers=bootstrap, topic_prefix=prefix, partitions=partitions))
    with started(bootstrap, folder, prefix, number) as workers:
        signal_all(workers, signal.SIGSTOP)
        await fill(bootstrap, names.requests, partitions, islice(copies(traffic, ACCOUNTS), requests))
        before = sum(cpu_seconds(worker.process.pid) for worker in workers)
        signal_all(workers, signal.SIGCONT)
        seconds = await drained(bootstrap, prefix + "group", names.requests, partitions, requests)
        cpu = sum(cpu_seconds(worker.process.pid) for worker in workers) - before
    return Row(number, partitions, 1e6 * cpu / requests, requests / seconds)


def signal_all(workers: list[Worker], number: signal.Signals) -> None:
    """Send each worker a signal."""
    for worker in workers:
        worker.process.send_signal(number)


async def drained(bootstrap: str, group: str, topic: str, partitions: int, requests: int) -> float:
    """Seconds until the group has committed all requests."""
    begin = time.monotonic()
    async with reader_of(bootstrap, group) as consumer:
        own = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(own)
        while (committed := sum([await consumer.committed(tp) or 0 for tp in own])) < requests:
            if time.monotonic() > begin + WAIT_SECONDS:
                raise RuntimeError(f"{committed} of {requests} requests were committed in {WAIT_SECONDS} s")
            await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - begin


def as_markdown(found: dict[str, Any], rows: list[Row]) -> str:
    """The table, under what it was measured on."""
    lines = [
        f"Measured {found['at']} at commit {found['commit']}, Python {found['python']}, {os.cpu_count()} cores in all.",
        "",
        "| workers | idle | partitions | µs of CPU a request | requests a second, wall |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        idle = max(0, row.workers - row.partitions)
        lines.append(
            f"| {row.workers} | {idle} | {row.partitions} | {row.microseconds:.1f} | {row.requests_a_second:,.0f} |"
        )
    return "\n".join(lines) + "\n"


async def run(given: argparse.Namespace) -> None:
    """Every plan, one after the other; the table is written after each."""
    traffic = usual(TEMPLATE_REQUESTS, TEMPLATE_ACCOUNTS, given.seed)["embeddings"]
    requests = min(given.requests, sum(1 for _ in copies(traffic, ACCOUNTS)))
    rows: list[Row] = []
    with TemporaryDirectory() as place:
        broker = start_broker(Path(place) / "kafka")
        try:
            for plan in PLANS:
                rows.append(await measure(broker.bootstrap, Path(place), plan, traffic, requests))
                text = as_markdown(circumstances(None), rows)
                if given.out:
                    given.out.write_text(text)
        finally:
            broker.stop()
    sys.stdout.write(text)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300_000, help="requests of a backlog (default: 300000)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (default: 1)")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
