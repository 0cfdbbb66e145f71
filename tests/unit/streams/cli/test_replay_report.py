"""What `replay` says at its end."""

from __future__ import annotations

import pytest

from streams.cli import replay as replay_command
from streams.replay import Summary


def test_replay_ends_with_the_lines_of_the_population_watch(capsys: pytest.CaptureFixture[str]) -> None:
    replay_command._report(Summary(records=3, drift=["refit: so and so"]), "events.jsonl")
    assert capsys.readouterr().err.splitlines()[-1].strip() == "refit: so and so"
    replay_command._report(Summary(records=3), "events.jsonl")
    assert "refit" not in capsys.readouterr().err
