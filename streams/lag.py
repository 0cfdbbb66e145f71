"""How far a worker is behind: in records, and in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from faust.types import TP


class Lag(NamedTuple):
    """What is not scored yet: how many records, and the age of the oldest, 0 when there is none."""

    records: int
    seconds: float


class LagWatch:
    """Knows since when each partition waits, without reading the record that waits.

    The oldest unscored record of a partition comes after the last one that was scored, and after the last time that
    nothing was left; the later of the two is taken for its time. While a worker works a backlog off that is exact to
    one record; of what comes in while it keeps up, exact to the time between two looks.
    """

    def __init__(self) -> None:
        self._came: dict[TP, float] = {}
        self._empty: dict[TP, float] = {}

    def look(self, behind: Mapping[TP, int], scored: Mapping[TP, float], now: float) -> Lag:
        """The lag now.

        Parameters
        ----------
        behind
            Number of unscored records of each partition that is ours.
        scored
            Epoch seconds of the last scored record of a partition, where one was scored; records that do not tell
            their time are left out.
        now
            Epoch seconds.
        """
        self._came = {tp: self._came.get(tp, now) for tp in behind}
        self._empty = {tp: at for tp, at in self._empty.items() if tp in behind}
        self._empty |= {tp: now for tp, records in behind.items() if records <= 0}
        ages = [now - self._oldest(tp, scored) for tp, records in behind.items() if records > 0]
        return Lag(sum(behind.values()), max(0.0, *ages) if ages else 0.0)

    def _oldest(self, tp: TP, scored: Mapping[TP, float]) -> float:
        known = [of[tp] for of in (self._empty, scored) if tp in of]
        # Of a partition that has just come, what waits is as old as that moment at least.
        return max(known) if known else self._came[tp]
