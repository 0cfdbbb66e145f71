"""`stillwatch config`: every setting with its value, its meaning and where it comes from, as a file to start from."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from streams.cli.options import ALL, takes_settings
from streams.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings

WIDTH = 100


@takes_settings(*ALL)
def config(settings: Settings, context: typer.Context) -> None:
    """Print every setting as TOML: what it means, its value, and where the value comes from.

    What is at its default is commented out, so that the output can be kept as a file for --config. Secrets are not
    shown.

    Example: [bold]stillwatch config > stillwatch.toml[/bold]
    """
    typer.echo(f"# Settings of stillwatch. Flags win over {ENV_PREFIX}* in the environment, that over this file")
    typer.echo(f"# (named by --config or {CONFIG_VARIABLE}), and this file over the defaults.")
    for name, field in Settings.model_fields.items():
        source = _source(settings, name, flag=context.params.get(name) is not None)
        meaning = f"{field.description} ({'default' if source is None else 'from ' + source})"
        typer.echo("\n" + "\n".join(textwrap.wrap(meaning, WIDTH, initial_indent="# ", subsequent_indent="# ")))
        line = _line(name, getattr(settings, name))
        typer.echo(f"# {line}" if source is None or line.startswith("#") else line)


def _source(settings: Settings, name: str, *, flag: bool) -> str | None:
    """Where a value comes from; None for the default. Pydantic tells what was set, not by whom."""
    if name not in settings.model_fields_set:
        return None
    if flag:
        return "a flag"
    variable = (ENV_PREFIX + name).upper()
    return "the environment" if variable in {known.upper() for known in os.environ} else "the file"


def _line(name: str, value: Any) -> str:
    """One setting as TOML. What has no value, or must not be shown, is a comment."""
    if value is None:
        return f"{name} ="
    if isinstance(value, SecretStr):
        return f"# {name} is set and not shown"
    if isinstance(value, bool):
        return f"{name} = {str(value).lower()}"
    if isinstance(value, int | float):
        return f"{name} = {value}"
    # JSON strings of ASCII are TOML strings too.
    return f"{name} = {json.dumps(str(value) if isinstance(value, Path) else value)}"
