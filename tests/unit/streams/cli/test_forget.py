"""What `stillwatch forget` refuses before it asks any broker."""

from __future__ import annotations

import pytest

from streams.cli import app
from streams.cli.failures import run_guarded
from streams.exit_codes import ExitCode


@pytest.mark.parametrize("account", ["", "two\nlines", "a" * 2000, "\x1b[2J"])
def test_what_cannot_be_an_account_is_refused(
    account: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stillwatch", "forget", account, "--brokers", "127.0.0.1:1"])
    assert run_guarded(app) == ExitCode.USAGE
    err = capfd.readouterr().err
    assert "cannot be an account" in err
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_unreachable_brokers_are_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stillwatch", "forget", "acct-17", "--brokers", "127.0.0.1:1"])
    assert run_guarded(app) == ExitCode.BROKER
    assert capfd.readouterr().err.startswith("stillwatch: brokers 127.0.0.1:1: nothing listens there")
