"""Envelopes of states as anybody with a right to write to the state topic can make them: the checksum always fits."""

from __future__ import annotations

import zlib

import cramjam

from detectors import state


def head_of(envelope: bytes) -> bytes:
    """Everything of an envelope before its checksum."""
    return envelope[: state._HEADER.size]


def payload_of(envelope: bytes) -> bytes:
    """The compressed record in an envelope."""
    return envelope[state._OVERHEAD :]


def head_with(envelope: bytes, *, layout: bytes | None = None, size: int | None = None) -> bytes:
    """The head of an envelope with another digest of the layout, or another size of the record, in it."""
    fields = list(state._HEADER.unpack_from(envelope))
    fields[2] = fields[2] if layout is None else layout
    fields[-1] = fields[-1] if size is None else size
    return state._HEADER.pack(*fields)


def packed(raw: bytes) -> bytes:
    """A payload that unpacks to these bytes."""
    return bytes(cramjam.lz4.compress_block(raw, store_size=False))


def resealed(head: bytes, payload: bytes) -> bytes:
    """An envelope of this head and payload."""
    return head + state._CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload
