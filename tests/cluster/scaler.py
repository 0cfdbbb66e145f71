"""KEDA beside the cluster: its operator reads the lag, its adapter hands it to the autoscaler of Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.cluster import ADDRESS, Cluster, RefusedError
from tests.integration.security.certificates import Authority

NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"
ADAPTER_PORT, OPERATOR_PORT = 17443, 19666
METRICS_API = "/apis/external.metrics.k8s.io/v1beta1"

RIGHTS = ("rbac/role.yaml", "rbac/role_binding.yaml", "metrics-server/role.yaml", "metrics-server/role_binding.yaml")
"""KEDA's own: its programs and the autoscaler may here what they may in any cluster."""


def start_keda(cluster: Cluster, folder: Path) -> None:
    """Start the programs of `folder` as processes of the cluster, and wait until the API server reaches them."""
    config = folder / "config"
    of_keda = ("general/namespace.yaml", "service_account/service_account.yaml", *RIGHTS)
    # Too large for the annotation in which an apply by the client keeps what it applied.
    cluster.kubectl("apply", "--server-side", "-f", config / "crd" / "bases")
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    cluster.kubectl("apply", *(word for name in of_keda for word in ("-f", config / name)))
    cluster.apply(*_way_to_the_adapter())

    certificates = _write_certificates(cluster.folder / "keda")
    user = cluster.kubeconfig("keda")
    place = {"POD_NAMESPACE": NAMESPACE, "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE, "WATCH_NAMESPACE": ""}
    cluster.processes.start(
        "keda-operator", folder / "operator", f"--kubeconfig={user}", f"--cert-dir={certificates}",
        f"--metrics-service-bind-address=127.0.0.1:{OPERATOR_PORT}", "--metrics-bind-address=0",
        "--health-probe-bind-address=0", "--enable-webhook-patching=false", "--enable-apiservice-patching=false",
        **place,
    )  # fmt: skip
    cluster.processes.start(
        "keda-adapter", folder / "adapter", f"--secure-port={ADAPTER_PORT}", "--port=18080",
        *(f"--{purpose}kubeconfig={user}" for purpose in ("", "lister-", "authentication-", "authorization-")),
        f"--metrics-service-address=127.0.0.1:{OPERATOR_PORT}", f"--cert-dir={certificates}",
        f"--tls-cert-file={certificates / 'tls.crt'}", f"--tls-private-key-file={certificates / 'tls.key'}",
        **place,
    )  # fmt: skip
    cluster.until("KEDA serves metrics", lambda: _is_served(cluster))


def _way_to_the_adapter() -> list[dict[str, Any]]:
    """As KEDA's own metrics-server/ has it, but the adapter is a process of this machine and no pod."""
    named = {"name": SERVICE, "namespace": NAMESPACE}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": named,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": ADAPTER_PORT}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**named, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": ADAPTER_PORT}],
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "service": named,
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    return [service, endpoints, api]


def _write_certificates(folder: Path) -> Path:
    """Operator and adapter trust one CA and show one certificate, under names of KEDA's; the folder."""
    folder.mkdir()
    authority = Authority(folder, "keda")
    pair = authority.issue("keda")
    for file, name in ((authority.file, "ca.crt"), (pair.certificate, "tls.crt"), (pair.key, "tls.key")):
        file.rename(folder / name)
    return folder


def _is_served(cluster: Cluster) -> bool:
    try:
        return bool(cluster.call("GET", METRICS_API)["kind"] == "APIResourceList")
    except RefusedError:
        return False
