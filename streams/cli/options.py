"""Flags for settings: a command names the settings it takes, and gets them as one `Settings` object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic_core import PydanticUndefined

from streams.settings import CONFIG_VARIABLE, SECRETS, Settings, load_settings

CONNECTION = (
    "brokers",
    "topic_prefix",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password_file",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "request_timeout_seconds",
)
"""Settings of every command that speaks to brokers. Passwords are read from the environment or the file only: flags
show in the list of processes."""

DETECTION = ("baseline_file", "false_findings_per_1000_account_days", "finding_quiet_hours", "state_expiry_days")
"""Settings that change which findings there are."""

READING = ("embedding_model", "max_record_bytes", "max_clock_skew_hours")
"""Settings that change which records can be read."""

ALL = tuple(name for name in Settings.model_fields if name not in SECRETS)
"""Every setting that is not a secret."""


def files_named(settings: Settings) -> list[Path]:
    """Files that settings name, such as the baseline; no command may write over them."""
    values = (getattr(settings, name) for name in Settings.model_fields)
    return [value for value in values if isinstance(value, Path) and value.is_file()]


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--config` and a flag for each named setting; it is called with `settings` as its first argument.

    What a flag may hold is checked by `Settings`, so that a bad value reads the same from a flag, the environment and
    the file.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
        parameters = [*own, _config_flag(), *map(_flag, names)]

        def run(**given: Any) -> None:
            flags = {name: given.pop(name) for name in names}
            command(load_settings(given.pop("config"), **flags), **given)

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _config_flag() -> inspect.Parameter:
    help_text = f"TOML file of settings; else the one that {CONFIG_VARIABLE} names. `stillwatch config` writes one."
    option = typer.Option("--config", help=help_text, rich_help_panel="Settings", show_default=False)
    return _optional("config", Annotated[Path | None, option])


def _flag(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    default = "" if field.default in (None, PydanticUndefined) else f" \\[default: {field.default}]"
    option = typer.Option(
        "--" + name.replace("_", "-"),
        help=f"{field.description}{default}",
        metavar=metavar(field.annotation),
        rich_help_panel="Settings",
        show_default=False,
    )
    return _optional(name, Annotated[str | None, option])


def _optional(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def metavar(annotation: Any) -> str:
    """What may stand after a flag: the choices, else the kind of value.

    Examples
    --------
    >>> from typing import Literal
    >>> metavar(Literal["memory", "rocksdict"]), metavar(Path | None), metavar(float)
    ('memory|rocksdict', 'FILE', 'NUMBER')
    """
    arguments = [a for a in get_args(annotation) if a is not type(None)]
    if arguments and all(isinstance(a, str) for a in arguments):
        return "|".join(arguments)
    kind = arguments[0] if arguments else annotation
    if kind is bool:
        return "true|false"
    if kind in (int, float):
        return "NUMBER"
    return "FILE" if kind is Path else "TEXT"
