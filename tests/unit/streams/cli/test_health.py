"""`stillwatch health` against the server that a worker has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.metrics import Metrics, serve
from streams.settings import SettingsError


class Worker:
    """What its server says."""

    live = True
    ready = True
    port = 0


@pytest.fixture
def worker() -> Iterator[Worker]:
    says = Worker()
    server = serve(Metrics(), lambda: says.ready, lambda: says.live, "127.0.0.1", 0)
    says.port = server.server_address[1]
    yield says
    server.shutdown()
    server.server_close()


def health(*arguments: object):
    return CliRunner().invoke(app, ["health", *map(str, arguments)])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104
def test_a_worker_that_lives(worker: Worker, host: str) -> None:
    done = health("--metrics-host", host, "--metrics-port", worker.port)
    assert (done.exit_code, done.stdout) == (0, "live\n")


def test_a_worker_that_makes_no_progress(worker: Worker) -> None:
    worker.live = False
    done = health("--metrics-port", worker.port)
    assert (done.exit_code, done.stderr) == (1, "not live\n")


def test_a_worker_that_restores_states_is_alive_and_not_ready(worker: Worker) -> None:
    worker.ready = False
    assert health("--metrics-port", worker.port).exit_code == 0
    done = health("--ready", "--metrics-port", worker.port)
    assert (done.exit_code, done.stderr) == (1, "not ready\n")


def test_nobody_there(worker: Worker) -> None:
    done = health("--metrics-port", 1)
    assert done.exit_code == 1
    assert done.stderr.startswith("no worker answers on 127.0.0.1:1: ")


def test_a_worker_without_a_port() -> None:
    assert isinstance(health("--metrics-port", 0).exception, SettingsError)
