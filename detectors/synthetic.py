"""The extraction side of the fit, made from the population's own history.

The population's prompts, shuffled across accounts without replacement, *are* a broad stream without memory and without
repeats, in the operator's own domain. So no attack needs to be known: lists are drawn from the history (all of it, a
few domains, a few accounts), put in an order (none; sorted by something) and sent at a cadence (clocks, workers,
bursts, working hours, the gaps of a real account), alone, after an honest beginning, or among a person's own requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.events import DECLARED, EVENT_DTYPE, FAILED, NO_CONTENT
from detectors.statistics.shape import SHORT_TOKENS

Events = NDArray[Any]

PER_ACCOUNT = 120
LEAST_CHARACTERS = 12
DAY_S = 86_400.0
KINDS = ("shuffled", "shuffled", "shuffled", "sorted", "mixed", "takeover")
SORT_MAX = 600


class Stream(NamedTuple):
    """One made-up extraction account: its kind, its events, and how many honest ones come first."""

    kind: str
    events: Events
    starts: int


class Pool:
    """Distinct prompts of a history, at most `PER_ACCOUNT` an account so that nobody's traffic dominates."""

    def __init__(self, accounts: Sequence[Events], rng: np.random.Generator) -> None:
        taken, sources = [], []
        for number, events in enumerate(accounts):
            usable = events[(events["flags"] & (FAILED | NO_CONTENT | DECLARED)) == 0]
            usable = usable[(usable["length"] == 0) | (usable["length"] >= LEAST_CHARACTERS)]
            usable = usable[rng.permutation(len(usable))[:PER_ACCOUNT]]
            taken.append(usable)
            sources.append(np.full(len(usable), number))
        events, source = np.concatenate(taken), np.concatenate(sources)
        _, first = np.unique(events["code"], axis=0, return_index=True)
        self.code, self.length, self.source = events["code"][first], events["length"][first], source[first]
        answers = events["output_tokens"]
        self.answers = answers[answers > SHORT_TOKENS]

    def __len__(self) -> int:
        return len(self.code)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Indexes of up to `n` different prompts in random order: from everywhere, a few domains, or a few accounts."""
        choice = rng.random()
        if choice < 0.4:
            return np.asarray(rng.permutation(len(self))[:n], np.int64)
        if choice < 0.7:
            anchors = rng.integers(0, len(self), rng.integers(1, 6))
            each = max(40, int(1.6 * n / len(anchors)))
            near = [np.argsort(distances(self.code, self.code[a]), kind="stable")[:each] for a in anchors]
            return np.asarray(rng.permutation(np.unique(np.concatenate(near)))[:n], np.int64)
        present = np.unique(self.source)
        chosen = rng.choice(present, min(len(present), int(rng.integers(8, 60))), replace=False)
        return np.asarray(rng.permutation(np.flatnonzero(np.isin(self.source, chosen)))[:n], np.int64)


def distances(codes: NDArray[np.uint64], code: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hamming distances of each code to one code, in bits."""
    return np.asarray(np.bitwise_count(codes ^ code).sum(axis=1), np.int64)


def streams(
    accounts: Sequence[Events], count: int, seed: int, progress: Callable[[float], None] = lambda share: None
) -> list[Stream]:
    """About `count` extraction streams from the history's accounts, each in its own order of time."""
    rng = np.random.default_rng(seed)
    pool = Pool(accounts, rng)
    hosts = [events for events in accounts if len(events) >= 100]
    made = []
    for number in range(count):
        progress((number + 1) / count)
        kind = str(rng.choice(KINDS))
        index = pool.draw(int(rng.integers(100, SORT_MAX)), rng)
        if len(index) < 40 or (kind in ("mixed", "takeover") and not hosts):
            continue
        if kind == "sorted":
            index = index[_sorting(pool, index, rng)]
        listed = _events(pool, index, cadence(len(index), accounts, rng), rng)
        if kind == "takeover":
            made.append(_takeover(hosts[int(rng.integers(len(hosts)))], listed, rng))
        elif kind == "mixed":
            made.append(_mixed(hosts[int(rng.integers(len(hosts)))], listed, rng))
        else:
            made.append(Stream(kind, listed, 0))
    for stream in made:
        stream.events["offset"] = np.arange(len(stream.events))
        stream.events["identity"] = np.arange(1, len(stream.events) + 1)
    return made


def cadence(n: int, accounts: Sequence[Events], rng: np.random.Generator) -> NDArray[np.int64]:
    """`n` times in epoch milliseconds, at one of six cadences."""
    kind = rng.integers(6)
    start = rng.uniform(0.0, 4.0 * DAY_S)
    if kind == 5:
        return np.asarray((start + _working_hours(n, rng)) * 1000.0, np.int64)
    if kind == 0:
        gaps = 10.0 ** rng.uniform(0.7, 2.7) * (1.0 + rng.uniform(-1.0, 1.0, n) * rng.uniform(0.02, 0.6))
    elif kind == 1:
        gaps = rng.exponential(10.0 ** rng.uniform(0.7, 2.8), n)
    elif kind == 2:
        gaps = rng.lognormal(np.log(10.0 ** rng.uniform(0.7, 2.5)), rng.uniform(0.3, 1.5), n)
    elif kind == 3:
        burst = int(rng.integers(3, 30))
        gaps = np.where(np.arange(n) % burst != 0, rng.uniform(1.0, 8.0, n), rng.uniform(300.0, 4000.0, n))
    else:
        own = np.diff(accounts[int(rng.integers(len(accounts)))]["time"]) / 1000.0
        own = own[own >= 0.0]
        if len(own) == 0:
            own = np.array([60.0])
        gaps = rng.choice(np.minimum(own, 60_000.0), n) + rng.uniform(0.0, 1.0, n)
    return np.asarray((start + np.cumsum(gaps)) * 1000.0, np.int64)


def _working_hours(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Seconds from a Monday's midnight: nine hours a day, five days a week, 40 to 250 requests a day."""
    a_day = rng.uniform(40.0, 250.0)
    times: list[NDArray[np.float64]] = []
    day, left = 0, n
    while left > 0:
        if day % 7 < 5:
            today = min(left, max(1, int(rng.normal(a_day, 0.2 * a_day))))
            times.append(np.sort(day * DAY_S + 8 * 3600.0 + rng.beta(2.0, 2.0, today) * 9 * 3600.0))
            left -= today
        day += 1
    return np.concatenate(times)


def _events(pool: Pool, index: NDArray[np.int64], times: NDArray[np.int64], rng: np.random.Generator) -> Events:
    events = np.zeros(len(index), EVENT_DTYPE)
    events["code"] = pool.code[index]
    frame = rng.integers(0, 2) * rng.integers(0, 120)  # a wrapping text lengthens every prompt alike
    events["length"] = np.where(pool.length[index] > 0, pool.length[index] + frame, 0)
    events["output_tokens"] = rng.choice(pool.answers, len(index)) if len(pool.answers) else -1
    events["time"] = times
    return events


def _sorting(pool: Pool, index: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """An order of the list: by its code's bits, by length, along an axis between two prompts, or a greedy tour."""
    code = pool.code[index]
    way = rng.integers(4)
    if way == 0:
        return np.lexsort((code[:, 1], code[:, 0]))
    if way == 1:
        return np.argsort(pool.length[index] + rng.normal(0.0, rng.uniform(0.0, 20.0), len(index)), kind="stable")
    if way == 2:
        a, b = code[rng.integers(len(code))], code[rng.integers(len(code))]
        return np.argsort(distances(code, a) - distances(code, b), kind="stable")
    left = np.arange(1, len(code))
    tour = [0]
    while len(left):
        nearest = int(distances(code[left], code[tour[-1]]).argmin())
        tour.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return np.array(tour)


def _takeover(host: Events, listed: Events, rng: np.random.Generator) -> Stream:
    """An honest account's beginning, then the list."""
    begins = int(rng.integers(0, max(1, len(host) - 300)))
    honest = host[begins : begins + int(rng.integers(60, 301))].copy()
    listed["time"] += honest["time"][-1] + 600_000 - listed["time"][0]
    return Stream("takeover", np.concatenate([honest, listed]), len(honest))


def _mixed(host: Events, listed: Events, rng: np.random.Generator) -> Stream:
    """A quarter or a half of an account's requests are the list, at the host's own times."""
    begins = int(rng.integers(0, max(1, len(host) - 400)))
    cover = host[begins : begins + 400]
    share = rng.choice((0.25, 0.5))
    count = min(len(listed), max(20, int(len(cover) * share / (1.0 - share))))
    hidden = listed[:count]
    hidden["time"] = cover["time"][rng.integers(0, len(cover), count)] + rng.integers(0, 900_000, count)
    events = np.concatenate([cover, hidden])
    return Stream("mixed", events[np.argsort(events["time"], kind="stable")], 0)
