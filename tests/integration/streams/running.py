"""A worker as its own process, and what tests do with topics around it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from detectors import state
from detectors.baseline import load_default
from streams.settings import Settings
from tests.integration.broker import free_port

ROOT = Path(__file__).parents[3]
START_SECONDS = 60
WORKER = ("-m", "streams.worker")
ENCODER_HASH = load_default().encoder.hash


class Worker:
    """A worker process with settings of a test; its log goes to a file that a failing test shows."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], command: Sequence[str] = WORKER) -> None:
        self.folder = folder
        self.port = free_port()
        self.log_file = folder / f"worker-{self.port}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")}
        given = {"metrics_port": self.port, "data_dir": folder / "data", "log_format": "text"} | dict(settings)
        environment |= {f"STILLWATCH_{name.upper()}": str(value) for name, value in given.items()}
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of its port; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels, 0 when it is not there."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line[len(name)] in " {")

    def wait_ready(self) -> None:
        """Wait until it scores."""
        wait_until(lambda: self.get("/ready")[0] == 200 or self.process.poll() is not None, START_SECONDS, self)
        assert self.process.poll() is None, f"the worker ended while starting:\n{self.log}"

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not stop in {seconds} s:\n{self.log}") from None


Start = Callable[..., Worker]
Prepare = Callable[[int], Awaitable[Settings]]
"""Starts a worker with settings of a test."""


def wait_until(condition: Any, seconds: float, *workers: Worker) -> None:
    """Wait until a condition holds; fails with the logs of workers."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n\n".join(worker.log[-5000:] for worker in workers)
            raise AssertionError(f"did not happen within {seconds} s\n{logs}")
        time.sleep(0.1)


class Request(NamedTuple):
    """A record to send; `partition` None: where its key belongs."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def request(account: str, time_ms: int, **fields: Any) -> Request:
    """A well-formed request under its account's key."""
    return Request(account.encode(), orjson.dumps({"time": time_ms, "account": account, **fields}))


@asynccontextmanager
async def producer_of(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(kafka: str, topic: str, requests: Iterable[Request]) -> None:
    """Send records, and wait until the broker holds them."""
    async with producer_of(kafka) as producer:
        for sent in requests:
            await producer.send(topic, sent.value, key=sent.key, partition=sent.partition, headers=list(sent.headers))


async def read(kafka: str, topic: str) -> list[Any]:
    """Every record of a topic, up to the ends it has now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in await _ids(consumer, topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for fetched in (await consumer.getmany(timeout_ms=500)).values():
                records += fetched
        return records
    finally:
        await consumer.stop()


async def _ids(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)
    return consumer.partitions_for_topic(topic) or set()


async def lag(kafka: str, group: str, topic: str) -> int:
    """Records of a topic that a group has not committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in await _ids(consumer, topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        return sum([end - (await consumer.committed(tp) or 0) for tp, end in ends.items()])
    finally:
        await consumer.stop()


async def wait_done(kafka: str, group: str, topic: str, seconds: float, *workers: Worker) -> None:
    """Wait until a group has committed all of a topic."""
    end = time.monotonic() + seconds
    while (left := await lag(kafka, group, topic)) > 0:
        if time.monotonic() > end:
            logs = "\n\n".join(worker.log[-5000:] for worker in workers)
            raise AssertionError(f"{left} records are not committed after {seconds} s\n{logs}")
        await asyncio.sleep(0.2)


async def states(kafka: str, topic: str) -> dict[bytes, bytes]:
    """State of each account as the changelog gives it: the one that has seen most, and none where it was deleted."""
    standing: dict[bytes, bytes] = {}
    for record in await read(kafka, topic):
        if record.value is None:
            standing.pop(record.key, None)
        elif record.key not in standing or state.fence_of(record.value) >= state.fence_of(standing[record.key]):
            standing[record.key] = record.value
    return standing


async def request_counts(kafka: str, topic: str) -> dict[str, int]:
    """Requests that the states on a changelog have counted, by account."""
    return {
        account.decode(): int(state.unseal(envelope, ENCODER_HASH)["header"]["requests"][0])
        for account, envelope in (await states(kafka, topic)).items()
    }
