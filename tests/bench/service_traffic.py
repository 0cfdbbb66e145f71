"""Requests for a real Kafka that cost their sender little: encoded once, sent many times under other names and times.

A request is a head that is written anew for each record (account, time, identities) and a tail that is not. Records are
put into the producer's batches here, on the partition of their account: some 4 µs a record, so that the process that
sends does not take the core from the one that is measured.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from detectors.embedding import load_wordllama
from streams.simulation.traffic import simulate
from streams.transport.partitioner import positive_murmur2
from tests.bench.speed_streams import make_streams, with_embeddings, with_the_usual_fields

BATCH_BYTES = 256 * 1024
IN_FLIGHT = 16
"""Batches sent and not acknowledged; more of them and the sender waits."""

BLOCK = 10_000
HEAD = b'{"time":%d,"account":"%b","id":"%d","org":"org-%b","links":{"payment":"payment-%b","ip":"ip-%b"},'
REWRITTEN = frozenset({"time", "account", "id", "org", "links"})


class Mould(NamedTuple):
    """A request without what is its record's own: when (epoch ms) and by whom it was sent, and the rest of its JSON."""

    time: int
    account: str
    tail: bytes


class Record(NamedTuple):
    """What goes to Kafka, and the time that stands in it."""

    key: bytes
    value: bytes
    time: int


def moulds(lines: bytes) -> list[Mould]:
    """From request events as JSON lines."""
    made = []
    for line in lines.splitlines():
        event = orjson.loads(line)
        rest = {name: value for name, value in event.items() if name not in REWRITTEN}
        made.append(Mould(event["time"], event["account"], orjson.dumps(rest)[1:]))
    return made


def usual(requests: int, accounts: int, seed: int) -> dict[str, list[Mould]]:
    """Simulated traffic in three kinds: `embeddings`, `short prompts`, `long prompts`."""
    streams = make_streams(
        requests=requests, accounts=accounts, embedder=load_wordllama(), seed=seed, advance=lambda: None
    )
    return {stream.name: moulds(stream.lines) for stream in streams}


def with_findings(seed: int, *, organic: int, planted: int, days: int = 4) -> list[Mould]:
    """Simulated traffic with embeddings, `planted` of whose accounts copy the model."""
    events = simulate(seed=seed, days=days, organic=organic, planted=planted).events
    return moulds(with_embeddings([with_the_usual_fields(event) for event in events], load_wordllama()).lines)


def cast(mould: Mould, name: bytes, time_ms: int, number: int) -> Record:
    """A record of an account; one account's records differ in time or number."""
    return Record(name, HEAD % (time_ms, name, number, name, name, name) + mould.tail, time_ms)


def copies(given: list[Mould], accounts: int) -> Iterator[Record]:
    """Every account so many times under other names that there are about `accounts`, the copies side by side."""
    times = max(1, round(accounts / len({mould.account for mould in given})))
    for number, mould in enumerate(given):
        for copy in range(times):
            yield cast(mould, b"%b-%d" % (mould.account.encode(), copy), mould.time, number)


def of_accounts(given: list[Mould], accounts: Iterable[int], start: int) -> Iterator[Record]:
    """One request of each account, a millisecond apart, from the time `start` (ms after the first mould's) on."""
    for number, account in enumerate(accounts, start):
        yield cast(given[number % len(given)], b"rare-%d" % account, given[0].time + number, number)


class Relay:
    """Traffic without end in which accounts come and go: each copy of the given traffic a part of its length behind.

    When an account has sent all that it has, one of another name takes its place. So what happens to accounts, findings
    among it, happens at moments that are spread evenly. Records come in the order of the times in them.

    Attributes
    ----------
    accounts
        That send at any time.
    period
        Requests until each of them has been followed by another.
    """

    def __init__(self, given: list[Mould], copies: int, start: int) -> None:
        times = np.array([mould.time for mould in given])
        times -= times[0]
        self._span = int(times[-1]) + 1
        self._given, self._start = given, start
        shifts = np.arange(copies) * self._span // copies
        moments = (times[None, :] - shifts[:, None]) % self._span
        order = np.argsort(moments, axis=None, kind="stable")
        names = {name: number for number, name in enumerate(dict.fromkeys(mould.account for mould in given))}
        numbers = np.array([names[mould.account] for mould in given])
        self._columns: tuple[NDArray[Any], ...] = (
            order % len(given),
            (numbers[None, :] + np.arange(copies)[:, None] * len(names)).ravel()[order],
            moments.ravel()[order],
            (times[None, :] < shifts[:, None]).ravel()[order],
        )
        self.accounts, self.period = copies * len(names), len(order)

    def __iter__(self) -> Iterator[Record]:
        names: list[tuple[int, bytes]] = [(-1, b"")] * self.accounts
        for cycle in count():
            begin = self._start + cycle * self._span
            for block in range(0, self.period, BLOCK):
                columns = (column[block : block + BLOCK].tolist() for column in self._columns)
                for event, account, moment, is_next in zip(*columns, strict=True):
                    generation = cycle + is_next
                    if names[account][0] != generation:
                        names[account] = generation, b"relay-%d-%d" % (account, generation)
                    yield cast(self._given[event], names[account][1], begin + moment, event)


class Feed:
    """Sends records to a topic, each to the partition of its account.

    Use as an asynchronous context manager; leaving it waits until the broker holds all.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES)
        self._topic, self._partitions = topic, partitions
        self._in_flight: deque[Awaitable[Any]] = deque()
        self.sent = 0

    async def __aenter__(self) -> Feed:
        await self._producer.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                await self.settle()
        finally:
            await self._producer.stop()

    async def send(self, records: Iterable[Record]) -> None:
        """Hand records over to the producer, which sends them at once."""
        builders = [self._producer.create_batch() for _ in range(self._partitions)]
        for key, value, _ in records:
            partition = positive_murmur2(key) % self._partitions
            if builders[partition].append(timestamp=None, key=key, value=value) is None:
                await self._hand_over(builders[partition], partition)
                builders[partition] = self._producer.create_batch()
                builders[partition].append(timestamp=None, key=key, value=value)
        for partition, builder in enumerate(builders):
            if builder.record_count():
                await self._hand_over(builder, partition)

    async def settle(self) -> None:
        """Wait until the broker holds all that was sent."""
        while self._in_flight:
            await self._in_flight.popleft()

    async def _hand_over(self, builder: Any, partition: int) -> None:
        self.sent += builder.record_count()
        self._in_flight.append(await self._producer.send_batch(builder, self._topic, partition=partition))
        while len(self._in_flight) > IN_FLIGHT:
            await self._in_flight.popleft()


async def fill(bootstrap: str, topic: str, partitions: int, records: Iterable[Record]) -> int:
    """Send all records to a topic; their number."""
    async with Feed(bootstrap, topic, partitions) as feed:
        await feed.send(records)
    return feed.sent


class Sendings:
    """When requests were sent, found by the times that stand in them, which grow with each.

    Kept are the latest `most` moments.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._times: list[int] = []
        self._moments: list[float] = []
        self._most = most

    def note(self, first_time: int) -> None:
        """From the request with this time on, requests are sent now."""
        self._times.append(first_time)
        self._moments.append(time.time())
        if len(self._times) > 2 * self._most:
            del self._times[: self._most], self._moments[: self._most]

    def moment(self, time_ms: int) -> float | None:
        """When (epoch seconds) the request with this time was sent, None when that is not known any more."""
        place = bisect_right(self._times, time_ms) - 1
        return self._moments[place] if place >= 0 else None
