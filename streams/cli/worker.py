"""`stillwatch worker`: the service."""

from __future__ import annotations

import typer

from streams.cli.options import ALL, takes_settings
from streams.exit_codes import ExitCode
from streams.settings import Settings


@takes_settings(*ALL)
def worker(settings: Settings) -> None:
    """Run the service: score requests from the topic, write alerts. Stop it with Ctrl-C or SIGTERM.

    Start as many as you like with the same group; each gets its share of the partitions.

    Example: [bold]stillwatch worker --brokers kafka1:9092 --store memory[/bold]
    """
    from streams.worker import run  # here: Faust and the detectors take seconds to load, which `--help` should not

    code = run(settings)
    if code:
        raise typer.Exit(ExitCode(code))
