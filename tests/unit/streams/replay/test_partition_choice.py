"""Which partitions a text means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.partition_choice import partition_choice


@given(count=st.integers(0, 200), readers=st.integers(1, 50))
def test_the_shares_of_all_readers_have_every_partition_once(count: int, readers: int) -> None:
    shares = [partition_choice(f"{reader}/{readers}")(count) for reader in range(readers)]
    assert sorted(number for share in shares for number in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_numbers_may_repeat_and_come_in_any_order() -> None:
    assert partition_choice(" 5, 1-3,2 ")(6) == [1, 2, 3, 5]


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "1,,2", "-1", "1/0", "4/4", "1/2/3", "1.5", "9999999"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"partition|share"):
        partition_choice(text)
