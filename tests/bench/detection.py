"""How well the detector finds extraction, and whom it troubles, on composed traffic.

    python -m tests.bench.detection --shared DIR [--seeds 1 2 3 4 5] [--fit-seeds 11 12 13] [--days 14]

DIR holds `corpora/` and `traffic/`: `compose.py` composes a labelled stream, `score.py` scores alerts against its
labels; both explain themselves. Each scored stream goes through the service's own ingest and engine, with two
baselines:

- *default*: the one that ships. It has seen the organic accounts of other seeds, hence mostly the same people.
- *pools left out*: for each pool of people a fit on the organic parts of `--fit-seeds` without that pool. An account
  that holds a person's text (an honest one, or the cover of an attack) is judged by the fit without that person's pool;
  every other account by one of these fits in turn.

Counts are pooled over the seeds, since a seed has few accounts of a kind; brackets hold Wilson's 95 % interval.

The third column, *at honest times*, is the second with the times of every extraction account replaced by a person's
(`honest_times`): what is found without any cadence.

With pools left out it also holds the knob to its word: false findings for each 1,000 account-days at each of `KNOBS`.

Ends with exit code 1 when, with pools left out, fewer of the unmixed single accounts are found than `LEAST_FOUND`, or
more of the organic ones are alerted than `MOST_ALERTED`.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from detectors.baseline import Baseline, load_default
from detectors.embedding import load_wordllama
from detectors.encoder import Encoder
from detectors.engine import Engine, EngineOptions
from detectors.events import EventBatch
from detectors.fit import fit
from schemas.alert import encode_alert
from schemas.request import RequestLimits
from streams.history import History, read_history
from streams.ingest import Ingest
from streams.replay import file_batches
from tests.bench.honest_times import at_honest_times

UNMIXED = ("sweep", "reasoning", "human-hours", "one-capability", "sorted", "takeover")
ORGANIC_PARTS = "persons,services,jobs"
BATCH = 5000

JUDGED = "pools left out"
HONEST_TIMES = "at honest times"
"""Which of the two baselines the targets are held against: the other has seen most of the people."""

LEAST_FOUND = 0.9
"""Share of unmixed single accounts of extraction that have to be found."""

KNOBS = (30.0, 10.0, 3.0, 1.0)
"""Settings at which false findings are counted; the last is the default, which everything else is measured at."""

NEVER = ("heartbeat", "load-test", "evaluation", "batch")
"""Kinds of organic accounts of which none may be alerted."""

MOST_ALERTED = 0.02
"""Share of organic accounts that may be alerted."""


class Stream(NamedTuple):
    """A composed stream: its folder, its labels, and the pool of people in each account ("" for none)."""

    folder: Path
    labels: dict[str, dict[str, Any]]
    pools: dict[str, str]


def compose(shared: Path, seed: int, days: int, only: str, cache: Path, scale: float = 1.0) -> Path:
    """Compose a stream once, with `scale` times as many accounts where there are so many; returns its folder."""
    folder = cache / f"seed-{seed}-days-{days}{'-organic' if only else ''}{'' if scale == 1.0 else f'-scale-{scale:g}'}"
    if not (folder / "labels.json").exists():
        command = [sys.executable, str(shared / "traffic/compose.py"), "--corpora", str(shared / "corpora")]
        command += ["--out", str(folder), "--seed", str(seed), "--days", str(days), "--only", only]
        command += ["--scale", str(scale)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def person_pools(shared: Path) -> dict[str, str]:
    """Text to the pool of people that it comes from."""
    corpora = shared / "corpora"
    manifest = json.loads((corpora / "manifest.json").read_text())
    found: dict[str, str] = {}
    for name in sorted(n for n, pool in manifest["pools"].items() if pool["kind"] == "person"):
        with gzip.open(corpora / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                found.setdefault(json.loads(line)["text"][:4000], name)
    return found


def read_stream(folder: Path, pool_of: dict[str, str]) -> Stream:
    """Labels of a stream, and which pool of people most of an account's people's texts come from."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with (folder / "events.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            pool = pool_of.get(event["prompt"])
            counts[event["account"]].update([pool] if pool else [])
    pools = {account: c.most_common(1)[0][0] if c else "" for account, c in counts.items()}
    return Stream(folder, json.loads((folder / "labels.json").read_text()), pools)


def batches_of(stream: Stream, encoder: Encoder) -> Iterator[EventBatch]:
    """A stream's events, by the service's own ingest."""
    ingest = Ingest(encoder=encoder, embedder=load_wordllama(), limits=RequestLimits(), expected_partition=None)
    with (stream.folder / "events.jsonl").open("rb") as source:
        for records in file_batches(source, max_record_bytes=1 << 20, batch_records=BATCH):
            yield ingest(records).batch


def part_of(batch: EventBatch, accounts: set[str]) -> EventBatch:
    """The events of some accounts."""
    keep = np.flatnonzero([name in accounts for name in batch.accounts])
    return EventBatch([batch.accounts[i] for i in keep], [batch.ids[i] for i in keep], batch.columns[keep])


def alerts_of(baseline: Baseline, stream: Stream, accounts: set[str], knobs: Sequence[float]) -> list[list[bytes]]:
    """Alerts on some of a stream's accounts at each setting of the knob, by the service's own path."""
    engines = [Engine(baseline, EngineOptions(false_findings_per_1000_account_days=knob)) for knob in knobs]
    found: list[list[bytes]] = [[] for _ in knobs]
    for batch in batches_of(stream, baseline.encoder):
        part = part_of(batch, accounts)
        for alerts, engine in zip(found, engines, strict=True):
            alerts += map(encode_alert, engine.apply(0, part))
    return found


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


class Tally:
    """Scores of `score.py`, pooled over streams."""

    def __init__(self, scorer: ModuleType) -> None:
        self._scorer = scorer
        self.hits: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self.by_seed: list[dict[str, Any]] = []

    def add(self, stream: Stream, alerts: list[bytes]) -> None:
        """Score one stream's alerts."""
        with (stream.folder / "events.jsonl").open(encoding="utf-8") as events:
            scored = self._scorer.score(stream.labels, events, [a.decode() for a in alerts])
        self.by_seed.append(scored)
        count = Counter((label["label"], label["archetype"]) for label in stream.labels.values())
        for (label, archetype), n in count.items():
            rates = scored["recall"] if label == "extraction" else scored["false_rate"]
            cell = self.hits[label, archetype]
            cell[0] += round(rates[archetype] * n)
            cell[1] += n

    def pooled(self, label: str, archetypes: Iterable[str] | None = None) -> tuple[int, int]:
        """(alerted, all) accounts of a label, of some archetypes."""
        chosen = [c for (lb, a), c in self.hits.items() if lb == label and (archetypes is None or a in archetypes)]
        return sum(c[0] for c in chosen), sum(c[1] for c in chosen)


Row = tuple[str, ...]

Section = tuple[str, Row, list[Row]]
"""Title, columns and rows of a table."""


def cell(hits: int, n: int) -> str:
    """Share, count and interval."""
    low, high = wilson(hits, n)
    return f"{hits / max(n, 1):.3f}  {hits}/{n}  {low:.3f}-{high:.3f}"


def account_rows(tallies: dict[str, Tally]) -> list[Row]:
    """One row an archetype, one column a baseline; the last two rows are what the targets are about."""
    first = next(iter(tallies.values()))
    rows = [
        (label, archetype, *(cell(*tally.hits[label, archetype]) for tally in tallies.values()))
        for label, archetype in sorted(first.hits)
    ]
    rows.append(("extraction", "unmixed single", *(cell(*t.pooled("extraction", UNMIXED)) for t in tallies.values())))
    rows.append(("organic", "all", *(cell(*t.pooled("organic")) for t in tallies.values())))
    return rows


def stream_rows(tallies: dict[str, Tally]) -> list[Row]:
    """One row a baseline and stream: what `score.py` says besides the shares."""
    return [
        (
            name,
            str(number),
            f"{scored['delay']['median']:.0f} / {scored['delay']['p90']:.0f}",
            f"{scored['leaked']:.3f}",
            f"{scored['early']:.4f}",
            f"{scored['false_daily']:.2f}",
        )
        for name, tally in tallies.items()
        for number, scored in enumerate(tally.by_seed, start=1)
    ]


def knob_rows(by_knob: dict[float, Tally]) -> list[Row]:
    """One row a setting of the knob: false findings measured, with pools left out."""
    return [
        (
            f"{knob:g}",
            f"{np.mean([scored['false_daily'] for scored in tally.by_seed]):.2f}",
            " ".join(f"{scored['false_daily']:.2f}" for scored in tally.by_seed),
            cell(*tally.pooled("organic")),
            cell(*tally.pooled("extraction", UNMIXED)),
        )
        for knob, tally in by_knob.items()
    ]


STREAM_COLUMNS = (
    "baseline", "stream", "delay median / 90th", "leaked", "early", "false findings, 1,000 account-days",
)  # fmt: skip
KNOB_COLUMNS = ("knob", "false findings, 1,000 account-days", "by stream", "organic alerted", "unmixed single found")


def tables(tallies: dict[str, Tally], by_knob: dict[float, Tally]) -> list[Section]:
    """All that is reported."""
    return [
        ("Accounts alerted: share, count, 95 % interval", ("label", "archetype", *tallies), account_rows(tallies)),
        ("By stream", STREAM_COLUMNS, stream_rows(tallies)),
        ("Goals", ("baseline", "goal", "measured", ""), goals(tallies)),
        (f"The knob, with {JUDGED}", KNOB_COLUMNS, knob_rows(by_knob)),
    ]


def show(console: Console, sections: Iterable[Section]) -> None:
    """Tables for the terminal."""
    for title, columns, rows in sections:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(sections: Iterable[Section]) -> str:
    """Tables for a file."""
    lines = []
    for title, columns, rows in sections:
        lines += [f"### {title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)


def verdict(tally: Tally) -> tuple[bool, str]:
    """Whether the targets are met, and a line that says so. Without accounts of a kind nothing is met."""
    (found, planted), (alerted, organic) = tally.pooled("extraction", UNMIXED), tally.pooled("organic")
    met = min(planted, organic) > 0 and found >= LEAST_FOUND * planted and alerted <= MOST_ALERTED * organic
    return met, (
        f"{'met' if met else 'MISSED'}: with {JUDGED}, {found} of {planted} unmixed single accounts found (at least "
        f"{LEAST_FOUND:.0%}), {alerted} of {organic} organic accounts alerted (at most {MOST_ALERTED:.0%})"
    )


def goals(tallies: dict[str, Tally]) -> list[Row]:
    """What a security team can live with, held against the default baseline and the one that knows nobody."""
    rows: list[Row] = []
    for name in ("default", JUDGED):
        tally = tallies[name]
        found, planted = tally.pooled("extraction", UNMIXED)
        alerted, organic = tally.pooled("organic")
        never = tally.pooled("organic", NEVER)[0]
        seldom = tally.pooled("organic", ("service", "reseller"))[0]
        delays = [scored["delay"] for scored in tally.by_seed]
        median, last = (float(np.median([delay[part] for delay in delays])) for part in ("median", "p90"))
        rows += [
            _goal(
                name, "unmixed single found, at least .98", f"{found / max(planted, 1):.3f}", found >= 0.98 * planted
            ),
            _goal(name, "each kind of them, at least .95", *_least_kind(tally)),
            _goal(
                name, "organic alerted, at most .005", f"{alerted / max(organic, 1):.4f}", alerted <= 0.005 * organic
            ),
            _goal(name, f"{', '.join(NEVER)} alerted: none", str(never), never == 0),
            _goal(name, "services and resellers alerted, at most 1", str(seldom), seldom <= 1),
            _goal(
                name,
                "delay, median of streams: 40, 90th: 150",
                f"{median:.0f}, {last:.0f}",
                median <= 40 and last <= 150,
            ),
        ]
    (found, planted), (without, _) = (tallies[name].pooled("extraction", UNMIXED) for name in (JUDGED, HONEST_TIMES))
    lost = (found - without) / max(planted, 1)
    rows.append(_goal(HONEST_TIMES, "recall lost without any cadence, at most .03", f"{lost:.3f}", lost <= 0.03))
    return rows


def _least_kind(tally: Tally) -> tuple[str, bool]:
    shares = {kind: hits / max(n, 1) for kind in UNMIXED for hits, n in [tally.pooled("extraction", [kind])]}
    least = min(shares, key=lambda kind: shares[kind])
    return f"{shares[least]:.3f} ({least})", shares[least] >= 0.95


def _goal(name: str, goal: str, measured: str, met: bool) -> Row:
    return name, goal, measured, "met" if met else "MISSED"


def seed_line(seed: int, tallies: dict[str, Tally]) -> str:
    """What is counted up to and with a seed."""
    parts = []
    for name, tally in tallies.items():
        (found, planted), (alerted, organic) = tally.pooled("extraction", UNMIXED), tally.pooled("organic")
        parts.append(f"{name}: {found}/{planted} unmixed single found, {alerted}/{organic} organic alerted")
    return f"after seed {seed}: " + "; ".join(parts)


def load_scorer(shared: Path) -> ModuleType:
    """`score.py` as a module."""
    spec = importlib.util.spec_from_file_location("composed_score", shared / "traffic/score.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def left_out_baselines(history: History, pools: dict[str, str], progress: Progress) -> dict[str, Baseline]:
    """For each pool of people, a baseline fitted without it."""
    names = sorted({pool for pool in pools.values() if pool})
    task = progress.add_task("fitting without a pool", total=len(names))
    fitted = {}
    for pool in names:
        accounts = [events for name, events in history.accounts.items() if pools[name] != pool]
        fitted[pool] = fit(accounts, history.encoder).baseline
        progress.advance(task)
    return fitted


def judges_of(fits: Iterable[str], stream: Stream) -> dict[str, str]:
    """Account to the pool without which the fit that judges it was made."""
    judges = sorted(fits)
    without = sorted(account for account, pool in stream.pools.items() if not pool)
    judge = {account: pool for account, pool in stream.pools.items() if pool}
    return judge | {account: judges[i % len(judges)] for i, account in enumerate(without)}


def left_out_alerts(
    fits: dict[str, Baseline], stream: Stream, knobs: Sequence[float], progress: Progress, task: Any
) -> list[list[bytes]]:
    """Alerts of the fits without a pool at each setting of the knob, each account judged by one of them."""
    judge = judges_of(fits, stream)
    found: list[list[bytes]] = [[] for _ in knobs]
    for pool in sorted(fits):
        own = {account for account, j in judge.items() if j == pool}
        for alerts, more in zip(found, alerts_of(fits[pool], stream, own, knobs), strict=True):
            alerts += more
        progress.advance(task)
    return found


def streams_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that say which composed streams are fitted on and scored."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("STILLWATCH_SHARED")
    where = "the folder that holds corpora/ and traffic/ (default: STILLWATCH_SHARED)"
    parser.add_argument("--shared", type=Path, default=shared, required=not shared, help=where)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="streams to score")
    parser.add_argument("--fit-seeds", type=int, nargs="+", default=[11, 12, 13], help="organic streams to fit on")
    parser.add_argument("--days", type=int, default=14, help="days of each stream")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stillwatch-bench")
    return parser


def main() -> int:
    """Compose, fit, score, print."""
    parser = streams_parser(__doc__)
    parser.add_argument("--json", type=Path, help="write the pooled counts and what score.py printed here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    shared = Path(options.shared)
    pool_of = person_pools(shared)
    scorer = load_scorer(shared)
    tallies = {name: Tally(scorer) for name in ("default", JUDGED, HONEST_TIMES)}
    by_knob = {knob: Tally(scorer) for knob in KNOBS[:-1]} | {KNOBS[-1]: tallies[JUDGED]}
    with Progress(console=Console(stderr=True)) as progress:
        folders = [compose(shared, seed, options.days, ORGANIC_PARTS, options.cache) for seed in options.fit_seeds]
        pools = {a: pool for folder in folders for a, pool in read_stream(folder, pool_of).pools.items()}
        files = [folder / "events.jsonl" for folder in folders]
        history = read_history(files, RequestLimits(), model=None, dimension=None, advance=lambda size: None)
        fits = left_out_baselines(history, pools, progress)
        task = progress.add_task("scoring streams", total=len(options.seeds) * (1 + 2 * len(fits)))
        for seed in options.seeds:
            stream = read_stream(compose(shared, seed, options.days, "", options.cache), pool_of)
            tallies["default"].add(stream, *alerts_of(load_default(), stream, set(stream.labels), KNOBS[-1:]))
            progress.advance(task)
            at_knobs = left_out_alerts(fits, stream, KNOBS, progress, task)
            for tally, alerts in zip(by_knob.values(), at_knobs, strict=True):
                tally.add(stream, alerts)
            honest = stream._replace(folder=at_honest_times(stream.folder))
            tallies[HONEST_TIMES].add(honest, *left_out_alerts(fits, honest, KNOBS[-1:], progress, task))
            progress.console.print(seed_line(seed, tallies), soft_wrap=True, highlight=False)
    found = tables(tallies, by_knob)
    show(Console(width=150), found)
    met, line = verdict(tallies[JUDGED])
    print(line)
    if options.markdown:
        options.markdown.write_text(markdown(found), encoding="utf-8")
    if options.json:
        results = {
            name: {
                "accounts": {f"{label}/{archetype}": cell for (label, archetype), cell in sorted(t.hits.items())},
                "streams": t.by_seed,
            }
            for name, t in tallies.items()
        }
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
