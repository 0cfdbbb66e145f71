"""A store on disk without a worker around it, and damage done to its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streams.exit_codes import ExitCode
from streams.stores.rocks import RocksStore


def rocks_store(folder: Path, fatal: Callable[[str, ExitCode], Any] = lambda reason, code: None) -> RocksStore:
    """A store of states in a folder, which tells `fatal` of its end."""
    app = SimpleNamespace(
        settings=SimpleNamespace(data_dir=folder),
        conf=SimpleNamespace(tabledir=folder, table_key_index_size=10),
        fatal=fatal,
    )
    options = {"driver": "rocksdict"}
    return RocksStore("rocksdb://", app, SimpleNamespace(name="t"), table_name="t", options=options)


def close(store: RocksStore) -> None:
    """Write what is in memory into files, and close them."""
    while store._dbs:
        _, database = store._dbs.popitem()
        database.flush()
        database.close()


def flip_bytes(folder: Path, share: float) -> None:
    """Flip all bytes of the first share of every file of states. The end of a file is read when it is opened."""
    files = list(folder.rglob("*.sst"))
    assert files
    for file in files:
        content = file.read_bytes()
        until = int(share * len(content))
        file.write_bytes(bytes(byte ^ 0xFF for byte in content[:until]) + content[until:])
