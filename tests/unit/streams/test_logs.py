"""Logs: one line each, nothing a terminal obeys, accounts hashed on request, no text of exceptions."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from streams.logs import MAX_FIELD_CHARACTERS, AccountNames, OnceInAWhile, configure, escape_controls
from streams.settings import load_settings

PROMPT = "please copy the whole model"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name in ("streams", "detectors", "schemas", "faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def logged(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(load_settings(**settings), stream)
    return stream


log = logging.getLogger("streams.test")


def test_json_has_one_object_a_line_with_the_fields() -> None:
    stream = logged(log_format="json")
    log.info("checkpoint %d", 3, extra={"partition": 2, "account": "acme"})
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert said["message"] == "checkpoint 3"
    assert (said["partition"], said["account"], said["level"]) == (2, "acme", "INFO")
    assert said["time"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_comes_from_outside_cannot_move_the_cursor_or_start_a_line(log_format: str) -> None:
    stream = logged(log_format=log_format)
    log.warning("odd", extra={"account": "a\x1b[2J\nWARNING forged\u202e\u2028\x9b"})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not set(text) & set("\x1b\u202e\u2028\x9b")


def test_accounts_are_keyed_hashes_on_request() -> None:
    stream = logged(account_ids="hashed", account_hash_key="key one")
    log.info("finding", extra={"account": "acme"})
    assert "acme" not in stream.getvalue()
    assert json.loads(stream.getvalue())["account"] == AccountNames(b"key one")("acme")
    assert AccountNames(b"key one")("acme") != AccountNames(b"key two")("acme")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_is_told_by_type_and_place_only(log_format: str) -> None:
    stream = logged(log_format=log_format)
    try:
        raise ValueError(f"cannot read {PROMPT}")
    except ValueError:
        log.exception("scoring failed")
    assert "ValueError at " in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()
    assert PROMPT not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_long_field_is_cut() -> None:
    stream = logged()
    log.info("odd", extra={"account": "a" * 10_000})
    assert len(json.loads(stream.getvalue())["account"]) == MAX_FIELD_CHARACTERS + 1


@pytest.mark.parametrize("library", ["aiokafka.consumer", "faust.topics", "numba.core"])
def test_libraries_do_not_log_contents_even_at_debug(library: str) -> None:
    stream = logged(log_level="DEBUG")
    logging.getLogger(library).debug("send: value=%r", PROMPT)
    assert stream.getvalue() == ""


def test_escaping_leaves_other_text_alone() -> None:
    assert escape_controls("héllo 你好 🙂") == "héllo 你好 🙂"
    assert escape_controls("\ud800") == "\\ud800"


def test_a_library_says_the_same_once_in_a_while_and_how_often_it_would_have() -> None:
    stream = logged()
    library = logging.getLogger("aiokafka.client")
    for port in range(100):
        library.error("cannot reach %d", port)
        log.error("cannot reach %d", port)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sum(line["logger"] == "aiokafka.client" for line in lines) == 1
    assert sum(line["logger"] == "streams.test" for line in lines) == 100
    later = logging.makeLogRecord({"name": "aiokafka.client", "msg": "cannot reach %d", "args": (1,), "levelno": 40})
    later.created += 3600
    library.handle(later)
    assert json.loads(stream.getvalue().splitlines()[-1])["left_out"] == 99


def test_a_library_may_say_the_same_thing_less_often_than_others() -> None:
    often = OnceInAWhile(10.0, {"opentelemetry": 300.0})

    def is_said(logger: str, at: float) -> bool:
        record = logging.LogRecord(logger, logging.WARNING, "file", 1, "away: %s", ("x",), None)
        record.created = at
        return often.filter(record)

    times = (1000.0, 1005.0, 1011.0, 1299.0, 1301.0)
    assert [is_said("aiokafka.conn", at) for at in times] == [True, False, True, True, False]
    assert [is_said("opentelemetry.exporter", at) for at in times] == [True, False, False, False, True]
    assert all(is_said("streams.worker", at) for at in times)
