"""When requests are sent: people, programs, services. Times are epoch milliseconds, ascending."""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random

START = 1_767_571_200_000
"""Monday 2026-01-05T00:00:00Z."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def clock(begin: float, count: int, gap_seconds: float, jitter: float, rng: Random) -> list[int]:
    """A program that sends every so often, each gap off by up to `jitter` of itself."""
    gaps = (gap_seconds * SECOND * (1 + rng.uniform(-jitter, jitter)) for _ in range(count))
    return [int(begin + t) for t in accumulate(gaps)]


def workers(begin: float, count: int, gap_seconds: float, rng: Random) -> list[int]:
    """A program of one to four workers that send again when they have their answer, and pause now and then."""
    number = rng.randint(1, 4)
    at = [begin + rng.uniform(0, MINUTE) for _ in range(number)]
    times = []
    for i in range(count):
        pause = rng.expovariate(1 / (2 * HOUR)) if rng.random() < 0.01 else 0.0
        at[i % number] += rng.lognormvariate(math.log(gap_seconds * SECOND * number * 0.8), 0.7) + pause
        times.append(int(at[i % number]))
    return sorted(times)


def sittings(begin: float, days: int, per_day: float, rng: Random) -> list[list[int]]:
    """A person's sittings, each a list of times: waking hours, gaps of a minute that vary widely, days off."""
    wakes = rng.uniform(0, 24) * HOUR
    found = []
    for day in range(days):
        if rng.random() < 0.15:
            continue
        t, left = begin + day * DAY + wakes + rng.uniform(0, 3) * HOUR, rng.gauss(per_day, per_day * 0.4)
        while left >= 1:
            times = []
            for _ in range(min(int(left), rng.randint(2, 18))):
                t += min(rng.lognormvariate(math.log(60), 1.4), 2400) * SECOND
                times.append(int(t))
            left -= len(times)
            found.append(times)
            t += rng.lognormvariate(math.log(1.5), 0.7) * HOUR
    return in_order(found)


def in_order(found: list[list[int]]) -> list[list[int]]:
    """Sittings one after the other, those cut that begin before the last one has ended."""
    kept: list[list[int]] = []
    for times in sorted(found):
        fresh = [t for t in times if not kept or t > kept[-1][-1]]
        if fresh:
            kept.append(fresh)
    return kept


def busy_hours(begin: float, days: float, count: int, rng: Random) -> list[int]:
    """About `count` requests of many independent users: busy by day, quiet by night."""
    peak = rng.uniform(0, 24)
    found: list[int] = []
    while len(found) < count:
        t = rng.uniform(0, days * DAY)
        busy = 0.2 + 0.4 * (1 + math.cos((t / HOUR - peak) / 24 * 2 * math.pi))
        if rng.random() < busy:
            found.append(int(begin + t))
    return sorted(found)


def office(begin: float, count: int, per_day: float, rng: Random) -> list[int]:
    """Requests in the office hours of working days."""
    zone, day = rng.choice((-8, -5, 0, 1, 5.5, 8)), 0
    found: list[int] = []
    while len(found) < count:
        if day % 7 < 5:
            today = max(1, round(rng.gauss(per_day, per_day * 0.2)))
            found += [int(begin + day * DAY + (9 - zone + rng.betavariate(2, 2) * 9) * HOUR) for _ in range(today)]
        day += 1
    return sorted(found[:count])
