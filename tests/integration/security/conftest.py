"""Fixtures of the tests that have to say who they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from streams.cli import app
from streams.cli.failures import run_guarded
from tests.integration.security.secured_broker import SecuredBroker, start_secured_broker
from tests.integration.session import started_for_the_session


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """One secured broker for the whole session."""
    started = started_for_the_session(start_secured_broker, tmp_path_factory.mktemp("secured"))
    yield started
    started.broker.stop()


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`command(settings, "topics", "check")`: the command in this process, its settings from the environment."""

    def run(settings: Mapping[str, Any], *arguments: object) -> Ended:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("STILLWATCH_")]:
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(f"STILLWATCH_{name.upper()}", str(value))
            patch.setattr("sys.argv", ["stillwatch", *map(str, arguments)])
            capfd.readouterr()
            code = run_guarded(app)
            return Ended(code, *capfd.readouterr())

    return run
