"""What comes from events cannot harm the terminal of whoever looks at it."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.terminal import safe, safe_json

HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("acct\x1b[2J", "acct\\x1b[2J"),
        ("two\nlines", "two\\x0alines"),
        ("a\u202eb", "a\\u202eb"),
        ("\x9b31m", "\\x9b31m"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("lone \ud83d", "lone \\ud83d"),
        ("Łódź 東京 😀", "Łódź 東京 😀"),
    ],
)
def test_harmful_characters_are_spelt_out_and_letters_stay(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(st.text())
def test_nothing_harmful_is_ever_shown(text: str) -> None:
    assert not {unicodedata.category(c) for c in safe(text)} & HARMFUL


@given(st.text())
def test_long_text_is_cut(text: str) -> None:
    assert len(safe(text * 100, limit=10)) <= 10 * len("\\U0001f600")


@given(st.dictionaries(st.text(), st.text()))
def test_json_made_safe_means_the_same(value: dict[str, str]) -> None:
    value = {k.encode("utf-8", "replace").decode(): v.encode("utf-8", "replace").decode() for k, v in value.items()}
    shown = safe_json(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(shown) == value


def test_json_keeps_no_escape_sequence_and_no_bidi_mark() -> None:
    shown = safe_json(json.dumps({"a": "\x9b31m\u202e\u2066\x7f"}, ensure_ascii=False).encode())
    assert shown.isascii()
    assert shown.isprintable()
