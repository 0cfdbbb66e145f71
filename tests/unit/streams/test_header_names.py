"""Records whose header names are no UTF-8 are read like others; one of them used to stop its partition for good."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from streams.transport.header_names import ForgivingRecords
from tests.property.hostile.grammar import BrokenName

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)


def batch_of(names: list[str], compression: int = NONE) -> bytes:
    """A batch as a broker stores it, one record for each header name."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for at, name in enumerate(names):
        headers: list[tuple[str, bytes | None]] = [(name, b"\xff"), ("whole", None)]
        builder.append(at, timestamp=1_000 + at, key=b"key %d" % at, value=b"\xff" * 2_000, headers=headers)
    return bytes(builder.build())


def read(records: Any) -> list[tuple[int, int, bytes, bytes, list[tuple[str, bytes | None]]]]:
    rows = []
    while records.has_next():
        rows += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records.next_batch()]
    return rows


@pytest.mark.parametrize("compression", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_broken_names_are_repaired_and_everything_else_is_as_it_was_sent(compression: int) -> None:
    broken = BrokenName("na\xefve\xff")
    data = batch_of(["a", "b"]) + batch_of(["c", broken, "d"], compression) + batch_of(["e"])
    with pytest.raises(UnicodeDecodeError):
        read(MemoryRecords(data))
    rows = read(ForgivingRecords(data))
    assert [row[4][0] for row in rows] == [(name, b"\xff") for name in ["a", "b", "c", "na\ufffdve\ufffd", "d", "e"]]
    whole = read(ForgivingRecords(batch_of(["a", "b"]) + batch_of(["c", "x", "d"], compression) + batch_of(["e"])))
    assert [row[:4] for row in rows] == [row[:4] for row in whole]


def test_what_aiokafka_can_read_it_reads_itself() -> None:
    data = batch_of(["a", "é", ""])
    assert read(ForgivingRecords(data)) == read(MemoryRecords(data))
    assert ForgivingRecords(data).size_in_bytes() == len(data)


def test_a_batch_that_was_cut_off_is_left_for_the_next_fetch() -> None:
    data = batch_of(["a"]) + batch_of([BrokenName("\xff")])[:-1]
    assert [row[4][0][0] for row in read(ForgivingRecords(data))] == ["a"]


def test_every_consumer_of_the_process_reads_this_way() -> None:
    assert fetcher.MemoryRecords is ForgivingRecords
