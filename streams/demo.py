"""The demo: simulated traffic through the real service, and whether it kept its promise."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from schemas.alert import Alert, Severity, decode_alert
from streams.sending import Sender, make_producer
from streams.settings import ENV_PREFIX, Settings
from streams.simulation import Account, Simulation
from streams.topic_window import TopicWindow
from streams.topics import TopicNames, create_topics

MAX_LEAD = 6000
"""Requests sent and not yet scored. At some 400 bytes each, far below what the embedded broker keeps a partition even
if all fell on one."""

NO_PROGRESS_SECONDS = 120.0
"""The demo gives up when nothing is scored for so long; a worker takes some ten seconds to start."""

STOP_SECONDS = 20.0
"""Given to the worker to stop by itself."""

LOG_LINES_SHOWN = 15

WORKER = (sys.executable, "-m", "streams.cli", "worker")


class DemoError(Exception):
    """The demo could not be played to its end; the message says why."""


# ---- the worker


class WorkerProcess:
    """Context manager: `stillwatch worker` as a process of its own, ended when it is left, however that happens.

    Parameters
    ----------
    settings
        What the worker runs with; handed over in its environment.
    log_file
        Where its output goes.
    command
        What is run.
    """

    def __init__(self, settings: Settings, log_file: Path, command: Sequence[str] = WORKER) -> None:
        self._settings, self._log_file, self._command = settings, log_file, command

    def __enter__(self) -> WorkerProcess:
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, nothing from outside
                self._command,
                env=_environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the demo's to handle, in its order
                preexec_fn=_end_with_parent(),
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise `DemoError` with the end of its log when the worker has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"the worker ended with exit code {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of the worker's log, in a line."""
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-LOG_LINES_SHOWN:])


def _environment(settings: Settings) -> dict[str, str]:
    """Our environment with every setting in it, so that nothing else can change them."""
    env = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            env[(ENV_PREFIX + name).upper()] = text
    return env


def _end_with_parent() -> Callable[[], None] | None:
    """On Linux: makes the kernel end the child when we die, even of SIGKILL, so that no worker is left behind."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_death_signal, signal.SIGTERM, 0, 0, 0)


# ---- the topics


@contextmanager
def run_topics(settings: Settings) -> Iterator[None]:
    """Topics of this run on a real Kafka, deleted at the end. Raises `TopicsError` when they cannot be made."""
    asyncio.run(create_topics(settings))
    try:
        yield
    finally:
        asyncio.run(_delete_topics(settings))


async def _delete_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**settings.client_options())
    try:
        await admin.start()
        await admin.delete_topics(list(TopicNames.of(settings)))
    finally:
        await admin.close()


# ---- the play


@dataclass
class Play:
    """Sends traffic, watches what the service makes of it.

    Parameters
    ----------
    settings
        Where the brokers are, and the prefix of this run's topics.
    traffic
        What is played.
    rate
        Requests a second, at most.
    worker
        Looked at now and then: when it ends, so does the play.
    on_scored
        Called with the number of requests that are scored and saved.
    on_alert
        Called with each alert as it comes.
    """

    settings: Settings
    traffic: Simulation
    rate: float
    worker: WorkerProcess
    on_scored: Callable[[int], None]
    on_alert: Callable[[Alert], None]
    alerts: list[Alert] = field(default_factory=list)
    _scored: int = 0
    _caught_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> list[Alert]:
        """Play to the end; all alerts.

        Raises
        ------
        DemoError
            The worker ended, or nothing was scored for `NO_PROGRESS_SECONDS`.
        KafkaError
            Brokers cannot be reached, or refused.
        """
        names, producer = TopicNames.of(self.settings), make_producer(self.settings)
        try:
            await producer.start()
            for topic in names:  # the embedded broker makes a topic when it is first asked about
                await producer.partitions_for(topic)
            async with TopicWindow(self.settings, names.alerts) as window, Committed(self.settings) as committed:
                sending = asyncio.create_task(self._send(producer, names.requests))
                try:
                    await self._watch(window, committed, sending)
                finally:
                    sending.cancel()
        finally:
            await producer.stop()
        return self.alerts

    async def _send(self, producer: AIOKafkaProducer, topic: str) -> None:
        sender = Sender(producer, topic, self.rate)
        for event in self.traffic.events:
            if sender.sent - self._scored >= MAX_LEAD:
                self._caught_up.clear()
                await self._caught_up.wait()
            await sender.send(orjson.dumps(event))
        await sender.confirm()

    async def _watch(self, window: TopicWindow, committed: Committed, sending: asyncio.Task[None]) -> None:
        total, last_progress = len(self.traffic.events), monotonic()
        while True:
            # Asked before the alerts: an alert is on its topic before its request counts as scored.
            scored = await committed.count()
            for record in await window.later():
                self._take(record)
            self.worker.check()
            if sending.done():
                sending.result()
            if scored > self._scored:
                self._scored, last_progress = scored, monotonic()
                self._caught_up.set()
                self.on_scored(scored)
            if scored >= total:
                break
            if monotonic() - last_progress > NO_PROGRESS_SECONDS:
                reason = f"nothing was scored for {NO_PROGRESS_SECONDS:.0f} s"
                raise DemoError(f"{reason}. The worker's last words: {self.worker.last_words()}")
        while records := await window.later():
            for record in records:
                self._take(record)

    def _take(self, record: Any) -> None:
        alert = decode_alert(record.value)
        self.alerts.append(alert)
        self.on_alert(alert)


class Committed:
    """Async context manager: how many requests the workers' group has committed. Looks only, joins nothing.

    aiokafka's consumer would do, but it remembers its first answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = TopicNames.of(settings).requests

    async def __aenter__(self) -> Committed:
        self._admin = AIOKafkaAdminClient(**self._settings.client_options())
        await self._admin.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._admin.close()

    async def count(self) -> int:
        """Sum of the committed offsets, which begin at 0 on the topic of this run."""
        partitions = [TopicPartition(self._topic, number) for number in range(self._settings.partitions)]
        offsets = await self._admin.list_consumer_group_offsets(self._settings.group_id, partitions=partitions)
        return sum(max(found.offset, 0) for found in offsets.values())


# ---- the verdict


@dataclass(frozen=True, slots=True)
class Found:
    """A planted account that was found: its first alert, after how many extraction requests, and the worst severity."""

    account: Account
    alert: Alert
    delay: int
    severity: Severity


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of what was planted."""

    found: list[Found]
    missed: list[Account]
    false: list[tuple[Account, Alert]]

    @property
    def kept(self) -> bool:
        """Whether every planted account was found, and no honest one alerted."""
        return not self.missed and not self.false


def judge(traffic: Simulation, alerts: list[Alert]) -> Verdict:
    """Hold alerts against what was planted. An alert before an account's first extraction request is a false one."""
    times: dict[str, list[int]] = defaultdict(list)
    for event in traffic.events:
        times[event["account"]].append(event["time"])
    first: dict[str, tuple[Alert, int]] = {}
    worst: dict[str, Severity] = {}
    false: dict[str, Alert] = {}
    for alert in sorted(alerts, key=lambda alert: alert.time):
        account = traffic.accounts[alert.account]
        extraction = [t for t in times[account.name][account.starts :] if t <= alert.time] if account.planted else []
        if extraction:
            first.setdefault(account.name, (alert, len(extraction)))
            worst[account.name] = max(worst.get(account.name, Severity.UNKNOWN), alert.severity_id)
        else:
            false.setdefault(account.name, alert)
    found = [Found(traffic.accounts[name], alert, delay, worst[name]) for name, (alert, delay) in first.items()]
    missed = [account for name, account in traffic.planted.items() if name not in first]
    return Verdict(found, missed, [(traffic.accounts[name], alert) for name, alert in false.items()])
