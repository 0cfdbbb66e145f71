"""What `explain` shows fits the terminal, and counts are whole numbers."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.explain import COUNTS, NARROW_LOOKS, NARROW_WIDTH, SHOWN_LOOKS, _rivals, _value
from streams.cli.terminal import OUT
from streams.simulation import simulate


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The planted account of some simulated traffic, and its requests in a file."""
    traffic = simulate(seed=5, days=3, organic=0, planted=1)
    file = tmp_path_factory.mktemp("explain") / "events.jsonl"
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in traffic.events))
    return next(iter(traffic.accounts)), file


def columns(shown: str) -> int:
    """Looks in the first table: its row of the first statistic ends in three quantiles."""
    (row,) = re.findall(r"^ *vn1 (.*)$", shown, re.MULTILINE)
    return len(row.split()) - 3


@pytest.mark.parametrize(
    ("width", "arguments", "looks"),
    [(NARROW_WIDTH, [], SHOWN_LOOKS), (NARROW_WIDTH - 1, [], NARROW_LOOKS), (NARROW_WIDTH - 1, ["--looks", "4"], 4)],
)
def test_a_narrow_terminal_gets_fewer_looks_unless_they_are_asked_for(
    width: int, arguments: list[str], looks: int, busy: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    account, file = busy
    monkeypatch.setattr(OUT, "_width", width)
    result = CliRunner().invoke(app, ["explain", account, str(file), *arguments])
    assert result.exit_code == 0, result.output
    assert columns(result.output) == looks


def test_counts_are_whole_numbers_and_shares_are_not() -> None:
    assert {"repeats", "hot", "window_repeats"} <= COUNTS
    assert (_value("repeats", 0.0), _value("hot", 12.0), _value("vn1", 0.5)) == ("0", "12", "0.50")


def test_a_batch_job_is_named_as_one() -> None:
    table = _rivals([{"n": 8.0, "time": 0.0, "ratio/memoryless/batch": 1.0, "ratio/memoryless/person": 1.0}])
    assert list(table.columns[0].cells) == ["memoryless, or a batch job", "memoryless, or a person"]
