"""Logs and disks that are not what a worker left: offsets expired, transactions, compaction, damaged states."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from detectors.account import DTYPE
from detectors.layouts import PUBLISHED, carry_over
from detectors.state import LAYOUT, unseal
from streams.exit_codes import ExitCode
from tests.chaos.oracle import Violation
from tests.chaos.stage import ASSIGNED, DONE_SECONDS, PARTITIONS, SESSION_SECONDS, Stage, phase_of, scenario
from tests.envelopes import head_with, packed, resealed
from tests.integration.streams.expected import expected_of
from tests.integration.streams.running import ENCODER_HASH, Worker, read

RATE = 600.0
FIRST_PART = 0.3
COMPACTION_SECONDS = 60.0
IDLE_SECONDS = 15.0
OPEN_SECONDS = 6.0

RESTORE_POINT_BYTES = 8192
"""A table's first block ends before: of 4 KiB and a state, with the restore point in it."""

DAMAGE_EVERY_BYTES = 256

Change = Callable[[bytes, int], bytes]
"""Makes another state of a state; the number is a random place in it."""


async def first_part(stage: Stage, share: float = FIRST_PART, name: str = "a") -> None:
    """A worker works off the first part of the traffic, and is stopped."""
    worker = stage.start(name)
    await stage.worked_off(worker)
    await stage.terminate(worker)


@scenario("expired-offset", ci=1, kills=1, store="rocksdict", strays=False)
@scenario("expired-offset-latest", kills=1, store="memory", strays=False, settings={"start_at": "latest"})
async def expired_offset(stage: Stage) -> None:
    """Retention passed the commit: the worker resumes at the earliest record there is, and reports the gap."""
    async with stage.feed() as feed:
        if stage.settings.get("start_at") == "latest":
            worker = stage.start()  # what it should see has to come after it has begun
            await stage.ready(worker)
            await feed.until(FIRST_PART)
            await stage.worked_off(worker)
            await stage.terminate(worker)
        else:
            await feed.until(FIRST_PART)
            await first_part(stage)
        await feed.until(0.7)
        lost = await delete_beyond_commit(stage)
        worker = stage.start()
        await stage.ready(worker)
        await stage.worked_off(worker)
        await stage.until(
            lambda: worker.metric("stillwatch_lost_records_total") == lost,
            10,
            f"a metric that tells of {lost} lost records",
            worker,
        )
        if "deleted before they were read" not in worker.log:
            raise Violation("no log line tells of the gap")
        stage.figures["lost records"] = lost
    await stage.finish(worker)


async def delete_beyond_commit(stage: Stage) -> int:
    """Delete some records that nobody has read, of each partition; how many offsets that are."""
    committed, ends = await stage.committed(), stage.oracle.ends()
    upto = {p: stage.rng.randrange(committed[p] + 1, ends[p]) for p in ends if committed[p] + 1 < ends[p]}
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(stage.names.requests, p): RecordsToDelete(offset) for p, offset in upto.items()}
        )
    finally:
        await admin.close()
    stage.oracle.never_seen |= {
        value
        for value, (partition, offset) in stage.oracle.places.items()
        if committed[partition] <= offset < upto.get(partition, 0)
    }
    return sum(offset - committed[p] for p, offset in upto.items())


@scenario("transactional-producer", kills=4, store="memory", markers=2 * PARTITIONS)
async def transactional_producer(stage: Stage) -> None:
    """A producer that writes transactions, some of them aborted: these count for nothing, markers stop nothing."""
    stage.settings["watchdog_seconds"] = IDLE_SECONDS * 0.6
    async with stage.feed(RATE, abort_every=3) as feed:
        for kill in range(stage.kills):
            worker = stage.start()
            feed.up_to((kill + 1) / (stage.kills + 1))
            await stage.ready(worker)
            await asyncio.sleep(stage.rng.uniform(0.0, 2.0))
            stage.kill(worker)
        worker = stage.start()
    await stage.worked_off(worker)
    await asyncio.sleep(IDLE_SECONDS)
    if worker.process.poll() is not None:
        raise Violation(f"an idle worker ended with {worker.process.returncode}: {worker.log[-1500:]}")
    if lag := worker.metric("stillwatch_lag"):
        raise Violation(f"stillwatch_lag says {lag:.0f} though everything is scored")
    await stage.finish(worker)


@scenario("changelog-ends-in-a-marker", kills=1, store="memory")
@scenario("changelog-ends-in-a-marker-rocksdict", kills=1, store="rocksdict")
async def changelog_marker(stage: Stage) -> None:
    """The changelog's last record is a transaction's marker, committed or aborted: recovery comes to its end."""
    async with stage.feed() as feed:
        await feed.until(FIRST_PART)
        await first_part(stage)
        for commit in (True, False):
            await copy_states_in_transaction(stage, commit=commit)
            worker = stage.start()
            await stage.ready(worker, seconds=30)
            await stage.terminate(worker)
            stage.say(f"recovered behind a marker of a transaction that was {'committed' if commit else 'aborted'}")
        await copy_states_in_transaction(stage, commit=True)
        worker = stage.start()
    await stage.finish(worker)


@scenario("changelog-open-transaction", kills=2, store="memory")
@scenario("changelog-open-transaction-rocksdict", kills=2, store="rocksdict")
async def changelog_open_transaction(stage: Stage) -> None:
    """Somebody holds a transaction on the changelog open: a restart waits for its end rather than miss what follows."""
    async with stage.feed(RATE) as feed:
        worker = stage.start()
        for hold in range(stage.kills):
            await stage.ready(worker)
            await feed.until((hold + 0.5) / (stage.kills + 1))
            await stage.worked_off(worker)
            async with open_transaction(stage, commit=bool(hold % 2)):
                await feed.until((hold + 1) / (stage.kills + 1))
                await stage.worked_off(worker)
                stage.kill(worker)
                worker = stage.start()
                await stage.logged(worker, ASSIGNED)
                await asyncio.sleep(OPEN_SECONDS)
                if worker.get("/ready")[0] == 200:
                    raise Violation("ready without the states behind an open transaction")
        await stage.ready(worker)
    await stage.finish(worker)


async def copy_states_in_transaction(stage: Stage, *, commit: bool) -> None:
    """Write the last record of each partition of the changelog once more, in a transaction."""
    async with open_transaction(stage, commit=commit):
        pass


@asynccontextmanager
async def open_transaction(stage: Stage, *, commit: bool) -> AsyncIterator[None]:
    """A transaction that writes the last record of each partition of the changelog once more, and ends with the block.

    What it writes are copies, so that they change nothing whether they count or not.
    """
    last = {record.partition: record for record in await read(stage.kafka.bootstrap, stage.names.state)}
    producer = AIOKafkaProducer(
        bootstrap_servers=stage.kafka.bootstrap, transactional_id=f"copies-of-{stage.names.state}"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition, record in last.items():
            await producer.send(stage.names.state, record.value, key=record.key, partition=partition)
        await producer.flush()
        yield
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


@scenario("compaction-in-a-pause", kills=1, store="rocksdict")
async def compaction(stage: Stage) -> None:
    """The changelog is compacted while a worker is suspended, and while another one is stopped with its disk."""
    await compact_eagerly(stage)
    async with stage.feed(RATE) as feed:
        suspended, other = stage.start("a"), stage.start("b")
        await stage.ready(suspended, other)
        await feed.until(FIRST_PART)
        stage.did["SIGSTOP"] += 1
        suspended.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(SESSION_SECONDS + 2)
        await feed.until(0.5)
        await stage.worked_off(other)
        await wait_compacted(stage, feed_more=lambda: feed.until(0.6))
        suspended.process.send_signal(signal.SIGCONT)
        await feed.until(0.7)
        await stage.worked_off(other)
        await stage.terminate(other)  # its disk stays behind
        await feed.until(0.85)
        suspended = await alive(stage, suspended, "a")
        await stage.worked_off(suspended)
        await wait_compacted(stage, feed_more=lambda: feed.until(0.9))
        await stage.terminate(suspended)
        other = stage.start("b")
    await stage.finish(other)


async def alive(stage: Stage, worker: Worker, name: str) -> Worker:
    """The worker, or a new one of its name when it ended: a zombie may end rather than come back."""
    return worker if worker.process.poll() is None else stage.start(name)


async def compact_eagerly(stage: Stage) -> None:
    """Make the brokers compact the changelog as soon as they can."""
    config = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": "0",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.ms": "1000",
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stage.names.state, config)])
    finally:
        await admin.close()


async def wait_compacted(stage: Stage, feed_more: Callable[[], Awaitable[None]]) -> None:
    """Wait until the changelog has far fewer records than offsets; it takes further records to close a segment."""
    await feed_more()
    await stage.until(lambda: _is_compacted(stage), COMPACTION_SECONDS, "compaction of the changelog")


async def _is_compacted(stage: Stage) -> bool:
    records = await read(stage.kafka.bootstrap, stage.names.state)
    offsets = sum({record.partition: record.offset + 1 for record in records}.values())
    stage.figures["changelog offsets / records"] = f"{offsets} / {len(records)}"
    return bool(len(records) < offsets / 2)


@scenario("damaged-states", ci=1, kills=1, store="memory")
@scenario("damaged-states-rocksdict", kills=1, store="rocksdict")
async def damaged_states(stage: Stage) -> None:
    """States that cannot be read are counted, and only their accounts start anew; those of an older version go on."""
    async with stage.feed() as feed:
        await feed.until(FIRST_PART)
        await first_part(stage)
        damaged, older = await damage_states(stage)
        worker = stage.start()
        await stage.ready(worker)
        await feed.until(1.0)
        await stage.worked_off(worker)
        counted = 'stillwatch_cold_starts_total{why="unreadable"}'
        await stage.until(lambda: worker.metric(counted) == len(damaged), 10, f"a metric that tells of {len(damaged)}")
        await stage.until(
            lambda: worker.metric("stillwatch_migrated_states_total") == len(older),
            10,
            f"a metric that tells of {len(older)} states carried over",
            worker,
        )
        stage.figures |= {"damaged states": len(damaged), "states of an older version": len(older)}
        # What these accounts sent before is forgotten: as if it had never been.
        stage.oracle.never_seen |= {
            sent.value
            for sent in stage.oracle.traffic[: round(FIRST_PART * len(stage.oracle.traffic))]
            if sent.good and sent.account in damaged
        }
    await stage.finish(worker)


@scenario("damaged-disk", kills=2, store="rocksdict")
async def damaged_disk(stage: Stage) -> None:
    """Bytes of the store on disk are damaged: the worker restores it, or ends and names the folder to delete."""
    async with stage.feed() as feed:
        for done in range(stage.kills):
            await feed.until((done + 0.5) / (stage.kills + 1))
            await first_part(stage)
            # States only, which scoring comes upon, and what recovery begins with.
            stage.did["table damaged"] += damage_tables(stage.folder / "a", (RESTORE_POINT_BYTES, 0)[done % 2])
            await feed.until((done + 1) / (stage.kills + 1))
            await told_of_damaged_disk(stage, stage.start())
        worker = stage.start()
    # What could not be read must not have made dead letters of records: those that should not be there are a violation.
    await stage.finish(worker)


async def told_of_damaged_disk(stage: Stage, worker: Worker) -> None:
    """A worker ends by itself with the documented code and a line that helps, or works off all there is."""

    async def over() -> bool:
        return worker.process.poll() is not None or await stage.all_committed()

    await stage.until(over, DONE_SECONDS, "the end of a worker on a damaged disk, or of its work")
    if worker.process.poll() is None:
        await stage.terminate(worker)
        return
    stage.figures["exit code"] = code = worker.process.returncode
    if code != ExitCode.INPUT or not any(_is_clear(line) for line in worker.log.splitlines()):
        raise Violation(f"ended with {code} and no clear line on a damaged disk: {worker.log[-2500:]}")
    moment = phase_of(worker)
    stage.did[f"ended in {moment}"] += 1
    stage.say(f"ended with {code} in {moment}")
    shutil.rmtree(stage.folder / "a")


def damage_tables(data_dir: Path, begin: int) -> int:
    """Flip bits in the tables that RocksDB has on a disk, from this byte on; how many tables that were.

    What the database takes to be opened stands at the end, and stays whole.
    """
    damaged = 0
    for table in data_dir.rglob("*.sst"):
        content = bytearray(table.read_bytes())
        places = range(begin, len(content) * 3 // 4, DAMAGE_EVERY_BYTES)
        for at in places:
            content[at] ^= 0x10
        table.write_bytes(content)
        damaged += bool(places)
    if not damaged:
        raise Violation(f"the harness found no tables to damage in {data_dir}")
    return damaged


def _is_clear(line: str) -> bool:
    return "data_dir" in line and (" CRITICAL " in line or " ERROR " in line)


async def damage_states(stage: Stage) -> tuple[set[str], set[str]]:
    """Write states behind those of some accounts that go on and never have a finding: damaged, and in older layouts."""
    traffic = stage.oracle.traffic
    split = round(FIRST_PART * len(traffic))
    parts = traffic[:split], traffic[split:]
    before, after = ({s.account for s in part if s.good and not s.is_stray} for part in parts)
    standing = {r.key.decode(): r for r in await read(stage.kafka.bootstrap, stage.names.state)}
    honest = [account for account in sorted(before & after & standing.keys()) if not _has_finding(stage, account)]
    older = [layout for layout in PUBLISHED if layout != LAYOUT]
    changes: list[Change] = [*DAMAGES, *(partial(_in_layout, layout) for layout in older)]
    chosen = stage.rng.sample(honest, len(changes))
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap)
    await producer.start()
    try:
        for account, change in zip(chosen, changes, strict=True):
            record = standing[account]
            value = change(record.value, stage.rng.randrange(len(record.value)))
            await producer.send_and_wait(stage.names.state, value, key=record.key, partition=record.partition)
    finally:
        await producer.stop()
    return set(chosen[: len(DAMAGES)]), set(chosen[len(DAMAGES) :])


def _has_finding(stage: Stage, account: str) -> bool:
    own = [sent.request for sent in stage.oracle.traffic if sent.good and sent.account == account]
    return bool(expected_of(own).findings)


def _flipped(state: bytes, at: int) -> bytes:
    return state[:at] + bytes([state[at] ^ 0x10]) + state[at + 1 :]


def _of_unknown_version(state: bytes, _: int) -> bytes:
    """The byte behind the magic is the version of the envelope."""
    return state[:4] + bytes([state[4] - 1]) + state[5:]


def _in_layout(layout: bytes, envelope: bytes, _: int) -> bytes:
    """The same state as a version that laid its records out otherwise would have written it."""
    raw = carry_over(unseal(envelope, ENCODER_HASH).tobytes(), DTYPE, PUBLISHED[layout]).tobytes()
    return resealed(head_with(envelope, layout=layout, size=len(raw)), packed(raw))


DAMAGES: list[Change] = [
    _flipped,
    _flipped,
    _of_unknown_version,
    lambda state, at: state[:at],
    lambda state, at: state + state,
    lambda state, at: b"",
    lambda state, at: b"\x00" * 100_000,
]
"""A flipped bit, an unknown version, a truncated record, one that grew, an empty one, a large one."""
