"""The command `stillwatch`.

The commands are declared here on one screen; each is a module of its own in this package.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from streams.cli import (
    alerts,
    canary,
    config,
    demo,
    explain,
    fit,
    forget,
    health,
    produce,
    replay,
    schema,
    simulate,
    topics,
    worker,
)
from streams.cli.failures import ListedCommands, run_guarded
from streams.exit_codes import MEANINGS

EXIT_CODES = "Exit codes: " + ", ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
    name="stillwatch",
    cls=ListedCommands,
    help="Tells an AI lab, while it happens, that somebody copies its model through the API.\n\n"
    "Start with `stillwatch demo`. Every command explains itself: `stillwatch replay --help`.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("worker")(worker.worker)
app.command("alerts")(alerts.alerts)
app.command("produce")(produce.produce)
app.command("simulate")(simulate.simulate)
app.command("replay")(replay.replay)
app.command("fit")(fit.fit)
app.command("explain")(explain.explain)
app.add_typer(topics.app, name="topics")
app.command("forget")(forget.forget)
app.command("canary")(canary.canary)
app.command("health")(health.health)
app.command("schema")(schema.schema)
app.command("config")(config.config)


def main() -> None:
    """Entry point: run the command line and exit."""
    if os.getpid() == 1:
        # The first process of a container is deaf to signals that it has no handler for.
        signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run_guarded(app))


def _terminated(number: int, frame: object) -> NoReturn:
    """End as a process does that is not the first one; a worker that runs has a handler of its own."""
    raise SystemExit(128 + number)
