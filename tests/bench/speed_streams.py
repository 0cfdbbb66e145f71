"""The streams that `tests.bench.speed` runs on: simulated traffic of many accounts, in three kinds of record."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np
import orjson

from detectors.embedding import WordLlamaEmbedder
from streams.simulation.traffic import simulate

DAYS = 3
LONG_WORDS = 600
LONG_SHARE = 5
"""One request in so many is in the stream of long prompts, which take as much longer."""

Event = dict[str, Any]


class Stream(NamedTuple):
    """Request events as JSON lines, as they lie in a file."""

    name: str
    lines: bytes
    requests: int
    accounts: int

    @property
    def record_bytes(self) -> float:
        """Mean bytes of a record."""
        return len(self.lines) / self.requests - 1


def make_streams(
    *, requests: int, accounts: int, embedder: WordLlamaEmbedder, seed: int, advance: Callable[[], None]
) -> list[Stream]:
    """The first `requests` of simulated traffic with their embeddings, with their prompts, and with long prompts.

    All three tell of the same requests (the last one of every fifth), so their texts vary and recur alike. `advance`
    is called four times on the way.

    Raises
    ------
    ValueError
        So many accounts send fewer requests.
    """
    events = _events(requests, accounts, seed)
    advance()
    embedded = with_embeddings(events, embedder)
    advance()
    short = _stream("short prompts", events)
    advance()
    long = _stream("long prompts", _lengthened(events[::LONG_SHARE], Random(f"{seed}/long")))
    advance()
    return [embedded, short, long]


def _events(requests: int, accounts: int, seed: int) -> list[Event]:
    planted = max(1, accounts // 50)
    events = simulate(seed=seed, days=DAYS, organic=accounts - planted, planted=planted).events
    if len(events) < requests:
        raise ValueError(f"{accounts} accounts send {len(events)} requests in {DAYS} days, fewer than {requests}")
    return [with_the_usual_fields(event) for event in events[:requests]]


def with_the_usual_fields(event: Event) -> Event:
    """What gateways write beside what the simulation says."""
    account = event["account"]
    return event | {
        "org": _hex(account, "org"),
        "links": {kind: _hex(account, kind) for kind in ("payment", "ip")},
        "max_tokens": 4096,
        "temperature": 0.7,
        "stream": True,
    }


def _hex(*parts: str) -> str:
    return hashlib.blake2b("/".join(parts).encode(), digest_size=8).hexdigest()


def with_embeddings(events: list[Event], embedder: WordLlamaEmbedder) -> Stream:
    """The events with base64 float16 embeddings in place of their prompts."""
    made: dict[str, str] = {}
    for event in events:
        if event["prompt"] not in made:
            vector = embedder.embed([event["prompt"]])[0]
            made[event["prompt"]] = base64.b64encode(vector.astype("<f2").tobytes()).decode()
    return _stream(
        "embeddings",
        [
            {key: value for key, value in event.items() if key != "prompt"}
            | {"embedding": made[event["prompt"]], "embedding_model": embedder.name}
            for event in events
        ],
    )


def _lengthened(events: list[Event], rng: Random) -> list[Event]:
    """The events with other prompts after their own, up to `LONG_WORDS` words; the same prompt grows the same way."""
    texts = list(dict.fromkeys(event["prompt"] for event in events))
    long: dict[str, str] = {}
    for text in texts:
        parts, words = [text], len(text.split())
        while words < LONG_WORDS:
            parts.append(rng.choice(texts))
            words += len(parts[-1].split())
        long[text] = "\n".join(parts)
    return [event | {"prompt": long[event["prompt"]]} for event in events]


def _stream(name: str, events: list[Event]) -> Stream:
    lines = b"".join(orjson.dumps(event) + b"\n" for event in events)
    return Stream(name, lines, len(events), len({event["account"] for event in events}))


def mean_words(stream: Stream) -> float:
    """Mean words of the prompts, 0 when there are none."""
    return float(np.mean([len(orjson.loads(line).get("prompt", "").split()) for line in stream.lines.splitlines()]))
