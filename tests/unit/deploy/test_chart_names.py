"""Names: of objects, within Kubernetes' bounds, and values that YAML would take for something else than a text."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.manifests import (
    CANARY,
    CHART,
    EVERYTHING,
    MUTUAL_TLS,
    PROFILES,
    SCRAM,
    Object,
    helm,
    of_kind,
    one,
    pod_specs,
    render,
    tools,
    with_kafka,
)

ROOM_OF_A_CRONJOB = 52


@pytest.mark.parametrize("length", [46, 50, 53])
def test_a_release_with_a_long_name_has_a_canary(length: int) -> None:
    """Kubernetes adds eleven letters to a CronJob's name for each run."""
    done = helm(values=with_kafka(CANARY), release=("stillwatch-" + "r" * length)[:length])
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert len(one(objects, "CronJob")["metadata"]["name"]) <= ROOM_OF_A_CRONJOB
    named = one(objects, "StatefulSet")["metadata"]["name"]
    assert one(objects, "CronJob")["metadata"]["name"] == f"{named}-canary"  # as alarms look for it


ODD = {"name": "123", "key": "a, b: {c} #d"}
CERTIFICATE = {"name": "123", "certificateKey": "no", "keyKey": "a, b", "keyPasswordKey": "0x1"}


@pytest.mark.parametrize("security", [SCRAM, MUTUAL_TLS], ids=["SCRAM", "mutual TLS"])
def test_values_that_look_like_yaml_are_texts(security: dict[str, Any]) -> None:
    kafka = security["kafka"]["security"]
    own = {"passwordSecret": ODD, "caSecret": ODD, "certificateSecret": CERTIFICATE}
    given = {name: own[name] for name in own if name in kafka or name == "certificateSecret"}
    who = {"username": "0x1", "passwordSecret": ODD} if "username" in kafka else {}
    values = EVERYTHING | {
        "kafka": {
            "groupId": "123",
            "topicPrefix": "0.",
            "security": kafka | given | ({"username": "null"} if who else {}),
        },
        "canary": {"enabled": True, "certificateSecret": CERTIFICATE} | who,
        "replay": {"enabled": True, "since": "2026-01-05", "until": "2026-01-06", "claim": "123", "topic": "123"},
        "priorityClassName": "123",
        "serviceAccount": {"create": False, "name": "123"},
        "storage": {"className": "123"},
        "baseline": {"configMap": "123", "key": "123"},
        "accountHashKeySecret": ODD,
        "strimzi": {"enabled": True, "cluster": "123", "namespace": "123", "users": {"worker": "123"}},
    }
    done = helm(values=with_kafka(values), release="123")
    assert done.returncode == 0, done.stderr
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    for found in objects:
        assert untold(found) == [], (found["kind"], found["metadata"]["name"])
    ((_, canary),) = pod_specs(of_kind(objects, "CronJob"))
    assert canary["containers"][0]["args"] == ["canary", "--group-id=123", "--wait=600"]


TEXTS = {
    "name", "key", "namespace", "serviceAccountName", "priorityClassName", "storageClassName", "claimName", "path",
    "mountPath", "topicName", "app.kubernetes.io/instance", "strimzi.io/cluster", "value",
}  # fmt: skip
"""Fields that hold texts wherever they stand, but for the one of a policy."""


def untold(found: Any, where: str = "") -> list[str]:
    """Where something else than a text stands in a field for texts, or among arguments."""
    if isinstance(found, list):
        texts = where.endswith("/args")
        wrong = [f"{where}: {entry!r}" for entry in found if texts and not isinstance(entry, str)]
        return wrong + [fault for entry in found for fault in untold(entry, where)]
    if not isinstance(found, dict):
        return []
    wrong = [
        f"{where}/{name}: {value!r}"
        for name, value in found.items()
        if name in TEXTS and not isinstance(value, str) and not where.endswith("/policies")
    ]
    return wrong + [fault for name, value in found.items() for fault in untold(value, f"{where}/{name}")]


def test_what_is_no_text_is_seen() -> None:
    assert untold({"spec": {"args": ["a", 1], "name": 1e3}}) == ["/spec/name: 1000.0", "/spec/args: 1"]


# ---- credentials


def keys_of_certificate(objects: list[Object]) -> list[str]:
    spec = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "credentials"]
    return [item["key"] for item in volume["projected"]["sources"][-1]["secret"]["items"]]


TLS = {"kafka": {"security": {"protocol": "SSL", "certificateSecret": {"name": "stillwatch"}}}}
BY_STRIMZI = {"strimzi": {"enabled": True, "cluster": "c", "authentication": "tls"}}


def test_a_certificate_is_looked_for_where_its_maker_puts_it() -> None:
    assert keys_of_certificate(render(TLS)) == ["tls.crt", "tls.key"]
    assert keys_of_certificate(render(TLS | BY_STRIMZI)) == ["user.crt", "user.key"]
    named = {"name": "stillwatch", "certificateKey": "tls.crt", "keyKey": "tls.key"}
    copied = {"kafka": {"security": {"protocol": "SSL", "certificateSecret": named}}}
    assert keys_of_certificate(render(copied | BY_STRIMZI)) == ["tls.crt", "tls.key"]
    keda = one(render(TLS | BY_STRIMZI | {"autoscaling": {"enabled": True}}), "TriggerAuthentication")
    assert [reference["key"] for reference in keda["spec"]["secretTargetRef"]] == ["user.crt", "user.key"]


def test_keda_is_given_credentials_only_where_there_are_some() -> None:
    """TLS with the system's CAs and no certificate has none: an empty TriggerAuthentication would be refused."""
    objects = render({"kafka": {"security": {"protocol": "SSL"}}, "autoscaling": {"enabled": True}})
    assert of_kind(objects, "TriggerAuthentication") == []
    (trigger,) = one(objects, "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["tls"] == "enable"
    assert "authenticationRef" not in trigger
    with_ca = {"kafka": {"security": {"protocol": "SSL", "caSecret": {"name": "ca"}}}, "autoscaling": {"enabled": True}}
    (referenced,) = one(render(with_ca), "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert referenced == {"parameter": "ca", "name": "ca", "key": "ca.crt"}


# ---- the package


def test_a_package_has_the_profiles_that_its_pages_name(tmp_path: Path) -> None:
    command = [tools() / "bin" / "helm", "package", CHART, "--destination", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    (package,) = tmp_path.glob("stillwatch-*.tgz")
    listed = subprocess.run(["tar", "-tzf", package], check=True, capture_output=True, text=True).stdout.split()
    assert {f"stillwatch/profiles/{profile}.yaml" for profile in PROFILES} <= set(listed)
