"""`stillwatch alerts`: what has been found, and what is being found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from msgspec import DecodeError

from schemas.alert import Alert, decode_alert
from streams.cli import alerts_table
from streams.cli.failures import BrokerError, broker_error
from streams.cli.options import CONNECTION, takes_settings
from streams.cli.terminal import ERR, OUT, plain, safe_json
from streams.cli.times import HELP, moment
from streams.settings import Settings
from streams.topic_window import TopicError, TopicWindow
from streams.topics import TopicNames

BATCH_RECORDS = 500


@takes_settings(*CONNECTION)
def alerts(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as on the topic.")] = False,
    keep_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes in, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(help="Only alerts from here on, by event time. " + HELP)] = None,
    account: Annotated[str | None, typer.Option(help="Only alerts of this account.")] = None,
) -> None:
    """Show alerts: who, how bad, since when, after how many requests, and why.

    Joins no group: any number of people can look at the same time.

    Example: [bold]stillwatch alerts --since 24h --follow[/bold]

    Example: [bold]stillwatch alerts --json --account acct-17 > alerts.jsonl[/bold]
    """
    since_ms = None if since is None else moment(since, now_ms=int(time.time() * 1000))
    try:
        asyncio.run(_show(settings, as_json, keep_on, since_ms, account))
    except TopicError as error:
        raise BrokerError(f"{error}; is the prefix right, and has `stillwatch topics create` been run?") from None
    except (KafkaError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise broker_error(f"brokers {settings.brokers}", error, settings) from None


async def _show(settings: Settings, as_json: bool, keep_on: bool, since_ms: int | None, account: str | None) -> None:
    async with TopicWindow(settings, TopicNames.of(settings).alerts) as window:
        view = _View(as_json, since_ms, account)
        view.show([found async for _, records in window.batches(BATCH_RECORDS) for found in view.wanted(records)])
        while keep_on:
            view.show(view.wanted(await window.later()))
        if view.shown == 0:
            ERR.print(plain("no alerts"))


class _View:
    """Shows the alerts that were asked for, in order of time; what is no alert of ours is passed over with a word."""

    def __init__(self, as_json: bool, since_ms: int | None, account: str | None) -> None:
        self._as_json, self._since_ms, self._account = as_json, since_ms or 0, account
        self.shown = 0

    def wanted(self, records: Iterable[Any]) -> list[tuple[Alert, bytes]]:
        """What is to be shown of some records of the topic: each alert, and its bytes."""
        return [(alert, record.value) for record in records if (alert := self._read(record)) is not None]

    def show(self, found: list[tuple[Alert, bytes]]) -> None:
        """Show alerts in order of time."""
        for alert, line in sorted(found, key=lambda pair: pair[0].time):
            if self._as_json:
                typer.echo(safe_json(line))
            else:
                self._show_rows(alert)
            self.shown += 1

    def _read(self, record: Any) -> Alert | None:
        try:
            alert = decode_alert(record.value or b"")
        except (DecodeError, ValueError):
            ERR.print(plain(f"passed over: {record.topic}[{record.partition}]@{record.offset} is no alert", "yellow"))
            return None
        wanted = alert.time >= self._since_ms and self._account in (None, alert.account)
        return alert if wanted else None

    def _show_rows(self, alert: Alert) -> None:
        if self.shown == 0:
            OUT.print(alerts_table.header())
        for row in alerts_table.rows(alert):
            OUT.print(row)
