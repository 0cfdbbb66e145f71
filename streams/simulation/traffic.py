"""Accounts of several kinds and the requests they send: when, what, how much is answered."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

from streams.simulation.curriculum import REASONING, exercises
from streams.simulation.prose import JOBS, Person, documents, popular_questions
from streams.simulation.vocabulary import domains

DAY = 86_400.0
START = 1_767_571_200.0
"""Default begin of the simulated time: Monday 2026-01-05T00:00:00Z, in epoch seconds."""

ORGANIC_MIX = (
    ("person", 0.62),
    ("service", 0.22),
    ("batch", 0.09),
    ("heartbeat", 0.03),
    ("evaluation", 0.04),
)
"""Shares of the organic accounts."""

PLANTED_KINDS = ("sweep", "reasoning", "human-hours", "one-capability", "takeover", "sweep")
"""Kinds of extraction, in the order in which they are planted."""

Timed = list[tuple[float, str]]
"""Requests of one account: (seconds since the start, prompt)."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the simulation knows of one account.

    Attributes
    ----------
    name
        The account's id, as it stands in the events.
    kind
        Person, service, batch, heartbeat, evaluation, or a kind of extraction.
    planted
        True for extraction.
    starts
        Requests sent before the first extraction request (a takeover's honest past).
    requests
        Requests in total.
    """

    name: str
    kind: str
    planted: bool
    starts: int
    requests: int

    def label(self) -> dict[str, Any]:
        """The account's entry in a labels file."""
        return {
            "label": "extraction" if self.planted else "organic",
            "archetype": self.kind,
            "campaign": None,
            "starts": self.starts,
            "requests": self.requests,
        }


@dataclass(frozen=True, slots=True)
class Simulation:
    """Simulated traffic: request events in order of time, and who sent them."""

    events: list[dict[str, Any]]
    accounts: dict[str, Account]

    @property
    def planted(self) -> dict[str, Account]:
        """The extraction accounts."""
        return {name: account for name, account in self.accounts.items() if account.planted}


@dataclass(frozen=True, slots=True)
class _Plan:
    """One account before it becomes events."""

    kind: str
    requests: Timed
    answer: Callable[[Random], int]
    planted: bool = False
    starts: int = 0
    end_users: int = 0


def simulate(
    *, seed: int = 1, days: int = 5, organic: int = 60, planted: int = len(PLANTED_KINDS), start: float = START
) -> Simulation:
    """Make traffic; the same arguments give the same events.

    Parameters
    ----------
    seed
        Source of every choice.
    days
        Length in days of event time, at least 3.
    organic
        Number of organic accounts, shared out by `ORGANIC_MIX`.
    planted
        Number of extraction accounts, their kinds in turn from `PLANTED_KINDS`.
    start
        Begin in epoch seconds, a midnight in UTC.
    """
    if days < 3:
        raise ValueError("a simulation needs at least 3 days: kinds of traffic differ from day to day")
    plans = [*_organic_plans(seed, days, organic), *_planted_plans(seed, days, planted)]
    events: list[dict[str, Any]] = []
    accounts: dict[str, Account] = {}
    for number, plan in enumerate(plans):
        name = "acct_" + _digest(seed, "account", number)
        mine = list(_events(name, plan, start, Random(f"{seed}/events/{number}")))  # noqa: S311
        accounts[name] = Account(name, plan.kind, plan.planted, plan.starts, len(mine))
        events += mine
    events.sort(key=lambda e: (e["time"], e["id"]))
    return Simulation(events, accounts)


def _digest(*parts: object) -> str:
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def _organic_plans(seed: int, days: int, count: int) -> Iterator[_Plan]:
    shares = list(accumulate(share for _, share in ORGANIC_MIX))
    for number in range(count):
        place = (number + 0.5) / count
        kind = next(k for (k, _), upto in zip(ORGANIC_MIX, shares, strict=True) if place <= upto + 1e-9)
        yield _ORGANIC[kind](Random(f"{seed}/{kind}/{number}"), days)  # noqa: S311


def _planted_plans(seed: int, days: int, count: int) -> Iterator[_Plan]:
    for number in range(count):
        kind = PLANTED_KINDS[number % len(PLANTED_KINDS)]
        yield _PLANTED[kind](Random(f"{seed}/planted/{number}"), days)  # noqa: S311


def _events(name: str, plan: _Plan, start: float, rng: Random) -> Iterator[dict[str, Any]]:
    """One account's request events: a few fail, and only services tell their end users."""
    model = rng.choice(("frontier-1", "frontier-1", "frontier-1-mini"))
    for number, (t, text) in enumerate(plan.requests):
        failed = rng.random() < 0.005
        event = {
            "id": _digest(name, number),
            "time": int((start + t) * 1000),
            "account": name,
            "model": model,
            "endpoint": "chat.completions",
            "prompt": text,
            "input_tokens": max(1, round(len(text) / 4.2)),
            "output_tokens": 0 if failed else plan.answer(rng),
            "status": rng.choice((429, 500, 529)) if failed else 200,
        }
        if plan.end_users:
            event["end_user"] = _digest(name, "user", int(rng.paretovariate(0.8)) % plan.end_users)
        yield event


# ---- answers, in tokens


def _usual_answer(rng: Random) -> int:
    return max(1, int(rng.lognormvariate(4.9, 1.2)))


def _short_answer(rng: Random) -> int:
    return rng.randint(1, 6)


def _long_answer(rng: Random) -> int:
    return max(1, int(rng.lognormvariate(6.2, 0.6)))


# ---- organic kinds


def _person(rng: Random, days: int) -> _Plan:
    return _Plan("person", _sittings(Person(rng), rng, 0.0, days * DAY, _messages_a_day(rng)), _usual_answer)


def _messages_a_day(rng: Random) -> float:
    """Most people send a few dozen messages a day, a quarter of them hardly any."""
    return rng.uniform(3, 10) if rng.random() < 0.25 else rng.lognormvariate(math.log(42), 0.4)


def _sittings(person: Person, rng: Random, begin: float, end: float, per_day: float) -> Timed:
    """A person's messages between two times: sittings in waking hours, with gaps of a minute that vary widely."""
    wakes = rng.uniform(0, 24) * 3600
    requests: Timed = []
    for day in range(int(begin // DAY) - 1, math.ceil(end / DAY)):
        left = rng.gauss(per_day, per_day * 0.3) if rng.random() < 0.85 else 0.0
        t = day * DAY + wakes + rng.uniform(0, 2) * 3600
        while left >= 1 and t < day * DAY + wakes + 14 * 3600:
            texts = person.session(min(int(left) + 1, rng.randint(3, 18)))
            left -= len(texts)
            for text in texts:
                t += min(rng.lognormvariate(math.log(55), 1.3), 1800)
                if begin <= t < end:
                    requests.append((t, text))
            t += rng.lognormvariate(math.log(2.5 * 3600), 0.6)
    return requests


def _service(rng: Random, days: int) -> _Plan:
    """Many end users, popular questions again and again (Zipf), busy by day and quiet by night."""
    questions = popular_questions(rng.choice(domains()), rng.randint(250, 700), rng)
    slope = rng.uniform(0.7, 0.95)
    weights = list(accumulate(1.0 / rank**slope for rank in range(1, len(questions) + 1)))
    count = int(rng.uniform(80, 160) * days)
    peak, burst = rng.uniform(0, 24), rng.uniform(0.8, 1.6)
    times: list[float] = []
    t = 0.0
    while len(times) < count and t < days * DAY:
        hour = t / 3600 % 24
        busy = 0.25 + 0.75 * (1 + math.cos((hour - peak) / 24 * 2 * math.pi)) / 2
        t += rng.lognormvariate(0, burst) / math.exp(burst**2 / 2) * days * DAY / count * 0.6 / busy
        times.append(t)
    requests = [(t, rng.choices(questions, cum_weights=weights)[0]) for t in times if t < days * DAY]
    return _Plan("service", requests, _usual_answer, end_users=rng.choice((150, 300, 500)))


def _batch(rng: Random, days: int) -> _Plan:
    """A bulk job of some nights: one template, short answers, and what is still open comes again the next night."""
    template = rng.choice(JOBS)
    texts = [template.format(x) for x in documents(rng.choice(domains()), rng.randint(250, 400), rng)]
    hour, gap = rng.uniform(0, 5) * 3600, rng.uniform(1, 3)
    requests: Timed = []
    for night in range(min(days, rng.randint(2, 4))):
        t = night * DAY + hour
        for _ in range(rng.randint(150, 250)):
            t += gap * rng.uniform(0.8, 1.2)
            requests.append((t, rng.choice(texts)))
    return _Plan("batch", requests, _short_answer)


def _heartbeat(rng: Random, days: int) -> _Plan:
    """One prompt by the clock."""
    text, gap = rng.choice(("ping", "Reply with OK.", "health check")), rng.choice((600.0, 900.0))
    requests = [((i + rng.uniform(0, 0.02)) * gap, text) for i in range(int(days * DAY / gap))]
    return _Plan("heartbeat", requests, _short_answer)


def _evaluation(rng: Random, days: int) -> _Plan:
    """One fixed set of exercises, the same again each night."""
    texts = exercises(rng.randint(90, 130), rng)
    hour = rng.uniform(1, 4) * 3600
    requests: Timed = []
    for night in range(days):
        t = night * DAY + hour + rng.uniform(0, 300)
        for text in texts:
            t += rng.uniform(0.5, 2.5)
            requests.append((t, text))
    return _Plan("evaluation", requests, _usual_answer)


# ---- kinds of extraction


def _volume(rng: Random) -> int:
    return rng.randint(450, 700)


def _begin(rng: Random, days: int) -> float:
    return rng.uniform(0.2, days - 2) * DAY


def _clock(begin: float, texts: list[str], gap: float, jitter: float, rng: Random) -> Timed:
    """A script that sends every `gap` seconds, each gap off by up to `jitter` of itself."""
    times = accumulate(gap * (1 + rng.uniform(-jitter, jitter)) for _ in texts)
    return [(begin + t, text) for t, text in zip(times, texts, strict=True)]


def _workers(begin: float, texts: list[str], gap: float, rng: Random) -> Timed:
    """A few workers that send again when their answer is there, with a long pause now and then."""
    count = rng.randint(1, 4)
    clocks, requests = [begin + rng.uniform(0, 60) for _ in range(count)], []
    for i, text in enumerate(texts):
        pause = rng.expovariate(1 / 7200) if rng.random() < 0.01 else 0.0
        clocks[i % count] += rng.lognormvariate(math.log(gap * count * 0.8), 0.7) + pause
        requests.append((clocks[i % count], text))
    return sorted(requests)


def _sweep(rng: Random, days: int) -> _Plan:
    """A shuffled list over all capabilities and subjects, sent by a script."""
    texts = exercises(_volume(rng), rng)
    requests = (
        _clock(_begin(rng, days), texts, 45.0, 0.1, rng)
        if rng.random() < 0.5
        else _workers(_begin(rng, days), texts, 45.0, rng)
    )
    return _Plan("sweep", requests, _usual_answer, planted=True)


def _reasoning(rng: Random, days: int) -> _Plan:
    """The same kind of list under one template that asks for the chain of thought."""
    template = rng.choice(REASONING)
    texts = [template.format(x) for x in exercises(_volume(rng), rng)]
    return _Plan("reasoning", _workers(_begin(rng, days), texts, 60.0, rng), _long_answer, planted=True)


def _human_hours(rng: Random, days: int) -> _Plan:
    """A list sent in the sittings of a person, so that the clock tells nothing."""
    texts, wakes = iter(exercises(130 * days, rng)), rng.uniform(0, 24)
    times = sorted(
        (day + (wakes + rng.betavariate(2, 2) * 9) / 24) * DAY
        for day in range(days)
        for _ in range(rng.randint(90, 120))
    )
    return _Plan("human-hours", [(t, next(texts)) for t in times if t < days * DAY], _usual_answer, planted=True)


def _one_capability(rng: Random, days: int) -> _Plan:
    """A list of exercises for one capability, over all subjects."""
    capability = rng.choice(("arithmetic", "code", "rewriting", "fiction", "science"))
    return _Plan(
        "one-capability",
        _workers(_begin(rng, days), exercises(_volume(rng), rng, (capability,)), 45.0, rng),
        _usual_answer,
        planted=True,
    )


def _takeover(rng: Random, days: int) -> _Plan:
    """A person's account that somebody else uses for a sweep after some days; the person does not come back."""
    taken = (days / 2 + rng.uniform(-0.2, 0.2)) * DAY
    honest = _sittings(Person(rng), rng, 0.0, taken, rng.uniform(30, 45))
    sweep = _workers(taken + 600, exercises(_volume(rng), rng), 45.0, rng)
    return _Plan("takeover", honest + sweep, _usual_answer, planted=True, starts=len(honest))


_ORGANIC: dict[str, Callable[[Random, int], _Plan]] = {
    "person": _person,
    "service": _service,
    "batch": _batch,
    "heartbeat": _heartbeat,
    "evaluation": _evaluation,
}
_PLANTED: dict[str, Callable[[Random, int], _Plan]] = {
    "sweep": _sweep,
    "reasoning": _reasoning,
    "human-hours": _human_hours,
    "one-capability": _one_capability,
    "takeover": _takeover,
}
