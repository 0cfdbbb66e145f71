"""A composed stream whose extraction accounts send when an honest one does: what is left without any cadence.

Each extraction account keeps its requests and their order. Their times are those of a person of the same stream, from
its first request on and again from the beginning where there are more requests.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import orjson

LEAST_GAPS = 30
"""A person of fewer requests has no cadence to speak of."""


def at_honest_times(folder: Path) -> Path:
    """The folder of the same stream at honest times, beside `folder`; made once."""
    made = folder.with_name(f"{folder.name}-honest-times")
    if (made / "labels.json").exists():
        return made
    labels = json.loads((folder / "labels.json").read_text())
    accounts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with (folder / "events.jsonl").open("rb") as lines:
        for line in lines:
            event = orjson.loads(line)
            accounts[event["account"]].append(event)
    people = [
        [event["time"] for event in accounts[name]]
        for name, label in sorted(labels.items())
        if label["archetype"] == "person" and len(accounts[name]) > LEAST_GAPS
    ]
    for name, events in accounts.items():
        if labels[name]["label"] == "extraction":
            times = borrowed(Random(name).choice(people), len(events), events[0]["time"])
            accounts[name] = [event | {"time": time} for event, time in zip(events, times, strict=True)]
    made.mkdir(exist_ok=True)
    in_order = sorted((event for events in accounts.values() for event in events), key=lambda event: event["time"])
    (made / "events.jsonl").write_bytes(
        b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in in_order)
    )
    (made / "labels.json").write_text(json.dumps(labels))
    return made


def borrowed(times: Sequence[int], count: int, start: int) -> list[int]:
    """`count` times from `start` on, with the gaps of `times` over and over."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    found = [start]
    for gap in islice(cycle(gaps), count - 1):
        found.append(found[-1] + gap)
    return found
