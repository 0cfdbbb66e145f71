"""States on disk, in RocksDB: a restart reads only what it missed from the changelog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from faust.stores import rocksdb
from faust.types import TP
from rocksdict import WriteBatch

from detectors.state import fence_of
from streams.exit_codes import ExitCode
from streams.logs import FAUST
from streams.stores.newer import Erasures, Forgotten, Overwritten, newest

ESTIMATED_KEYS = "rocksdb.estimate-num-keys"
SIZES = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")


CORRUPTION = "Corruption"
"""How RocksDB begins to say that what it reads is not what it wrote."""

HELD = "/LOCK: "
"""What RocksDB's error holds, before its reason, when another process has the database; paths may hold "lock" too."""


class StoreError(OSError):
    """The store on disk cannot be read or written; the worker was told why, and to end.

    Says no more itself: Faust looks for "lock" in an error, and waits for half a minute when it finds a "block".
    """


class RocksStore(rocksdb.Store):
    """Faust's rocksdict store with raw access. Faust opens and closes the database of each partition."""

    logger = FAUST
    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._erasures: defaultdict[int, Erasures] = defaultdict(Erasures)
        self._overwritten: defaultdict[int, Overwritten] = defaultdict(Overwritten)
        self.late_writes = 0
        self.forgotten = 0
        self._swept_to: dict[int, bytes] = {}

    def persisted_offset(self, tp: TP) -> int | None:
        """Why overridden: an error is the disk's, as everywhere here."""
        with self._failing():
            return super().persisted_offset(tp)

    def _open_for_partition(self, partition: int) -> Any:
        """Why overridden: an error is the disk's, unless another process has the database: Faust waits for that."""
        try:
            return super()._open_for_partition(partition)
        except Exception as error:
            if HELD in str(error) and CORRUPTION not in str(error):
                raise
            raise self._failed(error) from error

    def accounts(self) -> int:
        """Number of states, as RocksDB estimates it: counting them would read everything."""
        with self._failing():
            estimates = [database.property_int_value(ESTIMATED_KEYS) or 0 for database in self._dbs.values()]
        return sum(max(0, estimate - 1) for estimate in estimates)

    def bytes_held(self) -> int:
        """Size of the files and of what is not in them yet."""
        with self._failing():
            return sum(database.property_int_value(size) or 0 for database in self._dbs.values() for size in SIZES)

    def raw_get(self, partition: int, account: bytes) -> bytes | None:
        """Envelope of an account of a partition."""
        with self._failing():
            return cast(bytes | None, self._db_for_partition(partition).get(account))

    def raw_write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Take over states that the changelog holds, and the restore point with them in one write."""
        batch = WriteBatch(raw_mode=True)
        for account, envelope in states.items():
            if envelope is None:
                batch.delete(account)
            else:
                batch.put(account, envelope)
        if offset is not None:
            batch.put(self.offset_key, str(offset).encode())
        with self._failing():
            self._db_for_partition(partition).write(batch)

    def raw_apply(self, partition: int, records: Sequence[Any]) -> None:
        """Take over records of the changelog."""
        with self._failing():
            database = self._db_for_partition(partition)
            known = {record.key: database.get(record.key) for record in records}
        read = newest(records, known, self._erasures[partition])
        overwritten = self._overwritten[partition]
        self.late_writes += read.late
        overwritten.follow(read)
        # A worker that dies before it has written those once more has to read of them again.
        self.raw_write(partition, read.changed, None if overwritten else records[-1].offset)

    def sweep(self, partition: int, count: int) -> dict[bytes, bytes]:
        """The next states of a partition, in the order of their keys."""
        with self._failing():
            items = self._db_for_partition(partition).items(from_key=self._swept_to.pop(partition, None))
            looked_at = list(islice(items, count + 1))
        if len(looked_at) > count:
            self._swept_to[partition], _ = looked_at.pop()
        return {account: envelope for account, envelope in looked_at if account != self.offset_key}

    def note_erased(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Accounts were erased on order, as these envelopes say: states that have not seen more must not come back."""
        for account, state in states.items():
            self._erasures[partition].note(account, fence_of(state))

    def take_forgotten(self, partition: int) -> Forgotten:
        """Erased accounts of which late states came; this store forgets none by itself."""
        late = self._erasures[partition].take_late()
        return {account: fence for account, fence in late.items() if self.raw_get(partition, account) is None}

    def give_back_forgotten(self, partition: int, forgotten: Forgotten) -> None:
        """Their deletion did not go through: to be taken again."""
        self._erasures[partition].give_back_late(forgotten)

    def take_overwritten(self, partition: int) -> dict[bytes, bytes]:
        """States that stand, of accounts whose last record on the changelog is a late one."""
        accounts = self._overwritten[partition].take()
        return {account: state for account in accounts if (state := self.raw_get(partition, account)) is not None}

    def give_back_overwritten(self, partition: int, accounts: Iterable[bytes]) -> None:
        """They were not written: to be taken again."""
        self._overwritten[partition].add(accounts)

    def drop(self, partition: int) -> None:
        """Forget how far a partition is swept; Faust closes its database."""
        self._swept_to.pop(partition, None)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Around whatever RocksDB does: its errors end the worker."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # rocksdict has no type of its own
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        """Tell the worker to end. The changelog has all that is in the store, and nothing counts that is not saved."""
        where = f"data_dir {self.app.settings.data_dir}: the store of states"
        if CORRUPTION in str(error):
            reason = f"{where} cannot be read. Delete data_dir, the changelog has all of it: {error}"
            self.app.fatal(reason, ExitCode.INPUT)
        else:  # a full disk, mostly; what is on it stays whole
            self.app.fatal(f"{where} cannot be read or written: {error}", ExitCode.TEMPORARY)
        return StoreError("the store of states failed: the worker ends")
