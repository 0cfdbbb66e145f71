"""What `stillwatch fit` prints: what was learnt, what the knob will cost, and what changed."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from detectors import rivals
from detectors.baseline import Baseline
from detectors.baseline_change import REQUESTS, moved, passing_score, weighed
from detectors.fit import FitReport, Judged
from streams.cli.terminal import ERR, plain, safe
from streams.history import KEPT_ACCOUNTS, KEPT_REQUESTS, SAMPLED_ACCOUNTS, History

RECOMMENDED_ACCOUNTS = 300
"""With fewer, the tails are mostly extrapolated."""

NAMED_SUSPECTS = 10
NAMED_STATISTICS = 4
LEAST_WIDTHS = 0.05

KNOBS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Settings of the knob whose cost is shown."""

KNOB = 1.0
"""Setting at which passing scores are compared: the default."""


def show(history: History, report: FitReport, out: Path) -> None:
    """Everything, on standard error."""
    for line in learnt(history, report, out):
        ERR.print(plain(line))
    ERR.print(settings_of_the_knob(history, report))
    for reason, count in history.refused.most_common():
        ERR.print(plain(f"  refused: {count} {reason}", "yellow"))
    if report.baseline.accounts < RECOMMENDED_ACCOUNTS:
        few = f"  {report.baseline.accounts} accounts are few: the tails are mostly extrapolated"
        ERR.print(plain(few, "yellow"))
    if report.before is not None:
        lines, *tables = changed(report, report.before)
        for line in lines:
            ERR.print(plain(line))
        for table in tables:
            ERR.print(table)


def learnt(history: History, report: FitReport, out: Path) -> list[str]:
    """What the history held, and what was made of it."""
    baseline = report.baseline
    about = "about " if history.population > len(history.active) else ""
    lines = [
        f"{history.events} requests of {about}{history.population} accounts over {about}{history.account_days} "
        f"account-days on {history.days} days"
    ]
    if history.population > len(history.accounts):
        lines.append(
            f"fitted on {len(history.accounts)} of them, chosen by a hash of their names (at most {KEPT_ACCOUNTS}; the "
            f"mean embedding is of at most {SAMPLED_ACCOUNTS})"
        )
    if history.shortened:
        lines.append(f"of {history.shortened} accounts only the first {KEPT_REQUESTS} requests count")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    return [
        *lines,
        f"taken for: {kinds}; {report.short} too short to judge",
        f"{len(report.suspects)} look like extraction throughout and were left out{_names(history, report.suspects)}",
        f"baseline {baseline.hash} for {baseline.encoder.model}, written to {out}",
        f"down to {report.resolution:.2g} false findings for each 1,000 account-days the knob rests on this history; "
        "below that it is extrapolated",
    ]


def _names(history: History, places: tuple[int, ...]) -> str:
    """The first few of these accounts, to be looked at."""
    accounts = list(history.accounts)
    shown = [safe(accounts[place]) for place in places[:NAMED_SUSPECTS]]
    more = ", ..." if len(places) > len(shown) else ""
    return f"; look at them (`stillwatch explain`): {', '.join(shown)}{more}" if shown else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number and name else "left", no_wrap=not name and not number)
    return table


def settings_of_the_knob(history: History, report: FitReport) -> Table:
    """What each setting of the knob would cost with traffic like this history's, and what it would find."""
    table = _table(
        "false_findings_per_1000_account_days",
        "setting", "false findings a day", "made-up lists found", "after requests, median", "",
    )  # fmt: skip
    a_day = history.account_days / max(history.days, 1)
    for knob in KNOBS:
        false = f"{knob * a_day / 1000.0:.2g}"
        mark = "extrapolated" if knob < report.resolution else ""
        table.add_row(f"{knob:g}", false, *_found(report.judged, knob), mark)
    return table


def _found(judged: Judged, knob: float) -> tuple[str, str]:
    share, requests = judged.found(knob)
    return f"{100.0 * share:.0f} %", f"{requests:.0f}" if share else ""


def changed(report: FitReport, before: Judged) -> tuple[list[str], Table, Table]:
    """What is otherwise than by the baseline before: in lines, by rival, and by setting of the knob."""
    old, new = before.baseline, report.baseline
    same_encoder = old.encoder.hash == new.encoder.hash
    lines = [
        f"Against the current baseline {old.hash} for {old.encoder.model}:",
        "  the encoder is the same: accounts keep their states"
        if same_encoder
        else f"  another encoder ({old.encoder.hash}, now {new.encoder.hash}): every account's state starts anew",
        f"  accounts {old.accounts}, now {new.accounts}; days an account {old.days_per_account:.1f}, now "
        f"{new.days_per_account:.1f}; taken for {_kinds(old)}, now {_kinds(new)}",
        f"  people's medians that moved most, after {REQUESTS} requests: {_movements(old, new)}",
    ]
    rows = _table(
        f"log-likelihood ratios after {REQUESTS} requests, by rival and kind of extraction",
        "", "of a list", "most changed weight, over people's spread", f"score that passes at {KNOB:g}",
    )  # fmt: skip
    for pair in weighed(old, new):
        head = pair.pair.removeprefix("person/")
        passes = [f"{passing_score(b, head, KNOB):.1f}" if head in rivals.HEADS else "" for b in (old, new)]
        rows.add_row(
            pair.pair,
            f"{pair.bias_was:.1f}, now {pair.bias_now:.1f}",
            f"{pair.statistic} {pair.was:.1f}, now {pair.now:.1f}",
            ", now ".join(filter(None, passes)),
        )
    return lines, rows, _by_setting(before, report.judged, same_encoder=same_encoder)


def _movements(old: Baseline, new: Baseline) -> str:
    """The statistics that moved at all, farthest first."""
    found = [m for m in moved(old, new)[:NAMED_STATISTICS] if abs(m.widths) >= LEAST_WIDTHS]
    shown = [f"{m.statistic} {m.was:.2f}, now {m.now:.2f} ({m.widths:+.2f} of its 5 % to 95 %)" for m in found]
    return "; ".join(shown) or f"none by {LEAST_WIDTHS:g} of its 5 % to 95 % or more"


def _kinds(baseline: Baseline) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(baseline.provenance.kinds.items())) or "unknown"


def _by_setting(before: Judged, now: Judged, *, same_encoder: bool) -> Table:
    """What the baseline before would have made of this history, which it has not seen, at each setting."""
    codes = "" if same_encoder else " (by codes of the new encoder)"
    table = _table(
        f"the current baseline on this history{codes}",
        "setting", "it allows of these accounts", "it alerts", "made-up lists it finds", "now",
    )  # fmt: skip
    count = len(before.highest)
    for knob in KNOBS:
        allowed = knob * now.baseline.days_per_account / 1000.0 * count
        alerted = before.alerted(knob)
        table.add_row(f"{knob:g}", f"{allowed:.1f}", str(alerted), _found(before, knob)[0], _found(now, knob)[0])
    return table
