"""Structured logs: JSON or text lines, no prompts, accounts as keyed hashes on request, nothing a terminal obeys."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from typing import IO, Any

from streams.settings import Settings

_CONTROL = re.compile(
    # C0, DEL, C1; then what makes text run backwards or hides in it, and Unicode's own line ends; lone surrogates.
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

MAX_FIELD_CHARACTERS = 500
"""A field longer than this is cut: ids come from outside."""

REPEAT_SECONDS = 10.0
SELDOM = {"opentelemetry": 300.0}
"""Libraries that say the same thing less often: nothing is wrong with us when traces are lost."""

MAX_REMEMBERED = 1000

OURS = ("streams", "detectors", "schemas")
"""Loggers that `log_level` is for."""

FAUST = logging.getLogger("faust")
"""Logger of our classes that extend Faust's: what they inherit of talk is Faust's."""

CHATTY_AT_DEBUG = ("faust", "mode", "aiokafka")
"""Libraries that tell what they are doing at INFO; shown with `log_level=DEBUG`. All others, and these otherwise, speak
from WARNING on: below INFO, Faust and aiokafka log keys and values."""


def escape_controls(text: str) -> str:
    r"""Make text from outside safe to print: control characters, bidirectional overrides and surrogates escaped.

    >>> escape_controls("a\x1b[2Jb\nc")
    'a\\x1b[2Jb\\nc'
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode("ascii"), text)


class AccountNames:
    """How an account is called where people read: as it is, or as a keyed hash that only the key's owner can redo.

    >>> AccountNames(b"key")("acme")
    'h:cb401715e2152fcf'
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = None if key is None else hashlib.sha256(key).digest()

    @classmethod
    def of(cls, settings: Settings) -> AccountNames:
        """The naming that settings ask for."""
        if settings.account_ids == "plain" or settings.account_hash_key is None:
            return cls(None)
        return cls(settings.account_hash_key.get_secret_value().encode())

    def __call__(self, account: str) -> str:
        """Name of an account for a log."""
        if self._key is None:
            return account
        digest = hashlib.blake2b(account.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8)
        return "h:" + digest.hexdigest()


class OnceInAWhile(logging.Filter):
    """Lets a library say the same thing once in so many seconds; with its brokers away aiokafka says 30 lines a second.

    `seldom` holds other times, by the first part of a logger's name.

    The same: from one logger, with one format string. The next one let through says how many were left out.
    """

    def __init__(self, seconds: float, seldom: Mapping[str, float]) -> None:
        super().__init__()
        self._seconds = seconds
        self._seldom = seldom
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        library = record.name.partition(".")[0]
        if library in OURS:
            return True
        what = (record.name, str(record.msg)[:MAX_FIELD_CHARACTERS])
        last, left_out = self._said.get(what, (0.0, 0))
        if record.created - last < self._seldom.get(library, self._seconds):
            self._said[what] = (last, left_out + 1)
            return False
        if len(self._said) > MAX_REMEMBERED:
            self._said.clear()
        self._said[what] = (record.created, 0)
        if left_out:
            record.left_out = left_out
        return True


class _Formatter(logging.Formatter):
    """Shared by both formats: the fields of `extra=`, accounts named as asked, exceptions without their locals."""

    def __init__(self, accounts: AccountNames) -> None:
        super().__init__()
        self._accounts = accounts

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, value in vars(record).items():
            if name in _NOT_FIELDS or name.startswith("_"):
                continue
            if name == "account":
                value = self._accounts(str(value))
            named[name] = value if isinstance(value, int | float | bool | None) else _cut(str(value))
        return named

    def trace(self, record: logging.LogRecord) -> str:
        if not record.exc_info or record.exc_info[0] is None:
            return ""
        kind, _, where = record.exc_info
        frames = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(where)]
        # The exception's own text stays out: a library may have put a record's content into it.
        return f"{kind.__name__} at " + " < ".join(reversed(frames))


class JsonFormatter(_Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the fields, and `trace` for an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**self.fields(record), **line}
        if trace := self.trace(record):
            line["trace"] = trace
        return json.dumps(line, ensure_ascii=True)


class TextFormatter(_Formatter):
    """Time, level, message, and the fields as name=value; always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        parts = [f"{_utc(record)} {record.levelname:<7} {record.getMessage()}"]
        parts += [f"{name}={value}" for name, value in self.fields(record).items()]
        if trace := self.trace(record):
            parts.append(f"trace={trace}")
        return escape_controls(" ".join(parts))


def configure(settings: Settings, stream: IO[str] | None = None) -> None:
    """Send all logs of the process to one stream (standard error) in the format that settings ask for."""
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(AccountNames.of(settings)))
    handler.addFilter(OnceInAWhile(REPEAT_SECONDS, SELDOM))
    root = logging.getLogger()
    root.handlers = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level]
    root.setLevel(max(level, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in CHATTY_AT_DEBUG:
        logging.getLogger(name).setLevel(logging.INFO if level == logging.DEBUG else root.level)


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_FIELD_CHARACTERS else text[:MAX_FIELD_CHARACTERS] + "…"
