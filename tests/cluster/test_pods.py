"""Level 3: real kubelets run the chart's pods on a real Kafka. What is done to the pods loses and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.alert import decode_alert
from tests.cluster.cluster import CommandError
from tests.cluster.node import Node
from tests.cluster.pods import MOVE_SECONDS, all_ready, restarts, stream_of
from tests.cluster.release import Release, now
from tests.cluster.runbooks import Runbooks
from tests.cluster.stream import Stream
from tests.integration.broker import Broker
from tests.integration.streams.expected import finding

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def stream(release: Release, broker: Broker) -> Stream:
    """A stream through two workers that are installed and ready."""
    return stream_of(release, broker.bootstrap)


async def disturbed(stream: Stream, tmp_path: Path, disturb: Callable[[], None]) -> dict[str, int]:
    """Do something to the pods in mid-stream, and check what came out; figures."""
    async with stream.flowing():
        await asyncio.to_thread(disturb)
    return await stream.check(tmp_path)


async def test_a_rolling_update_loses_nothing(stream: Stream, tmp_path: Path) -> None:
    def update() -> None:
        before = stream.release.identities()
        stream.release.upgrade("settings.log_level=DEBUG")
        assert stream.release.identities().isdisjoint(before)

    await disturbed(stream, tmp_path, update)


async def test_an_eviction_loses_nothing(stream: Stream, tmp_path: Path) -> None:
    def evict() -> None:
        pod = stream.release.pods()[0]["metadata"]
        stream.release.evict(pod["name"])
        all_ready(stream.release, 2, without={pod["uid"]})

    await disturbed(stream, tmp_path, evict)


async def test_a_sigkill_loses_nothing(stream: Stream, tmp_path: Path, nodes: dict[str, Node]) -> None:
    def kill() -> None:
        pod = stream.release.pods()[0]
        nodes[pod["spec"]["nodeName"]].kill(pod)
        stream.release.cluster.until("restart", lambda: restarts(stream.release) == 1, MOVE_SECONDS)
        all_ready(stream.release, 2)

    await disturbed(stream, tmp_path, kill)


async def test_the_drain_of_a_node_loses_nothing(stream: Stream, tmp_path: Path) -> None:
    def drain() -> None:
        release = stream.release
        node = release.pods()[0]["spec"]["nodeName"]
        runbooks = Runbooks(release.cluster, release.namespace, tmp_path / "runbooks", release.brokers)
        runbooks.run("Drain a node", only="drain", NODE=node)
        all_ready(release, 2)
        assert node not in {pod["spec"]["nodeName"] for pod in release.pods()}
        runbooks.run("Drain a node", only="uncordon", NODE=node)

    await disturbed(stream, tmp_path, drain)


async def test_scaling_up_and_down_loses_nothing(stream: Stream, tmp_path: Path) -> None:
    def scale() -> None:
        for replicas in (3, 1):
            workload = stream.release.workload()
            name = f"{workload['kind'].lower()}/{workload['metadata']['name']}"
            stream.release.cluster.kubectl("scale", name, f"--replicas={replicas}", of=stream.release.namespace)
            all_ready(stream.release, replicas)

    await asyncio.to_thread(stream.release.upgrade, "replicas=1")
    await disturbed(stream, tmp_path, scale)


async def test_a_replay_job_of_several_pods_finds_what_the_workers_found(stream: Stream) -> None:
    found = await stream.sent()
    release, kubectl = stream.release, stream.release.cluster.kubectl
    of_replay = ("replay.pods=3", "replay.closeFindings=false", "replay.resources.requests.cpu=250m")
    release.upgrade("replay.enabled=true", f"replay.until={now()}", *of_replay)
    labels = "app.kubernetes.io/component=replay"
    kubectl("wait", "--for=condition=Complete", "job", "--all", f"--timeout={MOVE_SECONDS}s", of=release.namespace)
    said = kubectl("logs", "--selector", labels, "--tail=-1", of=release.namespace).out.splitlines()
    assert {finding(decode_alert(line.encode())) for line in said if '"class_uid":' in line} == found
    assert found
    release.uninstall()


async def test_a_worker_has_no_rights(stream: Stream) -> None:
    release = stream.release
    (name, *_) = release.ready()

    def inside(program: str) -> str:
        return release.cluster.kubectl("exec", name, "--", "python3", "-c", program, of=release.namespace).out

    status = dict(line.split(":", 1) for line in inside("print(open('/proc/1/status').read())").strip().splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    for folder in ("/", "/opt/stillwatch", "/etc"):
        with pytest.raises(CommandError, match="Read-only file system"):
            inside(f"open('{folder}/written', 'w')")
    with pytest.raises(CommandError, match="No such file"):
        inside("open('/var/run/secrets/kubernetes.io/serviceaccount/token')")
    release.uninstall()
