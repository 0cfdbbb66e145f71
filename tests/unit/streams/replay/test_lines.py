"""Files and pipes become numbered records, whatever pieces they come in and whatever they hold."""

from __future__ import annotations

import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.replay import FileRecord, LineSplitter, file_batches

LIMIT = 8


def split(pieces: list[bytes], limit: int = 1000) -> list[tuple[int, bytes]]:
    splitter = LineSplitter(limit)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()


def records(content: bytes, size: int = 1000, limit: int = 1000) -> list[list[FileRecord]]:
    return list(file_batches(io.BytesIO(content), max_record_bytes=limit, batch_records=size))


def test_lines_are_numbered_from_one_and_blank_ones_counted_but_passed_over() -> None:
    assert split([b"a\n\n  \r\nb\r\nc"]) == [(1, b"a"), (4, b"b"), (5, b"c")]


@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(1, 9)))
def test_where_a_stream_is_cut_changes_nothing(lines: list[bytes], sizes: list[int]) -> None:
    stream, pieces = b"\n".join(lines), []
    rest = stream
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert split([*pieces, rest]) == split([stream])


def test_an_overlong_line_gives_one_record_too_long_and_its_neighbours_are_whole() -> None:
    long = b"x" * 100
    whole = split([b"one\n" + long + b"\ntwo"], LIMIT)
    pieces = split([b"one\nxx", *(bytes([c]) for c in long[2:]), b"\ntwo"], LIMIT)
    assert whole == pieces == [(1, b"one"), (2, b"x" * (LIMIT + 1)), (3, b"two")]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_record_is_longer_than_it_takes_to_refuse_it(pieces: list[bytes]) -> None:
    assert all(len(line) <= LIMIT + 1 for _, line in split(pieces, LIMIT))


def test_memory_is_bounded_by_the_limit_and_not_by_the_line() -> None:
    splitter = LineSplitter(LIMIT)
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
        assert len(splitter._rest) <= LIMIT


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_hold_the_same_records_whatever_their_size(size: int) -> None:
    content = b"".join(b"%d\n" % i for i in range(7))
    batches = records(content, size)
    assert [record for batch in batches for record in batch] == records(content)[0]
    assert max(map(len, batches)) == min(size, 7)


def test_a_record_of_a_file_knows_its_line_and_no_time() -> None:
    ((record,),) = records(b'\n{"a": 1}\n')
    assert record == FileRecord("file", 0, 2, -1, None, b'{"a": 1}', ())


def test_progress_counts_every_byte() -> None:
    content = b"a\nbb\n\nccc"
    passed: list[int] = []
    list(file_batches(io.BytesIO(content), max_record_bytes=10, advance=passed.append))
    assert sum(passed) == len(content)


def test_an_empty_file_gives_nothing() -> None:
    assert records(b"") == []


def test_what_comes_through_a_pipe_is_handed_on_before_the_pipe_ends() -> None:
    reading, writing = os.pipe()
    first_batch = threading.Event()

    def write() -> None:
        os.write(writing, b"one\ntwo\n")
        assert first_batch.wait(10)
        os.write(writing, b"three\n")
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    got = []
    with os.fdopen(reading, "rb") as source:
        for batch in file_batches(source, max_record_bytes=100, batch_records=1000):
            got.append([record.value for record in batch])
            first_batch.set()
    writer.join()
    assert got == [[b"one", b"two"], [b"three"]]
