"""What the tests on a cluster read out of the alarms, which only they would notice too late."""

from __future__ import annotations

from tests.cluster.release import counted_by_alarms


def test_alarms_that_count_are_found() -> None:
    counted = counted_by_alarms()
    assert counted["StillwatchStatesUnreadable"] == 'stillwatch_cold_starts_total{why="unreadable"}'
    assert counted["StillwatchAccountsForgotten"] == "stillwatch_forgotten_accounts_total{}"
    assert len(counted) == 7
