"""Where results cannot go: alerts refused or slow, a network that says nothing, a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

from streams.exit_codes import ExitCode
from tests.chaos.link import Link
from tests.chaos.oracle import Violation
from tests.chaos.stage import Skipped, Stage, scenario
from tests.integration.streams.expected import findings_on
from tests.integration.streams.running import Worker, read

RATE = 600.0
kafka_admin: Any = import_module("confluent_kafka.admin")
"""aiokafka's admin client knows no access lists, and this one has no types."""

HOLD_SECONDS = 15.0
DISK_MIB = 96
ANYBODY = "User:ANONYMOUS"


@scenario("alerts-refused", ci=1, kills=1, store="memory")
async def alerts_refused(stage: Stage) -> None:
    """The brokers refuse alerts (authorisation): scoring waits, a metric tells, nothing is dropped."""
    async with stage.feed(RATE) as feed:
        worker = stage.start()
        await stage.ready(worker)
        with refused_writes(stage, stage.names.alerts):
            feed.up_to(0.9)
            await stage.until(
                lambda: worker.metric("stillwatch_checkpoint_failures_total") > 0, 60, "a failed checkpoint", worker
            )
            before = await stage.committed()
            failures = worker.metric("stillwatch_checkpoint_failures_total")
            await asyncio.sleep(HOLD_SECONDS)
            if await stage.committed() != before:
                raise Violation("offsets were committed though alerts are refused")
            if worker.metric("stillwatch_checkpoint_failures_total") <= failures:
                raise Violation("no metric tells that checkpoints go on failing")
            stage.figures["failed checkpoints"] = int(worker.metric("stillwatch_checkpoint_failures_total"))
            if "Authorization" not in worker.log:
                raise Violation("no log line names the refusal")
            if stage.rng.random() < 0.5:
                stage.kill(worker)
                worker = stage.start()
    await stage.finish(worker)


@contextmanager
def refused_writes(stage: Stage, topic: str) -> Iterator[None]:
    """Nobody may write to a topic; the rest stays allowed."""
    admin = kafka_admin.AdminClient({"bootstrap.servers": stage.kafka.bootstrap})
    operations, permissions = kafka_admin.AclOperation, kafka_admin.AclPermissionType
    for operation, permission in ((operations.ALL, permissions.ALLOW), (operations.WRITE, permissions.DENY)):
        binding = kafka_admin.AclBinding(*_on(topic), ANYBODY, "*", operation, permission)
        for future in admin.create_acls([binding]).values():
            future.result()
    stage.did["ACL"] += 1
    try:
        yield
    finally:
        everything = kafka_admin.AclBindingFilter(*_on(topic), None, None, operations.ANY, permissions.ANY)
        for future in admin.delete_acls([everything]).values():
            future.result()


def _on(topic: str) -> tuple[Any, str, Any]:
    return kafka_admin.ResourceType.TOPIC, topic, kafka_admin.ResourcePatternType.LITERAL


@scenario("alerts-slow", kills=1, store="memory")
async def alerts_slow(stage: Stage) -> None:
    """Each write of alerts takes three seconds: scoring waits for it, the lag tells, nothing is dropped."""
    async with Link(stage.kafka.front, stage.kafka.behind) as link, stage.feed(RATE) as feed:
        link.slow_topic, link.delay_seconds = stage.names.alerts.encode(), 3.0
        worker = stage.start(brokers=link.bootstrap)
        await stage.ready(worker)
        feed.up_to(0.9)
        highest, watched = 0.0, 0
        while feed.sent < 0.9 * len(stage.oracle.traffic) - 1 or not await stage.all_committed():
            highest = max(highest, worker.metric("stillwatch_lag"))
            watched += await commits_wait(stage, link)
            if worker.process.poll() is not None:
                raise Violation(f"the worker ended with {worker.process.returncode}: {worker.log[-2000:]}")
        stage.figures |= {
            "writes delayed": link.delayed,
            "looks at one on its way": watched,
            "highest lag": int(highest),
        }
        if not watched:
            raise Violation(f"no write of alerts was seen on its way, {link.delayed} were delayed")
        if not highest:
            raise Violation("stillwatch_lag says 0 all the time though alerts take seconds")
        link.slow_topic = None
        feed.up_to(1.0)
        await stage.finish(worker)


async def commits_wait(stage: Stage, link: Link) -> bool:
    """Whether alerts were on their way for a while, which nothing may be committed in, nor what they are of before."""
    number, before = link.delayed, await stage.committed()
    held = link.held
    delivered = findings_on(await read(stage.kafka.bootstrap, stage.names.alerts))
    due = await asyncio.to_thread(stage.oracle.findings_before, before)
    if missing := due - delivered:
        raise Violation(f"offsets were committed before {len(missing)} of their alerts were delivered")
    after = await stage.committed()
    # Only if it was the same write all the while: commits may move between one and the next.
    if not (held and link.held and link.delayed == number):
        return False
    if after != before:
        raise Violation(f"offsets were committed while alerts were on their way: {before}, then {after}")
    return True


@scenario("network-silent", kills=3, store="memory")
async def network_silent(stage: Stage) -> None:
    """The network between worker and broker says nothing for 5 to 25 s, no connection is closed."""
    async with Link(stage.kafka.front, stage.kafka.behind) as link, stage.feed(RATE) as feed:
        worker = stage.start(brokers=link.bootstrap)
        await stage.ready(worker)
        for cut in range(stage.kills):
            feed.up_to((cut + 1) / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.0, 1.5))
            link.silent = True
            stage.did["silence"] += 1
            await asyncio.sleep(stage.rng.uniform(5.0, 25.0))
            link.silent = False
            await asyncio.sleep(2.0)
        await feed.until(1.0)
        await stage.finish(worker)


@scenario("disk-full", kills=2, store="rocksdict")
async def disk_full(stage: Stage) -> None:
    """The disk under rocksdict fills up: the worker ends with a clear line, and goes on when there is room again."""
    with small_disk(stage.folder / "disk") as disk:
        async with stage.feed(RATE) as feed:
            for fill in range(stage.kills):
                worker = stage.start(data_dir=disk)
                await stage.ready(worker)
                feed.up_to((fill + 0.5) / (stage.kills + 1))
                await asyncio.sleep(stage.rng.uniform(0.5, 2.0))
                fill_up(disk / "ballast")
                stage.did["disk filled"] += 1
                feed.up_to((fill + 1) / (stage.kills + 1))
                began = monotonic()
                await told_of_full_disk(stage, worker)
                stage.figures["ended after, s"] = round(monotonic() - began, 1)
                await told_of_full_disk(stage, stage.start(data_dir=disk))
                (disk / "ballast").unlink()
            worker = stage.start(data_dir=disk)
        await stage.worked_off(worker)
        await stage.until(lambda: worker.metric("stillwatch_lag") == 0, 10, "counts brought up to date", worker)
        if unreadable := worker.metric('stillwatch_cold_starts_total{why="unreadable"}'):
            raise Violation(f"{unreadable:.0f} states are unreadable after the disk was full")
        await stage.finish(worker)
        stage.close()


async def told_of_full_disk(stage: Stage, worker: Worker) -> None:
    """A worker ends by itself with the documented code, and a line that names the setting and the reason."""
    stage.figures["exit code"] = code = await stage.ended(worker, 60)
    if code != ExitCode.TEMPORARY:
        raise Violation(f"ended with {code} on a full disk, not {ExitCode.TEMPORARY}: {worker.log[-2500:]}")
    if not any("data_dir" in line and "space" in line.lower() for line in worker.log.splitlines()):
        raise Violation(f"no clear line on a full disk: {worker.log[-2500:]}")


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A file system of its own, in memory. Raises `Skipped` where that is not allowed."""
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", at], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        raise Skipped(f"a small disk takes root and mount: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill_up(ballast: Path) -> None:
    """Leave no byte free."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    os.sync()
