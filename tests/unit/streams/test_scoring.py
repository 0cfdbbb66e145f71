"""The scorer between consumer and engine: what it does when the log under it is another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import pytest
from faust.types import TP

from detectors import state
from detectors.baseline import load_default
from detectors.events import EventBatch
from schemas.alert import Alert
from streams.checkpoint import Checkpoint
from streams.detection import make_engine, make_ingest
from streams.exit_codes import ExitCode
from streams.metrics import Metrics
from streams.scoring import MAX_REFUSED, Outputs, Scorer
from streams.settings import load_settings
from streams.state_table import Store
from streams.stores.memory import MemoryStore
from streams.topics import TopicNames
from streams.transport.batch import Batch
from streams.transport.delivery import Delivered, Outgoing
from streams.transport.partitioner import Partitioner
from tests.unit.streams.disk_store import close, flip_bytes, rocks_store

SETTINGS = load_settings(slab_rows=16)
BASELINE = load_default()
INGEST = make_ingest(SETTINGS, BASELINE)
NAMES = TopicNames.of(SETTINGS)
REQUESTS = TP(NAMES.requests, 0)
START = 1_700_000_000_000


class Read(NamedTuple):
    """A record as it is fetched."""

    offset: int
    value: bytes
    topic: str = NAMES.requests
    partition: int = 0
    timestamp: int = -1
    key: bytes | None = b"a"
    headers: tuple[tuple[str, bytes], ...] = ()


def log_of(count: int, first_time: int = START) -> list[Read]:
    """A log of one account's requests, with offsets from 0."""
    events = [{"account": "a", "time": first_time + k, "status": 429} for k in range(count)]
    return [Read(offset, orjson.dumps(event)) for offset, event in enumerate(events)]


class Consumer:
    """Scorer, engine, checkpoint and store as they are; a consumer, a group and brokers that do as they are told."""

    def __init__(self, folder: Path | None = None) -> None:
        self.log: list[Read] = []
        self.at = 0
        self.begins = 0
        self.epoch = 0
        self.committed: int | None = None
        self.ended: list[tuple[str, ExitCode]] = []
        self.changelog: dict[bytes, bytes | None] = {}
        self.sent: list[Outgoing] = []
        self.partitions = Partitioner()
        self.store: Store = (
            rocks_store(folder, self.end)
            if folder
            else MemoryStore(
                "memory://", SimpleNamespace(), SimpleNamespace(name="t"), table_name="t", max_accounts=100
            )
        )
        self.engine = make_engine(SETTINGS, BASELINE, self.store.raw_get)
        self.metrics = metrics = Metrics()
        self.checkpoint = Checkpoint(
            engine=self.engine, store=lambda: self.store, group=self, housekeeping=self, deliver=self.deliver,
            state_topic=NAMES.state, metrics=metrics, on_not_a_member=lambda: None, interval_seconds=0.0,
            max_events=100, max_bytes=1000, max_states=100,
        )  # fmt: skip
        self.scorer = Scorer(
            ingest=INGEST, engine=self.engine, checkpoint=self.checkpoint, metrics=metrics,
            outputs=Outputs(NAMES, self.partitions, metrics, redact=False), epoch_of=lambda tp: (0, self.epoch),
            seek=self.seek, log_ends=self.log_ends, log_begins=self.log_begins,
            learn_partitions=self.learn_partitions, fatal=self.end, settle_seconds=1.0,
        )  # fmt: skip

    async def assign(self) -> None:
        """Partition 0 comes to us; the position is the committed one, as far as the log goes."""
        await self.scorer.assigned({REQUESTS: self.committed})
        self.at = self.committed or 0

    async def poll(self, count: int = 10) -> None:
        """Fetch and score until the end; a position that is not in the log goes to its beginning."""
        while self.at != len(self.log):
            self.at = self.begins if self.at > len(self.log) else max(self.at, self.begins)
            batch = Batch(REQUESTS, self.log[self.at : self.at + count], (0, self.epoch))
            self.at += len(batch.records)
            await self.scorer.score(batch)

    def requests(self) -> int:
        """Requests that the stored state has counted."""
        row = state.unseal(self.state_of(b"a"), BASELINE.encoder.hash)
        return int(row["header"]["requests"][0])

    def state_of(self, account: bytes) -> bytes:
        """Its stored state."""
        return self.store.raw_get(0, account) or b""

    def end(self, reason: str, code: ExitCode) -> None:
        """The worker is told to end, and scores no more."""
        self.ended.append((reason, code))
        self.scorer.not_a_member()

    def deleted(self) -> set[bytes]:
        """Accounts whose last record on the changelog is a deletion."""
        return {account for account, envelope in self.changelog.items() if envelope is None}

    async def seek(self, tp: TP, offset: int) -> None:
        self.epoch += 1
        self.at = offset

    async def log_ends(self, partitions: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, len(self.log))

    async def log_begins(self, partition: TP) -> int:
        return self.begins

    async def learn_partitions(self) -> None:
        for topic in NAMES:
            self.partitions.learn(topic, 1)

    def idle(self, committed: Mapping[int, int | None]) -> dict[int, dict[bytes, bytes]]:
        return {}

    def generation(self) -> int:
        return 1

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        self.committed = offsets[0]
        return True

    def restore_point(self, partition: int) -> int | None:
        return None

    def advance_restore_point(self, partition: int, offset: int) -> None:
        """It is not known."""

    async def deliver(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], Delivered]:
        records = list(records)
        self.sent += records
        self.changelog |= {record.key or b"": record.value for record in records if record.topic == NAMES.state}
        return {(record.topic, record.partition): Delivered(0, 0, True) for record in records}


@pytest.fixture
async def consumer() -> Consumer:
    made = Consumer()
    made.log = log_of(35)
    await made.assign()
    await made.poll()
    assert made.requests() == 35
    return made


async def state_after(count: int) -> bytes:
    """State of an account after so many requests."""
    made = Consumer()
    made.log = log_of(count)
    await made.assign()
    await made.poll()
    return made.state_of(b"a")


def told(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if "the log is shorter" in record.message]


async def test_a_log_that_goes_on_is_no_other_log(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.log = log_of(50)
    await consumer.assign()
    await consumer.poll()
    await consumer.seek(REQUESTS, 20)
    await consumer.poll()
    assert consumer.requests() == 50
    assert (consumer.engine.counters.void_fences, told(caplog)) == (0, [])


@pytest.mark.parametrize("again", [True, False], ids=["at an assignment", "under the consumer"])
async def test_every_record_of_a_log_made_anew_counts_and_that_is_told_once(
    consumer: Consumer, caplog: pytest.LogCaptureFixture, again: bool
) -> None:
    consumer.log = log_of(25, START + 1000)
    if again:
        await consumer.assign()
    await consumer.poll()
    assert consumer.requests() == 35 + 25
    assert consumer.committed == 25
    assert consumer.engine.counters.void_fences == 1
    assert len(told(caplog)) == 1
    consumer.log = [*consumer.log, *log_of(40, START + 2000)[25:]]
    await consumer.poll()
    assert consumer.requests() == 35 + 40
    assert len(told(caplog)) == 1


async def test_a_group_that_lost_its_offsets_counts_nothing_twice(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.committed = None
    await consumer.assign()
    await consumer.poll()
    assert consumer.requests() == 35
    assert (consumer.engine.counters.void_fences, told(caplog)) == (0, [])


async def test_records_that_retention_deleted_are_counted_once_and_told_of(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.log = log_of(60)
    consumer.begins = 50
    await consumer.poll()
    assert consumer.requests() == 35 + 10
    assert consumer.metrics.lost_records._value.get() == 15
    (line,) = [record for record in caplog.records if "deleted before they were read" in record.message]
    assert line.levelname == "WARNING"


async def test_a_gap_that_retention_did_not_make_loses_nothing(consumer: Consumer) -> None:
    consumer.log = log_of(60)
    consumer.log[35:40] = []  # markers of transactions
    await consumer.scorer.score(Batch(REQUESTS, consumer.log[35:], (0, consumer.epoch)))
    await consumer.scorer.score(Batch(REQUESTS, consumer.log[35:], (0, consumer.epoch)))
    assert consumer.requests() == 35 + 20
    assert consumer.metrics.lost_records._value.get() == 0


async def test_a_late_state_behind_a_good_one_is_not_what_compaction_keeps(consumer: Consumer) -> None:
    good, late = consumer.state_of(b"a"), await state_after(30)
    changelog = [Read(7, good, NAMES.state, key=b"other"), Read(8, late, NAMES.state, key=b"other")]
    consumer.changelog = {b"other": late}
    consumer.store.raw_apply(0, changelog)
    await consumer.assign()
    assert consumer.store.late_writes == 1
    consumer.log = log_of(40)
    await consumer.poll()
    assert consumer.changelog[b"other"] == good == consumer.state_of(b"other")


async def test_what_a_worker_had_to_delete_of_a_partition_is_not_deleted_after_it_left_and_came_back(
    consumer: Consumer,
) -> None:
    consumer.store.give_back_forgotten(0, {b"with another worker since": 5})
    consumer.scorer.revoked({REQUESTS, TP(NAMES.state, 0)})
    await consumer.assign()
    consumer.log = log_of(40)
    await consumer.poll()
    assert consumer.requests() == 40
    assert consumer.deleted() == set()


@pytest.mark.parametrize("why", ["scoring fails", "another log", "assigned"])
async def test_what_is_to_be_deleted_outlives_whatever_leaves_the_partition_ours(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    consumer.store.give_back_forgotten(0, {b"forgotten": 5})
    consumer.log = log_of(20 if why == "another log" else 40, START + 1000)
    if why == "assigned":  # restoring has told the store by now what there is to delete
        await consumer.assign()
    if why == "scoring fails":
        apply, fail = consumer.engine.apply, [RuntimeError()]
        monkeypatch.setattr(consumer.engine, "apply", lambda *given: apply(*given) if not fail else raises(fail.pop()))
    await consumer.poll()
    assert consumer.deleted() == {b"forgotten"}


def raises(error: Exception) -> Any:
    raise error


async def test_an_engine_that_fails_on_record_after_record_ends_the_worker_as_a_fault_of_ours(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(partition: int, batch: EventBatch) -> list[Alert]:
        raise RuntimeError

    monkeypatch.setattr(consumer.engine, "apply", broken)
    consumer.log = log_of(35 + MAX_REFUSED)
    await consumer.poll()
    assert consumer.ended == []
    consumer.log = log_of(36 + MAX_REFUSED)
    await consumer.poll()
    ((reason, code),) = consumer.ended
    assert "a fault of stillwatch, please report it" in reason
    assert code is ExitCode.FAULT


async def test_a_store_that_cannot_be_read_makes_no_dead_letters_and_loses_no_record(tmp_path: Path) -> None:
    made = Consumer(tmp_path)
    made.log = log_of(35)
    await made.assign()
    await made.poll()
    close(made.store)
    flip_bytes(tmp_path, 0.5)
    again = Consumer(tmp_path)
    again.log, again.committed = log_of(50), made.committed
    await again.assign()
    await again.poll()
    await again.scorer.settle()
    ((reason, code),) = again.ended
    assert "Corruption" in reason
    assert code is ExitCode.INPUT
    assert again.metrics.scoring_failures._value.get() == 0
    assert (again.committed, again.sent) == (35, [])
