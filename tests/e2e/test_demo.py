"""The demo, on its embedded broker: it keeps its promise, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Run


def workers_of(pid: int) -> list[int]:
    """Child processes of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come true in time")


def test_the_demo_finds_what_is_planted_and_nothing_else(stillwatch: Run) -> None:
    text = stillwatch("demo", "--rate", 3000).stdout
    assert "planted 6, found 6" in text
    assert "false alerts: 0 of 60 organic accounts" in text
    assert re.search(r"delay: median \d+ requests", text)
    assert re.search(r"acct_\w+ +Medium +opened +\d+  2026-", text)
    assert "not a person" in text


def test_a_demo_that_cannot_find_what_is_planted_says_so(stillwatch: Run) -> None:
    blind = ("--false-findings-per-1000-account-days", "1e-9")
    text = stillwatch("demo", "--organic", 5, "--planted", 1, "--days", 3, "--rate", 5000, *blind, code=1).stdout
    assert "NOT FOUND" in text
    assert "planted 1, found 0" in text


def interrupted(started: Callable[..., Any], number: int) -> None:
    with started("demo", "--rate", 50) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 60)
        time.sleep(3)
        process.send_signal(number)
        assert process.wait(60) == 130
        assert wait_for(lambda: gone(worker), 10)
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_stops_the_demo_and_its_worker(started: Callable[..., Any]) -> None:
    interrupted(started, signal.SIGINT)


def test_sigterm_stops_the_demo_and_its_worker(started: Callable[..., Any]) -> None:
    interrupted(started, signal.SIGTERM)


def test_even_a_killed_demo_leaves_no_worker(started: Callable[..., Any]) -> None:
    with started("demo", "--rate", 50) as process:
        (worker,) = wait_for(lambda: workers_of(process.pid), 60)
        time.sleep(1)
        process.kill()
        process.wait(10)
        wait_for(lambda: gone(worker), 60)
