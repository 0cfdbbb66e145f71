"""The figures of `tests.bench.service` as Markdown, beside their aims."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.speed import machine

STOCK = "stock Faust, doing nothing"

AIMED_STOCK = 13_000
"""Requests a second of stock Faust doing nothing where the aims were set."""

RATE_AIMS = {
    "whole path, 10,000 accounts": 4.0,
    "touched rarely": 25_000 / AIMED_STOCK,
    "`replay`": 100_000 / AIMED_STOCK,
    "prompts of about 20 words": 15_000 / AIMED_STOCK,
}
"""Times stock, by what stands in a path's name. The first is set as 4 itself (60,000 a second)."""

START_AIMS = {
    "cold start, 100,000": 6.0,
    "restart with its data, 100,000": 3.0,
    "nothing to restore": 5.0,
}
MEMORY_AIMS = {"memory": 3.0, "rocksdict": 1.0}
"""GB (10^9 bytes) for 1,000,000 accounts."""

LATENCY_AIM_MS = 500
GIGABYTE = 1e9


def circumstances(core: int | None) -> dict[str, Any]:
    """What is measured, when, and on what."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        **machine(core),
        **{name: version(name) for name in ("faust-streaming", "aiokafka", "rocksdict")},
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/streams", ":/detectors", ":/schemas")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def as_markdown(found: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [_head(found), _rates(found), _memory(found), _starts(found), _latency(found), _failures(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    about, given = found["circumstances"], found["given"]
    return (
        f"Measured {about['at']} at commit {about['commit']} in {about['seconds'] / 60:.0f} minutes. Passes over "
        f"everything: {given['passes']}, with backlogs of {given['requests']:,} requests. Python {about['python']}, "
        f"numba {about['numba']}, numpy {about['numpy']}, Faust {about['faust-streaming']}, aiokafka "
        f"{about['aiokafka']}, rocksdict {about['rocksdict']}; {about['cores']} cores of {about['processor']}, what is "
        "measured pinned to one, Kafka and the script on the rest. They alone make a load of about 2; the machine's "
        f"load averages after each pass were {', '.join(f'{load:.1f}' for load in found['loads'])}. Where they are "
        "higher, other work ran: trust ratios of CPU time. Shown is the median of the passes, in brackets their least "
        "and most."
    )


def _rates(found: Mapping[str, Any]) -> str:
    rates = found["rates"]
    stock = rates.get(STOCK, {})
    rows = []
    for name, of in rates.items():
        ratios = [stock[n]["microseconds"] / rate["microseconds"] for n, rate in of.items() if n in stock]
        rows.append(
            (
                name,
                _spread([rate["microseconds"] for rate in of.values()], "{:.1f}"),
                _spread([rate["requests_a_second"] for rate in of.values()], "{:,.0f}"),
                _spread(ratios, "{:.2f}"),
                _verdict(ratios, _aim(RATE_AIMS, name), more_is_better=True, form="{:.1f}"),
            )
        )
    heads = ("path", "µs of CPU a request", "requests a second, wall", "times stock, CPU", "aim, times stock")
    return table(heads, rows)


def _memory(found: Mapping[str, Any]) -> str:
    rows = []
    accounts = found["given"]["accounts"]
    for store, samples in found["memory"].items():
        most = [sample["most"] / GIGABYTE for sample in samples]
        aim = MEMORY_AIMS[store] if accounts == 1_000_000 else None
        rows.append(
            (
                f"{accounts:,} accounts, {store}",
                _spread([sample["now"] / GIGABYTE for sample in samples], "{:.2f}"),
                _spread(most, "{:.2f}"),
                _spread([sample["data_dir"] / GIGABYTE for sample in samples], "{:.2f}"),
                _verdict([max(most)] if most else [], aim, more_is_better=False, form="{:.0f}"),
            )
        )
    return table(("worker", "resident, GB", "most resident, GB", "data directory, GB", "aim, GB"), rows)


def _starts(found: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            _spread(seconds, "{:.1f}"),
            _verdict(seconds, _aim(START_AIMS, name), more_is_better=False, form="{:.0f}"),
        )
        for name, seconds in found["starts"].items()
    ]
    return table(("start", "seconds", "aim"), rows)


def _latency(found: Mapping[str, Any]) -> str:
    if not found["waits"]:
        return ""
    rows = []
    for number, waits in enumerate(found["waits"], 1):
        rows.append((f"pass {number}", f"{len(waits):,}", *(f"{q:,.0f}" for q in _quantiles(waits)), ""))
    together = [wait for waits in found["waits"] for wait in waits]
    quantiles = _quantiles(together)
    verdict = _verdict([quantiles[1]], LATENCY_AIM_MS, more_is_better=False, form="{:.0f}")
    rows.append(("all", f"{len(together):,}", *(f"{q:,.0f}" for q in quantiles), verdict))
    heads = (
        f"alerts at {found['latency_rate']:,} requests a second",
        "number",
        "p50 ms",
        "p99 ms",
        "most ms",
        "aim for p99",
    )
    return table(heads, rows)


def _quantiles(waits: list[float]) -> tuple[float, float, float]:
    p50, p99 = np.percentile(waits, [50, 99])
    return float(p50), float(p99), max(waits)


def _failures(found: Mapping[str, Any]) -> str:
    return "\n".join(f"- **failed**: {words.splitlines()[0]}" for words in found["failures"])


def _aim(aims: Mapping[str, float], name: str) -> float | None:
    return next((aim for part, aim in aims.items() if part in name), None)


def _verdict(values: list[float], aim: float | None, *, more_is_better: bool, form: str) -> str:
    if aim is None or not values:
        return ""
    value = statistics.median(values)
    met = value >= aim if more_is_better else value <= aim
    return f"{form.format(aim)}: {'met' if met else '**missed**'}"


def _spread(values: list[float], form: str) -> str:
    """Median, and least and most when there are several."""
    if not values:
        return "–"
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def table(heads: Iterable[str], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table, empty without rows."""
    if not rows:
        return ""
    lines = [tuple(heads), ("---",) * len(rows[0]), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
