"""`stillwatch simulate`: simulated traffic as JSON lines, or straight onto the topic."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import orjson
import typer

from streams.cli.files import STANDARD, keep_apart, open_output
from streams.cli.options import CONNECTION, files_named, takes_settings
from streams.cli.sending import send_lines
from streams.cli.terminal import ERR, plain
from streams.settings import Settings
from streams.simulation import Simulation
from streams.simulation import simulate as make_traffic
from streams.simulation.traffic import PLANTED_KINDS


@takes_settings(*CONNECTION)
def simulate(
    settings: Settings,
    out: Annotated[Path, typer.Option(help="File to write; - is standard output.")] = STANDARD,
    labels: Annotated[Path | None, typer.Option(help="Write which accounts are planted here (JSON).")] = None,
    to_topic: Annotated[bool, typer.Option("--to-topic", help="Send to the requests topic instead of a file.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.1, help="With --to-topic: requests a second at most.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 1,
    days: Annotated[int, typer.Option(min=3, max=60, help="Days of event time.")] = 5,
    organic: Annotated[int, typer.Option(min=0, max=2000, help="Organic accounts.")] = 60,
    planted: Annotated[int, typer.Option(min=0, max=500, help="Extraction accounts.")] = len(PLANTED_KINDS),
) -> None:
    """Make traffic of people, services, jobs and extraction accounts. Its prose is made by code.

    Example: [bold]stillwatch simulate --seed 7 --out events.jsonl --labels labels.json[/bold]

    Example: [bold]stillwatch simulate --to-topic --rate 200[/bold]
    """
    if to_topic and out != STANDARD:
        raise typer.BadParameter("--out and --to-topic exclude each other")
    if rate and not to_topic:
        raise typer.BadParameter("--rate goes with --to-topic")
    keep_apart(inputs=files_named(settings), outputs=[labels] if to_topic else [out, labels])
    traffic = make_traffic(seed=seed, days=days, organic=organic, planted=planted)
    if labels is not None:
        with open_output(labels) as target:
            entries = {name: account.label() for name, account in traffic.accounts.items()}
            target.write(orjson.dumps(entries, option=orjson.OPT_INDENT_2) + b"\n")
    if to_topic:
        asyncio.run(send_lines(settings, _lines(traffic), len(traffic.events), rate))
    else:
        with open_output(out) as target:
            target.writelines(orjson.dumps(event) + b"\n" for event in traffic.events)
    _report(traffic)


async def _lines(traffic: Simulation) -> AsyncIterator[list[bytes]]:
    yield [orjson.dumps(event) for event in traffic.events]


def _report(traffic: Simulation) -> None:
    ERR.print(plain(f"{len(traffic.events)} requests of {len(traffic.accounts)} accounts"))
    kinds = Counter((account.planted, account.kind) for account in traffic.accounts.values())
    for (planted, kind), count in sorted(kinds.items()):
        ERR.print(plain(f"  {'planted' if planted else 'organic'}  {count:4} {kind}"))
