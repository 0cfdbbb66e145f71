"""From exceptions to one clear line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer
from aiokafka.errors import KafkaError
from typer.core import TyperGroup

from streams.cli.terminal import safe
from streams.connection import reason_of
from streams.exit_codes import ExitCode
from streams.settings import Settings, SettingsError
from streams.topics import TopicsError

# Typer brings its own copy of click in some versions and uses the package in others; these are the ones it raises.
UsageError: Any = typer.BadParameter.__mro__[1]
ClickException: Any = UsageError.__mro__[1]

MAX_MESSAGE_CHARACTERS = 1000


class InputError(Exception):
    """An input file cannot be read or used; the message is one line that says which and why."""


class BrokerError(Exception):
    """Brokers cannot be reached, or refused; the message is one line that says which and why."""


def broker_error(where: str, error: BaseException, settings: Settings | None = None) -> BrokerError:
    """What a Kafka client raised, in words. With `settings`, what kept it from connecting is found out."""
    return BrokerError(f"{where}: {reason_of(error, settings)}")


def run_guarded(app: Callable[..., object]) -> int:
    """Run a typer application; what goes wrong becomes a line on standard error and the exit code that is returned."""
    # What these say of an unreachable broker is said below, once.
    for name in ("aiokafka", "kafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        code = app(standalone_mode=False, prog_name="stillwatch")
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer makes one of it
            return _reader_left()
        raise
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED  # the terminal shows ^C, and typer itself says nothing either
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer exports no such name; the help has been printed
            return ExitCode.USAGE
        command = error.ctx.command_path if error.ctx is not None else "stillwatch"
        return _fail(ExitCode.USAGE, f"{error.format_message().rstrip('.')} (see `{command} --help`)")
    except ClickException as error:
        return _fail(ExitCode.USAGE, error.format_message())
    except SettingsError as error:
        return _fail(ExitCode.USAGE, str(error))
    except InputError as error:
        return _fail(ExitCode.INPUT, str(error))
    except (BrokerError, TopicsError) as error:
        return _fail(ExitCode.BROKER, str(error))
    except KafkaError as error:
        return _fail(ExitCode.BROKER, str(broker_error("Kafka", error)))
    except typer.Exit as error:
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return ExitCode.FAULT
    return code if isinstance(code, int) else ExitCode.OK


def _fail(code: ExitCode, message: str) -> int:
    line = " ".join(message.split())
    print(f"stillwatch: {safe(line, MAX_MESSAGE_CHARACTERS)}", file=sys.stderr)
    return code


def _reader_left() -> int:
    """`stillwatch ... | head`: end without a word, and keep Python from complaining when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


class ListedCommands(TyperGroup):
    """Commands in the order in which they are declared here, the first things to try first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in order of declaration."""
        return list(self.commands)
