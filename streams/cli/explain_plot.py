"""The picture that `stillwatch explain --plot` draws: an account's surprise, rivals and statistics over its life.

matplotlib is an optional extra and takes a second to load, so it is imported only where something is drawn. Nothing of
it is shared: no pyplot, no figure that outlives the call, and settings of a user's own matplotlibrc count for nothing,
so that the same account gives the same bytes.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from streams.cli.terminal import safe, when

if TYPE_CHECKING:
    from detectors.baseline import Baseline

Look = dict[str, float]
Floats = NDArray[np.float64]

KINDS = {".png": "png", ".svg": "svg"}
"""Kinds of picture by the suffix of a file's name."""

STATISTICS = {
    "vn_recent": "vn_recent: distance to the last sixteen\nover that of any two",
    "vn_session": "vn_session: distance to the one before,\nwithin sessions",
    "vn1": "vn1: distance to the one before\nover that of any two",
    "vn16": "vn16: distance to the sixteenth before",
    "nearest_lag": "nearest_lag: requests to the nearest one,\n8 being 8 or more",
    "nearest_lag_long": "nearest_lag_long: the same among\nthe longest quarter of prompts",
    "vn_long": "vn_long: distance to the one before\namong the longest quarter of prompts",
    "vn_length": "vn_length: change from one prompt's\nlength to the next",
    "recent_repeats": "recent_repeats: share of the recent window\nthat was asked before",
    "repeats": "repeats: share of the whole life\nthat was asked before",
    "near": "near: share that is almost like\nan earlier request",
    "short": "short: share of answers\nof at most 8 tokens",
    "gap_spread": "gap_spread: spread of the log-gap,\na clock has 0",
    "gap_change": "gap_change: mean change from one\nlog-gap to the next",
    "occupied": "occupied: share of the hours passed\nin which something was sent",
}
"""Statistics that are drawn, in this order: all that a logistic of `rivals.PAIRS` weighs, and the repeats."""

COLUMNS = 4
SIZE_INCHES = (14.0, 14.5)
DOTS_PER_INCH = 110

LARGE_PANELS: dict[str, Any] = {"left": 0.04, "right": 0.925, "top": 0.935, "bottom": 0.605, "hspace": 0.4}
SMALL_PANELS: dict[str, Any] = {
    "left": 0.04, "right": 0.985, "top": 0.535, "bottom": 0.04, "hspace": 0.55, "wspace": 0.2,
}  # fmt: skip
"""Where panels lie, in parts of the picture. matplotlib's own layouts solve for it, which differs in the last bit from
one run to the next."""

MAX_ACCOUNT_CHARACTERS = 80
"""A longer name would run out of the picture."""

FEW_LOOKS = 12
"""Up to so many looks are drawn as dots too: of one look there is no line."""

LATE = 0.3
"""Beyond this part of the axis what is said of a moment stands at its left, where the line is still low."""

MOST_SHARES = 7
"""Shares of accounts that are written beside the surprise; more would touch."""

FONT = "DejaVu Sans"
"""Comes with matplotlib, so every machine has it."""

SETTINGS: dict[Any, Any] = {
    "font.family": [FONT],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "svg.hashsalt": "stillwatch",
}

# Colours that people who cannot tell red from green can tell apart (Okabe and Ito).
OWN, USUAL, ALARM = "#0072B2", "#B9D9B0", "#D55E00"
PALE = 0.4
"""Opacity of what was before an account started anew."""

RIVAL_COLOURS = {"person": "#0072B2", "service": "#CC79A7", "batch": "#E69F00", "users": "#009E73"}


class Subject(NamedTuple):
    """Whose life is drawn.

    Attributes
    ----------
    account
        Its name as it stands in the events.
    requests
        All its requests, also those that failed.
    first_time, last_time
        Of its requests; epoch milliseconds.
    """

    account: str
    requests: int
    first_time: int
    last_time: int


def kind_of(path: Path) -> str:
    """Kind of picture that a file's name asks for. To be called before any work: it also sees to matplotlib.

    Raises
    ------
    typer.BadParameter
        It is no kind that can be drawn, or matplotlib cannot be loaded.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise typer.BadParameter(f"--plot {path}: a picture is named .png or .svg")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise typer.BadParameter(
            f"--plot draws with matplotlib: install stillwatch[plot], which brings it ({error})"
        ) from None
    return kind


def crossing(trace: Sequence[Look]) -> Look | None:
    """The first look whose surprise passes the threshold."""
    return next((look for look in trace if look["surprise"] >= look["threshold"]), None)


def draw(subject: Subject, trace: Sequence[Look], baseline: Baseline, kind: str) -> bytes:
    """The picture of a life, as the bytes of a file.

    Parameters
    ----------
    subject
        Whose it is.
    trace
        Its looks, as `Engine.trace` gives them; at least one. After a long silence the count of requests starts anew.
    baseline
        What it was judged by.
    kind
        A value of `KINDS`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters of a name that the font does not have
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
        _compose(figure, subject, trace, baseline)
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _compose(figure: Any, subject: Subject, trace: Sequence[Look], baseline: Baseline) -> None:
    """Lay the panels out, and draw each."""
    lives = _lives(trace)
    figure.suptitle(
        _title(subject, trace, len(lives)), x=0.01, y=0.993, ha="left", fontsize=13, fontweight="bold", parse_math=False
    )
    rows = math.ceil(len(STATISTICS) / COLUMNS)
    large, small = figure.add_gridspec(2, 1, **LARGE_PANELS), figure.add_gridspec(rows, COLUMNS, **SMALL_PANELS)
    last = max(look["n"] for look in trace)
    surprise = figure.add_subplot(large[0])
    _draw_surprise(surprise, lives, trace)
    ratios = figure.add_subplot(large[1], sharex=surprise)
    _draw_ratios(ratios, lives, baseline, trace)
    panels = [surprise, ratios]
    for number, (name, words) in enumerate(STATISTICS.items()):
        axes = figure.add_subplot(small[number // COLUMNS, number % COLUMNS], sharex=surprise)
        _draw_statistic(axes, lives, baseline, name, last)
        axes.set_title(words, fontsize=8.5)
        panels.append(axes)
    crossed = crossing(trace)
    legend = figure.add_subplot(small[rows - 1, COLUMNS - 1])
    _explain_colours(legend, anew=len(lives) > 1, alerted=crossed is not None)
    for axes in panels:
        if crossed is not None:
            axes.axvline(crossed["n"], color=ALARM, linewidth=1.0, linestyle="--", zorder=1)
    _count_requests(surprise, trace)
    for axes in panels[-(len(STATISTICS) % COLUMNS) :]:
        axes.set_xlabel("requests (log scale)")


def _lives(trace: Sequence[Look]) -> list[list[Look]]:
    """The looks from each new start of the account, the latest last."""
    starts = [k for k in range(len(trace)) if k == 0 or trace[k]["n"] <= trace[k - 1]["n"]]
    return [list(trace[begin:end]) for begin, end in zip(starts, [*starts[1:], len(trace)], strict=True)]


def _title(subject: Subject, trace: Sequence[Look], lives: int) -> str:
    name = safe(subject.account, MAX_ACCOUNT_CHARACTERS)
    crossed = crossing(trace)
    verdict = "not alerted" if crossed is None else f"alerted after {crossed['n']:.0f} requests"
    anew = f", started anew {lives - 1} × after long silence" if lives > 1 else ""
    span = f"{when(subject.first_time)} to {when(subject.last_time)} UTC"
    return f"{name}: {verdict}\n{subject.requests} requests, {span}{anew}"


def _line(axes: Any, lives: list[list[Look]], values: Callable[[Look], float], **style: Any) -> None:
    """A line over each life, those before the latest start pale; `values` gives a look's value, NaN being none."""
    for life in lives:
        now = life is lives[-1]
        axes.plot(
            [look["n"] for look in life],
            [values(look) for look in life],
            **style | {"label": style.get("label") if now else None},
            alpha=1.0 if now else PALE,
            marker="o" if len(life) <= FEW_LOOKS else None,
            markersize=3.5,
        )


def _draw_surprise(axes: Any, lives: list[list[Look]], trace: Sequence[Look]) -> None:
    threshold = trace[-1]["threshold"]
    _line(axes, lives, itemgetter("surprise"), color=OWN, linewidth=1.8)
    axes.axhline(threshold, color=ALARM, linewidth=1.2)
    axes.annotate(
        f"threshold {threshold:.2f}", (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(-4, 4),
        textcoords="offset points", ha="right", color=ALARM,
    )  # fmt: skip
    crossed = crossing(trace)
    if crossed is not None:
        axes.plot([crossed["n"]], [crossed["surprise"]], marker="o", markersize=8, color=ALARM, zorder=5)
        first, last = trace[0]["n"], max(look["n"] for look in trace)
        late = crossed["n"] > first * (last / first) ** LATE
        axes.annotate(
            f"passes after {crossed['n']:.0f} requests\n{when(int(crossed['time']))} UTC",
            (crossed["n"], 1.0), xycoords=("data", "axes fraction"), xytext=(-6 if late else 6, -4),
            textcoords="offset points", ha="right" if late else "left", va="top", color=ALARM,
        )  # fmt: skip
    highest = max(1.25 * threshold, 1.15 * max(look["surprise"] for look in trace))
    axes.set_ylim(0.0, highest)
    _count_accounts(axes, highest)
    axes.set_title(
        "Surprise: −log of the share of organic accounts that ever look so much like extraction", fontweight="bold"
    )
    _shade_silence(axes, lives[-1], "too early to judge")


def _draw_ratios(axes: Any, lives: list[list[Look]], baseline: Baseline, trace: Sequence[Look]) -> None:
    """Log-likelihood ratios of the leading head: of the look that passes the threshold, else of the highest."""
    from detectors import calibration, rivals
    from detectors.report import HEAD_TITLES, NAMES

    deciding = crossing(trace) or max(trace, key=lambda look: look["surprise"])
    scores = np.array([deciding[f"score/{head}"] for head in rivals.HEADS])
    head = rivals.HEADS[int(calibration.leading_head(baseline.model[0], scores))]
    axes.axhline(0.0, color="0.3", linewidth=1.0)
    named = any(look["users"] for life in lives for look in life)
    shown = {rival: colour for rival, colour in RIVAL_COLOURS.items() if rival != "users" or named}
    for rival, colour in shown.items():
        ratio = itemgetter(f"ratio/{head}/{rival}")
        _line(axes, lives, ratio, color=colour, linewidth=1.8, label=f"than {NAMES[rival]}")
    score = itemgetter(f"score/{head}")
    _line(
        axes, lives, lambda look: score(look) if score(look) > rivals.SILENT else math.nan,
        color="black", linewidth=1.2, linestyle=":", label="than all of them together (the score)",
    )  # fmt: skip
    axes.set_title(
        "Rivals: log of how much likelier extraction is (below 0 the organic explanation is),\n"
        f"by the leading head, {head}: {HEAD_TITLES[head.split('+')[0]]}",
        fontweight="bold",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.08), ncols=len(shown) + 1, borderaxespad=0.0)
    _shade_silence(axes, lives[-1])


def _count_accounts(axes: Any, highest: float) -> None:
    """What a surprise means: so many accounts, of which one ever looks like this. Written at the right."""
    powers = range(int(highest / math.log(10.0)) + 1)
    shown = powers[:: math.ceil(len(powers) / MOST_SHARES)]
    right = axes.secondary_yaxis("right")
    right.set_yticks([power * math.log(10.0) for power in shown], [_one_in(power) for power in shown])
    right.tick_params(length=0)


def _one_in(power: int) -> str:
    """A share of accounts, given as a power of ten."""
    if power == 0:
        return "all"
    return f"1 in {10**power:,}" if power <= 6 else f"1 in 1e{power}"


def _shade_silence(axes: Any, life: list[Look], words: str = "") -> None:
    """Show how long the account could not be judged: too few requests, or all in one burst."""
    from detectors import rivals

    silent = [all(look[f"score/{head}"] == rivals.SILENT for head in rivals.HEADS) for look in life]
    if not silent[0]:
        return
    end = life[silent.index(False) if False in silent else -1]["n"]
    axes.axvspan(0.9 * life[0]["n"], end, color="0.95", zorder=0)
    axes.annotate(
        words, (life[0]["n"], 1.0), xycoords=("data", "axes fraction"), xytext=(4, -12),
        textcoords="offset points", color="0.4",
    )  # fmt: skip


def _draw_statistic(axes: Any, lives: list[list[Look]], baseline: Baseline, name: str, last: float) -> None:
    from detectors.rivals import SCALES

    at, low, middle, high = _usual(baseline, name, last)
    axes.fill_between(at, low, high, color=USUAL, alpha=0.6, linewidth=0.0)
    axes.plot(at, middle, color="#4D8A3F", linewidth=1.0)
    null = SCALES[name].null if name in SCALES else 0.0
    if null:
        axes.axhline(null, color="0.45", linewidth=1.0, linestyle=":")
    _line(axes, lives, lambda look: _value(look, name), color=OWN, linewidth=1.6)
    if all(math.isnan(_value(look, name)) for life in lives for look in life):
        axes.annotate("unknown", (0.5, 0.5), xycoords="axes fraction", ha="center", color="0.4")


def _value(look: Look, name: str) -> float:
    """A look's statistic as it is drawn; NaN while it is unknown."""
    if name == "short" and look[name] < 0.0:
        return math.nan
    return look[name] / look["n"] if name == "repeats" else look[name]


def _usual(baseline: Baseline, name: str, last: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Lengths of history, and 5 %, 50 % and 95 % of people's accounts there; after the baseline's longest, the same."""
    from detectors.baseline import QUANTILE_LOOKS

    at = np.array([float(n) for n in QUANTILE_LOOKS])
    quantiles = np.array([baseline.quantiles_at(name, n) for n in at])
    if name == "repeats":
        quantiles = quantiles / at[:, np.newaxis]
    if last > at[-1]:
        at, quantiles = np.append(at, last), np.vstack([quantiles, quantiles[-1]])
    return at, quantiles[:, 0], quantiles[:, 2], quantiles[:, 4]


def _explain_colours(axes: Any, *, anew: bool, alerted: bool) -> None:
    """What the small panels' lines are, in the cell that is left over."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    axes.set_axis_off()
    marks = [
        Line2D([], [], color=OWN, linewidth=1.6, label="this account"),
        Patch(color=USUAL, alpha=0.6, label="people's accounts, 5 % to 95 %"),
        Line2D([], [], color="#4D8A3F", linewidth=1.0, label="their median"),
        Line2D([], [], color="0.45", linewidth=1.0, linestyle=":", label="a list in no order"),
    ]
    if anew:
        marks.insert(1, Line2D([], [], color=OWN, alpha=PALE, linewidth=1.6, label="before it started anew"))
    if alerted:
        marks.append(Line2D([], [], color=ALARM, linewidth=1.0, linestyle="--", label="the threshold is passed"))
    axes.legend(handles=marks, loc="center left")


def _count_requests(axes: Any, trace: Sequence[Look]) -> None:
    """The axis that all panels share: requests, on a logarithmic scale since looks thin out likewise."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    first, last = min(look["n"] for look in trace), max(look["n"] for look in trace)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.97 * first, max(1.03 * last, 1.5 * first))
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, position: f"{n:,.0f}"))
