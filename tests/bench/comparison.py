"""Other methods and ours on the same composed streams, thresholds at the same false rate.

    python -m tests.bench.comparison --shared DIR [--seeds 1 2 3] [--fit-seeds 11 12 13] [--days 14]
        [--methods PRADA SEAT ...] [--false-rates 0.005 0.01] [--json FILE] [--markdown FILE] [--plot FILE]

DIR holds `corpora/` and `traffic/` (see `tests.bench.detection`, whose streams these are). The methods are in
`tests.bench.peers`. Every method goes through the same procedure:

- *Pools left out.* Organic accounts of `--fit-seeds` are cut into parts, one for each pool of people; accounts without
  people go to the parts in turn. For each part the method learns from the other parts, and scores the scored streams'
  accounts of this one. So nobody is judged by a fit that has seen their pool.
- *Threshold.* An account counts by its largest score over all looks. The threshold is the score that at most the given
  share of the scored streams' organic accounts exceeds: the same false rate for all, on these very accounts. So it is
  set with hindsight, and tells what a method's scores could do at best. What a threshold does that was set beforehand
  is in `tests.bench.detection`; only ours comes with one.
- *Counting.* An extraction account is found at the first look beyond the threshold once it has begun to extract, as
  `score.py` counts; the delay is in requests since then. An organic account is alerted if any look is beyond.

The curves plot recall against the false rate. Counts are pooled over seeds; brackets hold Wilson's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from detectors.baseline import load_default
from detectors.embedding import load_wordllama
from tests.bench.accounts import Account, Floats, read_accounts
from tests.bench.detection import ORGANIC_PARTS, UNMIXED, compose, person_pools, read_stream, streams_parser, wilson
from tests.bench.peers import PEERS
from tests.bench.peers.protocol import Peer, Training

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unmixed single": ("extraction", UNMIXED),
    "mixed 50 %": ("extraction", ("mixed-50",)),
    "mixed 25 %": ("extraction", ("mixed-25",)),
    "mixed 10 %": ("extraction", ("mixed-10",)),
    "campaigns": ("extraction", ("slow", "hydra")),
    "organic": ("organic", ()),
}
"""Columns of the table: label, and archetypes (none stands for all)."""

CURVE_RATES = tuple(float(rate) for rate in np.round(np.geomspace(0.001, 0.3, 26), 5))


class Outcome(NamedTuple):
    """What came of one scored account.

    Attributes
    ----------
    alerted
        Whether a look was beyond the threshold: of an extraction account, once it had begun.
    delay
        Requests from the first of extraction to that look, both counted; 0 if not alerted.
    early
        Whether an extraction account was beyond the threshold before it began.
    """

    label: str
    archetype: str
    alerted: bool
    delay: int
    early: bool


class Case(NamedTuple):
    """The accounts of a comparison, and the part that each is judged in."""

    fitted: list[Account]
    scored: list[Account]
    part_of_fitted: list[str]
    part_of_scored: list[str]

    @property
    def parts(self) -> list[str]:
        """All parts that anybody is judged in."""
        return sorted({*self.part_of_fitted, *self.part_of_scored})


class Series(NamedTuple):
    """One method's scores at the looks of every account of a case, in its order.

    Those of the fit streams' accounts are empty unless they were asked for: only tails need them.
    """

    fitted: list[Floats]
    scored: list[Floats]


def parts_of(accounts: Sequence[Account], pools: Sequence[str]) -> list[str]:
    """The part of each account: its pool of people, else one of the pools in turn."""
    turn = 0
    parts = []
    for account in accounts:
        if account.pool in pools:
            parts.append(account.pool)
        else:
            parts.append(pools[turn % len(pools)])
            turn += 1
    return parts


def case_of(fitted: list[Account], scored: list[Account]) -> Case:
    """A case whose parts are the pools of people in the fit streams; at least two are needed."""
    pools = sorted({account.pool for account in fitted if account.pool})
    if len(pools) < 2:
        raise ValueError("the fit streams hold people of one pool only: nothing is left when it is left out")
    return Case(fitted, scored, parts_of(fitted, pools), parts_of(scored, pools))


def trainings(case: Case) -> dict[str, Training]:
    """For each part what a method may learn from. Made once, since made-up extraction is dear."""
    return {
        part: Training([a for a, p in zip(case.fitted, case.part_of_fitted, strict=True) if p != part])
        for part in case.parts
    }


def series_of(
    make: Callable[[], Peer],
    case: Case,
    training: Mapping[str, Training],
    advance: Callable[[], None] = lambda: None,
    *,
    with_fitted: bool = False,
) -> Series:
    """Fit the method without each part, and let it score the accounts of that part; the fit streams' only if asked."""
    fitted: list[Floats] = [np.zeros(0)] * len(case.fitted)
    scored: list[Floats] = [np.zeros(0)] * len(case.scored)
    wanted = [(scored, case.scored, case.part_of_scored)]
    if with_fitted:
        wanted.append((fitted, case.fitted, case.part_of_fitted))
    for part in case.parts:
        peer = make()
        peer.fit(training[part])
        for result, accounts, parts in wanted:
            for i, account in enumerate(accounts):
                if parts[i] == part:
                    result[i] = peer.scores(account)
        advance()
    return Series(fitted if with_fitted else [], scored)


def threshold(maxima: Floats, false_rate: float) -> float:
    """The largest of `maxima` that at most this share of them exceeds."""
    allowed = min(math.floor(false_rate * len(maxima) + 1e-9), len(maxima) - 1)
    return float(np.sort(maxima)[::-1][allowed])


def outcomes(case: Case, series: Series, false_rate: float) -> list[Outcome]:
    """What came of each scored account."""
    scored = list(zip(case.scored, series.scored, strict=True))
    maxima = np.array([scores.max() for account, scores in scored if account.label == "organic"])
    limit = threshold(maxima, false_rate)
    return [outcome_of(account, scores, limit) for account, scores in scored]


def outcome_of(account: Account, scores: Floats, limit: float) -> Outcome:
    """What came of one account at one threshold."""
    beyond = account.at[scores > limit]
    if account.label != "extraction":
        return Outcome(account.label, account.archetype, len(beyond) > 0, 0, False)
    begins = min(account.starts, len(account.events) - 1)
    found = beyond[beyond >= begins]
    delay = int(found[0]) - begins + 1 if len(found) else 0
    return Outcome(account.label, account.archetype, len(found) > 0, delay, len(found) < len(beyond))


def count(results: Iterable[Outcome], label: str, archetypes: tuple[str, ...] = ()) -> tuple[int, int]:
    """(alerted, all) accounts of a label, of some archetypes or all."""
    chosen = [r.alerted for r in results if r.label == label and (not archetypes or r.archetype in archetypes)]
    return sum(chosen), len(chosen)


def delays(results: Iterable[Outcome]) -> tuple[float, float]:
    """Median and 90th percentile of the delay of unmixed single accounts that were found; NaN if none was."""
    found = [r.delay for r in results if r.alerted and r.archetype in UNMIXED]
    return (float(np.median(found)), float(np.quantile(found, 0.9, method="lower"))) if found else (math.nan, math.nan)


def curve(case: Case, series: Series) -> list[tuple[float, float]]:
    """(share of organic accounts alerted, recall of unmixed single ones) in the scored streams over false rates."""
    points = []
    for rate in CURVE_RATES:
        results = outcomes(case, series, rate)
        alerted, organic = count(results, "organic")
        found, planted = count(results, "extraction", UNMIXED)
        points.append((alerted / max(organic, 1), found / max(planted, 1)))
    return points


def cell(hits: int, n: int) -> str:
    """Share, count and interval."""
    low, high = wilson(hits, n)
    return f"{hits / n:.3f} ({hits}/{n}, {low:.3f}–{high:.3f})" if n else "none"


def row(results: Sequence[Outcome]) -> list[str]:
    """One method's line of the table."""
    median, late = delays(results)
    shares = [cell(*count(results, label, archetypes)) for label, archetypes in GROUPS.values()]
    return [*shares, "–" if math.isnan(median) else f"{median:.0f} / {late:.0f}"]


COLUMNS = (*GROUPS, "delay 50 / 90 %")


def show(console: Console, title: str, rows: Mapping[str, Sequence[str]]) -> None:
    """A table for the terminal."""
    table = Table(title=title)
    for column in ("", *COLUMNS):
        table.add_column(column)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def markdown(title: str, rows: Mapping[str, Sequence[str]]) -> str:
    """The same for a file."""
    lines = [f"### {title}", "", "| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"


def as_json(results: Sequence[Outcome]) -> dict[str, Any]:
    """One method's counts by archetype, early alerts and delays."""
    cells: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for r in results:
        cells[f"{r.label}/{r.archetype}"][0] += r.alerted
        cells[f"{r.label}/{r.archetype}"][1] += 1
    median, late = delays(results)
    return {
        "accounts": dict(sorted(cells.items())),
        "early": sum(r.early for r in results),
        "delay": {"median": None, "p90": None} if math.isnan(median) else {"median": median, "p90": late},
    }


def plot(curves: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> None:
    """Recall against false rate, a line a method; PNG or SVG by the file's name."""
    from matplotlib.figure import Figure  # a developer's tool, and only for this

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        # What was alerted at a lower threshold is alerted at a higher one, but parts have thresholds of their own.
        x, y = zip(*sorted(points), strict=True)
        bold = {"linewidth": 2.5, "color": "black", "zorder": 3} if number == 0 else {"linewidth": 1.3}
        axes.plot(x, y, drawstyle="steps-post", marker=".", label=name, **bold)
    axes.set_xscale("symlog", linthresh=0.005)
    axes.set_xlim(0.0, 0.5)
    axes.set_ylim(-0.02, 1.02)
    ticks = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("share of organic accounts ever alerted")
    axes.set_ylabel("recall of unmixed single extraction accounts")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=150)


def read_case(options: argparse.Namespace, progress: Progress) -> Case:
    """Compose and read all streams."""
    shared = Path(options.shared)
    pool_of = person_pools(shared)
    encoder, embedder = load_default().encoder, load_wordllama()
    task = progress.add_task("reading streams", total=len(options.fit_seeds) + len(options.seeds))

    def read(seeds: Sequence[int], only: str) -> list[Account]:
        found: list[Account] = []
        for seed in seeds:
            folder = compose(shared, seed, options.days, only, options.cache)
            found += read_accounts(read_stream(folder, pool_of), encoder, embedder)
            progress.advance(task)
        return found

    return case_of(read(options.fit_seeds, ORGANIC_PARTS), read(options.seeds, ""))


def parser_of(description: str | None, names: Iterable[str], what: str) -> argparse.ArgumentParser:
    """The options that the comparison and the ablation share; `what` is compared, by these names."""
    parser = streams_parser(description)
    parser.add_argument(f"--{what}", nargs="+", dest="chosen", choices=list(names), help=f"{what} to measure; all")
    parser.add_argument("--false-rates", type=float, nargs="+", default=[0.005, 0.01], help="a table for each")
    parser.add_argument("--json", type=Path, help="write counts, delays and curves here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--plot", type=Path, help="write the curves here: PNG or SVG, by the name (needs matplotlib)")
    return parser


def report(
    options: argparse.Namespace, case: Case, all_series: Mapping[str, Series], seconds: Mapping[str, float]
) -> None:
    """Print the tables, and write what was asked for."""
    console = Console(width=230)
    tables, results = [], {}
    for rate in options.false_rates:
        by_name = {name: outcomes(case, series, rate) for name, series in all_series.items()}
        rows = {name: row(found) for name, found in by_name.items()}
        title = f"Thresholds at a false rate of {rate:g}: share of accounts alerted (count, 95 % interval)"
        show(console, title, rows)
        tables.append(markdown(title, rows))
        results[f"{rate:g}"] = {name: as_json(found) for name, found in by_name.items()}
    for name, took in seconds.items():
        console.print(f"{name}: {took:.0f} s to fit {len(case.parts)} times and to score", highlight=False)
    curves = {name: curve(case, series) for name, series in all_series.items()}
    if options.markdown:
        options.markdown.write_text("\n".join(tables), encoding="utf-8")
    if options.json:
        about = {key: getattr(options, key) for key in ("seeds", "fit_seeds", "days")}
        found = {"streams": about, "false_rates": results, "curves": curves, "seconds": dict(seconds)}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.plot:
        plot(curves, options.plot)


def main() -> int:
    """Compose, fit, score, print."""
    parser = parser_of(__doc__, PEERS, "methods")
    options = parser.parse_args()
    chosen = options.chosen or list(PEERS)
    all_series, seconds = {}, {}
    with Progress(console=Console(stderr=True)) as progress:
        case = read_case(options, progress)
        training = trainings(case)
        task = progress.add_task("methods", total=len(chosen) * len(case.parts))
        for name in chosen:
            began = time.monotonic()
            progress.update(task, description=name)
            all_series[name] = series_of(PEERS[name], case, training, lambda: progress.advance(task))
            seconds[name] = time.monotonic() - began
    report(options, case, all_series, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
