"""`stillwatch fit`: a baseline from unlabelled history."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from schemas.request import RequestLimits
from schemas.version import VERSION
from streams.cli.failures import InputError
from streams.cli.files import STANDARD, keep_apart, open_output
from streams.cli.options import files_named, takes_settings
from streams.cli.terminal import ERR
from streams.settings import Settings
from streams.side_by_side import processes, usable_cores

DEFAULT_SEED = 5

WORTH_PROCESSES_BYTES = 16 << 20
"""A shorter history is read before other processes have started."""


@takes_settings("embedding_model", "max_record_bytes", "baseline_file")
def fit(
    settings: Settings,
    files: Annotated[list[Path], typer.Argument(help="Request events, one JSON object a line; one file or several.")],
    out: Annotated[Path, typer.Option(help="Where the baseline is written.")] = Path("baseline.json"),
    dimension: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Length of embeddings that come as base64.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the made-up extraction streams.")] = DEFAULT_SEED,
    note: Annotated[str, typer.Option(help="Written into the baseline: where the history is from.")] = "",
    against: Annotated[
        Path | None,
        typer.Option(help="Baseline to compare with. Default: --baseline-file, else the one that ships."),
    ] = None,
    at_once: Annotated[
        int, typer.Option("--processes", min=1, max=256, help="Processes that read. Changes speed, never the baseline.")
    ] = usable_cores(),
) -> None:
    """Learn what is usual among your accounts from their history. No labels are needed.

    A few per cent of real extraction in the history do no harm. Take two weeks or more, and some hundred accounts.
    Memory does not grow with the history: of very many accounts it takes a sample, of a very long life its beginning,
    and says so.

    It ends with what was learnt, what each setting of the knob will cost, and what changed against the baseline that
    you have.

    Example: [bold]stillwatch fit history.jsonl --out baseline.json[/bold], then
    [bold]stillwatch worker --baseline-file baseline.json[/bold]
    """
    # Here: the detectors take a second to load, which `--help` should not.
    from detectors.baseline import Provenance
    from detectors.fit import FitError
    from detectors.fit import fit as fit_baseline
    from streams.cli import fit_report
    from streams.detection import read_baseline
    from streams.history import HistoryError, read_history

    if against is not None and not against.is_file():
        raise InputError(f"cannot read {against}: --against names a baseline file, as `stillwatch fit` writes it")
    keep_apart(inputs=[*files, *files_named(settings), *([against] if against else [])], outputs=[out])
    if twice := [path for path in files if (path.exists() and not path.is_file()) or path == STANDARD]:
        raise InputError(f"cannot read {twice[0]}: fit reads files twice, so no folder, pipe or standard input")
    current = read_baseline(settings.model_copy(update={"baseline_file": against}) if against else settings)
    size = _size(files)
    readers = at_once if size >= WORTH_PROCESSES_BYTES else 1
    with _bar() as bar, processes(readers) as run, ThreadPoolExecutor(at_once) as threads:
        reading = bar.add_task("reading", total=3 * size)
        try:
            history = read_history(
                files,
                RequestLimits(record_bytes=settings.max_record_bytes),
                model=settings.embedding_model,
                dimension=dimension,
                advance=lambda amount: bar.advance(reading, amount),
                run=run,
            )
            provenance = Provenance(
                command=_command(files, settings, dimension, seed),
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                events_sha256=history.sha256,
                events=history.events,
                accounts=history.population,
                account_days=history.account_days,
                note=note,
            )
            report = fit_baseline(
                list(history.accounts.values()),
                history.encoder,
                seed=seed,
                days_per_account=history.days_per_account,
                provenance=provenance,
                against=current,
                progress=_Stages(bar),
                run=threads.map,
            )
        except (FitError, HistoryError) as error:
            raise InputError(f"{', '.join(map(str, files))}: {error}") from None
        except OSError as error:
            raise InputError(f"cannot read {error.filename or 'the files'}: {error.strerror}") from None
    with open_output(out) as target:
        target.write(report.baseline.to_bytes())
    fit_report.show(history, report, out)


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
