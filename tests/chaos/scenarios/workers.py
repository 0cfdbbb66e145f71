"""Workers that are killed, told to stop, suspended and joined by others."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from itertools import cycle, islice
from typing import Any

from tests.chaos.feed import Feed
from tests.chaos.link import OFFSET_COMMIT, PRODUCE, Link
from tests.chaos.oracle import Violation
from tests.chaos.stage import ASSIGNED, READY, SESSION_SECONDS, Stage, rebalances_of, scenario
from tests.integration.streams.running import Worker

START_SECONDS = 6.0
"""About what a worker takes to its first request: a kill at a random moment of it falls into any part of start-up."""

MOMENTS = ("BatchRecovery]: Starting", "Joined group", ASSIGNED, "opening partition", "Restoring state", READY)
"""What a worker says on its way: a kill right behind one of these falls into what is over in milliseconds."""

RATE = 600.0
STOP_SECONDS = 12.0
"""What a stop before the first request may take: there is nothing to save, at most a rebalance to wait for."""

HELD_SECONDS = 2.0
ARRIVAL_LOOKS = 15
BEFORE_COLD_START = 0.97
"""Share of the traffic: what is left brings every partition to a checkpoint, and few accounts to another state."""

MANY_RATE = 1500.0
MANY_SECONDS = 0.2
MANY_STATES = {"checkpoint_interval_seconds": 1.0, "slab_rows": 64}
"""A worker whose states are to be late makes few and large checkpoints: others should go on from some of them."""

FATES = ("kill", "freeze", "terminate", "kill")
"""What befalls workers, in these proportions."""


async def kill_somewhen(stage: Stage, worker: Worker) -> None:
    """SIGKILL at a random moment: of start-up, of recovery, or in the middle of batches and checkpoints."""
    kind = stage.rng.choice(["any time", "behind a moment", "behind a moment", "scoring", "scoring"])
    if kind == "any time":
        await asyncio.sleep(stage.rng.uniform(0.0, START_SECONDS))
    elif kind == "behind a moment":
        moment, wait = stage.rng.choice(MOMENTS), stage.rng.uniform(0.0, 0.1)
        await stage.until(lambda: moment in worker.log or READY in worker.log, 60, moment, worker)
        await asyncio.sleep(wait)
    else:
        await stage.ready(worker)
        await asyncio.sleep(stage.rng.uniform(0.0, 0.8))
    stage.kill(worker)


@scenario("killed-memory", kills=38, ci=5, store="memory")
@scenario("killed-rocksdict", kills=38, ci=5, store="rocksdict")
async def killed(stage: Stage) -> None:
    """One worker, killed again and again while requests come in."""
    async with stage.feed(RATE) as feed:
        for kill in range(stage.kills):
            feed.up_to((kill + 1) / (stage.kills + 1))
            await kill_somewhen(stage, stage.start())
            if (kill + 1) % 5 == 0:
                stage.say(f"{kill + 1} of {stage.kills} kills, {feed.sent} records sent")
        worker = stage.start()
    await stage.finish(worker)


@scenario("killed-in-a-checkpoint", kills=6, store="memory")
@scenario("killed-in-a-checkpoint-rocksdict", kills=6, ci=3, store="rocksdict")
async def killed_in_a_checkpoint(stage: Stage) -> None:
    """Killed with outputs, states or offsets on their way to the brokers, where they come late or never."""
    names = stage.names
    steps = [
        ("outputs", PRODUCE, names.dead_letters),
        ("states", PRODUCE, names.state),
        ("offsets", OFFSET_COMMIT, names.requests),
    ]
    async with Link(stage.kafka.front, stage.kafka.behind) as link, stage.feed(RATE) as feed:
        link.delay_seconds = HELD_SECONDS
        for kill in range(stage.kills):
            what, api, topic = steps[kill % len(steps)]
            worker = stage.start(brokers=link.bootstrap)
            await stage.ready(worker)
            link.delayed, link.losing = 0, stage.rng.random() < 0.5
            link.slow_api, link.slow_topic = api, topic.encode()
            feed.up_to((kill + 1) / (stage.kills + 1))
            await stage.until(lambda: link.delayed > 0, 60, f"{what} on their way", worker)
            stage.kill(worker)
            link.slow_topic = None
            fate = "lost" if link.losing else "late"
            stage.did[f"killed with {what} on their way"] += 1
            stage.say(f"killed with {what} on their way: {fate}, {feed.sent} records sent")
        await feed.until(1.0)
        await stage.finish(stage.start(brokers=link.bootstrap))


@scenario("killed-dynamic", kills=4, store="memory", static=False)
async def killed_dynamic(stage: Stage) -> None:
    """The same without static membership: each successor waits until the group has given the dead one up."""
    await killed(stage)


@scenario("stopped-while-starting", kills=12, store="rocksdict")
async def stopped_while_starting(stage: Stage) -> None:
    """Told to stop at any moment of start-up, a worker is gone within twelve seconds, and its successor goes on."""
    async with stage.feed(RATE) as feed:
        for stop in range(stage.kills):
            feed.up_to((stop + 1) / (stage.kills + 1))
            worker = stage.start()
            await asyncio.sleep(stage.rng.uniform(START_SECONDS / 3, START_SECONDS))
            await stage.terminate(worker)
        if stage.figures["slowest stop, s"] > STOP_SECONDS:
            raise Violation(f"a stop took {stage.figures['slowest stop, s']} s")
        worker = stage.start()
    await stage.finish(worker)


@scenario("two-workers", kills=10, ci=4, store="memory")
@scenario("two-workers-rocksdict", kills=10, store="rocksdict")
@scenario("two-workers-dynamic", kills=8, store="memory", static=False)
async def two_workers(stage: Stage) -> None:
    """Two workers: SIGKILL, SIGTERM, SIGSTOP past the session, at any moment and in random order."""
    await mishaps(stage, ["a", "b"])


@scenario("three-workers", kills=10, store="memory")
async def three_workers(stage: Stage) -> None:
    """Three workers: the same."""
    await mishaps(stage, ["a", "b", "c"])


async def mishaps(stage: Stage, names: list[str]) -> None:
    """Something happens to one worker after the other, and it comes back."""
    async with stage.feed(RATE) as feed:
        running = {name: stage.start(name) for name in names}
        await stage.ready(*running.values())
        fates = list(islice(cycle(FATES), stage.kills))
        stage.rng.shuffle(fates)
        for done, what in enumerate(fates, 1):
            feed.up_to(done / (stage.kills + 1))
            await asyncio.sleep(stage.rng.uniform(0.2, 2.0))
            name = stage.rng.choice(names)
            stage.say(f"{done} of {stage.kills}: {what} {name}, {feed.sent} records sent")
            await befall(stage, running, name, what)
    await stage.ready(*running.values())
    await stage.finish(*running.values())


async def befall(stage: Stage, running: dict[str, Worker], name: str, what: str) -> None:
    """Let something happen to a worker, and see to it that one of its name runs afterwards."""
    worker = running[name]
    if what == "freeze":
        await stage.freeze(worker, SESSION_SECONDS + stage.rng.uniform(2.0, 5.0))
        return
    if what == "kill" or worker.process.poll() is not None:
        stage.kill(worker)
        # Now and then long enough for the group to give its partitions to the others.
        await asyncio.sleep(stage.rng.choice([0.0, 0.0, SESSION_SECONDS + 2.0]))
    else:
        await stage.terminate(worker)
    running[name] = stage.start(name)


@scenario("zombie-writes", kills=2, ci=2, store="memory")
@scenario("zombie-writes-rocksdict", kills=2, store="rocksdict")
async def zombie_writes(stage: Stage) -> None:
    """A worker wakes after another took over, and its states arrive late: they count for nothing, now and later."""
    async with Link(stage.kafka.front, stage.kafka.behind) as link, stage.feed(MANY_RATE) as feed:
        late = 0
        held: dict[str, Any] = {"brokers": link.bootstrap} | MANY_STATES
        zombie, heir = stage.start("a", **held), stage.start("b")
        for wake in range(stage.kills):
            await stage.ready(zombie, heir)
            share = BEFORE_COLD_START / stage.kills
            late += await write_late(stage, link, feed, zombie, heir, begin=wake * share, end=(wake + 1) * share)
            if wake % 2:
                # Nobody of those who were there is left to put it right.
                stage.kill(heir)
                stage.kill(zombie)
                heir = stage.start("b")
            if zombie.process.poll() is not None:
                zombie = stage.start("a", **held)
        if not late:
            raise Violation("no worker that woke has written a state late")
        await stage.ready(zombie, heir)
        await stage.worked_off(zombie, heir)
        await stage.terminate(zombie)
        await stage.terminate(heir)
        cold = stage.start("c")  # on an empty disk
        await stage.ready(cold)
        await feed.until(1.0)
        await stage.worked_off(cold)
        counted = "stillwatch_late_state_writes_total"
        await stage.until(lambda: cold.metric(counted) > 0, 10, "a metric that tells of late states", cold)
    await stage.finish(cold)


async def write_late(
    stage: Stage, link: Link, feed: Feed, zombie: Worker, heir: Worker, *, begin: float, end: float
) -> int:
    """Freeze a worker while its states are on their way, and let them arrive when another has gone on from there.

    `begin`, `end`: shares of the traffic. Returns how many came late; the others are of accounts that had nothing
    further in between.
    """
    feed.up_to(begin + 0.5 * (end - begin))
    await asyncio.sleep(MANY_SECONDS)  # the first checkpoint in a while comes with the first record, and has few states
    link.slow_api, link.slow_topic, link.holding = PRODUCE, stage.names.state.encode(), True
    await stage.until(lambda: link.held > 0, 60, "states on their way", zombie)
    zombie.process.send_signal(signal.SIGSTOP)
    stage.did["SIGSTOP with states on their way"] += 1
    before, late = rebalances_of(heir), await stage.late_states()
    await stage.until(partial(_more_rebalances, heir, before), 60, "the other takes over", heir)
    await feed.until(begin + 0.9 * (end - begin))
    await stage.worked_off(heir)
    if not link.held:
        raise Violation("the harness lost the states that it held up")
    zombie.process.send_signal(signal.SIGCONT)
    link.slow_topic, link.holding = None, False
    came_late = await more_late_states(stage, late)
    stage.say(f"{came_late} states came late, {feed.sent} records sent")
    feed.up_to(end)
    return came_late


async def more_late_states(stage: Stage, than: int) -> int:
    """How many more states there are that came late, waiting for the first."""
    for _ in range(ARRIVAL_LOOKS):
        if (late := await stage.late_states()) > than:
            return late - than
        await asyncio.sleep(1.0)
    return 0


@scenario("join-in-recovery", kills=4, store="memory", organic=60)
async def join_in_recovery(stage: Stage) -> None:
    """Another worker joins in the middle of a restore, and the first one is killed in the next."""
    async with stage.feed() as feed:
        await feed.until(0.3)
        worker = stage.start()
        await stage.worked_off(worker)
        for join in range(stage.kills):
            stage.kill(worker)
            await feed.until(0.3 + 0.7 * (join + 1) / (stage.kills + 1))
            worker = stage.start()
            await stage.logged(worker, ASSIGNED)
            await asyncio.sleep(stage.rng.uniform(0.0, 0.3))
            second = stage.start("b")
            stage.did["join"] += 1
            await stage.ready(worker, second)
            await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
            await stage.terminate(second)
            stage.say(f"{join + 1} of {stage.kills} joins")
        await stage.ready(worker)
    await stage.finish(worker)


@scenario("rebalances", kills=20, store="memory", static=False)
@scenario("rebalances-static", kills=20, store="memory")
async def rebalances(stage: Stage) -> None:
    """Workers join and leave, or without a word are missed, until 20 rebalances are over."""
    async with stage.feed(RATE) as feed:
        constant = stage.start("constant")
        await stage.ready(constant)
        while (done := rebalances_of(constant) - 1) < stage.kills:
            feed.up_to((done + 1) / (stage.kills + 1))
            guest = stage.start(f"guest-{stage.did['join']}")
            stage.did["join"] += 1
            await stage.logged(guest, ASSIGNED)
            await asyncio.sleep(stage.rng.uniform(0.0, 1.5))
            before = rebalances_of(constant)
            await stage.terminate(guest)
            # A static member says no word when it leaves: it is missed after its session.
            await stage.until(partial(_more_rebalances, constant, before), 60, "the guest's leave noticed", constant)
            if stage.did["join"] % 4 == 0:
                stage.say(f"{rebalances_of(constant) - 1} of {stage.kills} rebalances, {feed.sent} records sent")
    stage.figures["rebalances"] = rebalances_of(constant) - 1
    await stage.finish(constant)


def _more_rebalances(worker: Worker, than: int) -> bool:
    return rebalances_of(worker) > than
