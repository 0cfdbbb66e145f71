"""A million account ids that nobody has seen before, in ten minutes: what it costs in memory, and who is forgotten.

    python -m tests.bench.flood [--accounts 1000000] [--known 5000] [--slab-rows 20000] [--max-accounts 100000]
                                [--store memory|rocksdict]

Records take the way of a worker, but for the broker: bytes, `Ingest` with its partitioner, the engine, checkpoints into
the store, deletions handed out. Beside the flood some known accounts go on: *busy* ones
send a request every now and then, *idle* ones sent one before it and none since.

The bound. What a worker holds grows with settings, never with the number of accounts that were ever seen:

    slab_rows x account.DTYPE              a row each; the slab is allocated at start
    max_accounts x (state + 350)         the memory store: state, key, entries in two dictionaries
    2 x unsaved x (state + 350)          changed states: of the last checkpoint (kept until the next) and of this one;
                                         each at most half the slab and a batch
    unsaved x (account id + 250)         forgotten accounts, to be deleted from the changelog; 100,000 at most
     20,000 x (account id + 250)         hashes of keys, for the partitioner

With rocksdict nobody is forgotten; in place of the second line are its block cache and two write buffers of 16 MiB.
A state has at most `state.MAX_BYTES` (about 4 KB); one of a single request has 200 to 300 bytes. A tenth is added for
what the allocator cannot give back. The script ends with status 1 when more is taken than the bound says.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import orjson

from detectors import account, state
from detectors.baseline import load_default
from detectors.engine import Engine
from streams.ingest import Ingest
from streams.service import SLAB_SHARE
from streams.settings import load_settings
from streams.state_table import WRITE_BUFFER_BYTES, Store
from streams.stores.memory import MAX_FORGOTTEN_WAITING, MemoryStore
from streams.stores.rocks import RocksStore
from streams.transport.partitioner import CACHED_KEYS, positive_murmur2

START_MS = 1_767_571_200_000
FLOOD_MS = 10 * 60 * 1000
ENTRY_BYTES = 350
KEY_BYTES = 250
ALLOCATOR_SHARE = 1.1
MEGABYTE = 1 << 20
PARTITION = 0


class _Sent(NamedTuple):
    offset: int
    key: bytes
    value: bytes
    timestamp: int
    topic: str = "requests"
    partition: int = PARTITION
    headers: Sequence[tuple[str, bytes]] = ()


class Flood:
    """A worker's engine and memory store, one partition of them, fed with requests that are made here.

    Attributes
    ----------
    most_rows, most_stored, most_waiting
        The most accounts that the engine, the store, and the two on their way to the store held at once.
    largest_state
        Bytes of the largest state that was stored.
    deleted
        Forgotten accounts that were handed out for deletion from the changelog.
    """

    def __init__(
        self,
        *,
        slab_rows: int,
        max_accounts: int,
        batch: int = 2_000,
        total: int = 1_000_000,
        folder: Path | None = None,
    ) -> None:
        self.store = _memory_store(max_accounts) if folder is None else _rocks_store(folder)
        self.engine = Engine(load_default(), lookup=self.store.raw_get, capacity=slab_rows)
        encoder = self.engine.baseline.encoder
        self._ingest = Ingest(encoder=encoder, embedder=None, expected_partition=lambda key: positive_murmur2(key) % 1)
        self._batch = batch
        self._max_states = max(1, int(slab_rows * SLAB_SHARE))
        self._step_ms = FLOOD_MS / total
        vectors = np.random.default_rng(1).normal(size=(997, encoder.dimension)).astype("<f2")
        self._embeddings = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        self._offset = 0
        self.most_rows = self.most_stored = self.most_waiting = self.largest_state = self.deleted = 0

    def request(self, names: Iterable[str]) -> None:
        """One request of each account, with checkpoints where a worker has them."""
        names = iter(names)
        while some := list(islice(names, self._batch)):
            done = self._ingest([self._sent(name) for name in some])
            assert len(done.batch) == len(some)
            self.engine.apply(PARTITION, done.batch)
            self.most_rows = max(self.most_rows, self.engine.accounts)
            self.most_waiting = max(self.most_waiting, self.engine.pending())
            if self.engine.pending() >= self._max_states:
                self.checkpoint()

    def checkpoint(self) -> None:
        """Store what changed; deletions of what was forgotten go out with the next one, as in a worker."""
        self.deleted += len(self.store.take_forgotten(PARTITION))
        states = dict(self.engine.snapshot(PARTITION))
        self.largest_state = max(self.largest_state, max(map(len, states.values()), default=0))
        self.store.raw_write(PARTITION, states, None)
        self.most_stored = max(self.most_stored, self.store.accounts())

    def requests_of(self, name: str) -> int:
        """Requests that an account's stored state has counted, 0 when it is forgotten."""
        envelope = self.store.raw_get(PARTITION, name.encode())
        if envelope is None:
            return 0
        return int(state.unseal(envelope, self.engine.baseline.encoder.hash)["header"]["requests"][0])

    def _sent(self, name: str) -> _Sent:
        time_ms = START_MS + int(self._offset * self._step_ms)
        event = {"time": time_ms, "account": name, "embedding": self._embeddings[self._offset % len(self._embeddings)]}
        self._offset += 1
        return _Sent(self._offset, name.encode(), orjson.dumps(event), time_ms)


def _memory_store(max_accounts: int) -> Store:
    table: Any = SimpleNamespace(name="flood")
    return MemoryStore("memory://", cast(Any, SimpleNamespace()), table, table_name="flood", max_accounts=max_accounts)


def _rocks_store(folder: Path) -> Store:
    app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=folder, table_key_index_size=1))
    table: Any = SimpleNamespace(name="flood", is_global=True, use_partitioner=False)
    options = {
        "driver": "rocksdict",
        "block_cache_size": load_settings().rocksdict_cache_mib * MEGABYTE,
        "write_buffer_size": WRITE_BUFFER_BYTES,
        "max_write_buffer_number": 2,
    }
    return RocksStore("rocksdb://", app, table, table_name="flood", options=options)


def row_bytes() -> int:
    """Bytes of a row of the slab."""
    return int(account.DTYPE.itemsize)


def bound_bytes(
    *, slab_rows: int, max_accounts: int, batch: int, state_bytes: int, name_bytes: int, store_bytes: int = 0
) -> int:
    """What a worker's states may take in memory at most, when no state is larger than `state_bytes`.

    `max_accounts` 0 and `store_bytes` for a store on disk.
    """
    unsaved = int(slab_rows * SLAB_SHARE) + batch
    states = (max_accounts + 2 * unsaved) * (state_bytes + ENTRY_BYTES)
    keys = (min(unsaved, MAX_FORGOTTEN_WAITING) + CACHED_KEYS) * (name_bytes + KEY_BYTES)
    return int(ALLOCATOR_SHARE * (slab_rows * row_bytes() + states + store_bytes + keys))


def resident_bytes() -> int:
    """Resident memory of this process now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flood and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--known", type=int, default=5_000)
    parser.add_argument("--slab-rows", type=int, default=20_000)
    parser.add_argument("--max-accounts", type=int, default=100_000)
    parser.add_argument("--store", choices=("memory", "rocksdict"), default="memory")
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        return _run(given, Path(folder) if given.store == "rocksdict" else None)


def _run(given: Any, folder: Path | None) -> int:
    batch, every = 2_000, 10_000
    warm = Flood(slab_rows=100, max_accounts=100)
    warm.request(f"warm-{i}" for i in range(1_000))
    before = resident_bytes()
    flood = Flood(
        slab_rows=given.slab_rows, max_accounts=given.max_accounts, batch=batch, total=given.accounts, folder=folder
    )
    idle = [f"idle-{i:07}" for i in range(given.known)]
    busy = [f"busy-{i:07}" for i in range(given.known)]
    flood.request(idle)
    most, started = before, time.perf_counter()
    for begin in range(0, given.accounts, every):
        flood.request(busy)
        flood.request(f"flood-{i:012x}-{i * 2654435761 % 2**32:08x}" for i in range(begin, begin + every))
        most = max(most, resident_bytes())
    flood.checkpoint()
    took = time.perf_counter() - started
    return _report(given, flood, batch, most - before, took)


def _report(given: Any, flood: Flood, batch: int, grown: int, took: float) -> int:
    sizes = {"slab_rows": given.slab_rows, "max_accounts": given.max_accounts, "batch": batch}
    if given.store == "rocksdict":
        cache = load_settings().rocksdict_cache_mib * MEGABYTE
        sizes |= {"max_accounts": 0, "store_bytes": cache + 2 * WRITE_BUFFER_BYTES}
    bound = bound_bytes(**sizes, state_bytes=flood.largest_state, name_bytes=32)
    worst = bound_bytes(**sizes, state_bytes=state.MAX_BYTES, name_bytes=1_024)
    counters = flood.engine.counters
    kept_busy = sum(flood.requests_of(f"busy-{i:07}") > 1 for i in range(given.known))
    kept_idle = sum(flood.requests_of(f"idle-{i:07}") > 0 for i in range(given.known))
    lines = {
        "requests": f"{counters.events:,} in {took:.0f} s ({counters.events / took:,.0f} a second)",
        "memory taken": f"{grown / MEGABYTE:.0f} MiB; bound {bound / MEGABYTE:.0f} MiB with states of at most "
        f"{flood.largest_state} bytes, {worst / MEGABYTE:.0f} MiB whatever they are",
        "accounts in the slab": f"{flood.most_rows:,} at most; {counters.evictions:,} gave way",
        "accounts stored": f"{flood.most_stored:,} at most; {flood.store.forgotten:,} forgotten, "
        f"{flood.deleted:,} handed out for deletion",
        "changed states waiting": f"{flood.most_waiting:,} at most",
        "known and busy": f"{kept_busy:,} of {given.known:,} kept their state",
        "known and idle": f"{kept_idle:,} of {given.known:,} kept their state",
    }
    for name, value in lines.items():
        print(f"{name:24} {value}")
    return 0 if grown <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
