"""Level 3, on demand: the real KEDA scales the chart's pods on the lag of a real Kafka. Nothing is lost or changed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.feed import Feed
from tests.cluster.cluster import Cluster, CommandError
from tests.cluster.node import Node
from tests.cluster.pods import MOVE_SECONDS, all_ready, stream_of
from tests.cluster.release import Release
from tests.cluster.runbooks import Runbooks
from tests.cluster.scaler import start_keda
from tests.cluster.stream import DONE_SECONDS
from tests.cluster.tools import MissingError, built_keda
from tests.integration.broker import Broker
from tests.integration.streams.running import wait_done

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

BACKLOG = 0.2
"""Share of the traffic that waits before any worker runs."""

RATE = 35
"""Records a second afterwards, for as long as it takes to go down to one worker again."""

THRESHOLD = 100
"""Records a worker may be behind. When one of two goes, more wait on its partitions until the other one has them."""

SETTLE_SECONDS = 60
"""For so long more workers are wanted before they come, which is longer than partitions of one that went lie idle."""

SCALING = (
    "autoscaling.enabled=true",
    "autoscaling.maxReplicas=3",
    f"autoscaling.lagThreshold={THRESHOLD}",
    "autoscaling.pollingInterval=2",
    f"autoscaling.scaleUpStabilizationSeconds={SETTLE_SECONDS}",
    "autoscaling.scaleDownPeriodSeconds=25",
    "autoscaling.scaleDownStabilizationSeconds=15",
    "settings.checkpoint_interval_seconds=1",
)
"""Of one worker at least and three at most, in minutes instead of hours."""

PAUSED = "autoscaling.keda.sh/paused-replicas"


@pytest.fixture(scope="module", autouse=True)
def keda(cluster: Cluster) -> None:
    """KEDA beside the cluster."""
    try:
        start_keda(cluster, built_keda())
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def runbooks(release: Release, tmp_path: Path) -> Runbooks:
    return Runbooks(release.cluster, release.namespace, tmp_path / "runbooks", release.brokers)


async def test_a_backlog_adds_workers_and_its_end_takes_them_away(
    release: Release, runbooks: Runbooks, broker: Broker, nodes: dict[str, Node], tmp_path: Path
) -> None:
    """None that was taken away is called back for what waits on its partitions until others have them."""
    stream = await asyncio.to_thread(stream_of, release, broker.bootstrap, *SCALING)
    await asyncio.to_thread(all_ready, release, 1)
    await asyncio.to_thread(stop_all, release, runbooks)
    async with Feed(stream.kafka, stream.names.requests, stream.oracle) as feed:
        await feed.until(BACKLOG)
        # No worker may start and work it off before the number has been decided.
        await asyncio.to_thread(cordon, release.cluster, "cordon", *nodes)
        await asyncio.to_thread(go_on, runbooks)
        assert await asyncio.to_thread(numbers_until, release, 3) == [0, 1, 3]
        await asyncio.to_thread(cordon, release.cluster, "uncordon", *nodes)
        await asyncio.to_thread(all_ready, release, 3)

        flow = asyncio.create_task(trickle(feed, len(stream.oracle.traffic)))
        assert await asyncio.to_thread(numbers_until, release, 1) == [3, 2, 1]
        await asyncio.to_thread(all_ready, release, 1)
        await asyncio.sleep(SETTLE_SECONDS)
        assert number(release) == 1
        assert not flow.done(), "the traffic was over before: nothing is shown"
        flow.cancel()
    await wait_done(stream.kafka, stream.prefix, stream.names.requests, DONE_SECONDS)
    await stream.check(tmp_path)


async def trickle(feed: Feed, records: int) -> None:
    """Traffic of so many records at a pace, to its end."""
    share = BACKLOG
    while share < 1:
        await asyncio.sleep(1)
        share = min(1.0, share + RATE / records)
        await feed.until(share)


def test_turning_autoscaling_on_and_off_takes_no_worker_away(
    release: Release, runbooks: Runbooks, broker: Broker
) -> None:
    stream_of(release, broker.bootstrap, "replicas=2")
    turn_on(release, runbooks)
    before = release.identities()
    runbooks.run("Turn autoscaling off")
    release.cluster.until("the autoscaler is gone", lambda: not autoscalers(release))
    assert number(release) == 3
    assert release.identities() == before
    with pytest.raises(CommandError, match="conflict with"):
        release.upgrade("replicas=2")  # two have set the same number
    release.upgrade("replicas=2", force=True)
    release.upgrade("replicas=3")
    assert len(release.ready()) == 3
    release.uninstall()


def test_rolling_back_over_the_change_that_turned_autoscaling_on(
    release: Release, runbooks: Runbooks, broker: Broker
) -> None:
    """Conflicts have to be forced at once: after an attempt that was refused Helm forgets what it would delete."""
    stream_of(release, broker.bootstrap, "replicas=2")
    turn_on(release, runbooks)
    release.roll_back(1, force=True)
    release.cluster.until("the autoscaler is gone", lambda: not autoscalers(release))
    assert len(release.ready()) == 2

    turn_on(release, runbooks)
    with pytest.raises(CommandError, match="conflict with"):
        release.roll_back(1)
    release.roll_back(1, force=True)
    assert autoscalers(release)
    release.cluster.kubectl("delete", "scaledobject/stillwatch", of=release.namespace)
    release.cluster.until("the autoscaler is gone", lambda: not autoscalers(release))
    release.uninstall()


def turn_on(release: Release, runbooks: Runbooks) -> None:
    """From two workers to three."""
    before = release.identities()
    runbooks.run("Turn autoscaling on")
    release.cluster.until("the autoscaler knows the lag", lambda: knows_the_lag(release))
    all_ready(release, 3)
    assert before < release.identities()


def test_without_the_lag_the_number_stays(release: Release, runbooks: Runbooks, broker: Broker) -> None:
    """Brokers that are away for longer than it takes to go down to one worker."""
    seconds = 45
    stream_of(release, broker.bootstrap, *SCALING, f"autoscaling.scaleDownStabilizationSeconds={seconds}")
    annotate(release, f"{PAUSED}=2")
    all_ready(release, 2)
    go_on(runbooks)
    release.cluster.until("the autoscaler knows the lag", lambda: knows_the_lag(release))
    broker.stop()
    try:
        release.cluster.until("the autoscaler knows nothing", lambda: not knows_the_lag(release))
        time.sleep(2 * seconds)
        assert number(release) == 2
    finally:
        broker.start()
    release.cluster.until("one worker wanted", lambda: number(release) == 1, MOVE_SECONDS)
    release.uninstall()


def stop_all(release: Release, runbooks: Runbooks) -> None:
    runbooks.run("Stop all workers", block=1, only=f"{PAUSED}=0")
    all_ready(release, 0)


def go_on(runbooks: Runbooks) -> None:
    runbooks.run("Stop all workers", block=1, only=f"{PAUSED}-")


def annotate(release: Release, annotation: str) -> None:
    release.cluster.kubectl("annotate", "scaledobject/stillwatch", annotation, "--overwrite", of=release.namespace)


def cordon(cluster: Cluster, verb: str, *nodes: str) -> None:
    for node in nodes:
        cluster.kubectl(verb, node)


def number(release: Release) -> int:
    """Workers that are asked for; found without kubectl, so that no number is passed over."""
    scale = f"/apis/apps/v1/namespaces/{release.namespace}/statefulsets/stillwatch/scale"
    return int(release.cluster.call("GET", scale)["spec"].get("replicas", 0))


def numbers_until(release: Release, last: int) -> list[int]:
    """Numbers of workers that are asked for, one after the other, from now to a last one."""
    seen = [number(release)]

    def is_last() -> bool:
        now = number(release)
        if now != seen[-1]:
            seen.append(now)
        return now == last

    release.cluster.until(f"{last} workers wanted", is_last, MOVE_SECONDS)
    return seen


def knows_the_lag(release: Release) -> bool:
    """Whether the autoscaler of Kubernetes, which KEDA has made, gets a number from it."""
    (found,) = release.cluster.get("horizontalpodautoscalers", of=release.namespace) or [{}]
    conditions = found.get("status", {}).get("conditions", [])
    return ("ScalingActive", "True") in {(each["type"], each["status"]) for each in conditions}


def autoscalers(release: Release) -> list[Any]:
    """What would change the number of workers."""
    found: list[Any] = release.cluster.get("scaledobjects,horizontalpodautoscalers", of=release.namespace)
    return found
