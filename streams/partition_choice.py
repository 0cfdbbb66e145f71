"""Which partitions of a topic somebody means: some by number, or a share of them all."""

from __future__ import annotations

import re
from collections.abc import Callable

PartitionChoice = Callable[[int], list[int]]
"""From the number of partitions of a topic to those that are meant, in order. Raises `ValueError`: one is not there."""

_SHARE = re.compile(r"(\d{1,6})/(\d{1,6})")
_NUMBERS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def all_partitions(count: int) -> list[int]:
    """Every partition."""
    return list(range(count))


def partition_choice(text: str) -> PartitionChoice:
    """Read a choice: `0,3-5` by number; `2/8` every 8th from 2 on, the share of the third of eight readers.

    The shares `0/8` to `7/8` have every partition once, however many there are. Raises `ValueError` for other texts.

    Examples
    --------
    >>> partition_choice("0,3-5")(6), partition_choice("1/4")(10)
    ([0, 3, 4, 5], [1, 5, 9])
    >>> partition_choice("4")(4)
    Traceback (most recent call last):
    ValueError: there is no partition 4: they are 0 to 3
    """
    if share := _SHARE.fullmatch(text.strip()):
        return _share(int(share[1]), int(share[2]))
    numbers: set[int] = set()
    for part in text.split(","):
        found = _NUMBERS.fullmatch(part.strip())
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(f"{text!r} is neither numbers of partitions (0,3-5) nor a share of them (2/8)")
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return _named(sorted(numbers))


def _share(reader: int, readers: int) -> PartitionChoice:
    if reader >= readers:
        raise ValueError(f"{reader}/{readers} is no share: {readers} readers are counted 0 to {readers - 1}")
    return lambda count: list(range(reader, count, readers))


def _named(numbers: list[int]) -> PartitionChoice:
    def choose(count: int) -> list[int]:
        if numbers[-1] >= count:
            raise ValueError(f"there is no partition {numbers[-1]}: they are 0 to {count - 1}")
        return numbers

    return choose
