"""Brokers that go away."""

from __future__ import annotations

import asyncio

from tests.chaos.kafka import start_all
from tests.chaos.stage import GRACE_SECONDS, Stage, scenario

RATE = 150.0
AWAY_SECONDS = 40.0


@scenario("broker-killed", kafka="three", kills=3, store="memory")
@scenario("broker-killed-rocksdict", kafka="three", kills=2, store="rocksdict")
async def broker_killed(stage: Stage) -> None:
    """One of three brokers is killed and comes back, with two workers at work."""
    async with stage.feed(RATE) as feed:
        workers = [stage.start("a"), stage.start("b")]
        await stage.ready(*workers)
        for kill in range(stage.kills):
            feed.up_to((kill + 1) / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.5, 2.0))
            await kill_broker(stage, stage.rng.randrange(3), stage.rng.uniform(2.0, 15.0))
    await stage.finish(*workers)


@scenario("controller-killed", kafka="three", kills=2, store="memory")
async def controller_killed(stage: Stage) -> None:
    """The broker that is the active controller is killed and comes back."""
    async with stage.feed(RATE) as feed:
        workers = [stage.start("a"), stage.start("b")]
        await stage.ready(*workers)
        for kill in range(stage.kills):
            feed.up_to((kill + 1) / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.5, 2.0))
            stage.did["controller killed"] += 1
            await kill_broker(stage, stage.kafka.controller(), stage.rng.uniform(5.0, 12.0))
    await stage.finish(*workers)


@scenario("all-brokers-away", kafka="three", kills=2, store="memory")
async def all_away(stage: Stage) -> None:
    """All brokers are killed, stay away for 40 s and come back."""
    async with stage.feed(RATE) as feed:
        workers = [stage.start("a"), stage.start("b")]
        await stage.ready(*workers)
        for kill in range(stage.kills):
            await feed.until((kill + 0.5) / (stage.kills + 1))
            feed.up_to((kill + 1) / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.0, 2.0))
            stage.say(f"all brokers killed, {feed.sent} records sent")
            for broker in stage.kafka.brokers:
                broker.kill()
                stage.did["broker killed"] += 1
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(start_all, stage.kafka.brokers)
            workers = [
                worker if worker.process.poll() is None else stage.start(name)
                for name, worker in zip("ab", workers, strict=True)
            ]
    await stage.finish(*workers)


@scenario("broker-away-at-stop", kafka="one", ci=1, kills=2, store="rocksdict")
async def away_at_stop(stage: Stage) -> None:
    """The broker is away when a worker is told to stop: it ends within its grace, and its successor goes on."""
    async with stage.feed(RATE * 3) as feed:
        for kill in range(stage.kills):
            worker = stage.start()
            await stage.ready(worker)
            await feed.until((kill + 1) / (stage.kills + 1))
            (broker,) = stage.kafka.brokers
            broker.kill()
            stage.did["broker killed"] += 1
            await asyncio.sleep(stage.rng.uniform(0.0, 2.0))
            code = await stage.terminate(worker, codes=(0, 75))
            stage.say(f"ended with {code} after at most {stage.figures['slowest stop, s']} s of {GRACE_SECONDS}")
            await asyncio.to_thread(broker.start)
        worker = stage.start()
    await stage.finish(worker)


async def kill_broker(stage: Stage, index: int, seconds: float) -> None:
    """Kill a broker, and start it again after so long."""
    broker = stage.kafka.brokers[index]
    stage.say(f"broker {index + 1} killed for {seconds:.0f} s")
    broker.kill()
    stage.did["broker killed"] += 1
    await asyncio.sleep(seconds)
    await asyncio.to_thread(broker.start)
