"""What the commands write: results to standard output, everything else to standard error, nothing that can harm."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

OUT = Console(highlight=False, soft_wrap=True)
WIDTH_WITHOUT_TERMINAL = 120
if not OUT.is_terminal:
    OUT.width = WIDTH_WITHOUT_TERMINAL  # rich takes 80, where tables would be cut

ERR = Console(stderr=True, highlight=False, soft_wrap=True)

MAX_SHOWN_CHARACTERS = 200
"""Text from events is shown up to this length: an account of 256 wide characters should not fill a screen."""

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, change direction or cannot be seen."""


def safe(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    r"""Text from events, made fit for a terminal: escapes, bidi marks and the invisible are spelt out.

    Examples
    --------
    >>> safe("acct\x1b[31m\u202e")
    'acct\\x1b[31m\\u202e'
    >>> safe("a" * 9, limit=4)
    'aaa…'
    """
    shortened = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(_spelt_out(c) if unicodedata.category(c) in _HARMFUL else c for c in shortened)


def _spelt_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_NOT_PLAIN = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def safe_json(line: bytes) -> str:
    r"""JSON that means the same, with harmful characters written as escapes, so that it may be shown in a terminal.

    Examples
    --------
    >>> safe_json('{"a":"\u202e"}'.encode())
    '{"a":"\\u202e"}'
    """
    # JSON already writes characters below 0x20 as escapes; the others can only stand inside strings.
    return _NOT_PLAIN.sub(lambda match: json.dumps(match[0])[1:-1], line.decode("utf-8", "replace"))


def plain(text: str, style: str = "") -> Text:
    """Text for rich that is neither markup nor emoji codes, whatever it contains."""
    return Text(text, style=style)


def when(time_ms: int) -> str:
    """An event time to the minute, in UTC.

    Examples
    --------
    >>> when(1_767_571_200_000)
    '2026-01-05 00:00'
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def progress_bar(unit: str) -> Progress:
    """A progress bar on standard error, shown only when that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
        transient=False,
    )
