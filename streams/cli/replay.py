"""`stillwatch replay`: requests of a file or a topic to alerts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import orjson
import typer
from aiokafka.errors import KafkaError
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from streams.cli.failures import BrokerError, broker_error
from streams.cli.files import STANDARD, keep_apart, open_input, open_output
from streams.cli.options import CONNECTION, DETECTION, READING, files_named, takes_settings
from streams.cli.terminal import ERR, plain, progress_bar
from streams.cli.times import HELP, moment
from streams.partition_choice import PartitionChoice, partition_choice
from streams.settings import Settings
from streams.topic_window import TopicError, TopicWindow

if TYPE_CHECKING:
    from streams.ingest import DeadLetter
    from streams.replay import Replay, Summary


@takes_settings(*DETECTION, *READING, "max_accounts", *CONNECTION)
def replay(
    settings: Settings,
    file: Annotated[
        Path | None, typer.Argument(help="Request events, one JSON object a line; - reads standard input.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where alerts go, one JSON object a line; - is standard output.")
    ] = STANDARD,
    topic: Annotated[
        str | None, typer.Option(help="Read this topic instead of a file, e.g. stillwatch.requests.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --topic: from here on, by record time. " + HELP)] = None,
    until: Annotated[str | None, typer.Option(help="With --topic: up to here. Default: what is there now.")] = None,
    partitions: Annotated[
        str | None,
        typer.Option(help="With --topic: only these, by number (0,3-5) or a share of all (2/8: every 8th from 2 on)."),
    ] = None,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Write refused records here, one JSON object a line.")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=100_000, help="Records scored at a time; changes no finding.")
    ] = 2000,
    close: Annotated[
        bool,
        typer.Option(help="Close open findings at the end, where the service waits for the next request."),
    ] = True,
) -> None:
    """Score recorded requests and write the alerts; touches no live group and writes to no topic.

    Its findings are those of the service on the same records. The end of the records counts as the end of time:
    open findings are closed, unless you say --no-close.

    Partitions share no accounts: of several replays, each of a share of the partitions (--partitions 0/4 to 3/4), the
    findings together are those of one.

    Example: [bold]stillwatch replay events.jsonl --out alerts.jsonl[/bold]

    Example: [bold]stillwatch replay --topic stillwatch.requests --since 2d --out alerts.jsonl[/bold]
    """
    if (file is None) == (topic is None):
        raise typer.BadParameter("give a file (- for standard input) or --topic, one of the two")
    if topic is None and (since or until or partitions):
        raise typer.BadParameter("--since, --until and --partitions go with --topic")
    choice = None if partitions is None else _choice(partitions)
    now_ms = int(time.time() * 1000)
    since_ms = None if since is None else moment(since, now_ms=now_ms)
    until_ms = None if until is None else moment(until, now_ms=now_ms)
    keep_apart(inputs=[file, *files_named(settings)], outputs=[out, dead_letters])
    with open_output(out) as alerts, _dead_letter_writer(dead_letters) as write_dead:
        if file is not None:
            summary = _replay_file(settings, file, batch, alerts, write_dead, close)
        else:
            assert topic is not None  # noqa: S101 - checked above
            window = TopicWindow(settings, topic, since_ms=since_ms, until_ms=until_ms, choice=choice)
            summary = asyncio.run(_replay_topic(settings, window, batch, alerts, write_dead, close))
    _report(summary, str(file or topic))


def _choice(text: str) -> PartitionChoice:
    try:
        return partition_choice(text)
    except ValueError as error:
        raise typer.BadParameter(f"--partitions: {error}") from None


def _make(
    settings: Settings,
    alerts: BinaryIO,
    write_dead: Callable[[DeadLetter], None] | None,
    keyed: int | None,
    close: bool,
) -> Replay:
    # Here: the detectors take a second to load, which `--help` should not.
    from schemas.alert import encode_alert
    from streams.detection import make_engine, make_ingest, read_baseline
    from streams.replay import Replay

    baseline = read_baseline(settings)
    return Replay(
        make_ingest(settings, baseline, expected_partition=_partitioner(keyed)),
        make_engine(settings, baseline, lambda partition, account: None),
        max_accounts=settings.max_accounts,
        on_alert=lambda alert: _write_line(alerts, encode_alert(alert)),
        on_dead_letter=write_dead,
        close=close,
    )


def _partitioner(partitions: int | None) -> Callable[[bytes], int] | None:
    """Where an account's requests belong on a topic of so many partitions; None for a file."""
    if partitions is None:
        return None
    from streams.transport.partitioner import positive_murmur2

    return lambda key: positive_murmur2(key) % partitions


def _write_line(target: BinaryIO, line: bytes) -> None:
    target.write(line + b"\n")


def _replay_file(
    settings: Settings,
    path: Path,
    batch: int,
    alerts: BinaryIO,
    write_dead: Callable[[DeadLetter], None] | None,
    close: bool,
) -> Summary:
    from streams.replay import FILE_PARTITION, file_batches

    with open_input(path) as (source, size), _bytes_bar() as bar:
        task = bar.add_task("replay", total=size)
        run = _make(settings, alerts, write_dead, None, close)
        for records in file_batches(
            source,
            max_record_bytes=settings.max_record_bytes,
            batch_records=batch,
            advance=lambda amount: bar.advance(task, amount),
        ):
            run.feed(FILE_PARTITION, records)
        return run.finish()


async def _replay_topic(
    settings: Settings,
    window: TopicWindow,
    batch: int,
    alerts: BinaryIO,
    write_dead: Callable[[DeadLetter], None] | None,
    close: bool,
) -> Summary:
    with progress_bar("records") as bar:
        task = bar.add_task("replay", total=None)
        try:
            async with window:
                bar.update(task, total=window.size)
                run = _make(settings, alerts, write_dead, window.partitions, close)
                async for partition, records in window.batches(batch, advance=lambda n: bar.advance(task, n)):
                    run.feed(partition, records)
                return run.finish()
        except TopicError as error:
            raise BrokerError(str(error)) from None
        except (KafkaError, OSError) as error:
            raise broker_error(f"brokers {settings.brokers}", error, settings) from None


def _bytes_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
    )


@contextmanager
def _dead_letter_writer(path: Path | None) -> Iterator[Callable[[DeadLetter], None] | None]:
    """Writes refused records as JSON lines: where they stood, why, and their bytes as text."""
    if path is None:
        yield None
        return
    with open_output(path) as target:
        yield lambda dead: _write_line(
            target,
            orjson.dumps(
                {
                    "reason": dead.reason.value,
                    "detail": dead.detail,
                    "topic": dead.record.topic,
                    "partition": dead.record.partition,
                    "offset": dead.record.offset,
                    "value": (dead.record.value or b"").decode("utf-8", "backslashreplace"),
                }
            ),
        )


def _report(summary: Summary, source: str) -> None:
    ERR.print(plain(f"{source}: {summary.records} records, {summary.events} requests scored, {summary.alerts} alerts"))
    for reason, count in summary.dead.most_common():
        ERR.print(plain(f"  refused: {count} {reason}", "yellow"))
    if summary.erased:
        ERR.print(plain(f"  {summary.erased} orders to forget an account, carried out as the service does"))
    if summary.misplaced:
        text = f"  passed over: {summary.misplaced} records on another key or partition than their account's"
        ERR.print(plain(text, "yellow"))
    if summary.forgotten:
        text = f"  --max-accounts is too small: {summary.forgotten} states or more were forgotten"
        ERR.print(plain(text, "yellow"))
    for line in summary.drift:
        ERR.print(plain(f"  {line}", "yellow"))
