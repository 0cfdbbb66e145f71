"""Layouts of the account's record that were published, and what can be carried over from one into another.

A stored state names the layout it was written in by a digest. Versions change layouts, and accounts should not have to
start anew for it: of a state in another published layout, every field keeps its value that today's layout has under the
same name with the same type and shape; the others are zero. So

- a field whose meaning changes gets another name, lest old numbers be read as new ones;
- a layout may be taken out of the list by hand where zeros beside what is kept would mislead, or where no release ever
  wrote it: states in it start cold then, as those of unknown layouts do.

`make layout` (`python -m detectors.layouts`) adds today's layout to the list; a test fails while it is missing.

The list is a file of the package: digest to fields, in order, each under the names of its part and its own with a dot
between, as numpy writes types.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

RESOURCE = "published_layouts.json"

Layout = np.dtype[Any]


class Field(NamedTuple):
    """A field of a record: numpy's name of its type with its shape, and its first byte in the record."""

    type: str
    at: int


def fields_of(layout: Layout) -> dict[str, Field]:
    """All fields of a record, nested ones by their dotted names, in order.

    Examples
    --------
    >>> fields_of(np.dtype([("header", [("requests", "<i8")]), ("memory", [("ring", "<u8", (16, 4))])]))
    {'header.requests': Field(type='<i8', at=0), 'memory.ring': Field(type='(16, 4)<u8', at=8)}
    """
    return dict(_fields(layout, "", 0))


def _fields(layout: Layout, prefix: str, begin: int) -> list[tuple[str, Field]]:
    if layout.names is None:
        item, shape = layout.subdtype or (layout, ())
        return [(prefix, Field(f"{shape or ''}{item.str}", begin))]
    assert layout.fields is not None  # noqa: S101 - it has names
    inner = ((name, *layout.fields[name][:2]) for name in layout.names)
    return [
        found
        for name, kind, at in inner
        for found in _fields(kind, f"{prefix}.{name}" if prefix else name, begin + int(at))
    ]


def digest_of(layout: Layout) -> bytes:
    """Eight bytes that name a layout: the same names, types and order give the same."""
    return hashlib.sha256(msgspec.json.encode(_written(layout))).digest()[:8]


def _written(layout: Layout) -> dict[str, str]:
    return {name: field.type for name, field in fields_of(layout).items()}


def read_list(data: bytes) -> dict[bytes, Layout]:
    """The layouts of a list, by digest; with flat fields, which are the same bytes as nested ones.

    Raises `ValueError` when a digest does not fit its layout.
    """
    listed = msgspec.json.decode(data, type=dict[str, dict[str, str]])
    layouts = {bytes.fromhex(digest): np.dtype(list(fields.items())) for digest, fields in listed.items()}
    for digest, layout in layouts.items():
        if digest != digest_of(layout):
            raise ValueError(f"the layout {digest.hex()} was changed: layouts that were published stay as they are")
    return layouts


def write_list(layouts: dict[bytes, Layout]) -> bytes:
    """The file of these layouts."""
    listed = {digest.hex(): _written(layout) for digest, layout in layouts.items()}
    return msgspec.json.format(msgspec.json.encode(listed), indent=1) + b"\n"


PUBLISHED = read_list(importlib.resources.files("detectors").joinpath(RESOURCE).read_bytes())
"""Every layout that a stored state may be in."""


def carry_over(raw: bytes | bytearray, old: Layout, new: Layout) -> NDArray[Any]:
    """A record in layout `old` as one in layout `new`, shape `(1,)`: what both have is kept, the rest is zero."""
    row = np.zeros(1, new)
    source, target = np.frombuffer(raw, np.uint8), row.view(np.uint8)
    for begin, at, size in _copies(old, new):
        target[at : at + size] = source[begin : begin + size]
    return row


@cache
def _copies(old: Layout, new: Layout) -> list[tuple[int, int, int]]:
    """(from, to, bytes) of each field that both have."""
    olds = fields_of(old)
    return [
        (olds[name].at, field.at, np.dtype(field.type).itemsize)
        for name, field in fields_of(new).items()
        if name in olds and olds[name].type == field.type
    ]


if __name__ == "__main__":
    from detectors.account import DTYPE

    listed = PUBLISHED | {digest_of(DTYPE): DTYPE}
    Path(__file__).with_name(RESOURCE).write_bytes(write_list(listed))
