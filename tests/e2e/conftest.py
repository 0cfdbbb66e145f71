"""Running the command as a user does: as a process of its own, in an empty folder, with a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.integration.conftest import broker, kafka, topic_prefix

__all__ = ["broker", "kafka", "topic_prefix"]

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240
COMMAND = [sys.executable, "-m", "streams.cli"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def hear_interrupts() -> None:
    """A shell starts what runs in its background deaf to SIGINT, and children inherit that: a terminal's does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without anybody's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")}
    return env | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@pytest.fixture
def stillwatch(tmp_path: Path, environment: dict[str, str]) -> Run:
    """`stillwatch("replay", "events.jsonl")`; what it wrote and its exit code."""

    def run(*arguments: object, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    return run


@pytest.fixture
def started(tmp_path: Path, environment: dict[str, str]) -> Callable[..., object]:
    """`with started("alerts", "--follow") as process:`; killed at the end if it is still there."""

    @contextmanager
    def start(*arguments: object) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
            preexec_fn=hear_interrupts,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, object]]]:
    """Simulated events in a file, and the label of each account."""
    folder = tmp_path_factory.mktemp("simulated")
    events, labels = folder / "events.jsonl", folder / "labels.json"
    subprocess.run(
        [*COMMAND, "simulate", "--seed", "5", "--organic", "14", "--planted", "3", "--out", events, "--labels", labels],
        check=True,
        cwd=ROOT,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    return events, orjson.loads(labels.read_bytes())


@pytest.fixture(scope="session")
def planted(simulated: tuple[Path, dict[str, dict[str, object]]]) -> set[str]:
    """The planted accounts of `simulated`."""
    return {account for account, label in simulated[1].items() if label["label"] == "extraction"}
