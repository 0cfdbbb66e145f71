"""Accounts made by code: what detectors see of people, services and lists, with no text behind it.

Codes stand for embeddings. A person stays with a topic for a while and comes back to old ones, a service is asked
popular things again and again, a list is worked off in no order and never repeats.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import rivals
from detectors.account import FEATURES, F
from detectors.baseline import QUANTILE_LEVELS, QUANTILE_LOOKS, Baseline, Provenance
from detectors.calibration import calibrate
from detectors.encoder import Encoder, rotation_signs
from detectors.events import BITS, EVENT_DTYPE, FAILED, WORDS, EventBatch

Events = NDArray[Any]
Codes = NDArray[np.uint64]

START = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def generator(seed: int) -> np.random.Generator:
    """Chance that is the same every time."""
    return np.random.default_rng(seed)


def random_codes(n: int, rng: np.random.Generator) -> Codes:
    """Codes of unrelated requests, about `events.UNRELATED` bits apart."""
    return rng.integers(0, 2**64, (n, WORDS), np.uint64)


def near(codes: Codes, bits: int, rng: np.random.Generator) -> Codes:
    """Each code with about `bits` of its bits flipped."""
    flips = np.packbits(rng.random((len(codes), BITS)) < bits / BITS, axis=1).view(np.uint64)
    return codes ^ flips


def events_of(
    codes: Codes,
    times: NDArray[np.int64],
    *,
    length: Any = 200.0,
    output_tokens: Any = 300,
    end_user: Any = 0,
    first_offset: int = 0,
    account: str = "",
) -> Events:
    """Events with these codes; identities differ from each other and from those of other accounts' names."""
    events = np.zeros(len(codes), EVENT_DTYPE)
    events["code"] = codes
    events["time"] = times
    events["length"] = length
    events["output_tokens"] = output_tokens
    events["end_user"] = end_user
    events["offset"] = first_offset + np.arange(len(codes))
    events["identity"] = 1 + zlib.crc32(account.encode()) * 1_000_003 + np.arange(len(codes))
    return events


def person_times(n: int, rng: np.random.Generator, start: int = START) -> NDArray[np.int64]:
    """Times of somebody who asks a few things in a row, pauses, and sleeps."""
    gaps = np.where(rng.random(n) < 0.85, rng.lognormal(4.0, 1.0, n), rng.lognormal(9.0, 1.2, n))
    return np.asarray(start + np.cumsum(gaps * 1000.0), np.int64)


def clock_times(n: int, rng: np.random.Generator, start: int = START, seconds: float = 120.0) -> NDArray[np.int64]:
    """Times of a program that asks every so often, with a little jitter."""
    return np.asarray(start + np.cumsum(seconds * (1.0 + 0.1 * rng.random(n))) * 1000.0, np.int64)


def person(n: int, seed: int, *, topics: int = 12, stay: int = 10, **columns: Any) -> Events:
    """Somebody of `topics` topics, `stay` requests at a time on one, whose prompts' lengths come in runs."""
    rng = generator(seed)
    own = near(np.repeat(random_codes(1, rng), topics, axis=0), 45, rng)
    visits = rng.integers(0, topics, n // stay + 1)
    topic = np.repeat(visits, stay)[:n]
    lengths = np.repeat(rng.lognormal(4.2, 0.9, n // stay + 1), stay)[:n] * rng.uniform(0.7, 1.4, n)
    columns = {"length": lengths, "output_tokens": rng.integers(20, 900, n)} | columns
    return events_of(near(own[topic], 22, rng), person_times(n, rng), **columns)


def service(n: int, seed: int, *, questions: int = 400, **columns: Any) -> Events:
    """Many users who ask popular questions again: Zipf's law, no memory of order."""
    rng = generator(seed)
    asked = random_codes(questions, rng)
    popularity = 1.0 / np.arange(1, questions + 1)
    which = rng.choice(questions, n, p=popularity / popularity.sum())
    lengths = rng.lognormal(4.0, 0.6, questions)[which]
    columns = {"length": lengths, "output_tokens": rng.integers(50, 400, n)} | columns
    return events_of(asked[which], clock_times(n, rng, seconds=60.0), **columns)


def batch_job(n: int, seed: int, **columns: Any) -> Events:
    """A classifier: every text is new and every answer short."""
    rng = generator(seed)
    columns = {"length": rng.lognormal(5.0, 0.4, n), "output_tokens": rng.integers(1, 6, n)} | columns
    return events_of(random_codes(n, rng), clock_times(n, rng, seconds=5.0), **columns)


def listed(n: int, seed: int, *, start: int = START, **columns: Any) -> Events:
    """An extraction list: new prompts without an end, in no order, answered at length."""
    rng = generator(seed)
    columns = {"length": rng.lognormal(5.3, 0.5, n), "output_tokens": rng.integers(200, 900, n)} | columns
    return events_of(random_codes(n, rng), clock_times(n, rng, start), **columns)


def population(persons: int, services: int, jobs: int, *, requests: int = 160) -> list[Events]:
    """Organic accounts of a made-up provider."""
    made = [person(requests, 1000 + i, stay=6 + i % 12, topics=4 + i % 16) for i in range(persons)]
    made += [service(requests, 2000 + i, questions=100 + 40 * i) for i in range(services)]
    made += [batch_job(requests, 3000 + i) for i in range(jobs)]
    return made


def with_failures(events: Events, share: float, seed: int) -> Events:
    """The same events, of which a share failed."""
    failing = events.copy()
    failing["flags"] |= np.where(generator(seed).random(len(events)) < share, FAILED, 0).astype(np.uint32)
    return failing


def stream_of(accounts: dict[str, Events]) -> EventBatch:
    """All accounts' events as one partition's log, by time, with the log's offsets."""
    names = [name for name, events in accounts.items() for _ in range(len(events))]
    columns = np.concatenate(list(accounts.values()))
    order = np.argsort(columns["time"], kind="stable")
    columns = columns[order]
    columns["offset"] = np.arange(len(columns))
    return EventBatch([names[i] for i in order], [f"r{i}" for i in range(len(columns))], columns)


def part(batch: EventBatch, begin: int, end: int) -> EventBatch:
    """Some consecutive events of a log."""
    return EventBatch(batch.accounts[begin:end], batch.ids[begin:end], batch.columns[begin:end])


def cut(log: EventBatch, size: int) -> list[EventBatch]:
    """A log in batches of a size."""
    return [part(log, begin, begin + size) for begin in range(0, len(log), size)]


def concatenated(*batches: EventBatch) -> EventBatch:
    """Batches of one log, one after the other."""
    return EventBatch(
        [name for b in batches for name in b.accounts],
        [i for b in batches for i in b.ids],
        np.concatenate([b.columns for b in batches]),
    )


ENCODER = Encoder(np.zeros(8, np.float32), rotation_signs(8), "made up")


def plain_baseline(encoder: Encoder = ENCODER) -> Baseline:
    """A baseline set by hand: no memory of order and long answers speak for a list, and most accounts score below 0."""
    model = rivals.blank_model()
    for pair, statistics in rivals.PAIRS.items():
        k = list(rivals.PAIRS).index(pair)
        weights = model["weight"][0, k]
        if pair == "batch":
            weights[:, 0], weights[:, 1 + F["short"]] = 6.0, -12.0
        elif pair.startswith("person/memoryless"):
            weights[:, 0] = 5.0
            for name in ("vn_recent", "vn_session"):
                weights[:, 1 + F[name]] = 30.0
            weights[:, 1 + F["nearest_lag"]] = 1.5
        else:
            weights[:, 0] = -6.0
            for name, sign in statistics.items():
                weights[:, 1 + F[name]] = 0.1 * sign
    calibrate(model, generator(1).normal(-2.0, 1.0, (400, len(rivals.HEADS))))
    quantiles = {
        name: np.tile(np.linspace(0.0, 1.0, len(QUANTILE_LEVELS)), (len(QUANTILE_LOOKS), 1)) for name in FEATURES
    }
    return Baseline(encoder, model, 5.0, 400, 400, quantiles, Provenance(note="set by hand"))
