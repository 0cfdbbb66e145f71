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
from typing import Any, NamedTuple, cast

import cramjam
import numpy as np
from numpy.typing import NDArray

from detectors.account import DTYPE
from detectors.finding import CRITICAL, HIGH, MEDIUM
from detectors.kernel import Vector, kernel
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


class LayoutUnknownError(StateError):
    """The state is of a layout that this version does not know: mostly a newer version's."""


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
    return seal_all(row, encoder_hash, log_time)[0]


def seal_all(rows: NDArray[Any], encoder_hash: str, log_time: int = 0) -> list[bytes]:
    """The envelopes of records of one log, shape `(n,)`, contiguous; see `seal`."""
    last_times = np.maximum(rows["header"]["last_time"], log_time)
    active_until = np.where(rows["episode"]["is_open"] != 0, LAST_NUMBER, last_times).tolist()
    encoder, size = _encoder(encoder_hash), rows.itemsize
    raw = rows.view(np.uint8).data
    envelopes = []
    for k, (fence, until) in enumerate(zip(_fences(rows), active_until, strict=True)):
        head = _HEADER.pack(MAGIC, VERSION, LAYOUT, encoder, fence, until, size)
        payload = bytes(cramjam.lz4.compress_block(raw[k * size : (k + 1) * size], store_size=False))
        envelopes.append(head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload)
    return envelopes


def seal_erased(row: NDArray[Any], encoder_hash: str) -> bytes:
    """An envelope with nothing in it: an account was erased at the row's fence, and its stored state is to go."""
    (fence,) = _fences(row)
    head = _HEADER.pack(MAGIC, VERSION, LAYOUT, _encoder(encoder_hash), fence, 0, 0)
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


def _fences(rows: NDArray[Any]) -> list[int]:
    logs, offsets = np.minimum(rows["header"]["log"], LAST_LOG), rows["header"]["offset"]
    return cast(list[int], ((logs << FENCE_OFFSET_BITS) + offsets).tolist())


def _encoder(encoder_hash: str) -> bytes:
    return bytes.fromhex(encoder_hash)[:8]


def unseal(envelope: bytes, encoder_hash: str) -> NDArray[Any]:
    """The record in an envelope, shape `(1,)`, writable; carried over when its layout is an older one.

    Raises
    ------
    EncoderChangedError
        It was made with another encoder.
    LayoutUnknownError
        Its layout was not published when this version was made.
    StateError
        It is damaged or foreign.
    """
    row = np.zeros(1, DTYPE)
    unpack(envelope, encoder_hash, row.view(np.uint8).data)
    if implausible(row, np.zeros(1, np.int64))[0]:
        raise StateError("state holds numbers that no history of requests can lead to")
    return row


def unpack(envelope: bytes, encoder_hash: str, room: memoryview) -> bool:
    """Write the record in an envelope into `room`, bytes of the size of a record; whether its layout is an older one.

    Raises what `unseal` does.
    No kernel may touch the record before `implausible` has passed it, which looks at many at once. After an error
    `room` holds anything.
    """
    header = header_of(envelope)
    layout = DTYPE if header.layout == LAYOUT else PUBLISHED.get(header.layout)
    if layout is None:
        raise LayoutUnknownError("state of another layout")
    if header.size != layout.itemsize:
        raise StateError("state of another length than its layout has")
    if header.encoder != _encoder(encoder_hash):
        raise EncoderChangedError("state made with another encoder")
    payload = memoryview(envelope)[_OVERHEAD:]
    if layout is DTYPE:
        _decompress(payload, room)
        return False
    old = bytearray(header.size)
    _decompress(payload, memoryview(old))
    room[:] = carry_over(old, layout, DTYPE).tobytes()
    return True


def _decompress(payload: memoryview, room: memoryview) -> None:
    try:
        # Into a buffer, since that tells how much came out: `decompress_block` fills up with zeros.
        size = cramjam.lz4.decompress_block_into(payload, room)
    except cramjam.DecompressionError as error:
        raise StateError("state cannot be decompressed") from error
    if size != len(room):
        raise StateError("state of a wrong size")


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
_EXPONENT = 0x7FF0_0000_0000_0000
_HEADS = len(HEADS)


def implausible(rows: NDArray[Any], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each of the records `rows[at]`, whether a number could lead a kernel out of its arrays or the report out of
    the calendar.

    A checksum tells damage, not intent: kernels index by these counts, without a check of bounds.
    """
    found = np.zeros(len(at), np.bool_)
    _find_implausible(rows, rows.view(np.int64).reshape(len(rows), -1), at, _INTEGERS, _FLOATS, found)
    return found


@kernel
def _find_implausible(rows: Vector, words: Vector, at: Vector, integers: Vector, floats: Vector, found: Vector) -> None:
    """Set `found` where a record is implausible; `words` are the records, seen as integers."""
    for k in range(len(at)):
        row = at[k]
        bad = False
        for w in integers:
            if words[row, w] < 0 or words[row, w] > LAST_NUMBER:
                bad = True
        for w in floats:
            if words[row, w] & _EXPONENT == _EXPONENT:  # infinite, or not a number
                bad = True
        episode = rows[row]["episode"]
        severity = episode["reported_severity"]
        if severity not in SEVERITIES or (episode["is_open"] != 0 and severity == 0) or episode["head"] >= _HEADS:
            bad = True
        found[k] = bad


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
    view = memoryview(envelope)
    if crc != zlib.crc32(view[_OVERHEAD:], zlib.crc32(view[: _HEADER.size])):
        raise StateError("state is damaged: its checksum does not fit")
    return Header(layout, encoder, fence, active_until, size)
