"""What runs came to: one line each, the closing table, and RESULTS.md."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "RESULTS.md"

HEAD = """# Results of `make chaos`

Written by the command itself. What each run is held against: per-account request counts and last offsets equal what was
sent; findings (uid, sequence, activity, time, evidence) equal those of an undisturbed run; every dead letter is there.

Alerts and dead letters are delivered at least once: a worker that dies between delivering and committing delivers
again. Alerts repeat with the same uid and sequence, dead letters with the same source topic, partition and offset; both
are counted after collapsing by these, and how often it happened stands under "repeated".

"""

COLUMNS = (
    "scenario", "when (UTC)", "seed", "result", "seconds", "faults", "records", "findings", "dead letters", "repeated",
    "more",
)  # fmt: skip

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

    def cells(self) -> tuple[str, ...]:
        """The run as a row of `COLUMNS`."""
        figures = dict(self.figures)
        figures.pop("accounts", None)
        repeated = f"{figures.pop('repeated alerts', '-')} + {figures.pop('repeated dead letters', '-')}"
        known = [str(figures.pop(name, "-")) for name in ("records", "findings", "dead letters")]
        more = ", ".join(f"{name}: {value}" for name, value in figures.items())
        faults = ", ".join(f"{times} × {name}" for name, times in self.did.items())
        return (
            self.name, f"{self.when:%Y-%m-%d %H:%M}", str(self.seed), self.verdict, f"{self.seconds:.0f}", faults,
            *known, repeated,
            "; ".join(part for part in (more, self.why) if part),
        )  # fmt: skip


def summary(runs: Sequence[Run]) -> str:
    """The closing lines."""
    verdicts = Counter(run.verdict for run in runs)
    lines = [f"  {run.verdict:8} {run.name:36} seed {run.seed:<8} {run.seconds:5.0f} s  {run.why}" for run in runs]
    kills = sum((run.did for run in runs), Counter[str]())["SIGKILL"]
    total = f"{verdicts['held']} held, {verdicts['BROKEN']} broken, {verdicts['skipped']} skipped; {kills} SIGKILLs"
    return "\n".join([*lines, total])


def write_results(runs: Sequence[Run], command: str) -> None:
    """Put these runs into RESULTS.md, in place of what stood there of the same scenarios."""
    played = {run.name for run in runs}
    rows = [row for row in _standing_rows() if row[0] not in played] + [list(run.cells()) for run in runs]
    rows.sort(key=lambda row: row[0])
    # Numbers of a machine that is not described say little.
    machine = f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, Python {platform.python_version()}"
    text = [
        HEAD,
        f"{len(rows)} runs: {_totals(rows)}. Last command: `{command}`, on {machine}.\n\n",
        *map(_line, [COLUMNS, ["---"] * len(COLUMNS), *rows]),
    ]
    RESULTS.write_text("".join(text))


def _standing_rows() -> list[list[str]]:
    """Rows of the table in RESULTS.md, as far as they have today's columns."""
    if not RESULTS.exists():
        return []
    lines = [line for line in RESULTS.read_text().splitlines() if line.startswith("| ")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0] not in (COLUMNS[0], "---")]


def _totals(rows: Iterable[Sequence[str]]) -> str:
    totals: Counter[str] = Counter()
    for row in rows:
        for fault in row[COLUMNS.index("faults")].split(", "):
            times, _, name = fault.partition(" × ")
            if name:
                totals[name] += int(times)
    return ", ".join(f"{times} × {name}" for name, times in sorted(totals.items()))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") or "-" for cell in cells) + " |\n"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
