"""A link between clients and a broker that a scenario can slow down or silence."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

PRODUCE, OFFSET_COMMIT = 0, 8
"""Api keys of requests."""


class Link:
    """Hands bytes between a port that clients come to and the broker's.

    Attributes
    ----------
    slow_topic, slow_api, delay_seconds
        Each request of this kind that names this topic is held up for so long, and what follows on its connection with
        it. Produce requests unless said otherwise.
    holding
        While true they are held up for longer, until it no longer is.
    losing
        While true what was held up never arrives, and its connection is closed.
    silent
        While true nothing is handed on in either direction, and no connection is closed: what a broken switch does.
    delayed, held
        Requests held up so far, and those of them that are now.
    """

    def __init__(self, front: int, behind: int) -> None:
        self._front, self._behind = front, behind
        self._tasks: set[asyncio.Task[None]] = set()
        self.slow_topic: bytes | None = None
        self.slow_api = PRODUCE
        self.holding = False
        self.losing = False
        self.delay_seconds = 0.0
        self.silent = False
        self.delayed = self.held = 0

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._front)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    @property
    def bootstrap(self) -> str:
        """Where clients begin."""
        return f"127.0.0.1:{self._front}"

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("127.0.0.1", self._behind)
        pumps = [
            asyncio.create_task(self._pump(client, to_broker, requests=True)),
            asyncio.create_task(self._pump(broker, to_client, requests=False)),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for task in pumps:
            task.cancel()
            self._tasks.discard(task)
        to_client.close()
        to_broker.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, requests: bool) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = await source.readexactly(4)
                frame = await source.readexactly(*struct.unpack(">i", size))
                if requests and self._is_slow(frame):
                    await self._hold_up()
                    if self.losing:
                        return
                while self.silent:  # noqa: ASYNC110 - scenarios set it as they like
                    await asyncio.sleep(0.1)
                sink.write(size + frame)
                await sink.drain()

    async def _hold_up(self) -> None:
        self.delayed += 1
        self.held += 1
        try:
            await asyncio.sleep(self.delay_seconds)
            while self.holding:  # noqa: ASYNC110 - scenarios set it as they like
                await asyncio.sleep(0.1)
        finally:
            self.held -= 1

    def _is_slow(self, frame: bytes) -> bool:
        (api_key,) = struct.unpack_from(">h", frame)
        return self.slow_topic is not None and api_key == self.slow_api and self.slow_topic in frame
