"""`stillwatch fit`: a baseline from unlabelled history."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.request import RequestLimits
from schemas.version import VERSION
from streams.cli.failures import InputError
from streams.cli.files import STANDARD, keep_apart, open_output
from streams.cli.options import files_named, takes_settings
from streams.cli.terminal import ERR, plain, safe
from streams.settings import Settings

if TYPE_CHECKING:
    from detectors.fit import FitReport
    from streams.history import History

RECOMMENDED_ACCOUNTS = 300
"""With fewer, the tails are mostly extrapolated."""

DEFAULT_SEED = 5

NAMED_SUSPECTS = 10

KNOBS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Settings of the knob whose cost is shown."""


@takes_settings("embedding_model", "max_record_bytes")
def fit(
    settings: Settings,
    files: Annotated[list[Path], typer.Argument(help="Request events, one JSON object a line; one file or several.")],
    out: Annotated[Path, typer.Option(help="Where the baseline is written.")] = Path("baseline.json"),
    dimension: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Length of embeddings that come as base64.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the made-up extraction streams.")] = DEFAULT_SEED,
    note: Annotated[str, typer.Option(help="Written into the baseline: where the history is from.")] = "",
) -> None:
    """Learn what is usual among your accounts from their history. No labels are needed.

    A few per cent of real extraction in the history do no harm. Take two weeks or more, and some hundred accounts.

    Example: [bold]stillwatch fit history.jsonl --out baseline.json[/bold], then
    [bold]stillwatch worker --baseline-file baseline.json[/bold]
    """
    # Here: the detectors take a second to load, which `--help` should not.
    from detectors.baseline import Provenance
    from detectors.fit import FitError
    from detectors.fit import fit as fit_baseline
    from streams.history import HistoryError, read_history

    keep_apart(inputs=[*files, *files_named(settings)], outputs=[out])
    if twice := [path for path in files if (path.exists() and not path.is_file()) or path == STANDARD]:
        raise InputError(f"cannot read {twice[0]}: fit reads files twice, so no folder, pipe or standard input")
    with _bar() as bar:
        reading = bar.add_task("reading", total=2 * _size(files))
        try:
            history = read_history(
                files,
                RequestLimits(record_bytes=settings.max_record_bytes),
                model=settings.embedding_model,
                dimension=dimension,
                advance=lambda amount: bar.advance(reading, amount),
            )
            provenance = Provenance(
                command=_command(files, settings, dimension, seed),
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                events_sha256=history.sha256,
                events=history.events,
                accounts=len(history.accounts),
                account_days=history.account_days,
                note=note,
            )
            report = fit_baseline(
                list(history.accounts.values()),
                history.encoder,
                seed=seed,
                provenance=provenance,
                progress=_Stages(bar),
            )
        except (FitError, HistoryError) as error:
            raise InputError(f"{', '.join(map(str, files))}: {error}") from None
        except OSError as error:
            raise InputError(f"cannot read {error.filename or 'the files'}: {error.strerror}") from None
    with open_output(out) as target:
        target.write(report.baseline.to_bytes())
    _report(history, report, out)


def _size(files: list[Path]) -> int:
    try:
        return sum(path.stat().st_size for path in files)
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from None


def _command(files: list[Path], settings: Settings, dimension: int | None, seed: int) -> str:
    """What made the baseline, to be made again: names of files without their folders, and everything that counts."""
    words = [f"stillwatch {VERSION} fit", *(shlex.quote(path.name) for path in files)]
    given = (
        ("--embedding-model", settings.embedding_model),
        ("--dimension", dimension),
        ("--seed", None if seed == DEFAULT_SEED else seed),
    )
    return " ".join([*words, *(f"{flag} {shlex.quote(str(value))}" for flag, value in given if value is not None)])


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:>18}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
    )


class _Stages:
    """One bar for each stage of the fit, as they begin."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, stage: str, share: float) -> None:
        if stage != self._stage:
            self._stage, self._task = stage, self._bar.add_task(stage, total=1.0)
        if self._task is not None:
            self._bar.update(self._task, completed=share)


def _names(history: History, places: tuple[int, ...]) -> str:
    """The first few of these accounts, to be looked at."""
    accounts = list(history.accounts)
    shown = [safe(accounts[place]) for place in places[:NAMED_SUSPECTS]]
    more = ", ..." if len(places) > len(shown) else ""
    return f"; look at them (`stillwatch explain`): {', '.join(shown)}{more}" if shown else ""


def _settings_of_the_knob(history: History, report: FitReport) -> Table:
    """What each setting of the knob would cost with traffic like this history's, and what it would find."""
    table = Table(title="false_findings_per_1000_account_days", title_justify="left", box=SIMPLE_HEAD)
    for name in ("setting", "false findings a day", "made-up lists found", "after requests, median", ""):
        table.add_column(name, justify="right" if name else "left")
    a_day = history.account_days / history.days
    for knob in KNOBS:
        share, requests = report.found(knob)
        false = f"{knob * a_day / 1000.0:.2g}"
        mark = "extrapolated" if knob < report.resolution else ""
        table.add_row(f"{knob:g}", false, f"{100.0 * share:.0f} %", f"{requests:.0f}" if share else "", mark)
    return table


def _report(history: History, report: FitReport, out: Path) -> None:
    baseline = report.baseline
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    lines = [
        f"{history.events} requests of {len(history.accounts)} accounts over {history.account_days} account-days",
        f"taken for: {kinds}; {report.short} too short to judge",
        f"{len(report.suspects)} look like extraction throughout and were left out{_names(history, report.suspects)}",
        f"baseline {baseline.hash} for {baseline.encoder.model}, written to {out}",
        f"down to {report.resolution:.2g} false findings for each 1,000 account-days the knob rests on this history; "
        "below that it is extrapolated",
    ]
    for line in lines:
        ERR.print(plain(line))
    ERR.print(_settings_of_the_knob(history, report))
    for reason, count in history.refused.most_common():
        ERR.print(plain(f"  refused: {count} {reason}", "yellow"))
    if baseline.accounts < RECOMMENDED_ACCOUNTS:
        ERR.print(plain(f"  {baseline.accounts} accounts are few: the tails are mostly extrapolated", "yellow"))
