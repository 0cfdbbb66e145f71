"""The chart rendered, and the tools that render and check it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "chart"
PROFILES = ("trial", "standard", "large")
KAFKA = "kafka-bootstrap.kafka:9092"
REPOSITORY = "registry.example/stillwatch"

Object = dict[str, Any]


@cache
def tools() -> Path:
    """The folder of deploy/tools.sh; tests that need it are skipped where nobody has run that."""
    script = ROOT / "deploy" / "tools.sh"
    folder = Path(subprocess.run([script, "folder"], capture_output=True, text=True, check=True).stdout.strip())
    if not (folder / "complete").exists():
        pytest.skip("needs Helm and schemas: `make deploy-tools` gets them")
    return folder


def helm(
    *arguments: str,
    values: Mapping[str, Any] | None = None,
    profile: str | None = None,
    release: str = "sw",
    verb: Sequence[str] = ("template",),
) -> subprocess.CompletedProcess[str]:
    """Helm on the chart with values and one of its profiles: `helm template`, unless another verb is given."""
    command: list[str | Path] = [tools() / "bin" / "helm", *verb, release, CHART, "--namespace", "detection"]
    if profile:
        command += ["--values", CHART / "profiles" / f"{profile}.yaml"]
    # The last file wins, whatever lies in it.
    command += ["--values", "-", *arguments]
    given = json.dumps(values or {})
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def with_kafka(values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Values that name brokers and an image too, and let brokers be anywhere."""
    given = {"networkPolicy": {"kafkaAnywhere": True}} | dict(values or {})
    needed = {"kafka": {"brokers": KAFKA}, "image": {"repository": REPOSITORY}}
    return given | {section: default | given.get(section, {}) for section, default in needed.items()}


def render(values: Mapping[str, Any] | None = None, profile: str | None = None) -> list[Object]:
    """The objects of a release with these values; the chart must take them."""
    done = helm(values=with_kafka(values), profile=profile)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def notes(values: Mapping[str, Any] | None = None) -> str:
    """What Helm prints at the end of an installation with these values, as one line."""
    done = helm(values=with_kafka(values), verb=("install", "--dry-run=client"))
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.partition("NOTES:")[2].split())


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [found for found in objects if found["kind"] == kind]


def one(objects: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The only one of a kind, or of a kind and name."""
    (found,) = [found for found in of_kind(objects, kind) if name in (None, found["metadata"]["name"])]
    return found


def pod_specs(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Name and spec of each object's pods."""
    return ((name, pod["spec"]) for name, pod in pods(objects))


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Name of each object that is a pod or makes some, and the pod or its template."""
    for found in objects:
        spec = found.get("spec", {})
        spec = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
        pod = found if found["kind"] == "Pod" else spec.get("template")
        if pod is not None:
            yield f"{found['kind']} {found['metadata']['name']}", pod


def environment(container: Object) -> dict[str, Any]:
    """Variables of a container by name: their value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


SCRAM = {
    "kafka": {
        "security": {
            "protocol": "SASL_SSL",
            "username": "stillwatch",
            "passwordSecret": {"name": "stillwatch"},
            "caSecret": {"name": "my-cluster-ca-cert"},
        }
    }
}

MUTUAL_TLS = {
    "kafka": {
        "security": {
            "protocol": "SSL",
            "caSecret": {"name": "my-cluster-ca-cert"},
            "certificateSecret": {
                "name": "stillwatch",
                "certificateKey": "user.crt",
                "keyKey": "user.key",
                "keyPasswordKey": "user.password",
            },
        }
    }
}

CANARY: dict[str, Any] = {"canary": {"enabled": True}, "settings": {"canary_prefix": "canary-7e2a9b-"}}

EVERYTHING: dict[str, Any] = {
    "strimzi": {"enabled": True, "cluster": "my-cluster", "namespace": "kafka"},
    "autoscaling": {"enabled": True},
    "monitoring": {
        "labels": {"release": "prometheus"},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "replay": {"enabled": True, "since": "2026-01-05", "until": "2026-01-07T00:00:00Z", "claim": "replays"},
    "canary": {"enabled": True, "username": "bird", "passwordSecret": {"name": "bird"}},
    "traces": {"endpoint": "https://otel-collector.observability:4318"},
    "baseline": {"content": "{}"},
    "settings": {
        "canary_prefix": "canary-7e2a9b-",
        "slab_rows": 1_000_000,
        "account_ids": "hashed",
        "checkpoint_interval_seconds": 0.5,
    },
    "accountHashKeySecret": {"name": "account-hash"},
    "antiAffinity": True,
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "commonLabels": {"cost-centre": "1e3"},
    "podLabels": {"team": "on"},
    "podAnnotations": {"example.com/scanned": "true"},
    "jobs": {"podLabels": {"sidecar.istio.io/inject": "false"}, "podAnnotations": {"sidecar.istio.io/inject": "false"}},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
                ]
            }
        }
    },
    "extraEnv": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {"name": "OTEL_SERVICE_NAME", "value": "detection"},
    ],
    "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "storage": {"annotations": {"example.com/backup": "false"}},
    "service": {"annotations": {"example.com/owner": "detection"}},
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
    "networkPolicy": {
        "kafkaPeers": [{"podSelector": {"matchLabels": {"strimzi.io/cluster": "my-cluster"}}}],
        "collectorPeers": [{"podSelector": {"matchLabels": {"app": "otel-collector"}}}],
    },
}

RENDERINGS: dict[str, tuple[dict[str, Any], str | None]] = {
    **{profile: ({}, profile) for profile in PROFILES},
    "everything, SCRAM": (EVERYTHING | SCRAM, "standard"),
    "everything, mutual TLS, in memory": (
        EVERYTHING
        | MUTUAL_TLS
        | {
            "workload": "Deployment",
            "canary": {"enabled": True, "certificateSecret": {"name": "bird"}},
            "monitoring": {"serviceMonitor": {"enabled": True}},
        },
        None,
    ),
    "topics only checked, as another user": (
        SCRAM | {"topics": {"job": "check", "username": "admin", "passwordSecret": {"name": "admin"}}},
        None,
    ),
}
"""Values and profile of what is checked as a whole."""
