"""Moments on the command line: a date, a date and time, epoch milliseconds, or a span back from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

from schemas.durations import DAY_MS, HOUR_MS

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SPAN_MS = {"s": 1000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS}

HELP = "'2026-01-31', '2026-01-31T08:00Z', epoch milliseconds, or '90m', '6h', '2d' ago. UTC when no zone is given."


def moment(text: str, *, now_ms: int) -> int:
    """Epoch milliseconds of a moment.

    Raises
    ------
    typer.BadParameter
        It is none of the forms in `HELP`.

    Examples
    --------
    >>> moment("2026-01-05", now_ms=0), moment("2026-01-05T02:00+02:00", now_ms=0), moment("90m", now_ms=6_000_000)
    (1767571200000, 1767571200000, 600000)
    """
    if span := _SPAN.fullmatch(text):
        return now_ms - round(float(span[1]) * _SPAN_MS[span[2]])
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: {HELP}") from None
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)
