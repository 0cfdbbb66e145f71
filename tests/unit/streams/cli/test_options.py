"""Settings reach a command from flags, the environment and a file, and say in one line what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streams.cli import config as config_command
from streams.cli.options import ALL, takes_settings
from streams.settings import Settings, SettingsError, load_settings

runner = CliRunner()


@pytest.fixture
def seen() -> list[Settings]:
    return []


@pytest.fixture
def app(seen: list[Settings]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @takes_settings("brokers", "store", "check_topics", "finding_quiet_hours")
    def command(settings: Settings, word: str = "unsaid") -> None:
        """Show settings."""
        seen.append(settings)
        typer.echo(word)

    return app


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    app: typer.Typer, seen: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stillwatch.toml"
    file.write_text('brokers = "file:1"\nstore = "memory"\nfinding_quiet_hours = 5\n')
    monkeypatch.setenv("STILLWATCH_BROKERS", "environment:1")
    monkeypatch.setenv("STILLWATCH_STORE", "rocksdict")
    result = runner.invoke(app, ["--config", str(file), "--brokers", "flag:1", "--check-topics", "false"])
    assert result.exit_code == 0
    (settings,) = seen
    assert (settings.brokers, settings.store, settings.finding_quiet_hours) == ("flag:1", "rocksdict", 5)
    assert settings.check_topics is False


def test_the_commands_own_arguments_are_kept(app: typer.Typer) -> None:
    assert runner.invoke(app, ["--word", "said"]).output == "said\n"


def test_help_names_each_setting_with_default_and_choices(app: typer.Typer) -> None:
    text = " ".join(runner.invoke(app, ["--help"], terminal_width=200, env={"COLUMNS": "200"}).output.split())
    assert "--finding-quiet-hours" in text
    assert "memory|rocksdict" in text
    assert "[default: 127.0.0.1:9092]" in text


def test_a_wrong_value_is_refused_by_name(app: typer.Typer) -> None:
    result = runner.invoke(app, ["--finding-quiet-hours", "soon"])
    assert isinstance(result.exception, SettingsError)
    assert "finding_quiet_hours=soon" in str(result.exception)


def test_secrets_have_no_flag() -> None:
    assert set(Settings.model_fields) - set(ALL) == {"sasl_password", "ssl_key_password", "account_hash_key"}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STILLWATCH_TOPIC_PREFIX", "team-a.")
    monkeypatch.setenv("STILLWATCH_SASL_PASSWORD", "hunter2")
    app = typer.Typer()
    app.command()(config_command.config)
    result = runner.invoke(app, ["--store", "memory", "--data-dir", "C:\\temp \u202e"])
    assert result.exit_code == 0, result.output
    return result.output


def test_printed_configuration_reads_back_as_the_same_settings(
    printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STILLWATCH_TOPIC_PREFIX")
    monkeypatch.delenv("STILLWATCH_SASL_PASSWORD")
    file = tmp_path / "printed.toml"
    file.write_text(printed, encoding="utf-8")
    settings = load_settings(file)
    assert (settings.topic_prefix, settings.store) == ("team-a.", "memory")
    assert str(settings.data_dir) == "C:\\temp \u202e"


def test_printed_configuration_says_where_values_come_from_and_shows_no_secret(printed: str) -> None:
    assert "(from the environment)\ntopic_prefix" in printed
    assert "(from a flag)\nstore" in printed
    assert "hunter2" not in printed
    assert "# sasl_password is set and not shown" in printed
    assert all(name in printed for name in Settings.model_fields)


def test_printed_defaults_are_comments_that_could_be_settings(printed: str) -> None:
    commented = [line[2:] for line in printed.splitlines() if line.startswith("# ") and " = " in line]
    values = tomllib.loads("\n".join(line for line in commented if line.split(" = ")[0] in Settings.model_fields))
    assert values["finding_quiet_hours"] == 72.0
    assert values["check_topics"] is True
