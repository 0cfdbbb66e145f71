"""What `replay` and `fit` say at their end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detectors.fit import FitReport
from streams.cli import fit as fit_command
from streams.cli import replay as replay_command
from streams.history import History
from streams.replay import Summary
from tests.made_up import ENCODER, person, plain_baseline


def test_replay_ends_with_the_lines_of_the_population_watch(capsys: pytest.CaptureFixture[str]) -> None:
    replay_command._report(Summary(records=3, drift=["refit: so and so"]), "events.jsonl")
    assert capsys.readouterr().err.splitlines()[-1].strip() == "refit: so and so"
    replay_command._report(Summary(records=3), "events.jsonl")
    assert "refit" not in capsys.readouterr().err


def test_fit_marks_the_settings_below_its_resolution(capsys: pytest.CaptureFixture[str]) -> None:
    history = History(ENCODER, {"a": person(60, 1)}, 60, Counter(), [])
    report = FitReport(plain_baseline(), {"person": 400}, (), 0, 0.5, (np.zeros((1, 2)),))
    fit_command._report(history, report, Path("baseline.json"))
    told = capsys.readouterr().err
    assert "down to 0.5 false findings for each 1,000 account-days the knob rests on this history" in told
    marked = {line.split()[0]: "extrapolated" in line for line in told.splitlines() if line.strip()[:1].isdigit()}
    assert {k: marked[k] for k in ("30", "1", "0.3", "0.1")} == {"30": False, "1": False, "0.3": True, "0.1": True}
