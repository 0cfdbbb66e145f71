"""Verdicts of many accounts as tables: in a terminal, and in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from rich.table import Table

from tests.bench.detection import wilson
from tests.redteam.trial import Verdict

ATTACK_COLUMNS = (
    "attack", "found", "recall, 95 % interval", "delay median / 90th", "leaked", "requests a prompt", "days",
    "peak", "what held or came closest",
)  # fmt: skip
CUSTOMER_COLUMNS = (
    "customer", "alerted", "share, 95 % interval", "after requests", "requests", "days", "peak",
    "what held or came closest", "an alert",
)  # fmt: skip

LEGEND = """Every account goes alone through the service's ingest and engine. *Leaked*: share of the list that was
answered before the alert. *Requests a prompt*: what the evasion costs, requests sent for each prompt of the list that
was answered. *Peak*: median over accounts of the largest surprise less the threshold; above 0 is an alert, -1 is a
factor of e short. *What held or came closest*: the organic explanation hardest to reject at that place, with the number
of accounts; *too early* was never judged.
"""


def attack_cells(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    """One attack as a row of `ATTACK_COLUMNS`."""
    delays = sorted(v.delay for v in verdicts if v.delay is not None)
    delay = f"{delays[(len(delays) - 1) // 2]} / {delays[-(-9 * len(delays) // 10) - 1]}" if delays else ""
    return [
        name,
        *_share(verdicts),
        delay,
        f"{sum(v.leaked for v in verdicts) / len(verdicts):.2f}",
        f"{median(v.price for v in verdicts):.1f}",
        f"{median(v.days for v in verdicts):.1f}",
        f"{median(v.peak for v in verdicts):+.1f}",
        _rivals(verdicts),
    ]


def customer_cells(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    """One customer as a row of `CUSTOMER_COLUMNS`."""
    delays = [v.delay for v in verdicts if v.delay is not None]
    return [
        name,
        *_share(verdicts),
        f"{median(delays):.0f}" if delays else "",
        f"{median(v.requests for v in verdicts):.0f}",
        f"{median(v.days for v in verdicts):.1f}",
        f"{median(v.peak for v in verdicts):+.1f}",
        _rivals(verdicts),
        next((v.message for v in verdicts if v.message), ""),
    ]


def _share(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    hits = sum(v.alerted for v in verdicts)
    low, high = wilson(hits, len(verdicts))
    return f"{hits}/{len(verdicts)}", f"{hits / len(verdicts):.2f}  {low:.2f}-{high:.2f}"


def _rivals(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"{rival} {count}" for rival, count in Counter(v.rival for v in verdicts).most_common())


def totals(results: Mapping[str, Sequence[Verdict]]) -> str:
    """All accounts together."""
    verdicts = [v for of in results.values() for v in of]
    hits, share = _share(verdicts) if verdicts else ("0/0", "")
    refused = sum(v.refused for v in verdicts)
    return f"{hits} accounts alerted ({share}), {sum(v.requests for v in verdicts)} requests, {refused} refused"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows for a terminal."""
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*row)
    return shown


def markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], total: str) -> str:
    """Rows as a section of a Markdown file."""
    lines = [f"## {title}", "", total, "", *map(_line, [columns, ["---"] * len(columns), *rows])]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") or " " for cell in cells) + " |"
