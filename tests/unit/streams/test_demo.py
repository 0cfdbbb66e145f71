"""The demo's verdict: what was planted against what was alerted."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.alert import Severity
from streams.demo import DemoError, WorkerProcess, judge
from streams.settings import load_settings
from streams.simulation import Account, Simulation


@pytest.fixture
def traffic() -> Simulation:
    accounts = {
        "person": Account("person", "person", planted=False, starts=0, requests=3),
        "sweep": Account("sweep", "sweep", planted=True, starts=0, requests=3),
        "taken": Account("taken", "takeover", planted=True, starts=2, requests=4),
    }
    events = [{"account": name, "time": t} for name, a in accounts.items() for t in range(a.requests)]
    return Simulation(events, accounts)


def alert(account: str, time: int, severity: Severity = Severity.MEDIUM) -> Any:
    return SimpleNamespace(account=account, time=time, severity_id=severity)


def test_everything_found_and_nothing_else_is_a_promise_kept(traffic: Simulation) -> None:
    verdict = judge(traffic, [alert("sweep", 1), alert("taken", 3)])
    assert verdict.kept
    assert {found.account.name: found.delay for found in verdict.found} == {"sweep": 2, "taken": 2}


def test_a_missed_account_breaks_it(traffic: Simulation) -> None:
    verdict = judge(traffic, [alert("sweep", 1)])
    assert not verdict.kept
    assert [account.name for account in verdict.missed] == ["taken"]


def test_an_alert_on_an_honest_account_breaks_it(traffic: Simulation) -> None:
    verdict = judge(traffic, [alert("sweep", 1), alert("taken", 3), alert("person", 0), alert("person", 2)])
    assert not verdict.kept
    assert [account.name for account, _ in verdict.false] == ["person"]


def test_an_alert_before_a_takeover_is_a_false_one_even_if_it_comes_true(traffic: Simulation) -> None:
    verdict = judge(traffic, [alert("sweep", 1), alert("taken", 1), alert("taken", 3)])
    assert not verdict.kept
    assert [account.name for account, _ in verdict.false] == ["taken"]


def test_the_delay_is_that_of_the_first_alert_and_the_severity_the_worst(traffic: Simulation) -> None:
    verdict = judge(traffic, [alert("sweep", 2, Severity.HIGH), alert("sweep", 0), alert("taken", 3)])
    found = {f.account.name: f for f in verdict.found}
    assert (found["sweep"].delay, found["sweep"].severity) == (1, Severity.HIGH)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_worker_process_ends_when_the_demo_does(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt), WorkerProcess(load_settings(), log, sleeper):  # noqa: PT012 - the order counts
        while not log.read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert ended(int(log.read_text()))


def test_a_worker_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no baseline'); raise SystemExit(2)"]
    with WorkerProcess(load_settings(), tmp_path / "log", command) as worker:
        worker._process.wait()
        with pytest.raises(DemoError, match="exit code 2: no baseline"):
            worker.check()


def test_the_worker_gets_the_settings_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(topic_prefix="mine.", sasl_password="hunter2")  # noqa: S106 - made up
    monkeypatch.setenv("STILLWATCH_TOPIC_PREFIX", "other.")
    monkeypatch.setenv("STILLWATCH_CONFIG", "/nowhere")
    script = (
        "from streams.settings import load_settings\n"
        "settings = load_settings()\n"
        "print(settings.topic_prefix, settings.sasl_password.get_secret_value())"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    with WorkerProcess(settings, tmp_path / "log", [sys.executable, "-c", script]) as worker:
        worker._process.wait()
    assert (tmp_path / "log").read_text().split() == ["mine.", "hunter2"]
