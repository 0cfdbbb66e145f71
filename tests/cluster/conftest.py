"""Fixtures of the tests on a real Kubernetes, which `make cluster-test`, `cluster-e2e` and `cluster-keda` run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.cluster import ADDRESS, NODES, Cluster
from tests.cluster.node import Node
from tests.cluster.pods import FOR_PODS, release_of
from tests.cluster.release import Release
from tests.cluster.tools import MissingError, Tools, found, saved_images
from tests.cluster.volumes import make_volumes
from tests.integration.broker import Broker, start_on_free_ports

VOLUMES = 60

logging.getLogger("aiokafka").setLevel(logging.WARNING)

NOT_PRIVATE = "needs namespaces of its own: run make cluster-test, make cluster-e2e or make cluster-keda"


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Programs of a cluster. Without them, or outside of private.sh, the tests are skipped with what to do."""
    if "CLUSTER_CGROUP" not in os.environ:
        pytest.skip(NOT_PRIVATE)
    try:
        return found()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(tools: Tools) -> Path:
    """Archive of the images that `make cluster-e2e` built."""
    try:
        return saved_images()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with its controllers and with volumes for claims, but no nodes."""
    with Cluster(tools, tmp_path_factory.mktemp("cluster")) as started:
        make_volumes(started, VOLUMES)
        yield started


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, images: Path) -> Iterator[dict[str, Node]]:
    """Real nodes by name."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(cluster, number, images)) for number in range(NODES)]
        yield {node.name: node for node in nodes}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that pods reach."""
    folder = tmp_path_factory.mktemp("kafka")
    started = start_on_free_ports(lambda attempt: Broker(folder / str(attempt), properties=FOR_PODS))
    yield started
    started.stop()


@pytest.fixture
def release(cluster: Cluster, nodes: dict[str, Node], broker: Broker) -> Iterator[Release]:
    """A release in a namespace of its own, not yet installed."""
    with release_of(cluster, f"{ADDRESS}:{broker.port}") as release:
        yield release
