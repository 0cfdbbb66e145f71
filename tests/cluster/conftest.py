"""Fixtures of the tests on a real Kubernetes. `make cluster-test` and `make cluster-e2e` run them as they need it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.tools import MissingError, Tools, found, saved_image
from tests.cluster.volumes import make_volumes

VOLUMES = 30

logging.getLogger("aiokafka").setLevel(logging.WARNING)

NOT_PRIVATE = "needs namespaces of its own: run make cluster-test or make cluster-e2e"


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
def image(tools: Tools) -> Path:
    """Archive of the image that `make cluster-e2e` built."""
    try:
        return saved_image()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with its controllers and with volumes for claims, but no nodes."""
    with Cluster(tools, tmp_path_factory.mktemp("cluster")) as started:
        make_volumes(started, VOLUMES)
        yield started
