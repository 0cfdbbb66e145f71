"""Every way to fail ends in one line on standard error and its documented exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from aiokafka.errors import KafkaConnectionError

from streams.cli import EXIT_CODES
from streams.cli.failures import BrokerError, InputError, broker_error, run_guarded
from streams.exit_codes import MEANINGS, ExitCode
from streams.settings import SettingsError
from streams.topics import TopicsError


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    return app


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stillwatch"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (typer.BadParameter("wrong"), ExitCode.USAGE),
        (SettingsError("wrong"), ExitCode.USAGE),
        (InputError("wrong"), ExitCode.INPUT),
        (BrokerError("wrong"), ExitCode.BROKER),
        (TopicsError("wrong"), ExitCode.BROKER),
        (KafkaConnectionError("wrong"), ExitCode.BROKER),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line(
    error: BaseException, code: ExitCode, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(app_that_raises(error)) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("stillwatch: ")
    assert err.count("\n") == 1


def test_ctrl_c_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(app_that_raises(KeyboardInterrupt())) == ExitCode.INTERRUPTED
    assert capfd.readouterr() == ("", "")


def test_an_exit_code_of_a_command_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(app_that_raises(typer.Exit(ExitCode.UNKEPT))) == ExitCode.UNKEPT
    assert capfd.readouterr().err == ""


def test_success_is_zero() -> None:
    app = typer.Typer()
    app.command()(lambda: None)
    assert run_guarded(app) == ExitCode.OK


def test_a_message_of_several_lines_becomes_one(capfd: pytest.CaptureFixture[str]) -> None:
    run_guarded(app_that_raises(InputError("two\nlines\x1b[2J")))
    assert capfd.readouterr().err == "stillwatch: two lines\\x1b[2J\n"


def test_a_fault_of_ours_is_told_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(app_that_raises(ZeroDivisionError())) == ExitCode.FAULT == 70
    told = capfd.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("ZeroDivisionError\n")


def test_a_wrong_argument_points_to_the_help(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def command(number: Annotated[int, typer.Option()] = 1) -> None:
        """Do nothing."""

    monkeypatch.setattr("sys.argv", ["stillwatch", "--number", "many"])
    assert run_guarded(app) == ExitCode.USAGE
    assert "(see `stillwatch --help`)" in capfd.readouterr().err


def test_unreachable_brokers_are_told_in_words() -> None:
    error = broker_error("brokers a:1", KafkaConnectionError("Unable to bootstrap from [('a', 1, <AddressFamily>)]"))
    assert str(error).startswith("brokers a:1: not reachable, or they refused")


def test_every_exit_code_has_a_meaning_that_help_and_readme_tell() -> None:
    assert set(MEANINGS) == set(ExitCode)
    readme = (Path(__file__).parents[4] / "README.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in EXIT_CODES
        assert f"\n| {code.value} | {meaning}" in readme
