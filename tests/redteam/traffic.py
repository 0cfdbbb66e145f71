"""Lists of request events, and what evasions and customers have in common about them.

An event is a JSON object as the service reads it (`schemas.request`). An account's events are in order of time. What
carries a prompt of an extraction list keeps its id through every evasion, and whatever an evasion adds bears a new one;
so it can be told afterwards when the list began and how much of it was answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from schemas.request import FIRST_FAILED_STATUS

Event = dict[str, Any]
Events = list[Event]
Evasion = Callable[[Events, Random], Events]
Answer = Callable[[Random], int]


def usual_answer(rng: Random) -> int:
    """Tokens of an answer to an ordinary request."""
    return max(1, int(rng.lognormvariate(4.9, 1.2)))


def long_answer(rng: Random) -> int:
    """Tokens of an answer that explains its reasoning."""
    return max(1, int(rng.lognormvariate(6.2, 0.6)))


def short_answer(rng: Random) -> int:
    """Tokens of a label."""
    return rng.randint(1, 6)


def phrase_answer(rng: Random) -> int:
    """Tokens of a few fields."""
    return rng.randint(15, 60)


def digest(*parts: object) -> str:
    """An id made of `parts`."""
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def events_of(
    account: str,
    times: Iterable[int],
    prompts: Iterable[Any],
    rng: Random,
    *,
    answer: Answer = usual_answer,
    failing: float = 0.005,
    endpoint: str = "chat.completions",
) -> Events:
    """Events of an account in order of time; a few fail."""
    model = rng.choice(("frontier-1", "frontier-1", "frontier-1-mini"))
    found = []
    for number, (time, prompt) in enumerate(zip(times, prompts, strict=False)):
        event = {
            "id": digest(account, number),
            "time": time,
            "account": account,
            "model": model,
            "endpoint": endpoint,
            "prompt": prompt,
            "input_tokens": input_tokens(prompt),
            "output_tokens": answer(rng),
            "status": 200,
        }
        found.append(failed(event, rng.choice((429, 500, 529))) if rng.random() < failing else event)
    return in_order(found)


def input_tokens(prompt: Any) -> int:
    """Tokens of a prompt, of all its messages."""
    if isinstance(prompt, str):
        return max(1, round(len(prompt) / 4.2))
    return sum(input_tokens(m["content"] if isinstance(m, dict) else m) for m in prompt)


def failed(event: Event, status: int) -> Event:
    """The same request, refused."""
    return event | {"status": status, "output_tokens": 0}


def is_answered(event: Event) -> bool:
    """Whether the model said something."""
    return int(event["status"]) < FIRST_FAILED_STATUS


def asking(event: Event, prompt: Any) -> Event:
    """The same request with another prompt."""
    return event | {"prompt": prompt, "input_tokens": input_tokens(prompt)}


def added(event: Event, time: int, *mark: object, **changes: Any) -> Event:
    """A further request modelled on `event`; `mark` tells it from others modelled on the same one."""
    return event | {"id": digest(event["id"], *mark), "time": time} | changes


def timed(events: Sequence[Event], times: Iterable[int]) -> Events:
    """The same requests in the same order at other times; those that have none are left out."""
    return [event | {"time": time} for event, time in zip(events, times, strict=False)]


def at_same_times(events: Sequence[Event], order: Sequence[int]) -> Events:
    """The same times with the requests in another order."""
    return timed([events[i] for i in order], [event["time"] for event in events])


def in_order(events: Iterable[Event]) -> Events:
    """By time; equal times keep their order."""
    return sorted(events, key=lambda event: int(event["time"]))


def span(events: Sequence[Event]) -> int:
    """Milliseconds from the first request to the last."""
    return int(events[-1]["time"]) - int(events[0]["time"]) if events else 0


def texts(events: Iterable[Event]) -> list[str]:
    """The prompts of events whose prompts are texts."""
    return [event["prompt"] for event in events]


def chained(*evasions: Evasion) -> Evasion:
    """One evasion after the other."""

    def apply(events: Events, rng: Random) -> Events:
        for evasion in evasions:
            events = evasion(events, rng)
        return events

    return apply
