"""Fixtures of the tests on a real Kafka Connect worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.connect.connect_worker import ConnectWorker
from tests.integration.connect.far_end import FarEnd
from tests.integration.connect.sent_alerts import secrets

CONNECTORS = "STILLWATCH_CONNECTORS"
NO_CONNECTORS = f"needs the products' connectors: make connect-test CONNECTORS=folder, or {CONNECTORS}"

# Not part of `make test`: what is skipped everywhere looks as if it had passed.
collect_ignore = [] if CONNECTORS in os.environ else ["test_connectors.py"]

StartConnect = Callable[[Path | None], ConnectWorker]


@pytest.fixture(scope="module")
def start_connect(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartConnect]:
    """`start_connect(folder)` starts a worker with the connectors of a folder, and with the files' secrets."""
    workers: list[ConnectWorker] = []

    def start(plugins: Path | None) -> ConnectWorker:
        workers.append(ConnectWorker(kafka, tmp_path_factory.mktemp("connect"), plugins, secrets()))
        workers[-1].wait_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="module")
def plain(start_connect: StartConnect) -> ConnectWorker:
    """A worker with what Kafka itself brings."""
    return start_connect(None)


@pytest.fixture(scope="module")
def equipped(start_connect: StartConnect) -> ConnectWorker:
    """A worker with the products' connectors, which no package registry has."""
    named = os.environ.get(CONNECTORS)
    if not named:
        pytest.skip(NO_CONNECTORS)
    if not Path(named).is_dir():
        pytest.fail(f"{CONNECTORS} is {named}, which is no folder", pytrace=False)
    return start_connect(Path(named).resolve())


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    """Where the sink of a test sends to."""
    server = FarEnd()
    yield server
    server.close()
