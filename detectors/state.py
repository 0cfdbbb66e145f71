"""The envelope around a stored state: an account's record, compressed, with what is needed to trust it.

Layout, little-endian: magic, version, digest of the record's fields, hash of the encoder, fence, size of the record,
CRC-32 of all of these and the payload; then the record's raw bytes as one LZ4 block (most of a small account's record
is zeros). States come back from a topic that others may have written to, so everything is checked and every size is
bounded; nothing in it is code.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import cramjam
import numpy as np
from numpy.typing import NDArray

from detectors.account import DTYPE
from detectors.finding import CRITICAL, HIGH, MEDIUM

MAGIC = b"SWST"
VERSION = 1
_HEADER = struct.Struct("<4sB8s8sqI")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size
MAX_BYTES = _OVERHEAD + DTYPE.itemsize + 64
"""An envelope is never larger than this (LZ4 may expand what it cannot compress by a few bytes)."""

SEVERITIES = (0, MEDIUM, HIGH, CRITICAL)
"""What a finding may have been reported as; 0 before the first one."""

LAST_NUMBER = 253_402_300_799_999
"""The last millisecond of the year 9999: no time, count or offset in a state is larger, and none is negative."""

LAYOUT = hashlib.sha256(repr(DTYPE.descr).encode()).digest()[:8]


class StateError(ValueError):
    """A stored state cannot be used; the account starts cold."""


class EncoderChangedError(StateError):
    """The state was made with another encoder, so its codes mean nothing here."""


def seal(row: NDArray[Any], encoder_hash: str) -> bytes:
    """The envelope of one account's record, shape `(1,)`."""
    fence = int(row["header"]["offset"][0])
    raw = row.tobytes()
    head = _HEADER.pack(MAGIC, VERSION, LAYOUT, bytes.fromhex(encoder_hash)[:8], fence, len(raw))
    payload = bytes(cramjam.lz4.compress_block(raw, store_size=False))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def unseal(envelope: bytes, encoder_hash: str) -> NDArray[Any]:
    """The record in an envelope, shape `(1,)`, writable.

    Raises
    ------
    EncoderChangedError
        It was made with another encoder.
    StateError
        It is damaged, foreign, or of another layout.
    """
    _, layout, encoder, _, size = _checked(envelope)
    if layout != LAYOUT or size != DTYPE.itemsize:
        raise StateError("state of another layout")
    if encoder != bytes.fromhex(encoder_hash)[:8]:
        raise EncoderChangedError("state made with another encoder")
    try:
        raw = bytes(cramjam.lz4.decompress_block(envelope[_OVERHEAD:], output_len=size))
    except cramjam.DecompressionError as error:
        raise StateError("state cannot be decompressed") from error
    if len(raw) != size:
        raise StateError("state of a wrong size")
    row = np.frombuffer(bytearray(raw), DTYPE)
    if not _is_plausible(row):
        raise StateError("state holds numbers that no history of requests can lead to")
    return row


def _words_of(dtype: np.dtype[Any], kind: str, offset: int = 0) -> list[int]:
    """Indexes of the 8-byte words of a record that hold numbers of this kind."""
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        size = int(np.prod(shape))
        return [w for k in range(size) for w in _words_of(item, kind, offset + k * item.itemsize)]
    if dtype.fields is None:
        return [offset // 8] if dtype.str == kind else []
    return [w for inner, at, *_ in dtype.fields.values() for w in _words_of(inner, kind, offset + at)]


_INTEGERS = np.array(_words_of(DTYPE, "<i8"))
_FLOATS = np.array(_words_of(DTYPE, "<f8"))


def _is_plausible(row: NDArray[Any]) -> bool:
    """Whether no number can lead a kernel out of its arrays or the report out of the calendar.

    A checksum tells damage, not intent: kernels index by these counts, without a check of bounds.
    """
    integers = row.view("<i8")[_INTEGERS]
    return bool(
        (integers >= 0).all()
        and (integers <= LAST_NUMBER).all()
        and np.isfinite(row.view("<f8")[_FLOATS]).all()
        and row["episode"]["reported_severity"][0] in SEVERITIES
    )


def fence_of(envelope: bytes) -> int:
    """Offset of the last record that is in the state.

    Raises
    ------
    StateError
        The envelope is damaged or foreign.
    """
    return int(_checked(envelope)[3])


def _checked(envelope: bytes) -> tuple[int, bytes, bytes, int, int]:
    if not _OVERHEAD < len(envelope) <= MAX_BYTES:
        raise StateError(f"a state has between {_OVERHEAD} and {MAX_BYTES} bytes, not {len(envelope)}")
    magic, version, layout, encoder, fence, size = _HEADER.unpack_from(envelope)
    if magic != MAGIC or version != VERSION:
        raise StateError("not a state of this version")
    (crc,) = _CRC.unpack_from(envelope, _HEADER.size)
    if crc != zlib.crc32(envelope[_OVERHEAD:], zlib.crc32(envelope[: _HEADER.size])):
        raise StateError("state is damaged: its checksum does not fit")
    return version, layout, encoder, fence, size
