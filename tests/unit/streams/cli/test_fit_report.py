"""What `fit` prints: samples are named as such, and the baseline before is held against this history."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detectors.baseline import Baseline
from detectors.fit import FitReport, Judged
from streams.cli import fit_report
from streams.history import KEPT_ACCOUNTS, KEPT_REQUESTS, History
from tests.made_up import ENCODER, person, plain_baseline


def history(population: int = 2, shortened: int = 0) -> History:
    accounts = {f"a{k}": person(40, k) for k in range(2)}
    active = dict.fromkeys(accounts, 0b11)
    return History(ENCODER, accounts, population, active, shortened, 80, Counter(clock=3), ["0" * 64])


def judged(baseline: Baseline, highest: list[float]) -> Judged:
    return Judged(baseline, np.array(highest), (np.array([[16.0, 0.1], [64.0, 9.0]]), np.array([[16.0, 0.2]])))


def report(baseline: Baseline, before: Judged | None = None) -> FitReport:
    return FitReport(baseline, {"person": 2}, (1,), 0, 0.5, judged(baseline, [0.0, 0.0]), before)


def shown(monkeypatch: pytest.MonkeyPatch, history: History, report: FitReport) -> str:
    console = Console(width=150, highlight=False, soft_wrap=True, record=True, quiet=False)
    monkeypatch.setattr(fit_report, "ERR", console)
    fit_report.show(history, report, Path("new.json"))
    return console.export_text()


def test_a_history_that_is_kept_whole_is_not_called_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, history(), report(plain_baseline()))
    assert "80 requests of 2 accounts over 4 account-days on 2 days" in text
    assert "chosen by a hash" not in text
    assert "only the first" not in text
    assert "1 look like extraction throughout and were left out; look at them (`stillwatch explain`): a1" in text
    assert "refused: 3 clock" in text
    assert "Against" not in text


def test_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, history(population=70_000, shortened=1), report(plain_baseline()))
    assert "about 70000 accounts over about 140000 account-days" in text
    assert f"fitted on 2 of them, chosen by a hash of their names (at most {KEPT_ACCOUNTS}" in text
    assert f"of 1 accounts only the first {KEPT_REQUESTS} requests count" in text


def test_what_changed_is_said_with_what_the_baseline_before_makes_of_this_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = judged(plain_baseline(), [9.0, 0.1])
    text = shown(monkeypatch, history(), report(plain_baseline(), before))
    assert f"Against the current baseline {before.baseline.hash}" in text
    assert "the encoder is the same: accounts keep their states" in text
    assert "moved most, after 128 requests: none by 0.05" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "0.0", "1", "50", "%", "50", "%"] in rows
    assert any(row[:4] == ["person/memoryless", "5.0,", "now", "5.0"] for row in rows)


def test_the_settings_below_the_resolution_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, history(), report(plain_baseline()))
    assert "down to 0.5 false findings for each 1,000 account-days the knob rests on this history" in text
    settings = [line for line in text.splitlines() if line.strip()[:1].isdigit() and "%" in line]
    marked = {line.split()[0]: "extrapolated" in line for line in settings}
    assert {k: marked[k] for k in ("30", "1", "0.3", "0.1")} == {"30": False, "1": False, "0.3": True, "0.1": True}
