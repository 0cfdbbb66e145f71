"""Streams at honest times keep every request, in its account's order, and nothing of an attacker's cadence."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.honest_times import LEAST_GAPS, at_honest_times, borrowed

GAPS = [7, 1000, 3]


def test_times_are_borrowed_over_and_over() -> None:
    assert borrowed([10, 17, 1017, 1020], 6, 500) == [500, 507, 1507, 1510, 1517, 2517]


def test_only_the_times_of_extraction_change(tmp_path: Path) -> None:
    folder = tmp_path / "stream"
    folder.mkdir()
    person = [GAPS[k % 3] * (k + 1) for k in range(LEAST_GAPS + 10)]
    times = {"p": [sum(person[:k]) for k in range(len(person))], "x": list(range(0, 500, 5)), "hasty": [1, 2, 3]}
    events = [
        {"account": account, "id": f"{account}{k}", "time": time, "prompt": f"{k}"}
        for account, sent in times.items()
        for k, time in enumerate(sent)
    ]
    labels = {
        "p": {"label": "organic", "archetype": "person"},
        "hasty": {"label": "organic", "archetype": "person"},
        "x": {"label": "extraction", "archetype": "sweep"},
    }
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    (folder / "labels.json").write_text(json.dumps(labels))
    made = at_honest_times(folder)
    assert json.loads((made / "labels.json").read_text()) == labels
    found = [json.loads(line) for line in (made / "events.jsonl").read_text().splitlines()]
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    by_account = {a: [e for e in found if e["account"] == a] for a in times}
    assert by_account["p"] == [event for event in events if event["account"] == "p"]
    assert [event["id"] for event in by_account["x"]] == [f"x{k}" for k in range(100)]
    gaps = [b["time"] - a["time"] for a, b in zip(by_account["x"], by_account["x"][1:], strict=False)]
    assert gaps[: len(person) - 1] == person[:-1], "those of the only person who sent enough"
    assert at_honest_times(folder) == made, "made once"
