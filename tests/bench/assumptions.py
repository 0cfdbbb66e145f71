"""Whether the knob holds, what makes it hold, and who notices when it no longer does.

    python -m tests.bench.assumptions --shared DIR [--seeds 1 2 3] [--fit-seeds 11 12 13] [--days 14] [--scale 3]

Streams and pools left out are those of `tests.bench.detection`: an account that holds a person's text is judged by a
fit without that person's pool. The knob assumes that accounts are *exchangeable* with the baseline's. First it is held
to its word where that is so but for the people, who are all new: on the streams as they are, and on organic streams
with `--scale` times the accounts. Then the assumption is broken, in a way each (`CASES`), in the organic accounts of
the scored streams, and the false findings are counted before and after.

The engines judge by the default knob; one population watch (`detectors.drift`) sees all accounts in the order of the
stream, as a worker's does. A stream is *off by 3* where the findings since the change, at one of the settings that this
watch guards (30, 10 and the default), are beyond three times what it allows, with certainty (lower end of Poisson's
exact 95 % interval); from when on they were beyond it, is seen with hindsight. Beside it stands when the watch spoke:
*refit* is a call on near misses, *findings* one on findings, which asks to judge them first, since a wave of attack
gives the same.

Ends with exit code 1 when the watch speaks where nobody changed a stream, or is silent where the knob is off by 3.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.stats import chi2

from detectors.baseline import Baseline
from detectors.drift import NEAR_KNOBS, PopulationWatch
from detectors.embedding import load_wordllama
from detectors.encoder import Encoder
from detectors.engine import Engine, EngineOptions
from detectors.events import EventBatch
from detectors.fit import fit
from schemas.alert import Activity
from schemas.durations import DAY_MS, HOUR_MS
from schemas.request import RequestLimits
from streams.history import History, joined, read_history
from streams.ingest import Ingest
from tests.bench.detection import (
    KNOBS,
    ORGANIC_PARTS,
    UNMIXED,
    Row,
    Stream,
    batches_of,
    compose,
    judges_of,
    left_out_baselines,
    part_of,
    person_pools,
    read_stream,
    streams_parser,
)
from tests.redteam.customers import CUSTOMERS
from tests.redteam.trial import records_of

CHUNK = 500
"""Events after which it is asked whether the watch has spoken."""

BIN_DAYS = 2
ONSET_DAYS = 3.5
"""Noon of the fourth day."""

OFF = 3.0
KEPT = 0.05
NEW_SHARE = 0.1
WAVE_SHARE = 0.1
HOURS = 6

NO_SERVICES, ONE_POOL = "no services", "people of one pool"
OLD_POOL = "irc-ubuntu-a"
"""The pool of an old baseline's people: talk from before there were language models."""

Ints = NDArray[np.int64]


class Population(NamedTuple):
    """Events to judge, in order.

    Attributes
    ----------
    batch
        The events.
    judge
        Account to the name of the fit that judges it.
    honest
        Accounts whose findings are false.
    onset
        When the change begins (epoch ms); the first event where it is there from the start.
    ingest
        Reads further records as those of the batch were read.
    """

    batch: EventBatch
    judge: dict[str, str]
    honest: set[str]
    onset: int
    ingest: Ingest


class Measured(NamedTuple):
    """What came of a population.

    Attributes
    ----------
    found
        Setting of the knob to the times of findings that opened on honest accounts.
    days
        Times at which honest accounts' days began.
    called
        Name of a count to when the watch first called it off.
    said
        The first line of it.
    onset, begin
        When the change, and the stream, began.
    """

    found: dict[float, Ints]
    days: Ints
    called: dict[str, int]
    said: str
    onset: int
    begin: int


# ---- the ways to break it


def as_it_is(stream: Stream, whole: Population, rng: Random) -> Population:
    """Organic accounts as they are."""
    return _only(whole, whole.honest)


def lossy(stream: Stream, whole: Population, rng: Random) -> Population:
    """From a noon on, 95 of 100 records of everybody are lost."""
    organic = _only(whole, whole.honest)
    lost = np.array([rng.random() >= KEPT for _ in range(len(organic.batch))])
    return organic._replace(batch=_rows(organic.batch, ~(lost & (organic.batch.columns["time"] >= organic.onset))))


def clock_forward(stream: Stream, whole: Population, rng: Random) -> Population:
    """From a noon on, everybody's times are six hours later."""
    return _shifted(_only(whole, whole.honest), HOURS)


def clock_back(stream: Stream, whole: Population, rng: Random) -> Population:
    """From a noon on, everybody's times are six hours earlier, so that six hours come twice."""
    return _shifted(_only(whole, whole.honest), -HOURS)


def newcomers(*names: str, within_days: float = 3.0) -> Case:
    """From a noon on customers of kinds that are not in the history come, until they are one account in ten."""

    def changed(stream: Stream, whole: Population, rng: Random) -> Population:
        organic = _only(whole, whole.honest)
        count = max(1, round(NEW_SHARE * len(organic.honest)))
        judges = sorted(set(organic.judge.values()))
        end = int(organic.batch.columns["time"].max())
        batches = [organic.batch]
        judge = dict(organic.judge)
        for i in range(count):
            account = f"new-{i}"
            events = CUSTOMERS[names[i % len(names)]](account, rng)
            begin = organic.onset + int(rng.uniform(0.0, within_days) * DAY_MS)
            batches.append(_later(events, begin, end, organic.ingest))
            judge[account] = judges[i % len(judges)]
        return organic._replace(batch=_sorted(joined(batches)), judge=judge, honest=set(judge))

    return changed


def judged_by(name: str) -> Case:
    """Everybody is judged by one fit, which knows the others and has never seen some kind."""

    def changed(stream: Stream, whole: Population, rng: Random) -> Population:
        organic = _only(whole, whole.honest)
        begin = int(organic.batch.columns["time"].min())
        return organic._replace(judge=dict.fromkeys(organic.judge, name), onset=begin)

    return changed


def wave(stream: Stream, whole: Population, rng: Random) -> Population:
    """Attackers, each alone, as many as one organic account in ten."""
    attackers = [a for a in sorted(stream.labels) if stream.labels[a]["archetype"] in UNMIXED]
    chosen = rng.sample(attackers, min(len(attackers), round(WAVE_SHARE * len(whole.honest))))
    return _from_start(_only(whole, whole.honest | set(chosen)))


def campaigns(stream: Stream, whole: Population, rng: Random) -> Population:
    """All attacks of the stream, campaigns of hundreds of small accounts among them."""
    return _from_start(whole)


Case = Callable[[Stream, Population, Random], Population]

CASES: dict[str, Case] = {
    "nobody changed": as_it_is,
    "new: a tenth translate": newcomers("translation service"),
    "new: a tenth translate, one by one": newcomers("translation service", within_days=10.0),
    "new: a tenth label data": newcomers("data-labelling team"),
    "new: a tenth never follow up": newcomers("person who never follows up"),
    "new: a tenth of mixed kinds": newcomers(
        "app with real users, not named", "answers from found passages", "crawler that summarises pages", "support bot"
    ),
    "new: services": judged_by(NO_SERVICES),
    "new: users of language models": judged_by("llm-users"),
    "new: IRC's people": judged_by("irc-ubuntu-a"),
    "95 % of records lost": lossy,
    "clock 6 h forward": clock_forward,
    "clock 6 h back": clock_back,
    "old baseline, people of one pool": judged_by(ONE_POOL),
    "attack: a tenth single accounts": wave,
    "attack: half are campaigns": campaigns,
}
UNCHANGED = "nobody changed"


def _from_start(population: Population) -> Population:
    return population._replace(onset=int(population.batch.columns["time"].min()))


def _only(population: Population, accounts: set[str]) -> Population:
    judge = {name: fit for name, fit in population.judge.items() if name in accounts}
    return population._replace(batch=part_of(population.batch, accounts), judge=judge)


def _rows(batch: EventBatch, keep: NDArray[Any]) -> EventBatch:
    at = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
    return EventBatch([batch.accounts[i] for i in at], [batch.ids[i] for i in at], batch.columns[at])


def _sorted(batch: EventBatch) -> EventBatch:
    """In the order of time, offsets anew."""
    ordered = _rows(batch, np.argsort(batch.columns["time"], kind="stable"))
    ordered.columns["offset"] = np.arange(len(ordered))
    return ordered


def _shifted(population: Population, hours: int) -> Population:
    columns = population.batch.columns.copy()
    columns["time"][columns["time"] >= population.onset] += hours * HOUR_MS
    return population._replace(batch=EventBatch(population.batch.accounts, population.batch.ids, columns))


def _later(events: Sequence[dict[str, Any]], begin: int, end: int, ingest: Ingest) -> EventBatch:
    """Made-up events as a batch, the first of them at `begin`, those after `end` left out."""
    shift = begin - int(events[0]["time"])
    moved = [{**event, "time": time} for event in events if (time := int(event["time"]) + shift) <= end]
    return joined([ingest(records).batch for records in records_of(moved)])


# ---- measuring


class _Seen(NamedTuple):
    """Stands for one engine's watch: what its loop marks goes to the watch of all."""

    tally: NDArray[Any]
    whole: PopulationWatch

    def take(self, marks: NDArray[Any]) -> None:
        self.whole.tally["looks"] += self.tally["looks"]
        self.whole.tally["beyond"] += self.tally["beyond"]
        self.tally["looks"] = self.tally["beyond"] = 0.0
        self.whole.take(marks)


def measure(population: Population, fits: Mapping[str, Baseline], knobs: Sequence[float] = KNOBS) -> Measured:
    """Judge a population at each setting of the knob, and watch it at the last one."""
    used = sorted(set(population.judge.values()))
    parts = {name: {a for a, judge in population.judge.items() if judge == name} for name in used}
    times: dict[float, list[int]] = {knob: [] for knob in knobs}
    for knob in knobs[:-1]:
        for name in used:
            engine = Engine(fits[name], EngineOptions(false_findings_per_1000_account_days=knob))
            times[knob] += _false(engine, part_of(population.batch, parts[name]), population.honest)
    engines = {name: Engine(fits[name], EngineOptions(false_findings_per_1000_account_days=knobs[-1])) for name in used}
    watch = PopulationWatch(fits[used[0]], engines[used[0]].threshold)
    for engine in engines.values():
        engine.watch = _Seen(engine.watch.tally, watch)  # type: ignore[assignment]
    called: dict[str, int] = {}
    said = ""
    for begin in range(0, len(population.batch), CHUNK):
        chunk = _rows(population.batch, np.arange(begin, min(begin + CHUNK, len(population.batch))))
        for name in used:
            times[knobs[-1]] += _false(engines[name], part_of(chunk, parts[name]), population.honest)
        now = int(chunk.columns["time"].max())
        called |= {name: now for name, calls in watch.calls.items() if calls and name not in called}
        said = said or next(iter(watch.news()), "")
    begin_ms = int(population.batch.columns["time"].min())
    days = _days(part_of(population.batch, population.honest))
    return Measured(
        {knob: np.sort(np.array(t, np.int64)) for knob, t in times.items()},
        days, called, said, population.onset, begin_ms,
    )  # fmt: skip


def _false(engine: Engine, batch: EventBatch, honest: set[str]) -> list[int]:
    """Times at which findings opened on honest accounts."""
    alerts = engine.apply(0, batch)
    return [alert.time for alert in alerts if alert.activity_id == Activity.CREATE and alert.account in honest]


def _days(batch: EventBatch) -> Ints:
    """The first time of each account-day, ascending."""
    first: dict[tuple[str, int], int] = {}
    for name, time in zip(batch.accounts, batch.columns["time"].tolist(), strict=True):
        key = (name, time // DAY_MS)
        first[key] = min(first.get(key, time), time)
    return np.sort(np.array(list(first.values()), np.int64))


def poisson(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean (Garwood 1936)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2.0 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2.0


WATCHED = (*NEAR_KNOBS, KNOBS[-1])
"""Settings that the watch of an engine at the last of `KNOBS` guards; at another knob it guards that one."""


def off_since(measured: Measured, knobs: Sequence[float] = WATCHED) -> int | None:
    """When the findings since the change came to be beyond `OFF` times a setting, where they are so; None where not."""
    since = [t for t in (_off_at(measured, knob) for knob in knobs) if t is not None]
    return min(since, default=None)


def _off_at(measured: Measured, knob: float) -> int | None:
    times = measured.found[knob][measured.found[knob] >= measured.onset]
    days = measured.days[measured.days >= measured.onset]
    if poisson(len(times))[0] <= OFF * knob / 1000.0 * len(days):
        return None
    allowed = knob / 1000.0 * np.searchsorted(days, times, side="right")
    within = np.flatnonzero(np.arange(1, len(times) + 1) < OFF * allowed)
    return int(times[within[-1] + 1 if len(within) else 0])


# ---- reporting


def rate_cell(counts: Sequence[int], days: Sequence[int]) -> str:
    """Findings for each 1,000 account-days, pooled, with Poisson's exact interval."""
    count, of = sum(counts), max(1, sum(days))
    low, high = (1000.0 * bound / of for bound in poisson(count))
    return f"{1000.0 * count / of:.2f}  {count}/{of}  {low:.2f}-{high:.2f}"


def knob_rows(by_scale: Mapping[float, Sequence[Measured]]) -> list[Row]:
    """One row a setting, one column a scale."""
    return [
        (
            f"{knob:g}",
            *(rate_cell([len(m.found[knob]) for m in ms], [len(m.days) for m in ms]) for ms in by_scale.values()),
        )
        for knob in KNOBS
    ]


def case_rows(results: Mapping[str, Sequence[Measured]]) -> list[Row]:
    """One row a case: rates since the change, when the knob was off by 3, when the watch spoke."""
    rows = []
    for name, measured in results.items():
        since = [
            rate_cell(
                [np.count_nonzero(m.found[knob] >= m.onset) for m in measured],
                [np.count_nonzero(m.days >= m.onset) for m in measured],
            )
            for knob in (KNOBS[1], KNOBS[-1])
        ]
        rows.append(
            (
                name,
                *since,
                _when([off_since(m) for m in measured], measured),
                _when([_first(m, near=True) for m in measured], measured),
                _when([_first(m, near=False) for m in measured], measured),
                " ".join(str(_before(m)) for m in measured),
            )
        )
    return rows


def _first(measured: Measured, *, near: bool) -> int | None:
    return min((t for name, t in measured.called.items() if name.startswith("near") is near), default=None)


def _before(measured: Measured) -> int:
    """False findings at the last setting since the change, up to when the watch spoke."""
    times = measured.found[KNOBS[-1]]
    spoken = min(measured.called.values(), default=None)
    return int(np.count_nonzero((times >= measured.onset) & ((spoken is None) | (times <= (spoken or 0)))))


def _when(times: Sequence[int | None], measured: Sequence[Measured]) -> str:
    """In how many streams, and days after the change: median."""
    days = [(t - m.onset) / DAY_MS for t, m in zip(times, measured, strict=True) if t is not None]
    return f"{len(days)} of {len(times)}{f', day {np.median(days):.1f}' if days else ''}"


def course_rows(results: Mapping[str, Sequence[Measured]], days: int) -> list[Row]:
    """One row a case: findings at the second setting for each 1,000 account-days, over the stream."""
    knob = KNOBS[1]
    rows = []
    for name, measured in results.items():
        cells = []
        for begin in range(0, days, BIN_DAYS):
            found = active = 0
            for m in measured:
                low, high = m.begin // DAY_MS * DAY_MS + begin * DAY_MS, (begin + BIN_DAYS) * DAY_MS
                high += m.begin // DAY_MS * DAY_MS
                found += np.count_nonzero((m.found[knob] >= low) & (m.found[knob] < high))
                active += np.count_nonzero((m.days >= low) & (m.days < high))
            cells.append(f"{1000.0 * found / max(1, active):.0f}")
        rows.append((name, *cells))
    return rows


CASE_COLUMNS = (
    "accounts", f"knob {KNOBS[1]:g}, since", f"knob {KNOBS[-1]:g}, since", "off by 3", "refit", "findings", "before it",
)  # fmt: skip


def tables(
    by_scale: Mapping[float, Sequence[Measured]], results: Mapping[str, Sequence[Measured]], days: int
) -> list[tuple[str, Row, list[Row]]]:
    """Title, columns and rows of all that is reported."""
    scales = tuple(f"{scale:g} times the accounts" for scale in by_scale)
    course = tuple(f"days {begin + 1}-{begin + BIN_DAYS}" for begin in range(0, days, BIN_DAYS))
    return [
        ("False findings for each 1,000 account-days, all people new", ("knob", *scales), knob_rows(by_scale)),
        ("When accounts are no longer those of the baseline", CASE_COLUMNS, case_rows(results)),
        (f"Over time, knob {KNOBS[1]:g}", ("accounts", *course), course_rows(results, days)),
        ("What the watch said first", ("accounts", ""), [(name, said) for name, said in _said(results)]),
    ]


def _said(results: Mapping[str, Sequence[Measured]]) -> Iterator[tuple[str, str]]:
    for name, measured in results.items():
        lines = [m.said for m in measured if m.said]
        if lines:
            yield name, lines[0]


NOTES = f"""The knob assumes accounts that are exchangeable with the baseline's. Rates are shown with counts over
account-days and Poisson's exact 95 % interval. Changes begin at noon of the fourth day, or with the stream where the
baseline is what differs. *Off by 3*: in how many streams the findings since then are beyond three times one of the
settings with certainty, and from which day on, seen with hindsight. *Refit*: the watch's call on near misses (knob at
{NEAR_KNOBS[0]:g} and {NEAR_KNOBS[1]:g}). *Findings*: its call on findings, which asks to judge them first. *Before it*:
false findings at knob {KNOBS[-1]:g} since the change when the watch spoke, or in all where it did not; by stream.
"""


def show(console: Console, made: list[tuple[str, Row, list[Row]]]) -> None:
    """For the terminal."""
    for title, columns, rows in made:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(made: list[tuple[str, Row, list[Row]]]) -> str:
    """For a file."""
    lines = [NOTES]
    for title, columns, rows in made:
        lines += [f"### {title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)


def verdict(results: Mapping[str, Sequence[Measured]]) -> tuple[bool, str]:
    """Whether the watch was silent where nothing changed and spoke where the knob was off, and a line that says so.

    Also says how often it spoke before the knob was off, which is wanted and not judged: a test of a rate has to count
    findings first.
    """
    false = sum(bool(m.called) for m in results[UNCHANGED])
    off = [m for name, ms in results.items() if name != UNCHANGED for m in ms if off_since(m) is not None]
    noticed = [m for m in off if m.called]
    before = sum(min(m.called.values()) <= (off_since(m) or 0) for m in noticed)
    met = false == 0 and len(noticed) == len(off)
    return met, (
        f"{'met' if met else 'MISSED'}: the watch spoke on {false} of {len(results[UNCHANGED])} streams that nobody "
        f"changed, and on {len(noticed)} of {len(off)} where the knob was off by {OFF:g}; before it was, on {before}"
    )


# ---- running


def population_of(stream: Stream, encoder: Encoder, fits: Sequence[str]) -> Population:
    """A whole stream, attacks too, with who judges whom."""
    batch = joined(list(batches_of(stream, encoder)))
    honest = {name for name, label in stream.labels.items() if label["label"] == "organic"}
    onset = int(batch.columns["time"].min()) // DAY_MS * DAY_MS + int(ONSET_DAYS * DAY_MS)
    ingest = Ingest(encoder=encoder, embedder=load_wordllama(), limits=RequestLimits(), expected_partition=None)
    return Population(batch, judges_of(fits, stream), honest, onset, ingest)


def further_baselines(history: History, streams: Sequence[Stream], progress: Progress) -> dict[str, Baseline]:
    """Fits that have never seen a service, and fits whose people are those of one old pool."""
    pools = {name: pool for stream in streams for name, pool in stream.pools.items()}
    kinds = {name: label["archetype"] for stream in streams for name, label in stream.labels.items()}
    kept = {
        NO_SERVICES: [name for name in history.accounts if kinds[name] not in ("service", "reseller")],
        ONE_POOL: [name for name in history.accounts if pools[name] in ("", OLD_POOL)],
    }
    task = progress.add_task("fitting without a kind", total=len(kept))
    fitted = {}
    for name, accounts in kept.items():
        fitted[name] = fit([history.accounts[account] for account in accounts], history.encoder).baseline
        progress.advance(task)
    return fitted


def run_cases(
    stream: Stream, whole: Population, fits: Mapping[str, Baseline], seed: int, names: Sequence[str]
) -> Iterator[tuple[str, Measured]]:
    """Each case of one stream."""
    for name in names:
        yield name, measure(CASES[name](stream, whole, Random(f"{name}/{seed}")), fits)


def main() -> int:
    """Compose, fit, break, measure, print."""
    parser = streams_parser(__doc__)
    parser.add_argument("--scale", type=float, default=3.0, help="times the accounts of the organic streams")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="(default: all)")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    shared, cases = Path(options.shared), [UNCHANGED, *(name for name in options.cases if name != UNCHANGED)]
    pool_of = person_pools(shared)

    def stream_of(seed: int, only: str, scale: float = 1.0) -> Stream:
        return read_stream(compose(shared, seed, options.days, only, options.cache, scale), pool_of)

    results: dict[str, list[Measured]] = {name: [] for name in cases}
    larger: list[Measured] = []
    with Progress(console=Console(stderr=True)) as progress:
        fitted_on = [stream_of(seed, ORGANIC_PARTS) for seed in options.fit_seeds]
        files = [stream.folder / "events.jsonl" for stream in fitted_on]
        history = read_history(files, RequestLimits(), model=None, dimension=None, advance=lambda size: None)
        pools = {a: pool for stream in fitted_on for a, pool in stream.pools.items()}
        fits = left_out_baselines(history, pools, progress)
        judges = sorted(fits)
        fits |= further_baselines(history, fitted_on, progress)
        task = progress.add_task("scoring streams", total=len(options.seeds) * (len(cases) + 1))
        for seed in options.seeds:
            stream = stream_of(seed, "")
            whole = population_of(stream, history.encoder, judges)
            for name, measured in run_cases(stream, whole, fits, seed, cases):
                results[name].append(measured)
                progress.advance(task)
            stream = stream_of(seed, ORGANIC_PARTS, options.scale)
            larger.append(measure(population_of(stream, history.encoder, judges), fits))
            progress.advance(task)
    made = tables({1.0: results[UNCHANGED], options.scale: larger}, results, options.days)
    show(Console(width=170), made)
    met, line = verdict(results)
    print(line)
    if options.markdown:
        options.markdown.write_text(f"{markdown(made)}\n{line}\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
