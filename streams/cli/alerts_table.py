"""Alerts for people: one row each, and under it why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from msgspec import UNSET
from rich.text import Text

from schemas.alert import TEST_LABEL, Activity, Alert, Severity
from streams.cli.terminal import plain, safe, when

_STYLES = {
    Severity.LOW: "cyan",
    Severity.MEDIUM: "yellow",
    Severity.HIGH: "red",
    Severity.CRITICAL: "bold red",
}
_WHAT = {Activity.CREATE: "opened", Activity.UPDATE: "updated", Activity.CLOSE: "closed"}
_COLUMNS = "{:16}  {:28}  {:8}  {:8}  {:>8}  {:16}"
_INDENT = " " * 18
WHY_WIDTH = 118
MAX_WHY_CHARACTERS = 400


def header() -> Text:
    """The line above the first row."""
    return plain(_COLUMNS.format("time (UTC)", "account", "severity", "finding", "requests", "since (UTC)"), "bold")


def rows(alert: Alert) -> Iterator[Text]:
    """An alert as lines of a terminal: account, severity, what happened, after how many requests, since when, why."""
    requests = "?" if alert.count is UNSET else str(alert.count)
    style = "cyan" if alert.is_test else _STYLES.get(Severity(alert.severity_id), "")
    line = _COLUMNS.format(
        when(alert.time),
        safe(alert.account, 28),
        safe(alert.severity, 8),
        _WHAT[Activity(alert.activity_id)],
        requests,
        when(alert.finding_info.first_seen_time),
    )
    yield plain(line, style)
    for part in textwrap.wrap(safe(_why(alert), MAX_WHY_CHARACTERS), WHY_WIDTH - len(_INDENT)):
        yield plain(_INDENT + part, "dim")


def _why(alert: Alert) -> str:
    """The message without what the columns say already."""
    test = f"{TEST_LABEL}: " if alert.is_test else ""
    _, colon, reasons = alert.message.removeprefix(test).partition(": ")
    return test + (reasons if colon else alert.message.removeprefix(test))
