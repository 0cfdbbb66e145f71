"""Orders among the request events: a record that asks to forget an account.

An order has the key of its account, no value, and one header. Its place among the account's requests on their topic
says exactly what is to be forgotten: everything before it. A record with neither a value nor the header is no order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.request import is_account

ORDER_HEADER: Final = "stillwatch-order"
FORGET: Final = b"forget"


def forget_headers() -> list[tuple[str, bytes]]:
    """Headers of an order to forget the account that is the record's key."""
    return [(ORDER_HEADER, FORGET)]


def account_to_forget(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
) -> str | None:
    """The account that a record orders to forget, None when it is no order.

    Examples
    --------
    >>> account_to_forget(b"acct-17", None, forget_headers())
    'acct-17'
    >>> account_to_forget(b"acct-17", None, []), account_to_forget(b"acct-17", b"{}", forget_headers())
    (None, None)
    """
    if key is None or value is not None or (ORDER_HEADER, FORGET) not in headers:
        return None
    try:
        account = key.decode()
    except UnicodeDecodeError:
        return None
    return account if is_account(account) else None
