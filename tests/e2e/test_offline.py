"""The commands that need no broker."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.alert import decode_alert
from schemas.version import VERSION
from tests.e2e.conftest import Run

Simulated = tuple[Path, dict[str, dict[str, object]]]

COMMANDS = (
    *("demo", "worker", "alerts", "produce", "simulate", "replay", "fit", "explain", "canary", "schema", "config"),
    *("topics create", "topics check"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, stillwatch: Run) -> None:
    text = stillwatch(*command.split(), "--help").stdout
    assert f"Example: stillwatch {command}" in text
    assert "--help" in text


def test_help_lists_the_commands_and_the_exit_codes(stillwatch: Run) -> None:
    text = stillwatch("--help").stdout
    assert all(f" {command.split()[0]} " in text for command in COMMANDS)
    assert "130 interrupted" in " ".join(text.split())


@pytest.mark.parametrize("command", [[], ["topics"]])
def test_a_command_without_its_command_shows_the_help_and_nothing_else(command: list[str], stillwatch: Run) -> None:
    shown = stillwatch(*command, code=2)
    assert "Usage: " + " ".join(["stillwatch", *command]) in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("fit", ["--max-clock-skew-hours"]),
        ("explain", ["--max-clock-skew-hours", "--finding-quiet-hours"]),
    ],
)
def test_no_flag_is_offered_that_does_nothing(command: str, without: list[str], stillwatch: Run) -> None:
    text = stillwatch(command, "--help").stdout
    assert "--max-record-bytes" in text
    assert not [flag for flag in without if flag in text]


def test_simulated_traffic_replays_to_alerts_of_the_planted_accounts_and_no_others(
    stillwatch: Run, simulated: Simulated, planted: set[str], tmp_path: Path
) -> None:
    events, _ = simulated
    report = stillwatch("replay", events, "--out", "alerts.jsonl").stderr
    written = (tmp_path / "alerts.jsonl").read_text()
    alerts = [decode_alert(line.encode()) for line in written.splitlines()]
    assert {alert.account for alert in alerts} == planted
    assert f"{len(alerts)} alerts" in report
    # The same through pipes and in other batches; and no prompt comes out.
    assert stillwatch("replay", "-", "--batch", 7, stdin=events.read_text()).stdout == written
    prompts = {orjson.loads(line)["prompt"] for line in events.read_bytes().splitlines()}
    assert not [prompt for prompt in prompts if len(prompt) > 30 and prompt in written]


def test_a_replay_says_what_it_refused_and_keeps_it_on_request(stillwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('no JSON\n{"account": "a"}\n{"time": 1, "account": "a"}\n')
    report = stillwatch("replay", "bad.jsonl", "--dead-letters", "dead.jsonl").stderr
    assert "3 records, 0 requests scored" in report
    assert all(f"1 {reason}" in report for reason in ("not_json", "schema", "clock"))
    dead = [orjson.loads(line) for line in (tmp_path / "dead.jsonl").read_bytes().splitlines()]
    assert [(letter["reason"], letter["offset"]) for letter in dead] == [("not_json", 1), ("schema", 2), ("clock", 3)]
    assert dead[0]["value"] == "no JSON"


def test_explain_tells_an_alerted_account_from_an_honest_one(
    stillwatch: Run, simulated: Simulated, planted: set[str]
) -> None:
    events, labels = simulated
    person = max(
        (account for account, label in labels.items() if label["archetype"] == "person"),
        key=lambda account: str(labels[account]["requests"]).zfill(6),
    )
    guilty = stillwatch("explain", min(planted), events).stdout
    assert "alerted: the surprise passes the threshold after" in guilty
    assert all(word in guilty for word in ("Statistics", "vn1", "Rivals", "or a person", "Score", "95 %"))
    assert "or a batch job" in guilty
    assert not re.search(r"^ *(repeats|hot|window_repeats) .*\d\.\d", guilty, re.MULTILINE)
    assert "not alerted: the highest surprise is" in stillwatch("explain", person, events).stdout


def test_explain_draws_the_same_picture_each_time(
    stillwatch: Run, simulated: Simulated, planted: set[str], tmp_path: Path
) -> None:
    for name in ("one.svg", "two.svg", "one.png"):
        shown = stillwatch("explain", min(planted), simulated[0], "--plot", name)
        assert "alerted: the surprise passes the threshold after" in shown.stdout
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert f"{min(planted)}: alerted after" in (tmp_path / "one.svg").read_text()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_explain_as_json_gives_every_look(stillwatch: Run, simulated: Simulated, planted: set[str]) -> None:
    lines = stillwatch("explain", min(planted), simulated[0], "--json").stdout.splitlines()
    looks = [orjson.loads(line) for line in lines]
    assert len(looks) > 20
    assert [look["n"] for look in looks] == sorted(look["n"] for look in looks)
    assert {"surprise", "threshold", "vn1", "ratio/memoryless/person"} <= looks[0].keys()


def test_a_baseline_is_fitted_from_history_and_finds_what_is_planted(stillwatch: Run, tmp_path: Path) -> None:
    stillwatch("simulate", "--seed", 8, "--organic", 75, "--planted", 0, "--out", "history.jsonl")
    stillwatch(
        "simulate", "--seed", 9, "--organic", 4, "--planted", 2, "--out", "events.jsonl", "--labels", "labels.json"
    )
    report = stillwatch("fit", "history.jsonl", "--note", "simulated").stderr
    assert "taken for:" in report
    assert "made-up lists" in report
    assert "Against the current baseline" in report
    assert "person/memoryless+cadence" in report
    baseline = orjson.loads((tmp_path / "baseline.json").read_bytes())
    provenance = baseline["provenance"]
    assert (provenance["accounts"], provenance["note"]) == (75, "simulated")
    assert provenance["command"] == f"stillwatch {VERSION} fit history.jsonl"
    alerts = stillwatch("replay", "events.jsonl", "--baseline-file", "baseline.json").stdout.splitlines()
    labels = orjson.loads((tmp_path / "labels.json").read_bytes())
    named = {decode_alert(line.encode()).account for line in alerts}
    assert named == {account for account, label in labels.items() if label["label"] == "extraction"}


def test_too_short_a_history_is_refused_with_a_reason(stillwatch: Run, simulated: Simulated, tmp_path: Path) -> None:
    (tmp_path / "short.jsonl").write_bytes(b"\n".join(simulated[0].read_bytes().splitlines()[:50]))
    error = stillwatch("fit", "short.jsonl", code=3).stderr
    assert error.startswith("stillwatch: short.jsonl: a baseline needs 60 accounts")
    assert not (tmp_path / "baseline.json").exists()


@pytest.mark.parametrize("name", ["request", "alert", "dead_letter"])
def test_schemas_and_their_examples_are_printed(name: str, stillwatch: Run) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    schema = orjson.loads(stillwatch("schema", name).stdout)
    example = orjson.loads(stillwatch("schema", name, "--example").stdout)
    assert jsonschema_rs.validator_for(schema).is_valid(example)


def test_the_configuration_printed_can_be_used(stillwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "stillwatch.toml").write_text(stillwatch("config", "--topic-prefix", "team-a.").stdout)
    assert '\ntopic_prefix = "team-a."\n' in stillwatch("config", "--config", "stillwatch.toml").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["replays"], 2, "No such command 'replays'"),
        (["replay"], 2, "give a file"),
        (["replay", "events.jsonl", "--since", "1d"], 2, "--since, --until and --partitions go with --topic"),
        (["replay", "missing.jsonl"], 3, "cannot read missing.jsonl: No such file or directory"),
        (["replay", "."], 3, "cannot read .: Is a directory"),
        (["replay", "-", "--out", "/nowhere/alerts.jsonl"], 3, "cannot write /nowhere/alerts.jsonl"),
        (["replay", "-", "--baseline-file", "missing"], 2, "there is no file missing"),
        (["replay", "-", "--finding-quiet-hours", "soon"], 2, "finding_quiet_hours=soon"),
        (["replay", "-", "--config", "missing.toml"], 2, "cannot read the configuration file missing.toml"),
        (["produce", "missing.jsonl"], 3, "cannot read missing.jsonl"),
        (["fit", "missing.jsonl"], 3, "cannot read missing.jsonl"),
        (["fit", "."], 3, "cannot read .: fit reads files twice"),
        (["fit", "-"], 3, "cannot read -: fit reads files twice"),
        (["explain", "acct", "missing.jsonl"], 3, "cannot read missing.jsonl"),
        (["explain", "acct", "missing.jsonl", "--plot", "acct.pdf"], 2, "acct.pdf: a picture is named .png or .svg"),
        (["schema", "--example"], 2, "--example goes with a name: alert, dead_letter, request"),
        (["schema", "nonsense"], 2, "there is no schema 'nonsense'"),
        (["demo", "--days", "1"], 2, "--days"),
        (["alerts", "--brokers", "nonsense"], 2, "'nonsense' is not host:port"),
        (["alerts", "--brokers", "127.0.0.1:1"], 4, "brokers 127.0.0.1:1: nothing listens there"),
        (["topics", "create", "--brokers", "127.0.0.1:1"], 4, "brokers 127.0.0.1:1: nothing listens there"),
        (["simulate", "--to-topic", "--brokers", "127.0.0.1:1"], 4, "nothing listens there"),
        (["replay", "--topic", "x", "--brokers", "127.0.0.1:1"], 4, "brokers 127.0.0.1:1: nothing listens there"),
        (["demo", "--brokers", "127.0.0.1:1"], 4, "brokers 127.0.0.1:1: nothing listens there"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_documented_exit_code(
    arguments: list[str], code: int, line: str, stillwatch: Run
) -> None:
    error = stillwatch(*arguments, code=code).stderr
    assert error.startswith("stillwatch: ")
    assert error.count("\n") == 1
    assert line in error


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["replay", "events.jsonl", "--out", "events.jsonl"], "would be overwritten"),
        (["replay", "events.jsonl", "--dead-letters", "link.jsonl"], "would be overwritten"),
        (["fit", "events.jsonl", "--out", "events.jsonl"], "would be overwritten"),
        (["explain", "acct", "events.jsonl", "--plot", "link.svg"], "would be overwritten"),
        (["replay", "events.jsonl", "--out", "both", "--dead-letters", "both"], "two outputs"),
        (["simulate", "--out", "both", "--labels", "both"], "two outputs"),
    ],
)
def test_no_file_is_overwritten(arguments: list[str], reason: str, stillwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{}\n")
    for link in ("link.jsonl", "link.svg"):
        (tmp_path / link).symlink_to("events.jsonl")
    assert reason in stillwatch(*arguments, code=3).stderr
    assert (tmp_path / "events.jsonl").read_text() == "{}\n"
    assert not (tmp_path / "both").exists()


def test_a_reader_that_leaves_early_is_no_error(started: Callable[..., Any]) -> None:
    with started("simulate") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_ends_a_replay_that_waits_for_input(started: Callable[..., Any]) -> None:
    with started("replay", "-") as process:
        process.stdin.write('{"account": "a"}\n')
        process.stdin.flush()
        time.sleep(5)  # long enough to have loaded and to wait
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()
