"""The bench of hostile records fails when a kind costs more than its bound."""

from __future__ import annotations

import sys

import pytest

from tests.bench import hostile


def test_the_bound_grows_with_all_but_the_key() -> None:
    record = hostile._Sent(1, b"k" * 1_000_000, b"v" * 600, [("h", b"1" * 399), ("", None)])
    assert hostile._size(record) == 1_000
    assert hostile.bound_ms(1_000_000) - hostile.bound_ms(0) == hostile.BOUND_MS_PER_MEGABYTE


@pytest.mark.parametrize(("bound", "status"), [(1e9, 0), (0.0, 1)])
def test_its_status_says_whether_every_kind_kept_to_its_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bound: float, status: int
) -> None:
    monkeypatch.setattr(hostile, "BOUND_MS", bound)
    monkeypatch.setattr(hostile, "BOUND_MS_PER_MEGABYTE", 0.0)
    monkeypatch.setattr(hostile, "measure_worst", lambda repeats: [])
    monkeypatch.setattr(sys, "argv", ["hostile", "--records", "30"])
    assert hostile.main() == status
    assert ("Beyond it: none" in capsys.readouterr().out) == (status == 0)
