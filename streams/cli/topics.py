"""`stillwatch topics`: create and check the topics."""

from __future__ import annotations

import asyncio

import typer

from streams.cli.options import CONNECTION, takes_settings
from streams.cli.terminal import OUT, plain
from streams.settings import Settings
from streams.topics import check_topics, create_topics

app = typer.Typer(
    help="Create and check the topics. Do it before the first start: topics made on the fly can lose records.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command("create")
@takes_settings(*CONNECTION, "partitions", "replication_factor", "max_record_bytes")
def create(settings: Settings) -> None:
    """Create the topics that are missing; those that are there stay as they are.

    Example: [bold]stillwatch topics create --partitions 12 --replication-factor 3[/bold]
    """
    for name, made in asyncio.run(create_topics(settings)).items():
        OUT.print(plain(f"{name}: {'created' if made else 'was there'}"))


@app.command("check")
@takes_settings(*CONNECTION)
def check(settings: Settings) -> None:
    """Check that all topics are there, fit each other, and keep the accounts' states.

    Example: [bold]stillwatch topics check --brokers 127.0.0.1:9092[/bold]
    """
    for name, partitions in asyncio.run(check_topics(settings)).items():
        OUT.print(plain(f"{name}: {partitions} partitions"))
