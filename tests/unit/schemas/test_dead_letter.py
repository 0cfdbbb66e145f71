"""Dead letters say why and where from, and never what."""

from __future__ import annotations

import orjson

from schemas.dead_letter import DeadLetterReason, dead_letter_headers, redacted_value
from schemas.origin import Origin, origin_headers, read_origin


def test_headers_name_reason_and_source() -> None:
    headers = dead_letter_headers(
        DeadLetterReason.CLOCK, "too early", topic="stillwatch.requests", partition=3, offset=9
    )
    assert dict(headers) == {
        "stillwatch-reason": b"clock",
        "stillwatch-detail": b"too early",
        "stillwatch-topic": b"stillwatch.requests",
        "stillwatch-partition": b"3",
        "stillwatch-offset": b"9",
    }


def test_a_redacted_dead_letter_keeps_the_length_and_nothing_of_the_content() -> None:
    value = redacted_value(
        DeadLetterReason.SCHEMA, "no account", topic="t", partition=0, offset=1, value=b'{"prompt":"secret"}'
    )
    assert orjson.loads(value) == {
        "reason": "schema",
        "detail": "no account",
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "bytes": 19,
    }
    empty = redacted_value(DeadLetterReason.EMPTY, "", topic="t", partition=0, offset=1, value=None)
    assert orjson.loads(empty)["bytes"] == 0


def test_an_origin_survives_its_headers_among_others() -> None:
    origin = Origin("stillwatch.requests", 5, 2**63 - 1)
    assert read_origin([("traceparent", b"00"), ("x", None), *origin_headers(origin)]) == origin


def test_a_missing_or_malformed_origin_is_none() -> None:
    good = dict(origin_headers(Origin("t", 1, 2)))
    assert read_origin([]) is None
    for name in good:
        for bad in (None, b"\xff", b"", b"-1", b"1_0", b" 1", b"9" * 30):
            if name == "stillwatch-origin-topic" and bad != b"\xff" and bad is not None:
                continue
            assert read_origin((good | {name: bad}).items()) is None
