"""What the bench of fits puts into a history, and what it leaves of a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.durations import DAY_MS
from tests.bench import fitting
from tests.bench.detection import Stream
from tests.bench.fitting import CLEAN, MIXED

DAY = 20_000


class Counted:
    """Counts of a tally."""

    def __init__(self, found: int, alerted: int) -> None:
        self._counts = {"extraction": (found, 100), "organic": (alerted, 200)}

    def pooled(self, label: str, archetypes: Any = None) -> tuple[int, int]:
        return self._counts[label]


def label(archetype: str, starts: int = 0) -> dict[str, Any]:
    organic = archetype in ("person", "service")
    return {"label": "organic" if organic else "extraction", "archetype": archetype, "campaign": None, "starts": starts}


def test_extraction_in_a_history_is_of_every_kind() -> None:
    labels = {f"h{k}": label("hydra") for k in range(50)} | {"s": label("sweep"), "t": label("takeover")}
    labels |= {f"p{k}": label("person") for k in range(9)}
    assert fitting.of_each_kind(labels, 5) == ["h0", "s", "t", "h1", "h10"]
    assert len(fitting.of_each_kind(labels, 100)) == 52


def test_extraction_is_a_twentieth_of_all() -> None:
    assert fitting.among(190) == 10


def test_of_a_stream_remains_what_still_does_as_labelled(tmp_path: Path) -> None:
    (tmp_path / "rest").mkdir()
    sent = {
        "person": [0, 1, 4],
        "gone": [0, 1],
        "honest first": [0, 1, 3, 4, 5],
        "extraction since": [2, 2, 3],
        "honest only": [3, 4],
    }
    events = [
        {"time": (DAY + day) * DAY_MS + k, "account": name} for name, days in sent.items() for k, day in enumerate(days)
    ]
    events.sort(key=lambda event: event["time"])
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    labels = {
        "person": label("person"), "gone": label("sweep"), "honest first": label("takeover", 3),
        "extraction since": label("takeover", 1), "honest only": label("takeover", 2),
    }  # fmt: skip
    end = fitting.end_of(file)
    assert end == (DAY + 3) * DAY_MS
    rest = fitting.rest_of(Stream(tmp_path, labels, {}), end, tmp_path / "rest")
    assert {name: kept["starts"] for name, kept in rest.labels.items()} == {
        "person": 0, "honest first": 1, "extraction since": 0,
    }  # fmt: skip
    kept = [json.loads(line) for line in (tmp_path / "rest/events.jsonl").read_text().splitlines()]
    assert {event["account"] for event in kept} == set(rest.labels)
    assert min(event["time"] for event in kept) >= end


@pytest.mark.parametrize(
    ("found", "alerted", "met"), [(99, 1, True), (96, 1, True), (95, 1, False), (99, 2, False), (100, 0, True)]
)
def test_extraction_in_a_history_may_cost_a_little_recall_and_no_peace(found: int, alerted: int, met: bool) -> None:
    tallies: Any = {CLEAN: Counted(99, 1), MIXED: Counted(found, alerted)}
    assert fitting.verdict(tallies)[0] is met
