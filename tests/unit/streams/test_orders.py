"""Orders to forget an account: what is one, and that they keep their place among the requests."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from schemas.order import forget_headers
from streams.orders import order_of, runs

ORDER = tuple(forget_headers())


class Sent(NamedTuple):
    offset: int
    key: bytes | None = b"acct"
    value: bytes | None = b"{}"
    headers: Any = ()


def order(offset: int, key: bytes | None = b"acct") -> Sent:
    return Sent(offset, key, None, ORDER)


def test_an_order_names_its_account() -> None:
    assert order_of(order(0, "zoë".encode())) == "zoë"


@pytest.mark.parametrize(
    "sent",
    [
        Sent(0),
        Sent(0, value=None),
        Sent(0, headers=ORDER),
        Sent(0, value=b"", headers=ORDER),
        Sent(0, value=None, headers=(("stillwatch-order", None),)),
        Sent(0, value=None, headers=(("stillwatch-order", b"remember"),)),
        order(0, None),
        order(0, b""),
        order(0, b"\xff"),
        order(0, b"two\nlines"),
        order(0, b"a" * 2000),
    ],
)
def test_what_is_no_order(sent: Sent) -> None:
    assert order_of(sent) is None


def test_orders_are_in_runs_of_their_own_and_nothing_moves() -> None:
    tombstone = Sent(6, value=None)
    records = [Sent(0), Sent(1), order(2), order(3, b"b"), Sent(4), order(5), tombstone, Sent(7)]
    cut = list(runs(records))
    assert [[record.offset for record in run] for run in cut] == [[0, 1], [2, 3], [4], [5], [6, 7]]
    assert [record for run in cut for record in run] == records


def test_records_without_an_order_are_one_run() -> None:
    records = [Sent(0), Sent(1)]
    assert list(runs(records)) == [records]
    assert list(runs([])) == []
