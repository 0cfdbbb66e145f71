"""What a platform hangs on the chart's objects and pods: labels, annotations, users, variables, volumes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.version import VERSION
from tests.unit.deploy.manifests import (
    EVERYTHING,
    SCRAM,
    Object,
    environment,
    helm,
    of_kind,
    one,
    pod_specs,
    pods,
    render,
    with_kafka,
)

ALL: dict[str, Any] = EVERYTHING | SCRAM | {"strimzi": {}}
KINDS_OF_PODS = {"worker", "topics", "replay", "canary", "test"}


def by_component(objects: list[Object]) -> dict[str, Object]:
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for _, pod in pods(objects)}


def test_every_pod_has_the_labels_and_annotations_of_all_and_jobs_their_own() -> None:
    given = {
        "commonLabels": {"a": "common", "b": "common"},
        "podLabels": {"b": "pod", "c": "pod"},
        "podAnnotations": {"x": "pod", "y": "pod"},
        "jobs": {"podLabels": {"c": "job"}, "podAnnotations": {"y": "job"}},
    }
    found = by_component(render(ALL | given))
    assert set(found) == KINDS_OF_PODS
    for component, pod in found.items():
        own = "pod" if component == "worker" else "job"
        assert {"a": "common", "b": "pod", "c": own}.items() <= pod["metadata"]["labels"].items(), component
        assert {"x": "pod", "y": own}.items() <= pod["metadata"]["annotations"].items(), component
    assert found["worker"]["metadata"]["annotations"]["checksum/config"]


@pytest.mark.parametrize(("tag", "version"), [("", VERSION), ("0.2.0", "0.2.0")])
def test_every_pod_is_of_one_image(tag: str, version: str) -> None:
    found = by_component(render(ALL | {"image": {"repository": "registry.example/stillwatch", "tag": tag}}))
    assert set(found) == KINDS_OF_PODS
    images = {container["image"] for pod in found.values() for container in pod["spec"]["containers"]}
    assert images == {f"registry.example/stillwatch:{version}"}


def test_every_object_says_what_it_is_of_and_only_workers_are_taken_for_workers() -> None:
    objects = render(ALL)
    named = {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"}
    assert "Pod" in {found["kind"] for found in objects}
    for found in objects:
        assert named <= set(found["metadata"]["labels"]), (found["kind"], found["metadata"]["name"])
    workers = one(objects, "StatefulSet")["spec"]["selector"]["matchLabels"].items()
    labels = {component: pod["metadata"]["labels"].items() for component, pod in by_component(objects).items()}
    assert {component for component in labels if workers <= labels[component]} == {"worker"}


def test_common_labels_are_on_every_object_and_select_nothing() -> None:
    objects = render(ALL | {"commonLabels": {"cost-centre": "1e3"}})
    assert len(objects) > 12
    for found in objects:
        assert found["metadata"]["labels"]["cost-centre"] == "1e3", (found["kind"], found["metadata"]["name"])
    workload = one(objects, "StatefulSet")["spec"]
    assert "cost-centre" not in workload["selector"]["matchLabels"]
    # Claims of a StatefulSet cannot be changed: a new label would have the next upgrade refused.
    assert "cost-centre" not in workload["volumeClaimTemplates"][0]["metadata"]["labels"]


@pytest.mark.parametrize("name", ["commonLabels", "podLabels"])
@pytest.mark.parametrize("label", ["name", "instance", "component"])
def test_labels_that_select_are_not_given_away(name: str, label: str) -> None:
    refused = helm(values=with_kafka({name: {f"app.kubernetes.io/{label}": "other"}}))
    assert refused.returncode != 0
    assert f"{name}: app.kubernetes.io/{label} is the chart's own" in refused.stderr


def test_claims_and_services_have_the_annotations_given() -> None:
    objects = render({"storage": {"annotations": {"backup": "no"}}, "service": {"annotations": {"owner": "us"}}})
    (claim,) = one(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["annotations"] == {"backup": "no"}
    assert one(objects, "Service")["metadata"]["annotations"] == {"owner": "us"}


def test_variables_and_volumes_are_added_to_every_pod() -> None:
    found = by_component(render(ALL))
    assert set(found) == KINDS_OF_PODS
    for component, pod in found.items():
        (container,) = pod["spec"]["containers"]
        assert environment(container)["HTTPS_PROXY"] == "http://proxy.example:3128", component
        assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"], component
        assert {"name": "more", "configMap": {"name": "more"}} in pod["spec"]["volumes"], component


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["STILLWATCH_LOG_LEVEL"], "extraEnv: STILLWATCH_LOG_LEVEL is the chart's own. Set settings.log_level"),
        (["stillwatch_brokers"], "extraEnv: stillwatch_brokers is the chart's own"),
        (["POD_NAME"], "extraEnv: POD_NAME is the chart's own"),
        (["POD_NAMESPACE"], "extraEnv: POD_NAMESPACE is the chart's own"),
        (["A", "B", "A"], "extraEnv has A twice"),
    ],
)
def test_a_variable_that_would_be_there_twice_is_refused(names: list[str], words: str) -> None:
    refused = helm(values=with_kafka({"extraEnv": [{"name": name, "value": "1"} for name in names]}))
    assert refused.returncode != 0
    assert words in refused.stderr


def test_variables_that_are_called_alike_are_taken() -> None:
    names = ["MY_STILLWATCH_HOME", "POD_NAMES", "MY_POD_NAME"]
    for name, spec in pod_specs(render({"extraEnv": [{"name": name, "value": "1"} for name in names]})):
        assert set(names) <= set(environment(spec["containers"][0])), name


def test_users_of_pods_can_be_those_of_the_platform() -> None:
    """As OpenShift wants it: its own user and groups, and the rest of what Pod Security asks."""
    given = {"runAsUser": None, "runAsGroup": None, "fsGroup": 1_000_680_000}
    for name, spec in pod_specs(render(ALL | {"podSecurityContext": given})):
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroup": 1_000_680_000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name


def test_name_servers_may_listen_on_another_port() -> None:
    policies = of_kind(render({"networkPolicy": {"kafkaAnywhere": True, "dnsPorts": [53, 5353]}}), "NetworkPolicy")
    assert len(policies) == 2
    for policy in policies:
        asked = [(port["port"], port["protocol"]) for port in policy["spec"]["egress"][0]["ports"]]
        assert sorted(asked) == [(53, "TCP"), (53, "UDP"), (5353, "TCP"), (5353, "UDP")]
