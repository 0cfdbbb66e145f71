"""What hostile records cost: milliseconds a record from its bytes to its account's state and what goes out for it.

    python -m tests.bench.hostile [--records 10000] [--seed 4]

Each record is taken alone through `Ingest`, the engine and `Outputs`, so that no other shares its bill; in a worker
they come in batches and cost less. The worst that a record within the size limit can be is measured besides. Ends with
status 1 when the p99 of a kind is beyond `bound_ms`: its cost grows faster than its size, or a step got much slower.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from detectors.baseline import load_default
from detectors.embedding import load_wordllama
from detectors.engine import Engine
from schemas.request import RequestLimits
from streams.ingest import Ingest
from streams.metrics import Metrics
from streams.scoring import Outputs
from streams.settings import load_settings
from streams.topics import TopicNames
from streams.transport.partitioner import Partitioner
from tests.property.hostile.grammar import records

NOW = 1_767_571_200_000
SHOWN = 12
PARTITIONS = 12

BOUND_MS = 50.0
"""A record of no size may cost this at p99: a fraction of a millisecond is usual, the rest is other processes' turn on
a machine of two shared cores."""

BOUND_MS_PER_MEGABYTE = 250.0
"""And a megabyte of value and headers so much more. A key is compared and passed on: its size costs nothing."""


class _Sent(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Any] = ()
    topic: str = "requests"
    partition: int = 0
    timestamp: int = NOW + 3_600_000


class _Kind(NamedTuple):
    """What a kind of records cost: milliseconds of each, and bytes of the largest but for its key."""

    name: str
    costs: list[float]
    largest: int

    @property
    def p99(self) -> float:
        return float(np.percentile(self.costs, 99))


def bound_ms(size: int) -> float:
    """What the p99 of a kind may be whose largest record has so many bytes beside its key."""
    return BOUND_MS + BOUND_MS_PER_MEGABYTE * size / 1e6


def worst_keys(size: int = RequestLimits().record_bytes - 200) -> Iterator[tuple[str, bytes, bytes]]:
    """Kind, key and value of records whose key is nearly of the largest size."""
    stray = b'{"time": %d, "account": "a", "prompt": "x"}' % NOW
    yield "a key, on a record to send back", b"k" * size, stray
    yield "a key, on a dead letter", b"k" * size, b"{"
    yield "a key, on a tombstone", b"k" * size, b""


def worst_records(size: int = RequestLimits().record_bytes - 200) -> Iterator[tuple[str, bytes]]:
    """Records of nearly the largest size, each made to keep one part of the reading busy."""

    def event(rest: bytes) -> bytes:
        return b'{"time": %d, "account": "a", ' % NOW + rest + b"}"

    half = size // 2
    yield "brackets, closed", event(b'"x": ' + b"[" * half + b"]" * half)
    yield "brackets, open", event(b'"x": ' + b"[" * size)
    yield "objects in objects", event(b'"x": ' + b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6))
    yield "empty lists", event(b'"x": [' + b"[]," * (size // 3 - 9) + b"[]]")
    yield (
        "strings below the limit of depth",
        event(b'"x": ' + b"[" * 99 + b'"",' * (size // 3 - 99) + b'""' + b"]" * 99),
    )
    yield "lone surrogates", event(b'"prompt": "' + b"\\ud83d" * (size // 6 - 9) + b'"')
    yield "bytes that are no UTF-8", event(b'"prompt": "' + b"\xff" * (size // 3 - 9) + b'"')
    yield "one long word", event(b'"prompt": "' + b"a" * (size - 99) + b'"')
    yield "spaces", event(b'"prompt": "x' + b" " * (size - 99) + b'"')
    yield "empty messages", event(b'"prompt": [' + b"{}," * (size // 3 - 40) + b"{}]")
    yield "empty parts", event(b'"prompt": [{"content": [' + b"{}," * (size // 3 - 40) + b"{}]}]")
    yield "texts", event(b'"prompt": [' + b'"",' * (size // 3 - 40) + b'"x"]')
    yield "token ids", event(b'"prompt": [' + b"1," * (half - 40) + b"1]")
    yield "links", event(b'"links": {' + b",".join(b'"%07d":""' % i for i in range(size // 13)) + b"}")
    yield "unknown fields", event(b",".join(b'"%07d":""' % i for i in range(size // 13)))
    yield "digits", event(b'"temperature": 1.' + b"1" * (size - 99))
    yield "a long embedding", event(b'"embedding": [' + b"1," * (half - 40) + b"1]")


class Taker:
    """A worker's way from a record to what goes out for it, without brokers."""

    def __init__(self) -> None:
        names, partitions, baseline = TopicNames.of(load_settings()), Partitioner(), load_default()
        for topic in names:
            partitions.learn(topic, PARTITIONS)
        self._ingest = Ingest(
            encoder=baseline.encoder,
            embedder=load_wordllama(),
            expected_partition=lambda key: partitions(names.requests, key) % 1,  # whatever its key is, it lies on 0
        )
        self._engine = Engine(baseline, capacity=1_000)
        self._outputs = Outputs(names, partitions, Metrics(), redact=False)

    def cost(self, record: _Sent) -> float:
        """Milliseconds that a record takes."""
        begin = perf_counter()
        done = self._ingest([record])
        alerts = self._engine.apply(0, done.batch) if len(done.batch) else []
        for alert in alerts:
            self._outputs.alert(alert)
        for dead in done.dead:
            self._outputs.dead_letter(dead)
        for misplaced, account in done.misplaced:
            self._outputs.rekeyed(misplaced, account)
        return 1_000 * (perf_counter() - begin)


def measure(count: int, seed: int) -> list[_Kind]:
    """The cost of so many records of the grammar, kind by kind, the dearest first."""
    taker = Taker()
    for record in records(seed + 1, 500, NOW, with_large=False):
        taker.cost(_Sent(0, record.key, record.value, record.headers))
    costs: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for at, record in enumerate(records(seed, count, NOW), 1):
        kind, sent = record.kind.removeprefix("again "), _Sent(at, record.key, record.value, record.headers)
        costs[kind].append(taker.cost(sent))
        sizes[kind] = max(sizes[kind], _size(sent))
    kinds = [_Kind(kind, of_kind, sizes[kind]) for kind, of_kind in costs.items()]
    return sorted(kinds, key=lambda kind: -kind.p99)


def measure_worst(repeats: int) -> list[_Kind]:
    """The cost of the worst records that fit the size limit."""
    taker = Taker()
    worst = [*((name, b"a", value) for name, value in worst_records()), *worst_keys()]
    for record in records(1, 200, NOW, with_large=False):
        taker.cost(_Sent(0, record.key, record.value, record.headers))
    kinds = []
    for name, key, value in worst:
        # Each key another one: a hash that is remembered costs nothing the second time.
        sent = [_Sent(i, key if key == b"a" else b"%d" % i + key, value) for i in range(1, repeats + 1)]
        kinds.append(_Kind(name, [taker.cost(record) for record in sent], max(map(_size, sent))))
    return kinds


def _size(record: _Sent) -> int:
    return len(record.value or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)


def main() -> int:
    """Measure, print, and say with the status whether every kind kept to its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=4)
    given = parser.parse_args()
    kinds = measure(given.records, given.seed)
    worst = measure_worst(5)
    _print("kind (dearest first)", kinds[:SHOWN])
    print()
    _print("a record of a megabyte", worst)
    over = [kind for kind in (*kinds, *worst) if kind.p99 > bound_ms(kind.largest)]
    everything = [cost for kind in kinds for cost in kind.costs]
    median, high = np.percentile(everything, [50, 99])
    print(
        f"\n{len(everything)} records of {len(kinds)} kinds: median {median:.3f} ms, p99 {high:.2f} ms a record; the "
        f"dearest record of a megabyte {max((kind.p99 for kind in worst), default=0):.0f} ms. Bound of a kind's p99: "
        f"{BOUND_MS:.0f} ms and {BOUND_MS_PER_MEGABYTE:.0f} ms a megabyte. Beyond it: "
        + (", ".join(kind.name for kind in over) or "none")
    )
    return 1 if over else 0


def _print(title: str, kinds: Sequence[_Kind]) -> None:
    print(f"{title:44} {'records':>8} {'bytes':>9} {'median ms':>10} {'p99 ms':>10} {'most ms':>10} {'bound ms':>10}")
    for kind in kinds:
        print(
            f"{kind.name:44} {len(kind.costs):8} {kind.largest:9} {np.median(kind.costs):10.3f} {kind.p99:10.2f} "
            f"{max(kind.costs):10.2f} {bound_ms(kind.largest):10.0f}"
        )


if __name__ == "__main__":
    sys.exit(main())
