"""What a scenario plays on: topics and a group of its own on a real Kafka, traffic, workers, the check at the end."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.settings import load_settings
from streams.topics import TopicNames, create_topics
from tests.chaos.feed import Feed
from tests.chaos.kafka import Kafka, Kind
from tests.chaos.oracle import Oracle, Violation, make_traffic, read_changelog
from tests.integration.streams.running import Worker, lag, read

PARTITIONS = 4
SESSION_SECONDS = 6
READY_SECONDS = 90
DONE_SECONDS = 180
GRACE_SECONDS = 20

SMALL = {
    "max_batch_records": 40,
    "checkpoint_interval_seconds": 0.1,
    "slab_rows": 16,
    "session_timeout_seconds": SESSION_SECONDS,
    "request_timeout_seconds": 8,
    "rebalance_timeout_seconds": 8,
    "shutdown_grace_seconds": GRACE_SECONDS,
    "watchdog_seconds": 120,
    "log_format": "text",
    "log_level": "DEBUG",  # recovery tells of itself
}
"""Small batches and checkpoints, and a slab that holds few of the accounts: many moments to be killed in."""

SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.05


@dataclass
class Stage:
    """One run of a scenario.

    Attributes
    ----------
    rng
        Source of every choice of the scenario, from its seed.
    kills
        How many faults of the repeated kind the scenario should make.
    did
        What was done to workers and brokers, by name.
    figures
        What the run came to, for the table.
    strays
        Whether requests that lie under another key or on another partition than their account's are in the traffic.
    settings
        Of each worker of this run.
    markers
        Offsets at the end of each partition that no record has: those of transactions.
    """

    kafka: Kafka
    folder: Path
    seed: int
    kills: int
    say: Callable[[str], None]
    store: str = "memory"
    static: bool = True
    organic: int = 30
    strays: bool = True
    markers: int = 0
    did: Counter[str] = field(default_factory=Counter)
    figures: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.prefix = f"chaos-{uuid.uuid4().hex[:10]}."
        self.oracle = Oracle(make_traffic(self.seed, self.organic, PARTITIONS, strays=self.strays))
        self.names = TopicNames.of(load_settings(topic_prefix=self.prefix))

    # --- the set

    async def make_topics(self) -> None:
        """Make the topics as `stillwatch topics create` does."""
        await create_topics(
            load_settings(
                brokers=self.kafka.bootstrap,
                topic_prefix=self.prefix,
                partitions=PARTITIONS,
                replication_factor=self.kafka.replication,
            )
        )

    def feed(self, rate: float | None = None, *, abort_every: int = 0) -> Feed:
        """The sender of the traffic."""
        return Feed(self.kafka.bootstrap, self.names.requests, self.oracle, rate=rate, abort_every=abort_every)

    # --- workers

    def start(self, name: str = "a", **settings: Any) -> Worker:
        """Start a worker; the same name again is the same member, with the same disk."""
        given: dict[str, Any] = SMALL | {
            "brokers": self.kafka.bootstrap,
            "topic_prefix": self.prefix,
            "group_id": self.prefix,
            "store": self.store,
            "data_dir": self.folder / name,
        }
        if self.static:
            given["instance_id"] = name
        worker = Worker(self.folder, given | self.settings | settings)
        self.workers.append(worker)
        return worker

    async def ready(self, *workers: Worker, seconds: float = READY_SECONDS) -> None:
        """Wait until workers score."""
        for worker in workers:
            await self.until(partial(_is_ready, worker), seconds, f"{worker.log_file.name} ready", worker)

    def kill(self, worker: Worker) -> None:
        """SIGKILL, noting what it was in the middle of."""
        self.did["SIGKILL"] += 1
        self.did[f"killed in {phase_of(worker)}"] += 1
        worker.kill()

    async def terminate(self, worker: Worker, *, codes: Sequence[int] = (0,)) -> int:
        """SIGTERM; the exit code must be one of these.

        A worker that has not begun may end by the signal.
        """
        self.did["SIGTERM"] += 1
        if phase_of(worker) != "scoring":
            self.did["SIGTERM before it scored"] += 1
            codes = (*codes, -signal.SIGTERM)
        started = time.monotonic()
        code = await asyncio.to_thread(worker.stop, GRACE_SECONDS + 10)
        self.figures["slowest stop, s"] = max(
            self.figures.get("slowest stop, s", 0.0), round(time.monotonic() - started, 1)
        )
        if code not in codes:
            raise Violation(f"a worker that was told to stop ended with {code}: {worker.log[-2000:]}")
        return code

    async def freeze(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self.did["SIGSTOP"] += 1
        worker.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.process.send_signal(signal.SIGCONT)

    # --- waiting

    async def logged(self, worker: Worker, text: str, seconds: float = READY_SECONDS) -> None:
        """Wait until a worker has said something, looking often."""
        await self.until(lambda: text in worker.log, seconds, f"{text!r} in a log", worker)

    async def ended(self, worker: Worker, seconds: float) -> int:
        """Wait until a worker has ended by itself; its exit code."""
        await self.until(lambda: worker.process.poll() is not None, seconds, "the end of a worker")
        return int(worker.process.returncode)

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], seconds: float, what: str, *workers: Worker
    ) -> None:
        """Wait until something holds; a `Violation` when it does not in time, or when a worker in question ended."""
        end = time.monotonic() + seconds
        while True:
            held = await asyncio.to_thread(condition)
            if held if isinstance(held, bool) else await held:
                return
            for worker in workers:
                if worker.process.poll() is not None:
                    raise Violation(f"{what}: the worker ended with {worker.process.returncode}: {worker.log[-2000:]}")
            if time.monotonic() > end:
                raise Violation(f"{what}: not within {seconds:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def all_committed(self) -> bool:
        """Whether the group has committed all that was sent, and what workers sent back."""
        if await lag(self.kafka.bootstrap, self.prefix, self.names.requests) > self.markers:
            return False
        committed = await self.committed()
        return all(committed.get(partition, 0) >= end for partition, end in self.oracle.ends().items())

    async def committed(self) -> dict[int, int]:
        """Committed offset of each partition that has one."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap, group_id=self.prefix, enable_auto_commit=False
        )
        await consumer.start()
        try:
            offsets = {p: await consumer.committed(TopicPartition(self.names.requests, p)) for p in range(PARTITIONS)}
            return {partition: offset for partition, offset in offsets.items() if offset is not None}
        finally:
            await consumer.stop()

    async def worked_off(self, *workers: Worker) -> None:
        """Wait until all that was sent so far is committed."""
        await self.until(self.all_committed, DONE_SECONDS, "everything committed", *workers)

    async def late_states(self) -> int:
        """States on the changelog that had seen less than one before them."""
        return read_changelog(await read(self.kafka.bootstrap, self.names.state)).late

    async def finish(self, *workers: Worker) -> None:
        """Wait until everything is committed, stop the workers, and hold what came out against the oracle."""
        started = time.monotonic()
        await self.worked_off(*workers)
        # A record sent back and worked off may be followed by its own copy.
        await asyncio.sleep(SETTLE_SECONDS)
        await self.worked_off(*workers)
        self.figures["caught up, s"] = round(time.monotonic() - started - SETTLE_SECONDS, 1)
        for worker in workers:
            await self.terminate(worker)
        self.figures["generation"] = generation_of(*self.workers)
        self.figures |= await self.oracle.check(self.kafka.bootstrap, self.names)

    def close(self) -> None:
        """End every worker that is still there."""
        for worker in self.workers:
            worker.kill()


def _is_ready(worker: Worker) -> bool:
    return worker.get("/ready")[0] == 200


ASSIGNED = "Setting newly assigned partitions"
READY = " ready partitions="
GENERATION = re.compile(r"\bgeneration (?:id )?(\d+)")


def phase_of(worker: Worker) -> str:
    """What a worker is in the middle of, as its log says: start-up, recovery or scoring (checkpoints included)."""
    log = worker.log
    if log.rfind(ASSIGNED) > log.rfind(READY):
        return "recovery"
    return "scoring" if READY in log else "start-up"


def generation_of(*workers: Worker) -> int:
    """The last generation of the group that a log names: one more with each rebalance (not each of them is logged)."""
    return max((int(number) for worker in workers for number in GENERATION.findall(worker.log)), default=0)


def rebalances_of(worker: Worker) -> int:
    """How often a worker was ready again after a rebalance, its first one included."""
    return worker.log.count(READY)


@dataclass(frozen=True)
class Scenario:
    """A named scenario.

    Attributes
    ----------
    play
        Plays it; returns when everything held, raises `Violation` when not.
    ci
        Kills of the short part that a change has to pass; 0: not in it.
    kills
        Kills of the whole.
    """

    name: str
    play: Callable[[Stage], Awaitable[None]]
    kafka: Kind
    kills: int
    ci: int
    options: dict[str, Any]

    @property
    def title(self) -> str:
        """First line of the function's docstring."""
        return (self.play.__doc__ or "").strip().splitlines()[0]


CATALOGUE: dict[str, Scenario] = {}


class Skipped(Exception):  # noqa: N818 - not an error
    """This machine cannot play the scenario; the message says what it takes."""


def scenario(
    name: str, *, kafka: Kind = "one", kills: int = 0, ci: int = 0, **options: Any
) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[Stage], Awaitable[None]]]:
    """Enter a function into the catalogue; `options` are fields of its `Stage`. May be used several times on one."""

    def enter(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
        CATALOGUE[name] = Scenario(name, play, kafka, kills, ci, options)
        return play

    return enter
