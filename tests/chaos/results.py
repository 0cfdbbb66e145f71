"""What runs came to: one line each, the closing table, and RESULTS.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tests.chaos.kafka import kafka_version

RESULTS = Path(__file__).parent / "RESULTS.md"
CODE = [":/streams", ":/detectors", ":/schemas", ":/tests/chaos/*.py"]
"""What a run depends on, as git names it from the top of the repository."""

HEAD = """# Results of `make chaos`

Written by the command itself. What each run is held against: per-account request counts and last offsets equal what was
sent; findings (uid, sequence, activity, time, evidence) equal those of an undisturbed run; every dead letter is there;
the last state of each account on the state topic is the one that stands, so that compaction rolls nobody back.

"strays": records under another key or on another partition than their account's, sent back by the worker and counted
once. "late states": those that had seen less than one before them, from a worker that no longer owned the account.

Alerts and dead letters are delivered at least once: a worker that dies between delivering and committing delivers
again. Alerts repeat with the same uid and sequence, dead letters with the same source topic, partition and offset; both
are counted after collapsing by these, and how often it happened stands under "repeated". "generation": the last one of
the consumer group that a log names, one more with each rebalance. A commit with a `+` had uncommitted changes.

"""

COLUMNS = (
    "scenario", "when (UTC)", "commit", "seed", "result", "seconds", "faults", "records", "findings", "dead letters",
    "repeated", "more",
)  # fmt: skip


@cache
def checked_out() -> str:
    """The commit that is checked out, with a `+` when the code that runs differs from it."""
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", *CODE) else "") if head else "-"


def _git(*words: str) -> str:
    try:
        told = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()


Verdict = Literal["held", "BROKEN", "skipped"]


@dataclass(frozen=True)
class Run:
    """One run of a scenario; `why` says what did not hold, or why it was skipped."""

    name: str
    seed: int
    verdict: Verdict
    seconds: float
    did: Counter[str]
    figures: dict[str, Any]
    why: str = ""
    when: datetime = field(default_factory=lambda: datetime.now(UTC))
    commit: str = field(default_factory=checked_out)

    def cells(self) -> tuple[str, ...]:
        """The run as a row of `COLUMNS`."""
        figures = dict(self.figures)
        figures.pop("accounts", None)
        repeated = f"{figures.pop('repeated alerts', '-')} + {figures.pop('repeated dead letters', '-')}"
        known = [str(figures.pop(name, "-")) for name in ("records", "findings", "dead letters")]
        more = ", ".join(f"{name}: {value}" for name, value in figures.items())
        faults = ", ".join(f"{times} × {name}" for name, times in self.did.items())
        return (
            self.name, f"{self.when:%Y-%m-%d %H:%M}", self.commit, str(self.seed), self.verdict, f"{self.seconds:.0f}",
            faults, *known, repeated,
            "; ".join(part for part in (more, self.why) if part),
        )  # fmt: skip


def summary(runs: Sequence[Run]) -> str:
    """The closing lines."""
    verdicts = Counter(run.verdict for run in runs)
    lines = [f"  {run.verdict:8} {run.name:36} seed {run.seed:<8} {run.seconds:5.0f} s  {run.why}" for run in runs]
    kills = sum((run.did for run in runs), Counter[str]())["SIGKILL"]
    minutes = sum(run.seconds for run in runs) / 60
    counts = ", ".join(f"{verdicts[verdict]} {verdict.lower()}" for verdict in ("held", "BROKEN", "skipped"))
    return "\n".join([*lines, f"{counts}; {kills} SIGKILLs; {minutes:.1f} min"])


def write_results(runs: Sequence[Run], command: str) -> None:
    """Put these runs into RESULTS.md, in place of what stood there of the same scenarios."""
    played = {run.name for run in runs}
    rows = [row for row in _standing_rows() if row[0] not in played] + [list(run.cells()) for run in runs]
    rows.sort(key=lambda row: row[0])
    text = [HEAD, *_account_of(rows), f"- Last command: `{command}`.\n\n"]
    text += map(_line, [COLUMNS, ["---"] * len(COLUMNS), *rows])
    RESULTS.write_text("".join(text))


def _account_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """What the rows come to, and what they were played on: numbers of a machine that is not described say little."""
    verdicts = Counter(_column(rows, "result"))
    faults = _totals(_column(rows, "faults"))
    minutes = sum(map(int, _column(rows, "seconds"))) / 60
    versions = f"Python {platform.python_version()}, Apache Kafka {kafka_version()}"
    return [
        f"- {len(rows)} runs of {len(set(_column(rows, 'scenario')))} scenarios in {minutes:.0f} min: "
        f"{verdicts['held']} held, {verdicts['BROKEN']} broken, {verdicts['skipped']} skipped.\n",
        f"- **{faults['SIGKILL']} SIGKILLs of workers.** All faults: "
        + ", ".join(f"{times} × {name}" for name, times in sorted(faults.items()))
        + ".\n",
        f"- On {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.machine()}, {versions}.\n",
    ]


def _column(rows: Iterable[Sequence[str]], name: str) -> list[str]:
    return [row[COLUMNS.index(name)] for row in rows]


def _standing_rows() -> list[list[str]]:
    """Rows of the table in RESULTS.md, as far as they have today's columns."""
    if not RESULTS.exists():
        return []
    lines = [line for line in RESULTS.read_text().splitlines() if line.startswith("| ")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0] not in (COLUMNS[0], "---")]


def _totals(faults: Iterable[str]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for of_run in faults:
        for fault in of_run.split(", "):
            times, _, name = fault.partition(" × ")
            if name:
                totals[name] += int(times)
    return totals


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") or "-" for cell in cells) + " |\n"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
