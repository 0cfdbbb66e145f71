"""Level 3: the runbooks of deploy/README.md with their own commands, on real pods and a real Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from detectors import state
from schemas.alert import decode_alert
from streams.exit_codes import ExitCode
from tests.cluster.cluster import ADDRESS, Cluster
from tests.cluster.node import Node
from tests.cluster.pods import FOR_PODS, MOVE_SECONDS, SECURED_FOR_PODS, all_ready, release_of, restarts
from tests.cluster.release import ROOT, Object, Release
from tests.cluster.runbooks import Runbooks
from tests.cluster.stream import Stream
from tests.cluster.tools import IMAGE, NEXT_IMAGE
from tests.integration.broker import Broker, start_on_free_ports
from tests.integration.security.certificates import Authority
from tests.integration.streams.expected import Finding, finding, findings_on
from tests.integration.streams.running import ENCODER_HASH, read

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PUSHED = {"registry.example/stillwatch:0.1.0": IMAGE, "registry.example/stillwatch:0.2.0": NEXT_IMAGE}
"""Images that the runbooks install, and what they are here."""

ONE_BROKER = {"--replication-factor 3": "--replication-factor 1"}
BASELINE = ROOT / "detectors" / "default_baseline.json"
COUNT_SECONDS = 20
WORKERS = 2
"""Of the standard profile."""

SECURED_PORT = 19093
"""All ports are ours in the namespaces of private.sh."""

USER, PASSWORD = "stillwatch", "correct-horse"
SCRAM_OVER_TLS = {
    "protocol": "SASL_SSL",
    "username": USER,
    "passwordSecret": {"name": "stillwatch-kafka"},
    "caSecret": {"name": "kafka-ca"},
}


@pytest.fixture(scope="module", autouse=True)
def _pushed(nodes: dict[str, Node]) -> None:
    """The images are where the runbooks take them from."""
    for node in nodes.values():
        for name, image in PUSHED.items():
            node.ctr("images", "tag", image, name)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, since topics and the group are called as the runbooks call them."""
    started = start_on_free_ports(lambda attempt: Broker(tmp_path / f"kafka-{attempt}", properties=FOR_PODS))
    yield started
    started.stop()


@pytest.fixture
def runbooks(release: Release, tmp_path: Path) -> Runbooks:
    return runbooks_for(release, tmp_path)


def runbooks_for(release: Release, folder: Path, **values: object) -> Runbooks:
    """Runbooks of somebody with these values, and those that fit this machine."""
    values |= {"topics": {"replicationFactor": 1}, "resources": {"requests": {"cpu": "250m"}}}
    files = {"my-values.yaml": yaml.safe_dump(values)}
    return Runbooks(release.cluster, release.namespace, folder / "runbooks", release.brokers, files)


def install(runbooks: Runbooks) -> None:
    """The runbook, but for the building of the image."""
    runbooks.run("Install", without=["make image"])


@pytest.fixture
def stream(release: Release, runbooks: Runbooks, broker: Broker) -> Stream:
    """A stream through two workers that are installed."""
    install(runbooks)
    return Stream(broker.bootstrap, release, "stillwatch.", seed=7, group="stillwatch")


@dataclass(frozen=True)
class Secured:
    """A broker that lets pods in by password and TLS on a port."""

    broker: Broker
    port: int
    ca: Path

    def give_secrets(self, release: Release) -> None:
        """The Secrets that a release needs."""
        for name, content in (
            ("stillwatch-kafka", f"password={PASSWORD}"),
            ("kafka-ca", f"ca.crt={self.ca.read_text()}"),
        ):
            release.cluster.kubectl(
                "create", "secret", "generic", name, f"--from-literal={content}", of=release.namespace
            )


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = Authority(tmp_path, "trusted")
    keys = authority.issue("broker", address=ADDRESS).both

    def make(attempt: int) -> Broker:
        properties = SECURED_FOR_PODS.format(port=SECURED_PORT, keys=keys)
        return Broker(tmp_path / f"secured-{attempt}", properties, f"{USER}:{PASSWORD}")

    broker = start_on_free_ports(make)
    yield Secured(broker, SECURED_PORT, authority.file)
    broker.stop()


def volumes_of(release: Release) -> dict[str, str]:
    """Volume of each claim."""
    return {name: claim["spec"].get("volumeName", "") for name, claim in release.claims().items()}


def becomes(release: Release, metric: str, value: float) -> None:
    """Wait until a metric has a value: workers bring it up to date every other second."""
    release.cluster.until(f"{metric} is {value:g}", lambda: release.metric(metric) == value, COUNT_SECONDS)


def delete_alerts(stream: Stream) -> None:
    """As the retention of their topic does."""
    admin, topic = AdminClient({"bootstrap.servers": stream.kafka}), stream.names.alerts
    partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
    asked = admin.delete_records([TopicPartition(topic, partition, OFFSET_END) for partition in partitions])
    for deleted in asked.values():
        deleted.result(30)


async def test_an_upgrade_carries_states_of_the_older_format_over_and_a_roll_back_needs_them_restored(
    stream: Stream, runbooks: Runbooks, tmp_path: Path
) -> None:
    """The new version is a real one: it publishes another layout of the accounts' records."""
    release = stream.release
    async with stream.in_parts() as part:
        await part(0.4)
        await asyncio.to_thread(runbooks.run, "Upgrade")
        await part(0.7)
        carried = stream.accounts(0, 0.4) & stream.accounts(0.4, 0.7)
        assert carried
        becomes(release, "stillwatch_migrated_states_total", len(carried))
        assert release.metric("stillwatch_cold_starts_total") == 0
        assert release.alarms() == set()

        await asyncio.to_thread(runbooks.run, "Roll back")
        await part(0.9)
        anew = stream.accounts(0.4, 0.7) & stream.accounts(0.7, 0.9)
        assert anew
        becomes(release, 'stillwatch_cold_starts_total{why="unreadable"}', len(anew))
        assert release.alarms() == {"StillwatchStatesUnreadable"}

        await asyncio.to_thread(delete_alerts, stream)  # among them what was said of accounts that had started anew
        await asyncio.to_thread(runbooks.run, "Restore from nothing", block=1, instead=ONE_BROKER)
        await asyncio.to_thread(all_ready, release, WORKERS)
    assert release.alarms() == set()
    await stream.check(tmp_path)


async def test_a_lost_volume_is_filled_from_the_state_topic(stream: Stream, runbooks: Runbooks, tmp_path: Path) -> None:
    release = stream.release
    async with stream.in_parts() as part:
        await part(0.5)
        before, volumes = release.identities(), volumes_of(release)
        await asyncio.to_thread(runbooks.run, "Restore from nothing")
        await asyncio.to_thread(all_ready, release, WORKERS)
        assert len(release.identities() - before) == 1
        after = volumes_of(release)
        assert {name for name in volumes if after[name] != volumes[name]} == {"data-stillwatch-0"}
    assert release.metric("stillwatch_cold_starts_total") == 0
    await stream.check(tmp_path)


async def test_an_installation_takes_up_what_an_uninstalled_one_left(
    stream: Stream, runbooks: Runbooks, tmp_path: Path
) -> None:
    release = stream.release
    async with stream.in_parts() as part:
        await part(0.5)
        await asyncio.to_thread(runbooks.run, "Uninstall")
        release.cluster.until("volumes gone", lambda: not volumes_of(release))
        await asyncio.to_thread(install, runbooks)
    assert release.metric("stillwatch_cold_starts_total") == 0
    assert release.alarms() == set()
    await stream.check(tmp_path)
    await asyncio.to_thread(runbooks.run, "Uninstall", block=1)
    topics = AdminClient({"bootstrap.servers": stream.kafka}).list_topics(timeout=10).topics
    assert [name for name in topics if name.startswith("stillwatch.")] == []


async def test_added_partitions_are_taken_and_no_request_is_lost(stream: Stream, runbooks: Runbooks) -> None:
    release = stream.release
    async with stream.in_parts() as part:
        await part(0.5)
        await asyncio.to_thread(runbooks.run, "Add partitions")
        release.cluster.until("all partitions taken", lambda: release.metric("stillwatch_partitions") == 24)
    await asyncio.to_thread(release.uninstall)
    last = {(record.partition, record.key): record.value for record in await read(stream.kafka, stream.names.state)}
    counted: Counter[str] = Counter()
    for (_, account), envelope in last.items():
        counted[account.decode()] += int(state.unseal(envelope, ENCODER_HASH)["header"]["requests"][0])
    assert counted == Counter(sent.account for sent in stream.oracle.traffic if sent.good)


async def test_a_replay_beside_production_finds_in_pods_what_one_process_finds(
    stream: Stream, runbooks: Runbooks
) -> None:
    release = stream.release
    found = await stream.sent()
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    release.cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "replays"}, "spec": claim},
        of=release.namespace,
    )
    (runbooks.folder / "baseline.json").write_text(BASELINE.read_text())
    before = release.identities()
    runbooks.run("Replay beside production")
    runbooks.run("Replay beside production", block=1, without=["delete"])
    (job,) = release.cluster.get("jobs", of=release.namespace)
    release.cluster.kubectl(
        "wait", "--for=condition=Complete", f"job/{job['metadata']['name']}", f"--timeout={MOVE_SECONDS}s",
        of=release.namespace,
    )  # fmt: skip
    volume = release.cluster.get("persistentvolumes", volumes_of(release)["replays"])["spec"]["local"]["path"]
    of_pods = findings_in(Path(volume), "alerts-*.jsonl")
    (of_one,) = findings_in(runbooks.folder, "alerts.jsonl")
    assert len(of_pods) == 4
    assert set().union(*of_pods) == of_one != set()
    runbooks.run("Replay beside production", block=1, only="delete")
    assert (release.identities(), restarts(release)) == (before, 0)
    assert findings_on(await read(stream.kafka, stream.names.alerts)) == found
    await asyncio.to_thread(release.uninstall)


async def test_credentials_are_rotated_by_a_change_of_the_secret_alone(
    secured: Secured, cluster: Cluster, nodes: dict[str, Node], tmp_path: Path
) -> None:
    def sees_the_new_one(pod: Object) -> bool:
        (status,) = pod["status"]["containerStatuses"]
        ended = status["lastState"].get("terminated", {}).get("exitCode")
        return (status["restartCount"], ended) == (1, ExitCode.TEMPORARY)

    with release_of(cluster, f"{ADDRESS}:{secured.port}") as release:
        runbooks = runbooks_for(release, tmp_path, kafka={"security": SCRAM_OVER_TLS})
        await asyncio.to_thread(secured.give_secrets, release)
        install(runbooks)
        stream = Stream(secured.broker.bootstrap, release, "stillwatch.", seed=7, group="stillwatch")
        async with stream.in_parts() as part:
            await part(0.4)
            before = release.identities()
            await asyncio.to_thread(
                runbooks.run, "Rotate credentials", without=["--watch", "sw topics"], text="another one\n",
                BROKERS=secured.broker.bootstrap,
            )  # fmt: skip
            release.cluster.until("workers started again", lambda: all(map(sees_the_new_one, release.pods())))
            await asyncio.to_thread(all_ready, release, WORKERS)
            assert release.identities() == before
            assert "12 partitions" in runbooks.run("Rotate credentials", only="sw topics").out
        assert release.alarms() == set()
        assert all(map(sees_the_new_one, release.pods())), "once is enough"
        await stream.check(tmp_path)


async def test_a_canary_is_sent_by_hand_and_found(stream: Stream, runbooks: Runbooks) -> None:
    release = stream.release
    await asyncio.to_thread(runbooks.run, "The canary")
    (job,) = release.cluster.get("jobs", of=release.namespace)
    release.cluster.kubectl("wait", "--for=condition=Complete", "job/canary-now", "--timeout=60s", of=release.namespace)
    assert job["metadata"]["name"] == "canary-now"
    assert release.metric("stillwatch_canary_findings_total") > 0
    assert release.metric("stillwatch_findings_total") == 0
    await asyncio.to_thread(release.uninstall)


def findings_in(folder: Path, pattern: str) -> list[set[Finding]]:
    """Findings of each of the files of a folder."""
    files = sorted(folder.glob(pattern))
    return [{finding(decode_alert(line)) for line in file.read_bytes().splitlines()} for file in files]
