"""The envelope around a stored state: an account's record, compressed, with what is needed to trust it.

Layout, little-endian: magic, version, digest of the record's fields, hash of the encoder, fence, end of the account's
activity, size of the record, CRC-32 of all of these and the payload; then the record's raw bytes as one LZ4 block (most
of a small account's record is zeros). States come back from a topic that others may have written to, so everything is
checked and every size is bounded; nothing in it is code. A state in an older layout is carried over, as
`detectors.layouts` says.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import cramjam
import numpy as np
from numpy.typing import NDArray

from detectors.account import DTYPE
from detectors.finding import CRITICAL, HIGH, MEDIUM
from detectors.layouts import PUBLISHED, carry_over, digest_of
from detectors.rivals import HEADS

MAGIC = b"SWST"
VERSION = 2
_HEADER = struct.Struct("<4sB8s8sqqI")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size
MAX_BYTES = _OVERHEAD + max(layout.itemsize for layout in (DTYPE, *PUBLISHED.values())) + 64
"""An envelope is never larger than this (LZ4 may expand what it cannot compress by a few bytes)."""

SEVERITIES = (0, MEDIUM, HIGH, CRITICAL)
"""What a finding may have been reported as; 0 before the first one."""

LAST_NUMBER = 253_402_300_799_999
"""The last millisecond of the year 9999: no time, count or offset in a state is larger, and none is negative."""

FENCE_OFFSET_BITS = 48
"""A fence is the number of the log (see `header`), then the offset in it, so that fences of one log after another rise
too. No offset up to `LAST_NUMBER` needs more bits."""

LAST_LOG = 2 ** (63 - FENCE_OFFSET_BITS) - 1

LAYOUT = digest_of(DTYPE)


class StateError(ValueError):
    """A stored state cannot be used; the account starts cold."""


class EncoderChangedError(StateError):
    """The state was made with another encoder, so its codes mean nothing here."""


class Header(NamedTuple):
    """What an envelope says of its state without unpacking it.

    Attributes
    ----------
    layout, encoder, size
        Digest of the record's fields, start of the encoder's hash, bytes of the record.
    fence
        Number of the log and offset in it of the last record that is in the state: the highest fence wins.
    active_until
        Event time (ms) up to which the account counts as active: its latest request, or the latest event of the log
        around it when it was sealed, if that was later (an account whose old requests are being filled in is active,
        however old they are). `LAST_NUMBER` while a finding is open, since its closing is still to be told.
    """

    layout: bytes
    encoder: bytes
    fence: int
    active_until: int
    size: int

    @property
    def offset(self) -> int:
        """Offset of the last record that is in the state."""
        return self.fence & ((1 << FENCE_OFFSET_BITS) - 1)


def seal(row: NDArray[Any], encoder_hash: str, log_time: int = 0) -> bytes:
    """The envelope of one account's record, shape `(1,)`; `log_time` is the latest event time (ms) of its log."""
    last_time = int(row["header"]["last_time"][0])
    active_until = LAST_NUMBER if row["episode"]["is_open"][0] else max(last_time, log_time)
    raw = row.tobytes()
    head = _head(row, encoder_hash, active_until, len(raw))
    payload = bytes(cramjam.lz4.compress_block(raw, store_size=False))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def seal_erased(row: NDArray[Any], encoder_hash: str) -> bytes:
    """An envelope with nothing in it: an account was erased at the row's fence, and its stored state is to go."""
    head = _head(row, encoder_hash, 0, 0)
    return head + _CRC.pack(zlib.crc32(head))


def is_erased(envelope: bytes) -> bool:
    """Whether an envelope of ours is one of `seal_erased`."""
    return len(envelope) == _OVERHEAD


def blank_after(envelope: bytes) -> NDArray[Any]:
    """A record, shape `(1,)`, that is blank but for the envelope's fence. Raises `StateError` as `header_of` does."""
    header = header_of(envelope)
    row = np.zeros(1, DTYPE)
    row["header"]["log"], row["header"]["offset"] = header.fence >> FENCE_OFFSET_BITS, header.offset
    return row


def _head(row: NDArray[Any], encoder_hash: str, active_until: int, size: int) -> bytes:
    header = row["header"][0]
    fence = (min(int(header["log"]), LAST_LOG) << FENCE_OFFSET_BITS) + int(header["offset"])
    return _HEADER.pack(MAGIC, VERSION, LAYOUT, bytes.fromhex(encoder_hash)[:8], fence, active_until, size)


def unseal(envelope: bytes, encoder_hash: str) -> NDArray[Any]:
    """The record in an envelope, shape `(1,)`, writable; carried over when its layout is an older one.

    Raises
    ------
    EncoderChangedError
        It was made with another encoder.
    StateError
        It is damaged, foreign, or of an unknown layout.
    """
    header = header_of(envelope)
    layout = DTYPE if header.layout == LAYOUT else PUBLISHED.get(header.layout)
    if layout is None or header.size != layout.itemsize:
        raise StateError("state of another layout")
    if header.encoder != bytes.fromhex(encoder_hash)[:8]:
        raise EncoderChangedError("state made with another encoder")
    raw = bytearray(header.size)
    try:
        # Into a buffer, since that tells how much came out: `decompress_block` fills up with zeros.
        size = cramjam.lz4.decompress_block_into(envelope[_OVERHEAD:], raw)
    except cramjam.DecompressionError as error:
        raise StateError("state cannot be decompressed") from error
    if size != header.size:
        raise StateError("state of a wrong size")
    row = np.frombuffer(raw, DTYPE) if layout is DTYPE else carry_over(raw, layout, DTYPE)
    if not _is_plausible(row):
        raise StateError("state holds numbers that no history of requests can lead to")
    return row


def is_older(envelope: bytes) -> bool:
    """Whether an envelope that `unseal` has read was in an older layout."""
    return bool(_HEADER.unpack_from(envelope)[2] != LAYOUT)


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
        and not (row["episode"]["is_open"][0] and row["episode"]["reported_severity"][0] == 0)
        and row["episode"]["head"][0] < len(HEADS)
    )


def fence_of(envelope: bytes) -> int:
    """The last record that is in the state, as `Header.fence` says. Raises `StateError` as `header_of` does."""
    return header_of(envelope).fence


def header_of(envelope: bytes) -> Header:
    """What the envelope says of its state.

    Raises
    ------
    StateError
        The envelope is damaged or foreign.
    """
    if not _OVERHEAD <= len(envelope) <= MAX_BYTES:
        raise StateError(f"a state has between {_OVERHEAD} and {MAX_BYTES} bytes, not {len(envelope)}")
    magic, version, layout, encoder, fence, active_until, size = _HEADER.unpack_from(envelope)
    if magic != MAGIC or version != VERSION:
        raise StateError("not a state of this version")
    (crc,) = _CRC.unpack_from(envelope, _HEADER.size)
    if crc != zlib.crc32(envelope[_OVERHEAD:], zlib.crc32(envelope[: _HEADER.size])):
        raise StateError("state is damaged: its checksum does not fit")
    return Header(layout, encoder, fence, active_until, size)
