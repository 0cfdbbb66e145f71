"""`stillwatch health`: what a worker beside it says of itself."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from streams.cli.options import takes_settings
from streams.cli.terminal import ERR, OUT, plain
from streams.exit_codes import ExitCode
from streams.settings import Settings, SettingsError

ANSWER_SECONDS = 5
"""Less than the ten that the image's HEALTHCHECK takes, so that the reason is still told."""

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the worker's choice, which we replace
"""Where to ask a worker that listens on every address."""


@takes_settings("metrics_host", "metrics_port")
def health(
    settings: Settings,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it scores: states restored, outside of rebalances.")
    ] = False,
) -> None:
    """Ask the worker on this machine whether it is alive; exit code 0 if so, 1 if not or when nothing answers.

    For whatever starts containers without Kubernetes' probes (Docker, Podman, Compose): no curl is needed.

    Example: [bold]stillwatch health --ready[/bold]
    """
    if not settings.metrics_port:
        raise SettingsError("metrics_port is 0: the worker answers nowhere")
    host = EVERY_ADDRESS.get(settings.metrics_host, settings.metrics_host)
    try:
        status, words = _asked(host, settings.metrics_port, "/ready" if ready else "/live")
    except (OSError, HTTPException) as error:
        ERR.print(plain(f"no worker answers on {host}:{settings.metrics_port}: {error}", "red"))
        raise typer.Exit(ExitCode.UNKEPT) from None
    if status != 200:
        ERR.print(plain(words, "red"))
        raise typer.Exit(ExitCode.UNKEPT)
    OUT.print(plain(words))


def _asked(host: str, port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(200).decode(errors="replace").strip()
    finally:
        connection.close()
