"""What hostile records cost: milliseconds a record from its bytes to its account's state, by kind.

    python -m tests.bench.hostile [--records 10000] [--seed 4]

Each record is taken alone through `Ingest` and the engine, so that no other shares its bill; in a worker they come in
batches and cost less. The worst that a record within the size limit can be is measured besides, kind by kind.
"""

from __future__ import annotations

import argparse
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
from streams.transport.partitioner import positive_murmur2
from tests.property.hostile.grammar import records

NOW = 1_767_571_200_000
SHOWN = 12


class _Sent(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Any] = ()
    topic: str = "requests"
    partition: int = 0
    timestamp: int = NOW + 3_600_000


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=4)
    given = parser.parse_args()
    baseline = load_default()
    ingest = Ingest(
        encoder=baseline.encoder, embedder=load_wordllama(), expected_partition=lambda key: positive_murmur2(key) % 1
    )
    engine = Engine(baseline, capacity=1_000)

    def cost(record: _Sent) -> float:
        begin = perf_counter()
        done = ingest([record])
        if len(done.batch):
            engine.apply(0, done.batch)
        return 1_000 * (perf_counter() - begin)

    for record in records(given.seed + 1, 500, NOW, with_large=False):
        cost(_Sent(0, record.key, record.value, record.headers))
    by_kind: dict[str, list[float]] = defaultdict(list)
    for at, record in enumerate(records(given.seed, given.records, NOW), 1):
        by_kind[record.kind.removeprefix("again ")].append(cost(_Sent(at, record.key, record.value, record.headers)))
    everything = [took for costs in by_kind.values() for took in costs]
    _print("kind (dearest first)", [("all kinds", everything)])
    dearest = sorted(by_kind.items(), key=lambda item: -float(np.percentile(item[1], 99)))
    _print(None, dearest[:SHOWN])
    worst = [(name, [cost(_Sent(10**6 + i, b"a", value)) for i in range(5)]) for name, value in worst_records()]
    print()
    _print("a record of a megabyte", worst)


def _print(title: str | None, rows: Sequence[tuple[str, list[float]]]) -> None:
    if title is not None:
        print(f"{title:44} {'records':>8} {'median ms':>10} {'p99 ms':>10} {'most ms':>10}")
    for name, costs in rows:
        median, high = np.percentile(costs, [50, 99])
        print(f"{name:44} {len(costs):8} {median:10.3f} {high:10.2f} {max(costs):10.2f}")


if __name__ == "__main__":
    main()
