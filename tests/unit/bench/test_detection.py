"""The bench of detection says whether its targets are met."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.bench import detection


def tally(found: int, planted: int, alerted: int, organic: int) -> detection.Tally:
    made = detection.Tally(ModuleType("no_scorer"))
    made.hits["extraction", "sweep"] = [found, planted]
    made.hits["extraction", "swarm"] = [0, 50]  # no single account: does not count here
    made.hits["organic", "person"] = [alerted, organic]
    return made


@pytest.mark.parametrize(
    ("counts", "met"),
    [
        ((9, 10, 2, 100), True),
        ((89, 100, 0, 100), False),
        ((10, 10, 3, 100), False),
        ((0, 0, 0, 100), False),
        ((10, 10, 0, 0), False),
    ],
)
def test_targets_are_held_against_unmixed_single_accounts_and_organic_ones(
    counts: tuple[int, int, int, int], met: bool
) -> None:
    found, line = detection.verdict(tally(*counts))
    assert found is met
    assert line.startswith("met: " if met else "MISSED: ")
    assert f"{counts[0]} of {counts[1]} unmixed single accounts found (at least 90%)" in line
    assert f"{counts[2]} of {counts[3]} organic accounts alerted (at most 2%)" in line


def test_a_line_after_each_seed_counts_for_both_baselines() -> None:
    line = detection.seed_line(3, {"default": tally(9, 10, 1, 100), "pools left out": tally(8, 10, 2, 100)})
    assert line == (
        "after seed 3: default: 9/10 unmixed single found, 1/100 organic alerted; "
        "pools left out: 8/10 unmixed single found, 2/100 organic alerted"
    )


def test_the_tables_hold_every_archetype_stream_and_setting() -> None:
    counted = tally(9, 10, 1, 100)
    for false_daily in (1.0, 3.0):
        delay = {"median": 90.0, "p90": 200.0}
        counted.by_seed.append({"delay": delay, "leaked": 0.25, "early": 0.0, "false_daily": false_daily})
    tallies = dict.fromkeys(("default", "pools left out", "at honest times"), counted)
    text = detection.markdown(detection.tables(tallies, {10.0: counted, 1.0: counted}))
    assert "| extraction | sweep | 0.900  9/10  0.596-0.982 |" in text
    assert "| organic | all | 0.010  1/100  0.002-0.054 |" in text
    assert "| default | 2 | 90 / 200 | 0.250 | 0.0000 | 3.00 |" in text
    assert "| 10 | 2.00 | 1.00 3.00 | 0.010  1/100" in text
    assert "| default | unmixed single found, at least .98 | 0.900 | MISSED |" in text
    assert "| pools left out | organic alerted, at most .005 | 0.0100 | MISSED |" in text
    assert "| default | services and resellers alerted, at most 1 | 0 | met |" in text
    assert "| at honest times | recall lost without any cadence, at most .03 | 0.000 | met |" in text
