"""The way out: sizes of records, and what goes out in place of one that is too large."""

from __future__ import annotations

from streams.transport.delivery import Outgoing


def test_headers_count_with_their_names_and_may_be_null() -> None:
    assert Outgoing("t", 0, b"key", b"value", [("name", None), ("other", b"xyz")]).size == 3 + 5 + 4 + 5 + 3
    assert Outgoing("t", 0, None, None).size == 0
