"""`stillwatch explain`: an account's statistics over its life, beside what is usual, and what follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from streams.cli import explain_plot
from streams.cli.explain_plot import Look
from streams.cli.failures import InputError
from streams.cli.files import keep_apart, open_input, open_output
from streams.cli.options import files_named, takes_settings
from streams.cli.terminal import ERR, OUT, plain, safe, when
from streams.exit_codes import ExitCode
from streams.sending import key_of
from streams.settings import Settings

if TYPE_CHECKING:
    from detectors.baseline import Baseline
    from detectors.events import EventBatch

COUNTS = frozenset({"n", "window", "window_repeats", "window_hot", "outside_burst", "repeats", "hot", "user_pairs"})
"""Features that count requests rather than tell what they are like."""

_RIVALS = {"person": "a person", "service": "a service", "batch": "a batch job", "users": "users who are named"}
"""Organic explanations as a row names them."""

SHOWN_LOOKS = 5
NARROW_LOOKS = 3
NARROW_WIDTH = 96
"""Narrower terminals show fewer looks: a table that breaks its lines cannot be read."""


@takes_settings(
    "baseline_file",
    "false_findings_per_1000_account_days",
    "state_expiry_days",
    "embedding_model",
    "max_record_bytes",
)
def explain(
    settings: Settings,
    account: Annotated[str, typer.Argument(help="The account, as it stands in the events.")],
    file: Annotated[Path, typer.Argument(help="Request events, one JSON object a line; - reads standard input.")],
    looks: Annotated[
        int | None,
        typer.Option(
            min=1, max=12, help="Points of the account's life that are shown. Default: what the terminal has room for."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every look as one JSON object a line.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw all of it over the account's life into this file, .png or .svg (needs matplotlib)."),
    ] = None,
) -> None:
    """Show why an account is or is not alerted: every statistic beside its baseline, the rivals, the score.

    Example: [bold]stillwatch explain acct-17 events.jsonl[/bold]

    Example: [bold]stillwatch explain acct-17 events.jsonl --plot acct-17.svg[/bold]
    """
    kind = None if plot is None else explain_plot.kind_of(plot)
    keep_apart(inputs=[file, *files_named(settings)], outputs=[plot])
    from streams.detection import make_engine, read_baseline  # here: they take a second to load

    baseline = read_baseline(settings)
    batch = _requests_of(settings, baseline, account, file)
    trace = make_engine(settings, baseline, lambda partition, key: None).trace(batch, account)
    if as_json:
        for look in trace:
            typer.echo(orjson.dumps(look))
    else:
        _show(account, batch, trace, looks, baseline)
    if plot is not None and kind is not None:
        _draw(account, batch, trace, baseline, plot, kind)


def _show(account: str, batch: EventBatch, trace: list[Look], looks: int | None, baseline: Baseline) -> None:
    """The tables, and what follows from them."""
    OUT.print(plain(f"{safe(account)}: {len(batch)} requests", "bold"))
    if not trace:
        OUT.print(plain("too few for a first look"))
        return
    shown = _spread(trace, looks or _room(OUT.width))
    for table in (_statistics(shown, baseline), _rivals(shown), _scores(shown)):
        OUT.print(table)
    _conclude(trace)


def _draw(account: str, batch: EventBatch, trace: list[Look], baseline: Baseline, path: Path, kind: str) -> None:
    """Write the picture; without a look there is nothing to draw, and no file is touched."""
    if not trace:
        ERR.print(plain(f"{path} is not written: there is no look to draw", "yellow"))
        raise typer.Exit(ExitCode.UNKEPT)
    times = batch.columns["time"]
    subject = explain_plot.Subject(account, len(batch), int(times.min()), int(times.max()))
    picture = explain_plot.draw(subject, trace, baseline, kind)
    with open_output(path) as target:
        target.write(picture)


def _requests_of(settings: Settings, baseline: Baseline, account: str, path: Path) -> EventBatch:
    """The account's requests in a file. Raises `InputError` when there are none."""
    from streams.detection import make_ingest
    from streams.history import joined
    from streams.replay import file_batches

    reader = make_ingest(settings, baseline)
    batches, refused, key = [], 0, account.encode("utf-8", "surrogateescape")
    with open_input(path) as (source, _):
        for records in file_batches(source, max_record_bytes=settings.max_record_bytes):
            own = reader([record for record in records if key_of(record.value or b"") == key])
            batches.append(own.batch)
            refused += len(own.dead)
    batch = joined(batches)
    if not len(batch):
        raise InputError(f"{path} holds no request of the account {account} that can be read ({refused} refused)")
    if refused:
        ERR.print(plain(f"refused: {refused}", "yellow"))
    return batch


def _room(width: int) -> int:
    """How many looks a terminal of some width has room for."""
    return SHOWN_LOOKS if width >= NARROW_WIDTH else NARROW_LOOKS


def _spread(trace: list[Look], count: int) -> list[Look]:
    """`count` looks, each after about the same multiple of the one before, the last look last."""
    if len(trace) <= count:
        return trace
    last = len(trace) - 1
    picked = {round(last ** (k / max(count - 1, 1))) if k else 0 for k in range(count)} | {last}
    return [trace[k] for k in sorted(picked)[-count:]]


def _table(title: str, looks: list[Look], *more: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD)
    table.add_column("after requests\non (UTC)", no_wrap=True)
    for look in looks:
        table.add_column(f"{look['n']:.0f}\n{when(int(look['time']))[5:10]}", justify="right", no_wrap=True)
    for name in more:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _value(name: str, value: float) -> str:
    """A statistic: counts as whole numbers."""
    return f"{value:.0f}" if name in COUNTS else _number(value)


def _statistics(looks: list[Look], baseline: Baseline) -> Table:
    """Every statistic; what lies outside the 5 % to 95 % of people's accounts is marked."""
    from detectors.account import FEATURES

    table = _table("Statistics (* outside the 5 % to 95 % of people's accounts)", looks, "5 %", "50 %", "95 %")
    for name in FEATURES:
        if name == "n":
            continue
        low, _, middle, _, high = baseline.quantiles_at(name, looks[-1]["n"])
        cells = []
        for look in looks:
            least, *_, most = baseline.quantiles_at(name, look["n"])
            outside = name not in COUNTS and not least <= look[name] <= most
            value = "unknown" if name == "short" and look[name] < 0 else _value(name, look[name])
            cells.append(plain(f"{value}{'*' if outside else ' '}", "yellow" if outside else ""))
        table.add_row(name, *cells, *(_value(name, usual) for usual in (low, middle, high)))
    return table


def _rivals(looks: list[Look]) -> Table:
    """Log-likelihood ratio of extraction against each organic explanation, for each kind of extraction."""
    table = _table("Rivals (log of how much likelier extraction is; below 0 the organic explanation is)", looks)
    for name in looks[0]:
        if name.startswith("ratio/"):
            _, head, rival = name.split("/")
            if rival == "users" and not any(look["users"] for look in looks):
                continue
            cells = [plain(_number(look[name]), "green" if look[name] < 0 else "") for look in looks]
            table.add_row(f"{head}, or {_RIVALS[rival]}", *cells)
    return table


def _scores(looks: list[Look]) -> Table:
    """The scores, and the surprise that is held against the threshold."""
    table = _table("Score (a finding opens when the surprise passes the threshold)", looks)
    for name in looks[0]:
        if name.startswith("score/"):
            table.add_row(name.removeprefix("score/"), *(_number(look[name]) for look in looks))
    table.add_section()
    for name in ("surprise", "threshold"):
        style = "bold red" if name == "surprise" else ""
        cells = [plain(_number(k[name]), style if k["surprise"] >= k["threshold"] else "") for k in looks]
        table.add_row(name, *cells)
    return table


def _conclude(trace: list[Look]) -> None:
    crossed = explain_plot.crossing(trace)
    if crossed is None:
        highest = max(trace, key=lambda look: look["surprise"])
        text = f"not alerted: the highest surprise is {highest['surprise']:.2f}, below {highest['threshold']:.2f}"
        OUT.print(plain(text, "green"))
        return
    text = f"the surprise passes the threshold after {crossed['n']:.0f} requests, at {when(int(crossed['time']))} UTC"
    OUT.print(plain(f"alerted: {text}", "bold red"))
