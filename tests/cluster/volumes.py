"""Volumes for claims, made beforehand: nothing here makes them on demand."""

from __future__ import annotations

from tests.cluster.cluster import Cluster


def make_volumes(cluster: Cluster, count: int) -> None:
    """Make volumes of the default class. Each is a folder of this machine, which is every node's."""
    everywhere = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "made", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    volumes = []
    for number in range(count):
        folder = cluster.folder / "volumes" / str(number)
        folder.mkdir(parents=True)
        volumes.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": "100Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "made",
                    "local": {"path": str(folder)},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [everywhere]}]}},
                },
            }
        )
    cluster.apply(storage_class, *volumes)
