"""Where lists and the organic accounts beside them come from: made by code, or composed from real text and cadence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from streams.simulation.curriculum import CAPABILITIES, REASONING
from tests.redteam import prose
from tests.redteam.cadence import DAY, START, office, workers
from tests.redteam.customers import person, question_service
from tests.redteam.traffic import Answer, Event, Events, digest, events_of, in_order, long_answer, usual_answer

Source = Callable[[str, Random], Events]
"""`source(account, rng)`: the events of one account of a kind, in order of time."""

LEAST_ORGANIC = 150
"""Requests that an organic account must have to lend its gaps or its traffic."""


@dataclass(frozen=True)
class Sources:
    """Accounts of the kinds that attacks are made from.

    Attributes
    ----------
    sweep, one_capability, reasoning, in_some_order, office_hours, one_template
        Lists: over everything; over one capability; asking for the chain of thought; sorted; by day only; and one
        template filled ten thousand times.
    person, service
        Organic accounts.
    """

    sweep: Source
    one_capability: Source
    reasoning: Source
    in_some_order: Source
    office_hours: Source
    one_template: Source
    person: Source
    service: Source


# ---- made by code


def _listed(
    account: str, prompts: list[str], rng: Random, *, gap: float = 45.0, answer: Answer = usual_answer
) -> Events:
    begin = START + rng.uniform(0.2, 3) * DAY
    return events_of(account, workers(begin, len(prompts), gap, rng), prompts, rng, answer=answer)


def _volume(rng: Random) -> int:
    return rng.randint(450, 700)


def sweep(account: str, rng: Random) -> Events:
    """A shuffled list over all capabilities and topics."""
    return _listed(account, prose.exercises(_volume(rng), rng), rng)


def one_capability(account: str, rng: Random) -> Events:
    """A list of exercises for one capability."""
    return _listed(account, prose.exercises(_volume(rng), rng, (rng.choice(tuple(CAPABILITIES)),)), rng)


def reasoning(account: str, rng: Random) -> Events:
    """A list under one template that asks for the chain of thought."""
    template = rng.choice(REASONING)
    prompts = [template.format(text) for text in prose.exercises(_volume(rng), rng)]
    return _listed(account, prompts, rng, gap=60.0, answer=long_answer)


def sorted_by_topic(account: str, rng: Random) -> Events:
    """A list in the order of a text book."""
    return _listed(account, prose.by_topic(_volume(rng), rng), rng)


def office_hours(account: str, rng: Random) -> Events:
    """A list sent in office hours over some days."""
    times = office(START, _volume(rng), 120, rng)
    return events_of(account, times, prose.exercises(len(times), rng), rng)


def one_template(account: str, rng: Random) -> Events:
    """One template filled ten thousand times."""
    return _listed(account, prose.filled_template(10_000, rng), rng, gap=8.0)


MADE = Sources(
    sweep, one_capability, reasoning, sorted_by_topic, office_hours, one_template, person, question_service
)  # fmt: skip
"""Everything made by code."""


# ---- composed


def composed(folders: Iterable[Path]) -> Sources:
    """Accounts of composed streams, each folder with `events.jsonl` and `labels.json`; the template is made by code."""
    by_kind: dict[str, list[Events]] = defaultdict(list)
    for folder in folders:
        labels = json.loads((folder / "labels.json").read_text("utf-8"))
        accounts: dict[str, Events] = {name: [] for name in labels}
        with (folder / "events.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                event: Event = json.loads(line)
                accounts[event["account"]].append(event)
        for name, label in labels.items():
            if label["label"] == "extraction" or len(accounts[name]) >= LEAST_ORGANIC:
                by_kind[label["archetype"]].append(accounts[name])

    def of(kind: str) -> Source:
        return lambda account, rng: renamed(rng.choice(by_kind[kind]), account)

    return Sources(
        of("sweep"), of("one-capability"), of("reasoning"), of("sorted"), of("human-hours"), one_template,
        of("person"), of("service"),
    )  # fmt: skip


def renamed(events: Sequence[Event], account: str) -> Events:
    """The same requests by another account, with ids of their own."""
    return in_order(event | {"account": account, "id": digest(account, number)} for number, event in enumerate(events))
