"""Brokers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tests.chaos.kafka import start_all
from tests.chaos.stage import GRACE_SECONDS, Stage, scenario
from tests.integration.broker import Broker

RATE = 450.0
"""Records a second for a single disturbance; with more of them the traffic has to last longer."""

AWAY_SECONDS = 40.0


@scenario("broker-killed", kafka="three", kills=3, ci=1, store="memory")
@scenario("broker-killed-rocksdict", kafka="three", kills=2, store="rocksdict")
async def broker_killed(stage: Stage) -> None:
    """One of three brokers is killed and comes back, with two workers at work."""

    async def kill_one() -> None:
        await away(stage, [stage.rng.choice(stage.kafka.brokers)], stage.rng.uniform(2.0, 15.0))

    await disturbed(stage, kill_one)


@scenario("controller-killed", kafka="three", kills=2, store="memory")
async def controller_killed(stage: Stage) -> None:
    """The broker that is the active controller is killed and comes back."""

    async def kill_controller() -> None:
        stage.did["controller killed"] += 1
        await away(stage, [stage.kafka.brokers[stage.kafka.controller()]], stage.rng.uniform(5.0, 12.0))

    await disturbed(stage, kill_controller)


@scenario("all-brokers-away", kafka="three", kills=2, store="memory")
async def all_away(stage: Stage) -> None:
    """All brokers are killed, stay away for 40 s and come back."""

    async def kill_all() -> None:
        stage.did["all brokers away"] += 1
        await away(stage, stage.kafka.brokers, AWAY_SECONDS)

    await disturbed(stage, kill_all)


async def disturbed(stage: Stage, disturb: Callable[[], Awaitable[None]]) -> None:
    """Two workers at work while something happens to the brokers, again and again; neither of them may end."""
    async with stage.feed(RATE / stage.kills) as feed:
        workers = [stage.start("a"), stage.start("b")]
        await stage.ready(*workers)
        for done in range(stage.kills):
            feed.up_to((done + 1) / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.5, 2.0))
            await disturb()
    await stage.finish(*workers)


@scenario("broker-away-at-stop", kafka="one", kills=2, store="rocksdict")
async def away_at_stop(stage: Stage) -> None:
    """The broker is away when a worker is told to stop: it ends within its grace, and its successor goes on."""
    async with stage.feed(RATE) as feed:
        for kill in range(stage.kills):
            worker = stage.start()
            await stage.ready(worker)
            await feed.until((kill + 1) / (stage.kills + 1))
            kill_brokers(stage, stage.kafka.brokers)
            await asyncio.sleep(stage.rng.uniform(0.0, 2.0))
            code = await stage.terminate(worker, codes=(0, 75))
            stage.say(f"ended with {code} after at most {stage.figures['slowest stop, s']} s of {GRACE_SECONDS}")
            await asyncio.to_thread(start_all, stage.kafka.brokers)
        worker = stage.start()
    await stage.finish(worker)


async def away(stage: Stage, brokers: Sequence[Broker], seconds: float) -> None:
    """Kill brokers, and start them again after so long."""
    kill_brokers(stage, brokers)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(start_all, brokers)
    stage.say(f"they are back after {seconds:.0f} s")


def kill_brokers(stage: Stage, brokers: Sequence[Broker]) -> None:
    """End brokers as a power failure does."""
    stage.say(f"killing {len(brokers)} of {len(stage.kafka.brokers)} brokers")
    for broker in brokers:
        broker.kill()
        stage.did["broker killed"] += 1
