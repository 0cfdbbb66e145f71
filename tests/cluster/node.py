"""A real node: containerd, runc and the kubelet run the cluster's pods on this machine."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.archive import write_image
from tests.cluster.cluster import ADDRESS, Cluster, Output, node_name, run

log = logging.getLogger(__name__)

PAUSE_IMAGE = "localhost/pause:1"
GROUPS = Path("/sys/fs/cgroup")
KUBELET_PORT = 10250

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{state}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, as in a container, nobody may lower it.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""


class Node:
    """`with Node(cluster, 0, image) as node:` and the cluster has a node that runs pods of these images.

    Several nodes share the machine: each has its own containerd, kubelet, network of pods and control groups. A volume
    that is a folder of the machine can follow its pod from one to the other, as one of a network would.
    """

    def __init__(self, cluster: Cluster, number: int, *images: Path) -> None:
        self.name = node_name(number)
        self._number, self._cluster, self._images = number, cluster, images
        self._folder = cluster.folder / self.name
        self._state = Path("/run") / self.name
        self._group = f"{os.environ['CLUSTER_CGROUP']}/{self.name}"

    def __enter__(self) -> Node:
        (self._folder / "cni").mkdir(parents=True)
        (self._folder / "cni" / "pods.conflist").write_text(json.dumps(self._network()))
        (self._folder / "containerd.toml").write_text(
            CONTAINERD.format(folder=self._folder, state=self._state, pause=PAUSE_IMAGE)
        )
        (self._folder / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet()))
        _make_group(self._group)
        processes, socket = self._cluster.processes, self._state / "containerd.sock"
        processes.start(f"containerd of {self.name}", "containerd", "--config", self._folder / "containerd.toml")
        self._cluster.until(f"containerd of {self.name} serves", socket.exists)
        pause = write_image(self._folder / "pause.tar", PAUSE_IMAGE, {"pause": self._cluster.tools.pause}, ["/pause"])
        for archive in (pause, *self._images):
            self.ctr("images", "import", archive)
        processes.start(
            f"kubelet of {self.name}", self._cluster.tools.kubernetes, "kubelet",
            f"--config={self._folder / 'kubelet.yaml'}", f"--kubeconfig={self._cluster.kubeconfig(self.name)}",
            f"--hostname-override={self.name}", f"--node-ip={ADDRESS}", f"--root-dir={self._folder / 'kubelet'}",
            f"--cert-dir={self._folder / 'kubelet-pki'}",
        )  # fmt: skip
        self._cluster.until(f"{self.name} is ready", self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        """Its programs end with the cluster's."""

    def ctr(self, *arguments: str | Path) -> Output:
        """Run containerd's own client. Raises `CommandError`."""
        return run("ctr", "--address", self._state / "containerd.sock", "--namespace", "k8s.io", *arguments)

    def kill(self, pod: Any) -> None:
        """SIGKILL every process of a pod's containers, as the kernel does when memory is out."""
        for container in pod["status"]["containerStatuses"]:
            identity = container["containerID"].removeprefix("containerd://")
            self.ctr("tasks", "kill", "--all", "--signal", "SIGKILL", identity)

    def _network(self) -> dict[str, Any]:
        bridge = {
            "type": "bridge",
            "bridge": f"pods{self._number}",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._state / "addresses"),
                "ranges": [[{"subnet": f"10.244.{self._number}.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        return {"cniVersion": "1.0.0", "name": self.name, "plugins": [bridge]}

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "containerRuntimeEndpoint": f"unix://{self._state}/containerd.sock",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "port": KUBELET_PORT + 10 * self._number,
            "healthzPort": 0,
            # A Secret that changed is in its files after so long, and by default after a minute or two.
            "syncFrequency": "5s",
            "resolvConf": "/dev/null",
            "podLogsDir": str(self._folder / "pods"),
            "volumePluginDir": str(self._folder / "plugins"),
            # Of a machine that others use too, only a real shortage may count.
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        }

    def _is_ready(self) -> bool:
        nodes = {node["metadata"]["name"]: node["status"] for node in self._cluster.get("nodes")}
        conditions = nodes.get(self.name, {}).get("conditions", [])
        return {"Ready": "True"}.items() <= {each["type"]: each["status"] for each in conditions}.items()


def _make_group(group: str) -> None:
    """Make a control group in each tree. Version 1 has a tree for each controller, version 2 one for all."""
    trees = [GROUPS] if (GROUPS / "cgroup.controllers").exists() else list(GROUPS.iterdir())
    for tree in trees:
        made = tree
        for part in group.split("/"):
            made = made / part
            made.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty at first, and nothing could run in it
                if tree.name == "cpuset":
                    (made / name).write_text((tree / name).read_text())
