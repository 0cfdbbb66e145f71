"""`stillwatch produce`: request events of a file onto the requests topic."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from streams.cli.files import open_input
from streams.cli.options import CONNECTION, takes_settings
from streams.cli.sending import send_lines
from streams.replay import CHUNK_BYTES, LineSplitter
from streams.settings import Settings


@takes_settings(*CONNECTION, "max_record_bytes")
def produce(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="Request events, one JSON object a line; - reads standard input.")],
    rate: Annotated[float | None, typer.Option(min=0.1, help="Requests a second at most. Default: no limit.")] = None,
) -> None:
    """Send recorded requests to the topic with the right key and partitioner: account, murmur2.

    Lines are sent as they are, also those that the service will refuse.

    Example: [bold]stillwatch produce events.jsonl --brokers 127.0.0.1:9092[/bold]
    """
    with open_input(file) as (source, size):
        total = None if size is None else _count_lines(source)
        asyncio.run(send_lines(settings, _lines(source, size is None, settings.max_record_bytes), total, rate))


async def _lines(source: BinaryIO, pipe: bool, limit: int) -> AsyncIterator[list[bytes]]:
    """Lines that are not blank, as they come. A line that is far too long is cut: the service shall say what it is."""
    splitter = LineSplitter(limit)
    while chunk := (await _read_pipe(source) if pipe else source.read(CHUNK_BYTES)):
        yield [line for _, line in splitter.feed(chunk)]
    yield [line for _, line in splitter.end()]


async def _read_pipe(source: BinaryIO) -> bytes:
    """What the pipe has, waiting for it without holding up the producer or Ctrl-C."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    descriptor = source.fileno()
    try:
        loop.add_reader(descriptor, readable.set)
    except OSError:  # a plain file as standard input never makes anybody wait
        return os.read(descriptor, CHUNK_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)


def _count_lines(source: BinaryIO) -> int:
    """Line ends of a file, for the progress bar; reads it once."""
    count = 0
    while chunk := source.read(CHUNK_BYTES):
        count += chunk.count(b"\n")
    source.seek(0)
    return count
