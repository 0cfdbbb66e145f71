"""Traffic that flows through a release while its pods are disturbed, and the check that nothing was lost or changed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.alert import decode_alert
from streams.settings import load_settings
from streams.topics import TopicNames
from tests.chaos.feed import Feed
from tests.chaos.oracle import Oracle, make_traffic
from tests.cluster.release import ROOT, Release
from tests.integration.streams.expected import Finding, finding, findings_on
from tests.integration.streams.running import read, wait_done

PARTITIONS = 4
ORGANIC = 30
RATE = 150.0
"""Records a second: slow enough that what is done to the pods falls into the middle of the traffic."""

IN_MID_STREAM = 0.1
"""Share of the traffic that is there when the pods are disturbed."""

DONE_SECONDS = 180
COUNTED_SECONDS = 3.0
"""After which what was scored is in the metrics: workers count every two seconds."""

Part = Callable[[float], Awaitable[None]]


class Stream:
    """A release's topics and the traffic through them; `kafka` is where this machine reaches the brokers.

    The group is called as the topics begin, if nothing else is said.
    """

    def __init__(self, kafka: str, release: Release, prefix: str, seed: int, group: str = "") -> None:
        self.kafka, self.release, self.prefix, self.group = kafka, release, prefix, group or prefix
        self.names = TopicNames.of(load_settings(topic_prefix=prefix))
        self.oracle = Oracle(make_traffic(seed, ORGANIC, PARTITIONS, strays=False))

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[Feed]:
        """Traffic flows during the block, which begins in mid-stream; leaves when the workers have committed all."""
        async with Feed(self.kafka, self.names.requests, self.oracle, rate=RATE) as feed:
            await feed.until(IN_MID_STREAM)
            feed.up_to(1.0)
            yield feed
            assert feed.sent < len(self.oracle.traffic), "the disturbance outlasted the traffic: nothing is shown"
        await wait_done(self.kafka, self.group, self.names.requests, DONE_SECONDS)

    @asynccontextmanager
    async def in_parts(self) -> AsyncIterator[Part]:
        """`await part(0.5)` sends the traffic up to its half, and waits until the workers have done and counted it.

        What was not sent by the end of the block is sent and waited for then.
        """
        async with Feed(self.kafka, self.names.requests, self.oracle) as feed:

            async def up_to(share: float) -> None:
                await feed.until(share)
                await wait_done(self.kafka, self.group, self.names.requests, DONE_SECONDS)
                await asyncio.sleep(COUNTED_SECONDS)

            yield up_to
            await up_to(1.0)

    def accounts(self, begin: float, end: float) -> set[str]:
        """Accounts with requests in this part of the traffic."""
        size = len(self.oracle.traffic)
        return {sent.account for sent in self.oracle.traffic[round(begin * size) : round(end * size)] if sent.good}

    async def sent(self) -> set[Finding]:
        """Send all of the traffic at once; what the workers found in it."""
        async with Feed(self.kafka, self.names.requests, self.oracle):
            pass
        await wait_done(self.kafka, self.group, self.names.requests, DONE_SECONDS)
        return findings_on(await read(self.kafka, self.names.alerts))

    async def check(self, folder: Path) -> dict[str, int]:
        """Stop the workers in order and hold what came out against what was sent, and against a replay; figures."""
        await asyncio.to_thread(self.release.uninstall)
        figures = await self.oracle.check(self.kafka, self.names)
        live = findings_on(await read(self.kafka, self.names.alerts))
        assert live
        assert await asyncio.to_thread(self._replayed, folder) == live
        return figures

    def _replayed(self, folder: Path) -> set[Finding]:
        """Findings of a replay of the topic, without the closings that only its end decides."""
        out = folder / "replayed.jsonl"
        where = ("--topic", self.names.requests, "--brokers", self.kafka, "--topic-prefix", self.prefix)
        command = (sys.executable, "-m", "streams.cli", "replay", *where, "--out", out, "--no-close")
        subprocess.run(command, cwd=ROOT, check=True)
        return {finding(decode_alert(line)) for line in out.read_bytes().splitlines()}
