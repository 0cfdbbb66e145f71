"""Header names that are no UTF-8: aiokafka cannot read a record that has one, and so nothing that comes after it.

Kafka's brokers do not check the names, and clients in C write any bytes. aiokafka 0.14 raises `UnicodeDecodeError` in
the middle of a batch, at every fetch anew: one such record would stop its partition for good. Here its batch is read
once more by aiokafka's other parser, in Python, with what is broken in names replaced by U+FFFD.

`tolerate_header_names` puts this between aiokafka's fetcher and its parser; it costs two calls a batch, not a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT: Final = 8
_LENGTH_BYTES: Final = 4
_OVERHEAD: Final = _LENGTH_AT + _LENGTH_BYTES
"""A batch begins with its first offset and the number of bytes that follow these two."""


class _ForgivingBytes(bytearray):
    """Bytes whose slices are decoded with replacement: the parser cuts names out of its buffer and decodes them."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return _ForgivingBytes(part) if isinstance(key, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """The text, whatever it takes."""
        return bytes(self).decode(encoding, errors)


class _ForgivingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """aiokafka's parser in Python, forgiving about names."""

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: Any = _ForgivingBytes(self._buffer)


class _Batch:
    """A batch as the fetcher uses it, read by the fast parser where that can read it."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_ForgivingBatch(bytes(self._raw)))

    def __next__(self) -> Any:
        return next(self._batch)


class ForgivingRecords:
    """Batches of a fetch, as `aiokafka.record.memory_records.MemoryRecords` gives them."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Bytes of the fetch."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether another whole batch is there."""
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch | None:
        """The next batch."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        begin = self._at
        length = int.from_bytes(self._data[begin + _LENGTH_AT : begin + _OVERHEAD], "big")
        self._at = begin + _OVERHEAD + length
        return _Batch(batch, self._data[begin : self._at])


def tolerate_header_names() -> None:
    """Let every consumer of this process read records whose header names are no UTF-8."""
    fetcher.MemoryRecords = ForgivingRecords
