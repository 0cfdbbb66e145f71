"""Dead letters: records that could not be scored, kept with the reason so that nothing is lost silently.

A dead letter's value is the original record, byte for byte, or (``redacted``) a `RedactedRecord` in its place. Either
way the headers say why and where it came from. Neither the headers nor a `RedactedRecord` ever quote the record.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class DeadLetterReason(StrEnum):
    """Why a record was refused; the value is what metrics and headers carry."""

    EMPTY = "empty"
    """The record has no value: a tombstone, which means nothing on a topic of requests."""

    OVERSIZE = "oversize"
    """The record is longer than the limit, and was not even parsed; or longer than its topic takes it back."""

    NOT_JSON = "not_json"
    """The record is not JSON (NaN and Infinity are not), even after repairing broken characters."""

    TOO_DEEP = "too_deep"
    """The parser ran out of stack. Deep nesting alone does not cause it: what is too deep is read as null."""

    SCHEMA = "schema"
    """A field is missing, has the wrong type, or is outside its limits."""

    ACCOUNT = "account"
    """The account is missing, empty, too long, or holds control or replacement characters."""

    CLOCK = "clock"
    """The time is outside 2015 to 2100 (seconds or microseconds where milliseconds belong), or too far ahead."""

    TOKEN_IDS = "token_ids"  # noqa: S105 - not a password
    """The prompt is a list of token ids; without their tokenizer they have no meaning."""

    EMBEDDING = "embedding"
    """The embedding is not base64, not a list of numbers, or holds NaN or an infinity."""

    DIMENSION = "dimension"
    """The embedding has another length than the baseline's model gives."""

    EMBEDDING_MODEL = "embedding_model"
    """The embedding, or the embedding of the text, is of another model than the baseline."""

    NO_EMBEDDER = "no_embedder"
    """The event brings text, and this service is set up without a text model."""

    INTERNAL = "internal"
    """Scoring this record failed unexpectedly: a fault of stillwatch, worth a report."""


REASON_HEADER: Final = "stillwatch-reason"
DETAIL_HEADER: Final = "stillwatch-detail"
TOPIC_HEADER: Final = "stillwatch-topic"
PARTITION_HEADER: Final = "stillwatch-partition"
OFFSET_HEADER: Final = "stillwatch-offset"


class RedactedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in for the value of a dead letter when content must not be kept; no digest, which would betray text."""

    reason: DeadLetterReason
    detail: str
    topic: str
    partition: int
    offset: int
    bytes: int
    """Length of the original value; 0 when it had none."""


def dead_letter_headers(
    reason: DeadLetterReason, detail: str, *, topic: str, partition: int, offset: int
) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter; topic, partition and offset are those of the refused record.

    Examples
    --------
    >>> dead_letter_headers(DeadLetterReason.CLOCK, "too early", topic="requests", partition=0, offset=7)[0]
    ('stillwatch-reason', b'clock')
    """
    return [
        (REASON_HEADER, reason.value.encode()),
        (DETAIL_HEADER, detail.encode()),
        (TOPIC_HEADER, topic.encode()),
        (PARTITION_HEADER, b"%d" % partition),
        (OFFSET_HEADER, b"%d" % offset),
    ]


def redacted_value(
    reason: DeadLetterReason, detail: str, *, topic: str, partition: int, offset: int, value: bytes | None
) -> bytes:
    """Return what stands in for `value` when content must not be kept: a `RedactedRecord` as JSON."""
    record = RedactedRecord(
        reason=reason, detail=detail, topic=topic, partition=partition, offset=offset, bytes=len(value or b"")
    )
    return msgspec.json.encode(record)
