"""`stillwatch demo`: the whole service on simulated traffic, with nothing to install."""

from __future__ import annotations

import asyncio
import secrets
import signal
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.alert import caption
from streams.cli import alerts_table
from streams.cli.failures import broker_error
from streams.cli.options import CONNECTION, DETECTION, takes_settings
from streams.cli.terminal import OUT, plain, safe, when
from streams.demo import DemoError, Play, Verdict, WorkerProcess, judge, run_topics
from streams.embedded_broker import PARTITIONS, EmbeddedBroker
from streams.exit_codes import ExitCode
from streams.settings import Settings
from streams.simulation import Simulation, simulate
from streams.simulation.traffic import PLANTED_KINDS

MAX_REASON_CHARACTERS = 4000
"""Of a worker's log, when it ended by itself."""

_SUMMARY = "{:24}  {:16}  {:8}  {:12}  {}"

LINES_WITHOUT_TERMINAL = 10
"""Progress lines when there is no terminal to draw a bar in."""


@takes_settings(*(name for name in CONNECTION if name != "brokers"), *DETECTION, "replication_factor")
def demo(
    settings: Settings,
    brokers: Annotated[
        str | None, typer.Option(help="Run on this Kafka (host:port) instead of the embedded one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed plays other accounts and prompts.")] = 1,
    days: Annotated[int, typer.Option(min=3, max=14, help="Days of event time.")] = 5,
    organic: Annotated[int, typer.Option(min=0, max=300, help="Organic accounts.")] = 60,
    planted: Annotated[int, typer.Option(min=0, max=60, help="Extraction accounts.")] = len(PLANTED_KINDS),
    rate: Annotated[float, typer.Option(min=1, help="Requests a second, at most.")] = 700.0,
) -> None:
    """Watch it find planted extraction accounts among organic ones, on simulated traffic faster than real time.

    A broker is embedded in this process, and a real worker runs beside it. With --brokers it runs on your Kafka
    instead, on topics of its own that are deleted at the end. Ends with exit code 0 only if every planted account was
    found and no other was alerted.

    Example: [bold]stillwatch demo --seed 7[/bold]

    Example: [bold]stillwatch demo --brokers 127.0.0.1:9092[/bold]
    """
    traffic = simulate(seed=seed, days=days, organic=organic, planted=planted)
    _introduce(traffic, days)
    with _terminated_as_interrupted(), tempfile.TemporaryDirectory(prefix="stillwatch-demo-") as folder:
        verdict = _run(_of_this_run(settings, Path(folder)), brokers, traffic, rate, Path(folder))
    _summarise(traffic, verdict)
    if not verdict.kept:
        raise typer.Exit(ExitCode.UNKEPT)


def _of_this_run(settings: Settings, folder: Path) -> Settings:
    """Topics, group and files of their own, so that runs disturb neither each other nor a service beside them."""
    run = f"stillwatch-demo-{secrets.token_hex(4)}"
    return settings.model_copy(
        update={
            "topic_prefix": f"{run}.",
            "group_id": run,
            "instance_id": f"{run}-worker",
            "partitions": PARTITIONS,
            "store": "memory",
            "data_dir": folder / "state",
            "checkpoint_interval_seconds": 0.5,
            "metrics_port": 0,
            "start_at": "earliest",
            "log_format": "text",
            "log_level": "WARNING",
            "account_ids": "plain",
            "shutdown_grace_seconds": 10.0,
        }
    )


def _run(settings: Settings, brokers: str | None, traffic: Simulation, rate: float, folder: Path) -> Verdict:
    where = brokers or "the embedded broker"
    try:
        if brokers is not None:
            given = settings.model_copy(update={"brokers": brokers})
            with run_topics(given):
                return asyncio.run(_play(given, traffic, rate, folder))
        with EmbeddedBroker() as broker:
            return asyncio.run(_play(on_embedded_broker(settings, broker.address), traffic, rate, folder))
    except DemoError as error:
        OUT.print(plain(safe(str(error), MAX_REASON_CHARACTERS), "bold red"))
        raise typer.Exit(ExitCode.UNKEPT) from None
    except (KafkaError, OSError) as error:
        raise broker_error(where, error) from None


def on_embedded_broker(settings: Settings, address: str) -> Settings:
    """Settings for the embedded broker: it asks nobody who they are, and has no administrative calls."""
    own = {"brokers": address, "check_topics": False, "security_protocol": "PLAINTEXT"}
    return settings.model_copy(update=own)


async def _play(settings: Settings, traffic: Simulation, rate: float, folder: Path) -> Verdict:
    with WorkerProcess(settings, folder / "worker.log") as worker, _Screen(len(traffic.events)) as screen:
        play = Play(settings, traffic, rate, worker, screen.scored, screen.alert)
        return judge(traffic, await play.run())


class _Screen:
    """Alerts as they come, above a bar of what is scored."""

    def __init__(self, total: int) -> None:
        self._total, self._said, self._alerts = total, 0, 0
        self._bar = Progress(
            TextColumn("{task.description:22}"),
            BarColumn(bar_width=50),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=OUT,
            disable=not OUT.is_terminal,
        )

    def __enter__(self) -> _Screen:
        self._bar.start()
        self._task = self._bar.add_task("the worker is starting", total=self._total)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def scored(self, count: int) -> None:
        self._bar.update(self._task, completed=count, description="requests scored")
        share = count * LINES_WITHOUT_TERMINAL // self._total
        if share > self._said and not OUT.is_terminal:
            self._said = share
            OUT.print(plain(f"... {count} of {self._total} requests scored"))

    def alert(self, alert: Any) -> None:
        if self._alerts == 0:
            OUT.print(alerts_table.header())
        self._alerts += 1
        for row in alerts_table.rows(alert):
            OUT.print(row)


def _introduce(traffic: Simulation, days: int) -> None:
    kinds = Counter(account.kind for account in traffic.accounts.values() if not account.planted)
    organic = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    planted = ", ".join(account.kind for account in traffic.planted.values())
    OUT.print(plain(f"{len(traffic.events)} requests over {days} days"))
    OUT.print(plain(f"organic accounts: {organic}"))
    OUT.print(plain(f"planted among them: {planted}\n"))


def _summarise(traffic: Simulation, verdict: Verdict) -> None:
    OUT.print()
    OUT.print(plain(_SUMMARY.format("planted", "kind", "worst", "found after", "first alert (UTC)"), "bold"))
    for found in verdict.found:
        account, worst = found.account, caption(found.severity)
        row = _SUMMARY.format(account.name, account.kind, worst, f"{found.delay} requests", when(found.alert.time))
        OUT.print(plain(row, "green"))
    for account in verdict.missed:
        OUT.print(plain(_SUMMARY.format(account.name, account.kind, "", "NOT FOUND", ""), "bold red"))
    for account, alert in verdict.false:
        row = _SUMMARY.format(account.name, account.kind, alert.severity, "FALSE ALERT", when(alert.time))
        OUT.print(plain(row, "bold red"))
    honest = len(traffic.accounts) - len(traffic.planted)
    OUT.print()
    OUT.print(plain(f"planted {len(traffic.planted)}, found {len(verdict.found)}", "bold"))
    if verdict.found:
        delays = [found.delay for found in verdict.found]
        OUT.print(plain(f"delay: median {statistics.median(delays):.0f} requests, at most {max(delays)}", "bold"))
    OUT.print(plain(f"false alerts: {len(verdict.false)} of {honest} organic accounts", "bold"))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: worker, broker and topics go with it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
