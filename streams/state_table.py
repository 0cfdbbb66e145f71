"""The table of account states: account to envelope, both raw bytes, read and written past Faust's event path."""

from __future__ import annotations

from typing import Any

import faust

from streams.logs import FAUST
from streams.stores.memory import MemoryStore
from streams.stores.rocks import RocksStore

Store = MemoryStore | RocksStore

WRITE_BUFFER_BYTES = 16 * 1024 * 1024
"""Memtable of each partition. Faust's default is three of 64 MiB and a cache of 2 GiB, for each partition."""


class StateTable(faust.Table[bytes, bytes]):
    """Faust's table on our stores.

    Scoring reads `data.raw_get`, the checkpoint writes `data.raw_write`, recovery `data.raw_apply`: Faust's own way
    costs an event, a decoder and a future for each state.
    """

    app: Any
    logger = FAUST
    data: Store

    def _new_store(self) -> Store:
        """Why overridden: Faust picks its store by a URL, and ours have limits of their own."""
        settings = self.app.settings
        common: dict[str, Any] = {
            "table_name": self.name,
            "key_type": self.key_type,
            "key_serializer": self.key_serializer,
            "value_serializer": self.value_serializer,
            "value_type": self.value_type,
            "loop": self.loop,
        }
        if settings.store == "memory":
            return MemoryStore("memory://", self.app, self, max_accounts=settings.max_accounts, **common)
        options = {
            "driver": "rocksdict",
            "block_cache_size": settings.rocksdict_cache_mib * 1024 * 1024,
            "write_buffer_size": WRITE_BUFFER_BYTES,
            "max_write_buffer_number": 2,
        }
        return RocksStore("rocksdb://", self.app, self, options=options, **common)
