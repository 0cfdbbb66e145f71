"""What tests with real pods have in common: a Kafka that pods reach, values that fit this machine, waiting."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager

from tests.cluster.cluster import ADDRESS, Cluster
from tests.cluster.release import PROFILES, Release
from tests.cluster.stream import PARTITIONS, Stream

FOR_PODS = f"""
listeners=PLAINTEXT://0.0.0.0:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
advertised.listeners=PLAINTEXT://{ADDRESS}:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
"""
"""Settings of a broker: a pod has an address of its own, and reaches the broker by that of the machine."""

SECURED_FOR_PODS = f"""
listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,SCRAM://0.0.0.0:{{port}}
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,SCRAM://{ADDRESS}:{{port}}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SCRAM:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={{keys}}
"""
"""The same, where pods have to say who they are, over TLS; this machine does not."""

OF_THIS_MACHINE = (
    "image.tag=dev",
    "image.pullPolicy=Never",
    "topics.replicationFactor=1",
    "resources.requests.cpu=250m",
)
"""Of the standard profile, what does not fit a machine of two cores with one broker."""

MOVE_SECONDS = 240
"""For a pod to be made, to start and to recover, on two cores that a broker and a cluster share."""


@contextmanager
def release_of(cluster: Cluster, brokers: str) -> Iterator[Release]:
    """A release in a namespace of its own, not yet installed. At the end it says what pods that are left have said."""
    namespace = cluster.make_namespace(f"test-{uuid.uuid4().hex[:8]}")
    release = Release(cluster, "stillwatch", namespace, brokers)
    try:
        yield release
    finally:
        # A test that passed has uninstalled it; pods of Jobs and of `helm test` that went well are not worth a look.
        left = [pod for pod in cluster.get("pods", of=namespace) if pod["status"].get("phase") != "Succeeded"]
        for name in (pod["metadata"]["name"] for pod in left):
            print(cluster.kubectl("describe", "pod", name, of=namespace).out)
            print(cluster.kubectl("logs", name, "--tail=100", "--ignore-errors", of=namespace).out)
        cluster.kubectl("delete", "namespace", namespace, "--timeout=120s")


def stream_of(release: Release, kafka: str, *values: str) -> Stream:
    """Install the standard profile with values besides, and wait until it works; a stream through its workers."""
    prefix = f"{release.namespace}."
    release.install(
        PROFILES["standard"],
        *OF_THIS_MACHINE,
        f"kafka.topicPrefix={prefix}",
        f"kafka.groupId={prefix}",
        f"topics.partitions={PARTITIONS}",
        *values,
    )
    return Stream(kafka, release, prefix, seed=7)


def restarts(release: Release) -> int:
    """How often containers of the workers' pods were started again."""
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
