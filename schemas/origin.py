"""Where a re-keyed record lay: three headers that keep its identity when it is sent back keyed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

ORIGIN_TOPIC_HEADER: Final = "stillwatch-origin-topic"
ORIGIN_PARTITION_HEADER: Final = "stillwatch-origin-partition"
ORIGIN_OFFSET_HEADER: Final = "stillwatch-origin-offset"

_INT64: Final = range(2**63)


class Origin(NamedTuple):
    """Place of a record in the log."""

    topic: str
    partition: int
    offset: int


def origin_headers(origin: Origin) -> list[tuple[str, bytes]]:
    """Return the headers that carry `origin`.

    Examples
    --------
    >>> read_origin(origin_headers(Origin("requests", 3, 17)))
    Origin(topic='requests', partition=3, offset=17)
    """
    return [
        (ORIGIN_TOPIC_HEADER, origin.topic.encode()),
        (ORIGIN_PARTITION_HEADER, b"%d" % origin.partition),
        (ORIGIN_OFFSET_HEADER, b"%d" % origin.offset),
    ]


def read_origin(headers: Iterable[tuple[str, bytes | None]]) -> Origin | None:
    """Return the origin that `headers` carry, None when one of the three is missing or malformed.

    Headers are untrusted: any producer may set them. A false origin can make records of its account that also name
    one count as repeated, up to the false record's own event time; who can write it could as well leave them out.
    """
    found = {name: value for name, value in headers if value is not None}
    try:
        topic = found[ORIGIN_TOPIC_HEADER].decode()
        partition = _decimal(found[ORIGIN_PARTITION_HEADER])
        offset = _decimal(found[ORIGIN_OFFSET_HEADER])
    except (KeyError, ValueError):
        return None
    return Origin(topic, partition, offset)


def _decimal(text: bytes) -> int:
    """Read at most 19 ASCII digits; int() alone would take signs, spaces and underscores."""
    if not text.isdigit() or len(text) > 19 or int(text) not in _INT64:
        raise ValueError("not a place in a log")
    return int(text)
