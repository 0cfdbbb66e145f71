"""Levels 1 and 2: the chart against a real API server, its admission and its controllers. The nodes are fake."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, CommandError
from tests.cluster.fake_nodes import FakeNodes
from tests.cluster.release import EVERYTHING, PROFILES, Release, pods_of
from tests.cluster.runbooks import Runbooks

pytestmark = pytest.mark.cluster

NODES, REPLICAS = 7, 3
ZONE = "topology.kubernetes.io/zone"
STANDARD_REPLICAS = 2
DRAIN_FLAGS = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[FakeNodes]:
    with FakeNodes(cluster, NODES) as started:
        yield started


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    """A release in a namespace of its own, not yet installed."""
    namespace = cluster.make_namespace(f"test-{uuid.uuid4().hex[:8]}")
    yield Release(cluster, "stillwatch", namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


# --- Level 1: what the server takes


@pytest.mark.parametrize("profile", PROFILES)
def test_the_server_takes_every_object_without_a_warning(release: Release, profile: str) -> None:
    objects = release.render(PROFILES[profile])
    said = release.cluster.apply(*objects, of=release.namespace, only_check=True)
    assert said.warnings == []
    assert len(said.out.splitlines()) == len(objects)


def test_the_server_takes_all_that_the_chart_has(release: Release) -> None:
    """Custom resources too, whose real definitions the server has."""
    objects = release.render(PROFILES["standard"], *EVERYTHING)
    objects += [
        each
        for each in release.render("monitoring.serviceMonitor.enabled=true")  # instead of the PodMonitor
        if each["kind"] == "ServiceMonitor"
    ]
    kinds = {"KafkaTopic", "KafkaUser", "ScaledObject", "PodMonitor", "ServiceMonitor", "PrometheusRule"}
    assert kinds <= {each["kind"] for each in objects}
    said = release.cluster.apply(*objects, of=release.namespace, only_check=True)
    assert said.warnings == []
    assert len(said.out.splitlines()) == len(objects)


def test_the_server_refuses_a_field_that_it_does_not_know(release: Release) -> None:
    """Else the test above would prove little."""
    objects = release.render()
    (workload,) = [each for each in objects if each["kind"] in ("StatefulSet", "Deployment")]
    workload["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(CommandError, match=r'unknown field "spec\.template\.spec\.terminationGracePeriodSecond"'):
        release.cluster.apply(workload, of=release.namespace, only_check=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_restricted_pods_are_admitted(release: Release, profile: str) -> None:
    """Of workloads Pod Security only warns; pods it refuses. So the pods themselves are put before it."""
    pods = pods_of(release.render(PROFILES[profile], "replay.enabled=true", "replay.until=2026-01-07T00:00:00Z"))
    kinds = {"worker", "topics", "replay", "test"}
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == kinds
    said = release.cluster.apply(*pods, of=release.namespace, only_check=True)
    assert said.warnings == []
    assert said.out.count("created") == len(pods)


@pytest.mark.parametrize(
    ("loosened", "word"),
    [
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"capabilities": {"drop": []}}, "unrestricted capabilities"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
    ],
)
def test_a_pod_with_more_rights_is_refused(release: Release, loosened: dict[str, Any], word: str) -> None:
    pod = pods_of(release.render())[0]
    pod["spec"]["containers"][0]["securityContext"] |= loosened
    with pytest.raises(CommandError, match=f'violates PodSecurity "restricted.*{word}'):
        release.cluster.apply(pod, of=release.namespace, only_check=True)


# --- Level 2: what the controllers make of it


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("profile", ["trial", "standard"])
def test_install_upgrade_roll_back_uninstall(release: Release, profile: str) -> None:
    assert release.install(PROFILES[profile]).warnings == []
    first = release.identities()
    replicas = release.workload()["spec"]["replicas"]
    assert len(release.ready()) == replicas

    assert release.upgrade("settings.log_level=DEBUG").warnings == []
    second = release.identities()
    assert len(release.ready()) == replicas
    assert second.isdisjoint(first), "a changed setting replaces every pod"

    release.roll_back(1)
    assert len(release.ready()) == replicas
    assert release.identities().isdisjoint(second)

    release.uninstall()
    release.cluster.until("all of it gone", lambda: not left_in(release))


def left_in(release: Release) -> set[str]:
    """Objects of the namespace that did not come with it."""
    kinds = release.cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").out.split()
    passing = {"events", "events.events.k8s.io", "controllerrevisions.apps"}
    found = release.cluster.kubectl(
        "get", ",".join(sorted(set(kinds) - passing)), "--output=name", "--ignore-not-found", of=release.namespace
    )
    return set(found.out.split()) - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


@pytest.mark.usefixtures("nodes")
def test_workers_of_the_large_profile_share_neither_a_node_nor_more_than_their_part_of_a_zone(release: Release) -> None:
    release.install(PROFILES["large"])
    names = [pod["spec"]["nodeName"] for pod in release.pods()]
    assert len(set(names)) == len(names) == release.workload()["spec"]["replicas"]
    zones = {node["metadata"]["name"]: node["metadata"]["labels"][ZONE] for node in release.cluster.get("nodes")}
    sizes = Counter(zones[name] for name in names).values()
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.usefixtures("nodes")
def test_no_pod_holds_a_token_of_the_cluster(release: Release) -> None:
    release.install(PROFILES["trial"])
    for pod in release.pods():
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert not [source for source in sources if "serviceAccountToken" in source]


@pytest.mark.usefixtures("nodes")
def test_drain_keeps_the_budget(release: Release, nodes: FakeNodes) -> None:
    release.install(PROFILES["standard"], f"replicas={REPLICAS}")
    node = release.pods()[0]["spec"]["nodeName"]
    fewest = REPLICAS
    with ThreadPoolExecutor() as background:
        drain = background.submit(release.cluster.kubectl, "drain", node, *DRAIN_FLAGS)
        while not drain.done():
            fewest = min(fewest, len(release.ready()))
        drain.result()
    release.cluster.until("all pods ready elsewhere", lambda: len(release.ready()) == REPLICAS)
    assert node not in {pod["spec"]["nodeName"] for pod in release.pods()}
    assert fewest == REPLICAS - 1
    release.cluster.kubectl("uncordon", node)


@pytest.mark.usefixtures("nodes")
def test_with_one_worker_down_the_budget_gives_no_other_away(release: Release, nodes: FakeNodes) -> None:
    release.install(PROFILES["standard"], f"replicas={REPLICAS}")
    down, other, _ = release.ready()
    nodes.never_ready.add(down)
    try:
        release.cluster.kubectl("delete", "pod", down, of=release.namespace)
        release.cluster.until(
            "one worker down", lambda: len(release.ready()) == REPLICAS - 1 == len(release.pods()) - 1
        )
        with pytest.raises(CommandError, match="disruption budget"):
            release.evict(other)
        release.evict(down)  # one that does no work holds up no drain
    finally:
        nodes.never_ready.clear()
    release.cluster.until("all workers back", lambda: len(release.ready()) == REPLICAS)


# --- Runbooks of deploy/README.md


@pytest.fixture
def runbooks(release: Release, tmp_path: Path) -> Runbooks:
    return Runbooks(release.cluster, release.namespace, tmp_path / "runbooks")


@pytest.mark.usefixtures("nodes")
def test_workers_are_stopped_and_started_by_helm(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"])
    before = release.identities()
    runbooks.run("Stop all workers", without=["# and go on"])
    assert release.pods() == []
    runbooks.run("Stop all workers", only="# and go on")
    release.cluster.until("workers back", lambda: len(release.ready()) == STANDARD_REPLICAS)
    assert release.identities().isdisjoint(before)


@pytest.mark.usefixtures("nodes")
def test_the_topics_can_be_looked_at_when_no_worker_runs(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"])
    runbooks.run("StillwatchDown", without=("logs", "delete job,networkpolicy,configmap"))
    (job,) = release.cluster.get("jobs", of=release.namespace)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["topics", "check"]
    runbooks.run("StillwatchDown", without=("logs",))  # once more, over the one that is there
    assert release.cluster.get("jobs", of=release.namespace) == []


def test_what_kubectl_scales_helm_undoes_or_is_refused_for(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"])
    release.cluster.kubectl("scale", "statefulset/stillwatch", "--replicas=0", of=release.namespace)
    release.upgrade("settings.log_level=DEBUG")
    assert len(release.ready()) == STANDARD_REPLICAS, "nobody asked for these"
    release.cluster.kubectl("scale", "statefulset/stillwatch", "--replicas=1", of=release.namespace)
    with pytest.raises(CommandError, match='conflict with "kubectl" with subresource "scale"'):
        runbooks.run("Stop all workers", only="# and go on")


@pytest.mark.usefixtures("nodes")
def test_the_autoscaler_is_paused_instead(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"], "autoscaling.enabled=true")
    runbooks.run("Stop all workers", block=1, without=["paused-replicas-"])
    assert pause_of(release) == {"autoscaling.keda.sh/paused-replicas": "0"}
    runbooks.run("Stop all workers", block=1, only="paused-replicas-")
    assert pause_of(release) == {}


def pause_of(release: Release) -> dict[str, str]:
    """What KEDA is told, beside what Helm writes to everything."""
    annotations = release.cluster.get("scaledobjects", "stillwatch", of=release.namespace)["metadata"]["annotations"]
    return {name: value for name, value in annotations.items() if "keda" in name}


@pytest.mark.usefixtures("nodes")
def test_turning_autoscaling_on_takes_no_worker_away(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"], "replicas=2")
    runbooks.run("Turn autoscaling on")
    assert release.workload()["spec"]["replicas"] == 3
    release.upgrade("settings.log_level=DEBUG")
    assert release.workload()["spec"]["replicas"] == 3


@pytest.mark.usefixtures("nodes")
def test_the_size_of_volumes_changes_worker_by_worker(release: Release, runbooks: Runbooks) -> None:
    release.install(PROFILES["standard"])
    pods, claims = release.identities(), release.claims()
    with pytest.raises(CommandError, match=r"immutable|updates to statefulset spec"):
        release.upgrade("storage.size=8Gi")
    runbooks.run("Change the volume size")
    assert len(release.identities() & pods) == len(release.pods()) - 1, "one worker was made anew, and no other"
    after = release.claims()
    assert {name for name in claims if after[name]["metadata"]["uid"] != claims[name]["metadata"]["uid"]} == {
        "data-stillwatch-0"
    }
    assert after["data-stillwatch-0"]["spec"]["resources"]["requests"]["storage"] == "8Gi"
