"""Orders to forget an account, met among its requests: found, and kept in runs of their own.

Why on the topic of the requests, and not a deletion on the state topic: only there has the order a place among the
account's requests, and so a meaning that does not depend on who reads when. A deletion written past the workers would
race them: a worker holds states in memory and writes them anew, and one that has gone on meanwhile would lose what came
after. As a record the order is carried out once by whoever owns the partition, whether it runs now or starts next week,
again after a crash, and by a replay in the same place.

What a worker does with it: saves and commits what came before, so that none of it is ever read again; drops the
account's record; writes a deletion with the next checkpoint, which carries the order's place as its fence
(`streams.stores.newer`). Requests behind the order meet no record, and start a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from schemas.order import account_to_forget


def order_of(record: Any) -> str | None:
    """The account that a record (as `streams.ingest.Record`) orders to forget, None when it is no order."""
    return None if record.value is not None else account_to_forget(record.key, None, record.headers)


def runs(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Records in their order, cut where orders and requests meet."""
    if None not in [record.value for record in records]:
        if records:
            yield records
        return
    for _, run in groupby(records, key=lambda record: order_of(record) is not None):
        yield list(run)
