"""An order to forget an account, through the real scorer, engine and checkpoint: exact also when a worker dies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from detectors.baseline import load_default
from detectors.embedding import load_wordllama
from detectors.engine import Engine
from schemas.order import forget_headers
from streams.checkpoint import Checkpoint
from streams.ingest import Ingest
from streams.metrics import Metrics
from streams.scoring import Outputs, Scorer
from streams.settings import load_settings
from streams.simulation import simulate
from streams.stores.newer import Forgotten
from streams.topics import TopicNames
from streams.transport.batch import Batch
from streams.transport.delivery import Delivered, Outgoing
from streams.transport.partitioner import Partitioner

NAMES = TopicNames.of(load_settings())
REQUESTS = TP(NAMES.requests, 0)
BASELINE, EMBEDDER = load_default(), load_wordllama()


class Sent(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None
    headers: Any = ()
    topic: str = NAMES.requests
    partition: int = 0
    timestamp: int = -1


class Brokers:
    """What outlives a worker: the topics, the states on the changelog, the committed offset."""

    def __init__(self) -> None:
        self.states: dict[bytes, bytes] = {}
        self.alerts: list[bytes] = []
        self.committed = 0
        self.refuses_commits = False


class Worker:
    """A worker's scorer, engine and checkpoint, which see the brokers and nothing of a worker before."""

    def __init__(self, brokers: Brokers) -> None:
        self.brokers = brokers
        self.partitions = Partitioner()
        for topic in NAMES:
            self.partitions.learn(topic, 1)
        self.metrics = Metrics()
        self.store = dict(brokers.states)
        self.epoch = (0, 0)
        self.engine = Engine(BASELINE, lookup=lambda partition, account: self.store.get(account), capacity=64)
        self.checkpoint = Checkpoint(
            engine=self.engine, store=lambda: self, group=self, housekeeping=self, deliver=self.deliver,
            state_topic=NAMES.state, metrics=self.metrics, on_not_a_member=lambda: self.scorer.not_a_member(),
            interval_seconds=3600.0, max_events=10**9, max_bytes=10**9, max_states=10**9,
        )  # fmt: skip
        self.scorer = Scorer(
            ingest=Ingest(encoder=BASELINE.encoder, embedder=EMBEDDER, expected_partition=lambda key: 0),
            engine=self.engine, checkpoint=self.checkpoint,
            outputs=Outputs(NAMES, self.partitions, self.metrics, redact=False), metrics=self.metrics,
            epoch_of=lambda tp: self.epoch, seek=self.seek, log_ends=self.log_ends, log_begins=self.log_begins,
            learn_partitions=self.nothing, fatal=self.fail, settle_seconds=1.0,
        )  # fmt: skip

    async def score(self, records: Sequence[Sent]) -> None:
        """What is left of the records from the committed offset on, in one batch."""
        if not self.scorer.positions():
            await self.scorer.assigned({REQUESTS: self.brokers.committed})
        begin = self.scorer.positions()[REQUESTS] or 0
        await self.scorer.score(Batch(REQUESTS, [record for record in records if record.offset >= begin], (0, 0)))

    async def log_begins(self, tp: TP) -> int:
        return 0

    async def log_ends(self, partitions: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 10**6)

    async def nothing(self) -> None: ...

    async def seek(self, tp: TP, offset: int) -> None: ...

    def fail(self, reason: str) -> None:
        raise AssertionError(reason)

    # the store
    def raw_write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        self.store = _after(self.store, states)

    def note_erased(self, partition: int, states: Mapping[bytes, bytes]) -> None: ...

    def idle(self, committed: Mapping[int, int | None]) -> dict[int, dict[bytes, bytes]]:
        return {}

    def take_forgotten(self, partition: int) -> Forgotten:
        return {}

    def give_back_forgotten(self, partition: int, forgotten: Forgotten) -> None: ...

    def take_overwritten(self, partition: int) -> dict[bytes, bytes]:
        return {}

    def give_back_overwritten(self, partition: int, accounts: Iterable[bytes]) -> None: ...

    def drop(self, partition: int) -> None: ...

    # the group
    def generation(self) -> int:
        return 1

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        if self.brokers.refuses_commits and offsets[0] != self.brokers.committed:
            raise KafkaConnectionError("the worker dies here")
        self.brokers.committed = offsets[0]
        return True

    def restore_point(self, partition: int) -> int | None:
        return None

    def advance_restore_point(self, partition: int, offset: int) -> None: ...

    # the way out
    async def deliver(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], Delivered]:
        sent = list(records)
        self.brokers.alerts += [record.value or b"" for record in sent if record.topic == NAMES.alerts]
        states = {record.key or b"": record.value for record in sent if record.topic == NAMES.state}
        self.brokers.states = _after(self.brokers.states, states)
        return {(record.topic, record.partition): Delivered(0, 0, False) for record in sent}


def _after(states: Mapping[bytes, bytes], written: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged = {**states, **written}
    return {account: state for account, state in merged.items() if state is not None}


@pytest.fixture(scope="module")
def requests() -> list[Sent]:
    """One account that extracts, long enough to be found in each half and in each quarter."""
    traffic = simulate(seed=11, organic=0, planted=3)
    name = max(traffic.planted, key=lambda planted: traffic.planted[planted].requests)
    own = [event for event in traffic.events if event["account"] == name]
    return [Sent(at, name.encode(), orjson.dumps(event)) for at, event in enumerate(own)]


async def alerts_of(records: Sequence[Sent]) -> set[bytes]:
    brokers = Brokers()
    brokers.committed = records[0].offset
    worker = Worker(brokers)
    await worker.score(records)
    await worker.checkpoint.run()
    return set(brokers.alerts)


async def test_a_worker_that_dies_after_the_deletion_finds_nothing_new_in_what_came_before(
    requests: list[Sent],
) -> None:
    quarter, half = len(requests) // 4, len(requests) // 2
    order = Sent(half, requests[0].key, None, tuple(forget_headers()))
    log = [*requests[:half], order]
    brokers = Brokers()
    worker = Worker(brokers)
    await worker.score(log[:quarter])
    await worker.checkpoint.run()
    assert brokers.committed == quarter
    await worker.score(log)
    brokers.refuses_commits = True
    with pytest.raises(KafkaConnectionError):
        await worker.checkpoint.run()
    assert brokers.states == {}

    brokers.refuses_commits = False
    successor = Worker(brokers)
    await successor.score(log)
    await successor.checkpoint.run()
    assert brokers.committed == half + 1
    assert brokers.states == {}
    assert set(brokers.alerts) == await alerts_of(requests[:half])
    assert await alerts_of(requests[quarter:half])  # what reading it again would have found


async def test_a_batch_that_becomes_void_while_it_waits_carries_nothing_out(requests: list[Sent]) -> None:
    order = Sent(50, requests[0].key, None, tuple(forget_headers()))
    worker = Worker(Brokers())
    commit = worker.commit

    async def move_on(offsets: Mapping[int, int]) -> bool:
        worker.epoch = (1, 0)
        return await commit(offsets)

    worker.commit = move_on  # type: ignore[method-assign]
    await worker.score([*requests[:50], order, requests[51]])
    assert worker.scorer.positions()[REQUESTS] == 50
    assert worker.brokers.committed == 50
    assert len(worker.brokers.states) == 1


async def test_orders_and_requests_behind_them_in_one_batch(requests: list[Sent]) -> None:
    key, order = requests[0].key, tuple(forget_headers())
    half = len(requests) // 2
    log = [*requests[:half], Sent(half, key, None, order), Sent(half + 1, key, None, order), *requests[half + 2 :]]
    worker = Worker(Brokers())
    await worker.score(log)
    await worker.checkpoint.run()
    assert set(worker.brokers.alerts) == await alerts_of(log[:half]) | await alerts_of(log[half + 2 :])
    assert worker.metrics.erased._value.get() == 2
