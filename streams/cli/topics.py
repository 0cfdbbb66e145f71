"""`stillwatch topics`: create and check the topics."""

from __future__ import annotations

import asyncio

import typer

from streams.cli.options import CONNECTION, takes_settings
from streams.cli.terminal import ERR, OUT, plain
from streams.settings import Settings
from streams.topics import check_topics, create_topics, differences

SHAPE = ("partitions", "replication_factor", "max_record_bytes")
"""What topics are made by."""

HOW_TO_CHANGE = (
    "Settings change with `kafka-configs --alter --entity-type topics --entity-name NAME --add-config KEY=VALUE`, "
    "partitions by the runbook in deploy/README.md, replicas with `kafka-reassign-partitions`."
)

app = typer.Typer(
    help="Create and check the topics. Do it before the first start: topics made on the fly can lose records.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command("create")
@takes_settings(*CONNECTION, *SHAPE)
def create(settings: Settings) -> None:
    """Create the topics that are missing; those that are there stay as they are, and differences are named.

    Example: [bold]stillwatch topics create --partitions 12 --replication-factor 3[/bold]
    """
    for name, made in asyncio.run(create_topics(settings)).items():
        OUT.print(plain(f"{name}: {'created' if made else 'was there'}"))
    _say_differences(settings)


@app.command("check")
@takes_settings(*CONNECTION, *SHAPE)
def check(settings: Settings) -> None:
    """Check that all topics are there, fit each other, and keep the accounts' states; name other differences.

    What does not fit ends the command with 4. What only differs from what `stillwatch topics create` makes with the
    same options is a warning: you may have had reasons.

    Example: [bold]stillwatch topics check --brokers 127.0.0.1:9092 --partitions 12 --replication-factor 3[/bold]
    """
    for name, partitions in asyncio.run(check_topics(settings)).items():
        OUT.print(plain(f"{name}: {partitions} partitions"))
    _say_differences(settings)


def _say_differences(settings: Settings) -> None:
    found = [f"{name} has {each}" for name, those in asyncio.run(differences(settings)).items() for each in those]
    for each in found:
        ERR.print(plain(f"warning: {each}"))
    if found:
        ERR.print(plain(HOW_TO_CHANGE))
