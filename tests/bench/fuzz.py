"""A coverage-guided fuzzer of the way from bytes to rows: finds by itself what the grammar did not think of.

    uv pip install atheris          # Linux, Python 3.11 to 3.13; not among the packages of development
    python -m tests.bench.fuzz CORPUS_FOLDER -max_total_time=300 -rss_limit_mb=8000

The folder is filled with records of the grammar when it is empty; libFuzzer keeps there what reaches new code, and
writes an input that breaks a promise to `crash-…`. Promised is: nothing raises, one thing comes of a record, no fault
is ours (`internal`), details quote nothing, and rows hold numbers that the engine accepts. The memory it takes is
atheris's own, about 6 MB for 1,000 inputs: without it the same inputs take none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

# Not with what is below: compiled kernels cannot be instrumented.
from detectors.baseline import load_default
from detectors.embedding import load_wordllama

with atheris.instrument_imports(include=["schemas.request", "schemas.origin", "streams.ingest"]):
    from schemas.request import nesting, prune, repair_text
    from streams.ingest import Ingest

import numpy as np

from detectors.engine import Engine
from tests.property.hostile.grammar import records

NOW = 1_767_571_200_000
BASELINE = load_default()
INGEST = Ingest(encoder=BASELINE.encoder, embedder=load_wordllama(), expected_partition=lambda key: 0)
ENGINE = Engine(BASELINE, capacity=100)
MARKS = ("xyzzy", "accp")
LONGEST_DETAIL = 200


class _Sent(NamedTuple):
    offset: int
    value: bytes
    key: bytes | None
    headers: Sequence[Any] = ()
    topic: str = "requests"
    partition: int = 0
    timestamp: int = NOW + 3_600_000


_offset = 0


def one_input(data: bytes) -> None:
    """Take one record the whole way, and hold what came of it against what is promised."""
    global _offset
    _offset += 1
    done = INGEST([_Sent(_offset, data, b"accplugh-1")])
    assert len(done.batch) + len(done.dead) + len(done.misplaced) == 1
    for _, reason, detail in done.dead:
        assert reason != "internal", detail
        assert len(detail) <= LONGEST_DETAIL, detail
        assert not any(mark in detail for mark in MARKS), detail
        detail.encode()
    columns = done.batch.columns
    assert np.isfinite(columns["length"]).all()
    assert (columns["length"] >= 0).all()
    assert columns["identity"].all()
    for _, account in done.misplaced:
        INGEST([_Sent(_offset, data, account.encode())])
    ENGINE.apply(0, done.batch)
    assert repair_text(repair_text(data)) == repair_text(data)
    assert nesting(data) <= len(data)
    if nesting(data) > 2:
        assert len(prune(data, 2)) <= 2 * len(data)


def main() -> None:
    """Fill an empty corpus and fuzz."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if folders and not any(folders[0].iterdir()):
        for at, record in enumerate(records(4, 300, NOW, with_large=False)):
            if record.value and len(record.value) < 20_000:
                (folders[0] / f"grammar-{at}").write_bytes(record.value)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
