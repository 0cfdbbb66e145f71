"""Nodes that run nothing: they take pods, say that they run, and let them go, so that the controllers have work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from tests.cluster.cluster import Cluster, RefusedError

log = logging.getLogger(__name__)

READY_SECONDS = 1.0
"""From a pod's binding to its being ready; a pod that ends by itself has ended then."""

STOP_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
ZONES = 3
POLL_SECONDS = 0.2

MERGE = "application/strategic-merge-patch+json"
SIZE = {"cpu": "8", "memory": "32Gi", "pods": "50", "ephemeral-storage": "100Gi"}
RUNNING = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


class FakeNodes:
    """`with FakeNodes(cluster, 7) as nodes:` and there are so many nodes in three zones.

    A pod becomes ready unless its name is in `never_ready`; one that need not run for ever (of a Job) succeeds.
    """

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.names = [f"fake-{number}" for number in range(count)]
        self.never_ready: set[str] = set()
        self._cluster = cluster
        self._bound: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake nodes")
        self.failure: BaseException | None = None

    def __enter__(self) -> FakeNodes:
        for number, name in enumerate(self.names):
            labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % ZONES}"}
            self._cluster.call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self.failure is not None and error is None:
            raise AssertionError("the fake nodes broke down") from self.failure

    def _run(self) -> None:
        beaten = 0.0
        try:
            while not self._ended.wait(POLL_SECONDS):
                if time.monotonic() - beaten > HEARTBEAT_SECONDS:
                    beaten = time.monotonic()
                    self._beat()
                for pod in self._pods():
                    self._play(pod)
        except Exception as error:  # shown by the block's end, else every test would only wait in vain
            log.exception("the fake nodes broke down")
            self.failure = error

    def _pods(self) -> Iterator[Any]:
        pods = self._cluster.call("GET", "/api/v1/pods")["items"]
        return (pod for pod in pods if pod["spec"].get("nodeName") in self.names)

    def _beat(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "Fake", "lastHeartbeatTime": _now()}
        status = {"capacity": SIZE, "allocatable": SIZE, "conditions": [ready]}
        for name in self.names:
            self._cluster.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)

    def _play(self, pod: Any) -> None:
        """What a kubelet would do with a pod now."""
        metadata, phase = pod["metadata"], pod["status"]["phase"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        stopping = metadata.get("deletionTimestamp") is not None
        moment = f"{metadata['uid']} {stopping}"
        waited = time.monotonic() - self._bound.setdefault(moment, time.monotonic())
        try:
            if stopping and waited >= STOP_SECONDS:
                at_once = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
                self._cluster.call("DELETE", path, at_once)
            elif not stopping and phase == "Pending" and waited >= READY_SECONDS:
                self._cluster.call("PATCH", f"{path}/status", {"status": self._status(pod)}, MERGE)
        except RefusedError as error:
            if error.errno not in (404, 409):  # gone, or another one of that name by now
                raise

    def _status(self, pod: Any) -> dict[str, Any]:
        now, spec = _now(), pod["spec"]
        ends = spec["restartPolicy"] != "Always"
        ready = not ends and pod["metadata"]["name"] not in self.never_ready
        if ends:
            state: dict[str, Any] = {"terminated": {"exitCode": 0, "startedAt": now, "finishedAt": now}}
        else:
            state = {"running": {"startedAt": now}}
        address = f"10.244.{len(self._bound) // 250}.{len(self._bound) % 250 + 1}"
        return {
            "phase": "Succeeded" if ends else "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "conditions": [
                {"type": kind, "status": str(ready or "Ready" not in kind), "lastTransitionTime": now}
                for kind in RUNNING
            ],
            "containerStatuses": [
                {"name": container["name"], "image": container["image"], "imageID": "", "ready": ready,
                 "started": True, "restartCount": 0, "state": state}
                for container in spec["containers"]
            ],
        }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
