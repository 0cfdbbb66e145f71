"""Level 3: real kubelets run the chart's pods on a real Kafka. What is done to the pods loses and changes nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.alert import decode_alert
from tests.cluster.cluster import ADDRESS, NODES, Cluster, CommandError
from tests.cluster.node import Node
from tests.cluster.release import PROFILES, Release
from tests.cluster.stream import PARTITIONS, Stream
from tests.integration.broker import Broker, start_on_free_ports
from tests.integration.streams.expected import finding

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FOR_PODS = f"""
listeners=PLAINTEXT://0.0.0.0:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
advertised.listeners=PLAINTEXT://{ADDRESS}:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
"""
"""A pod has an address of its own, and reaches the broker by that of the machine."""

OF_THIS_MACHINE = (
    "image.tag=dev",
    "image.pullPolicy=Never",
    "topics.replicationFactor=1",
    "resources.requests.cpu=250m",
)
"""Of the standard profile, what does not fit a machine of two cores with one broker."""

MOVE_SECONDS = 240
"""For a pod to be made, to start and to recover, on two cores that a broker and a cluster share."""


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, image: Path) -> Iterator[dict[str, Node]]:
    """Real nodes by name."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(cluster, number, image)) for number in range(NODES)]
        yield {node.name: node for node in nodes}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("kafka")
    started = start_on_free_ports(lambda attempt: Broker(folder / str(attempt), properties=FOR_PODS))
    yield started
    started.stop()


@pytest.fixture
def release(cluster: Cluster, nodes: dict[str, Node], broker: Broker) -> Iterator[Release]:
    """A release in a namespace of its own, not yet installed."""
    namespace = cluster.make_namespace(f"test-{uuid.uuid4().hex[:8]}")
    release = Release(cluster, "stillwatch", namespace, f"{ADDRESS}:{broker.port}")
    yield release
    for pod in release.pods():  # a test that passed has uninstalled it
        name = pod["metadata"]["name"]
        print(cluster.kubectl("describe", "pod", name, of=namespace).out)
        print(cluster.kubectl("logs", name, "--tail=100", "--ignore-errors", of=namespace).out)
    cluster.kubectl("delete", "namespace", namespace, "--timeout=120s")


@pytest.fixture
def stream(release: Release, broker: Broker) -> Stream:
    """A stream through two workers that are installed and ready."""
    prefix = f"{release.namespace}."
    release.install(
        PROFILES["standard"],
        *OF_THIS_MACHINE,
        f"kafka.topicPrefix={prefix}",
        f"kafka.groupId={prefix}",
        f"topics.partitions={PARTITIONS}",
    )
    return Stream(broker.bootstrap, release, prefix, seed=7)


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
        node = stream.release.pods()[0]["spec"]["nodeName"]
        kubectl = stream.release.cluster.kubectl
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={MOVE_SECONDS}s")
        all_ready(stream.release, 2)
        assert node not in {pod["spec"]["nodeName"] for pod in stream.release.pods()}
        kubectl("uncordon", node)

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
    release.upgrade("replay.enabled=true", f"replay.until={release.now()}", *of_replay)
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


def restarts(release: Release) -> int:
    return sum(status["restartCount"] for pod in release.pods() for status in pod["status"]["containerStatuses"])


def all_ready(release: Release, count: int, without: Set[str] = frozenset()) -> None:
    """Wait until so many pods are there and ready, and none of some earlier ones."""
    release.cluster.until(
        f"{count} workers ready",
        lambda: (
            (len(release.ready()), len(release.pods())) == (count, count) and release.identities().isdisjoint(without)
        ),
        MOVE_SECONDS,
    )
