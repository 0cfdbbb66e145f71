"""What a fit may be made from: a history that holds extraction, and one of three days.

    python -m tests.bench.fitting --shared DIR [--seeds 1 2 3] [--fit-seeds 11 12 13] [--days 14]
        [--json FILE] [--markdown FILE]

Streams and counting are those of `tests.bench.detection`; every fit reads its history from files, as `stillwatch fit`
does, and is judged at the default knob on streams that it was not fitted on, or on the rest of its own.

- *With extraction*: the organic parts of `--fit-seeds`, and the same with extraction accounts of the first of these
  seeds added until they are `SHARE` of all, kinds in turn. It may find at most `MOST_LOST` less of the unmixed single
  accounts, and alert no more organic ones.
- *Three days*: for each of `--seeds` the first `FIRST_DAYS` of the stream, of its extraction accounts as many as are
  `SHARE` of all (a composed stream is nearly half extraction, which no customer base is); judged on the rest of the
  same stream, beside the default baseline. Both meet every account anew there, so what was sent before is lost to both,
  and an account's honest beginning counts from there.

Ends with exit code 1 when extraction in the history costs more than it may.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from detectors.baseline import Baseline, load_default
from detectors.fit import fit
from schemas.durations import DAY_MS
from schemas.request import RequestLimits
from streams.history import read_history
from tests.bench.detection import (
    KNOBS,
    ORGANIC_PARTS,
    STREAM_COLUMNS,
    UNMIXED,
    Section,
    Stream,
    Tally,
    account_rows,
    alerts_of,
    compose,
    load_scorer,
    markdown,
    seed_line,
    show,
    stream_rows,
    streams_parser,
)

SHARE = 0.05
"""Share of the accounts of a history that are extraction."""

MOST_LOST = 0.03
"""Recall that extraction in the history may cost."""

FIRST_DAYS = 3

CLEAN, MIXED = "fitted on organic parts", f"with {SHARE:.0%} extraction"
DEFAULT, SHORT = "default", f"fitted on the first {FIRST_DAYS} days"

Labels = Mapping[str, Mapping[str, Any]]


def of_each_kind(labels: Labels, count: int) -> list[str]:
    """So many extraction accounts, their kinds in turn, in the order of their names."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, label in sorted(labels.items()):
        if label["label"] == "extraction":
            kinds[label["archetype"]].append(name)
    chosen: list[str] = []
    while len(chosen) < count and any(kinds.values()):
        chosen += [names.pop(0) for _, names in sorted(kinds.items()) if names]
    return chosen[:count]


def among(organic: int) -> int:
    """How many accounts of extraction beside so many organic ones are `SHARE` of all."""
    return round(SHARE / (1.0 - SHARE) * organic)


def organic_of(labels: Labels) -> set[str]:
    """The organic accounts."""
    return {name for name, label in labels.items() if label["label"] == "organic"}


def copy_of(source: Path, target: Path, keep: Callable[[dict[str, Any]], bool]) -> Path:
    """The events of a file that are kept, as a file."""
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as kept:
        kept.writelines(line for line in lines if keep(json.loads(line)))
    return target


def fitted(files: Iterable[Path]) -> Baseline:
    """The baseline that `stillwatch fit` makes of files."""
    history = read_history(list(files), RequestLimits(), model=None, dimension=None, advance=lambda size: None)
    accounts = list(history.accounts.values())
    return fit(accounts, history.encoder, days_per_account=history.days_per_account).baseline


def end_of(events: Path) -> int:
    """Event time at which the first days of a stream end; its first event is its earliest."""
    with events.open(encoding="utf-8") as lines:
        first = int(json.loads(next(lines))["time"])
    return (first // DAY_MS + FIRST_DAYS) * DAY_MS


def rest_of(stream: Stream, end: int, folder: Path) -> Stream:
    """What a stream brings from `end` on, in `folder`: accounts that still do what their label says."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    with (stream.folder / "events.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            (after if event["time"] >= end else before).update([event["account"]])
    labels = {
        name: {**label, "starts": max(0, label["starts"] - before[name])}
        for name, label in stream.labels.items()
        if after[name] > max(0, label["starts"] - before[name])
    }
    copy_of(
        stream.folder / "events.jsonl",
        folder / "events.jsonl",
        lambda event: event["time"] >= end and event["account"] in labels,
    )
    return Stream(folder, labels, {})


def sections(contaminated: dict[str, Tally], short: dict[str, Tally]) -> list[Section]:
    """Title, columns and rows of all that is reported."""
    return [
        (
            f"A history of which {SHARE:.0%} of the accounts are extraction: alerted on other streams",
            ("label", "archetype", *contaminated),
            account_rows(contaminated),
        ),
        ("By stream", STREAM_COLUMNS, stream_rows(contaminated)),
        (
            f"A history of {FIRST_DAYS} days: alerted in the rest of the same stream",
            ("label", "archetype", *short),
            account_rows(short),
        ),
        ("By rest of a stream", STREAM_COLUMNS, stream_rows(short)),
    ]


def verdict(contaminated: dict[str, Tally]) -> tuple[bool, str]:
    """Whether extraction in the history costs no more than it may, and a line that says so."""
    (found, planted), (found_mixed, _) = (contaminated[name].pooled("extraction", UNMIXED) for name in (CLEAN, MIXED))
    (alerted, organic), (alerted_mixed, _) = (contaminated[name].pooled("organic") for name in (CLEAN, MIXED))
    met = min(planted, organic) > 0 and found - found_mixed <= MOST_LOST * planted and alerted_mixed <= alerted
    return met, (
        f"{'met' if met else 'MISSED'}: with {SHARE:.0%} extraction in the history, {found_mixed} of {planted} unmixed "
        f"single accounts found instead of {found} (at most {MOST_LOST:.0%} fewer), {alerted_mixed} of {organic} "
        f"organic accounts alerted instead of {alerted} (no more)"
    )


def read_labels(folder: Path) -> Stream:
    """A stream; nobody's pool is left out here."""
    return Stream(folder, json.loads((folder / "labels.json").read_text()), {})


def main() -> int:
    """Compose, fit, score, print."""
    parser = streams_parser(__doc__)
    parser.add_argument("--json", type=Path, help="write the pooled counts here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    shared = Path(options.shared)
    scorer = load_scorer(shared)
    contaminated, short = ({name: Tally(scorer) for name in names} for names in ((CLEAN, MIXED), (DEFAULT, SHORT)))
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as scratch:
        task = progress.add_task("fitting and scoring", total=2 + 5 * len(options.seeds))

        def judged(tally: Tally, baseline: Baseline, stream: Stream) -> None:
            tally.add(stream, *alerts_of(baseline, stream, set(stream.labels), KNOBS[-1:]))
            progress.advance(task)

        folders = [compose(shared, seed, options.days, ORGANIC_PARTS, options.cache) for seed in options.fit_seeds]
        files = [folder / "events.jsonl" for folder in folders]
        source = read_labels(compose(shared, options.fit_seeds[0], options.days, "", options.cache))
        planted = set(of_each_kind(source.labels, among(sum(len(read_labels(folder).labels) for folder in folders))))
        added = Path(scratch) / "extraction.jsonl"
        copy_of(source.folder / "events.jsonl", added, lambda event: event["account"] in planted)
        baselines = {}
        for name, history in ((CLEAN, files), (MIXED, [*files, added])):
            baselines[name] = fitted(history)
            progress.advance(task)
        for seed in options.seeds:
            stream = read_labels(compose(shared, seed, options.days, "", options.cache))
            for name, tally in contaminated.items():
                judged(tally, baselines[name], stream)
            progress.console.print(seed_line(seed, contaminated), soft_wrap=True, highlight=False)
            end = end_of(stream.folder / "events.jsonl")
            organic = organic_of(stream.labels)
            kept = organic | set(of_each_kind(stream.labels, among(len(organic))))
            first = copy_of(
                stream.folder / "events.jsonl",
                Path(scratch) / "first.jsonl",
                lambda event, end=end, kept=kept: event["time"] < end and event["account"] in kept,  # type: ignore[misc]
            )
            early = fitted([first])
            progress.advance(task)
            rest = rest_of(stream, end, Path(scratch))
            judged(short[DEFAULT], load_default(), rest)
            judged(short[SHORT], early, rest)
            progress.console.print(seed_line(seed, short), soft_wrap=True, highlight=False)
    found = sections(contaminated, short)
    show(Console(width=150), found)
    met, line = verdict(contaminated)
    print(line)
    if options.markdown:
        options.markdown.write_text(f"{markdown(found)}\n{line}\n", encoding="utf-8")
    if options.json:
        results = {
            name: {f"{label}/{archetype}": cell for (label, archetype), cell in sorted(tally.hits.items())}
            for name, tally in (contaminated | short).items()
        }
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
