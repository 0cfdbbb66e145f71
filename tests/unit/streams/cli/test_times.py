"""Moments on the command line."""

from __future__ import annotations

import pytest
import typer

from streams.cli.times import moment

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05", 1_767_571_200_000),
        ("2026-01-05T01:00Z", 1_767_574_800_000),
        ("2026-01-05T01:00+01:00", 1_767_571_200_000),
        ("1767571200000", 1_767_571_200_000),
        ("45s", NOW - 45_000),
        ("1.5h", NOW - 5_400_000),
        ("2d", NOW - 172_800_000),
    ],
)
def test_a_moment_is_read(text: str, expected: int) -> None:
    assert moment(text, now_ms=NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "3x", "-5m", "2026-13-01", "١٢٣"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time"):
        moment(text, now_ms=NOW)
