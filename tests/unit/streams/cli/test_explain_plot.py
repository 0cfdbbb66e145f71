"""The picture of an account's life: the same bytes each time, or one line that says why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import orjson
import pytest
import typer
from typer.testing import CliRunner, Result

from detectors import rivals
from detectors.baseline import Baseline
from detectors.engine import Engine
from streams.cli import app
from streams.cli.explain_plot import STATISTICS, Look, Subject, draw, kind_of
from streams.exit_codes import ExitCode
from streams.simulation import simulate
from tests.made_up import DAY, START, Events, listed, person, plain_baseline, service, stream_of

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """A baseline set by hand."""
    return plain_baseline()


def traced(events: Events, baseline: Baseline) -> list[Look]:
    """The account's looks."""
    return Engine(baseline).trace(stream_of({"a": events}), "a")


def svg_of(events: Events, baseline: Baseline, account: str = "a") -> str:
    """The account's picture; matplotlib writes each text into it as a comment beside its outlines."""
    times = events["time"]
    subject = Subject(account, len(events), int(times.min()), int(times.max()))
    return draw(subject, traced(events, baseline), baseline, "svg").decode()


def test_every_statistic_that_a_logistic_weighs_is_drawn() -> None:
    weighed = {name for statistics in rivals.PAIRS.values() for name in statistics}
    assert weighed | {"repeats"} == set(STATISTICS)


def test_a_list_is_shown_as_alerted_where_it_passes_the_threshold(baseline: Baseline) -> None:
    events = listed(300, 1)
    crossed = next(look for look in traced(events, baseline) if look["surprise"] >= look["threshold"])
    picture = svg_of(events, baseline, "acct-17")
    assert f"acct-17: alerted after {crossed['n']:.0f} requests" in picture
    assert "300 requests, 2023-11-14 22:" in picture
    assert f"passes after {crossed['n']:.0f} requests" in picture
    assert "the threshold is passed" in picture
    assert all(f"{name}:" in picture for name in STATISTICS)


@pytest.mark.parametrize("events", [person(300, 1), service(300, 1)], ids=["person", "service"])
def test_an_honest_account_is_shown_as_not_alerted(events: Events, baseline: Baseline) -> None:
    picture = svg_of(events, baseline)
    assert "a: not alerted" in picture
    assert "threshold" in picture
    assert "passes after" not in picture
    assert "the threshold is passed" not in picture
    assert all(f"than {name}" in picture for name in ("a person", "a service with many users", "a batch job"))


def test_the_same_account_gives_the_same_bytes_whatever_was_drawn_before_and_however_matplotlib_is_set(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = {svg_of(listed(200, 1), baseline) for _ in range(3)}
    svg_of(person(100, 2), baseline)
    monkeypatch.setitem(matplotlib.rcParams, "svg.hashsalt", None)
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 7.0)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    assert svg_of(listed(200, 1), baseline) == first
    assert "<dc:date>" not in first
    assert matplotlib.rcParams["lines.linewidth"] == 7.0


def test_one_look_is_enough(baseline: Baseline) -> None:
    picture = svg_of(person(16, 1), baseline)
    assert "a: not alerted" in picture
    assert "too early to judge" in picture


def test_a_life_that_starts_anew_says_so(baseline: Baseline) -> None:
    events = np.concatenate([person(72, 1), person(168, 2)])
    events["time"][72:] += events["time"][71] - events["time"][72] + 60 * DAY
    picture = svg_of(events, baseline)
    assert "started anew 1 × after long silence" in picture
    assert "before it started anew" in picture
    assert "started anew" not in svg_of(person(240, 1), baseline)


def test_answers_of_unknown_length_are_drawn_as_unknown(baseline: Baseline) -> None:
    assert "<!-- unknown -->" in svg_of(person(40, 1, output_tokens=-1), baseline)
    assert "<!-- unknown -->" not in svg_of(person(40, 1), baseline)


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        (r"$\frac{1}$", r"$\frac{1}$: not alerted"),
        ("a\x1b[31m\u202e", r"a\x1b[31m\u202e: not alerted"),
        ("x" * 256, f"{'x' * 79}…: not alerted"),
        ("账户", "账户: not alerted"),
    ],
    ids=["formula", "control", "long", "no glyph"],
)
def test_a_name_is_neither_markup_nor_too_long(
    account: str, shown: str, baseline: Baseline, recwarn: pytest.WarningsRecorder
) -> None:
    assert shown in svg_of(person(40, 1), baseline, account)
    assert not recwarn.list


def test_the_largest_surprise_there_can_be_is_drawn(baseline: Baseline) -> None:
    trace = traced(listed(100, 1), baseline)
    for look in trace:
        look["surprise"] = 690.0
    assert b"1 in 1e" in draw(Subject("a", 100, START, START), trace, baseline, "svg")


# --- the command


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The planted account of some simulated traffic and its requests in a file, with an account of three requests."""
    traffic = simulate(seed=5, days=3, organic=0, planted=1)
    few = [event | {"account": "few"} for event in traffic.events[:3]]
    file = tmp_path_factory.mktemp("explain") / "events.jsonl"
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in [*traffic.events, *few]))
    return next(iter(traffic.accounts)), file


def explain(*arguments: object) -> Result:
    """What `stillwatch explain` did."""
    return CliRunner().invoke(app, ["explain", *map(str, arguments)], standalone_mode=False)


@pytest.mark.parametrize("name", ["life.png", "life.SVG"])
def test_the_kind_of_picture_is_that_of_the_name_and_what_was_there_is_replaced(
    name: str, recorded: tuple[str, Path], tmp_path: Path
) -> None:
    account, file = recorded
    path = tmp_path / name
    path.write_text("old")
    assert explain(account, file, "--plot", path).exit_code == 0
    written = path.read_bytes()
    assert written.startswith(PNG_SIGNATURE if name.endswith("png") else b"<?xml")
    prompts = {orjson.loads(line)["prompt"] for line in file.read_bytes().splitlines()}
    assert not [prompt for prompt in prompts if prompt.encode() in written]


def test_json_and_picture_come_from_one_run(recorded: tuple[str, Path], tmp_path: Path) -> None:
    account, file = recorded
    done = explain(account, file, "--json", "--plot", tmp_path / "life.svg")
    looks = [orjson.loads(line) for line in done.output.splitlines()]
    crossed = next(look for look in looks if look["surprise"] >= look["threshold"])
    assert f"alerted after {crossed['n']:.0f} requests" in (tmp_path / "life.svg").read_text()


def test_too_few_requests_touch_no_file(recorded: tuple[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "life.svg"
    path.write_text("old")
    done = explain("few", recorded[1], "--plot", path)
    assert done.return_value == ExitCode.UNKEPT
    assert "too few for a first look" in done.output
    assert "is not written: there is no look to draw" in done.output
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["life", "life.pdf", "-", "png", "life.svg.gz"])
def test_any_other_kind_is_refused_before_anything_is_read(name: str) -> None:
    done = explain("acct", "missing.jsonl", "--plot", name)
    assert isinstance(done.exception, typer.BadParameter)
    assert str(done.exception) == f"--plot {name}: a picture is named .png or .svg"


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(typer.BadParameter, match=r"install stillwatch\[plot\]"):
        kind_of(Path("life.svg"))


def test_the_events_are_not_drawn_over(recorded: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "life.svg").symlink_to(recorded[1])
    before = recorded[1].read_bytes()
    done = explain(*recorded, "--plot", tmp_path / "life.svg")
    assert "is an input and would be overwritten" in str(done.exception)
    assert recorded[1].read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(recorded: tuple[str, Path], tmp_path: Path) -> None:
    done = explain(*recorded, "--plot", tmp_path / "nowhere" / "life.svg")
    assert "cannot write" in str(done.exception)
    assert "No such file or directory" in str(done.exception)
