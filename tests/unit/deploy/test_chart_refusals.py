"""What cannot work is refused before anything is installed, or by the first Job of an installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.manifests import (
    CANARY,
    MUTUAL_TLS,
    ROOT,
    SCRAM,
    environment,
    helm,
    notes,
    of_kind,
    one,
    render,
    with_kafka,
)

STRIMZI: dict[str, Any] = {"strimzi": {"enabled": True, "cluster": "c"}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a peer that selects nothing": (
        {"networkPolicy": {"kafkaAnywhere": True, "metricsPeers": [{"namespaceSelecter": {}}]}},
        "'namespaceSelecter' not allowed",
    ),
    "a selector without a kind of match": (
        {"networkPolicy": {"kafkaPeers": [{"podSelector": {"app": "kafka"}}]}},
        "/networkPolicy/kafkaPeers/0/podSelector",
    ),
    "a resource misspelt": ({"resources": {"requests": {"memroy": "1Gi"}}}, "'memroy' not allowed"),
    "a unit that is none": ({"resources": {"limits": {"memory": "1Gib"}}}, "'1Gib' does not match"),
    "a unit of memory for cores": ({"canary": {"resources": {"limits": {"cpu": "1Gi"}}}}, "'1Gi' does not match"),
    "thousandths of a byte": ({"resources": {"limits": {"memory": "512m"}}}, "'512m' does not match"),
    "a budget in words": ({"podDisruptionBudget": {"maxUnavailable": "fifty"}}, "'fifty' does not match"),
    "a toleration of nothing": ({"tolerations": [{"foo": 1}]}, "'foo' not allowed"),
    "a label that is none": ({"podLabels": {"team": "a b"}}, "'a b' does not match"),
    "a group that Kafka's tools cannot name": ({"kafka": {"groupId": "a, b"}}, "/kafka/groupId"),
    "a prefix of no topic": ({"kafka": {"topicPrefix": "a b"}}, "/kafka/topicPrefix"),
    "a name with no room behind it": ({"fullnameOverride": "n" * 46}, "/fullnameOverride"),
    "an image of this machine": (
        {"image": {"repository": "localhost/stillwatch"}},
        "image.repository=localhost/stillwatch is an image of the machine that built it",
    ),
    "metrics every no seconds": ({"monitoring": {"podMonitor": {"interval": "0s"}}}, "'0s' does not match"),
    "metrics in thousandths": (
        {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "180000ms"}}},
        "'180000ms' does not match",
    ),
    "a canary as a worker, where workers may not read alerts": (
        SCRAM | CANARY | STRIMZI,
        "canary.enabled needs a user of its own with strimzi.enabled",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_that_cannot_work_is_refused_by_name(case: str) -> None:
    values, words = REFUSED[case]
    done = helm(values=with_kafka(values))
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"networkPolicy": {"kafkaPeers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}},
        {"networkPolicy": {"kafkaPeers": [{"namespaceSelector": {}, "podSelector": {"matchExpressions": []}}]}},
        {"resources": {"limits": {"cpu": 1.5, "memory": "1e9", "example.com/gpu": 1, "hugepages-2Mi": "4Mi"}}},
        {"podDisruptionBudget": {"maxUnavailable": "25%"}},
        {
            "tolerations": [
                {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 9}
            ]
        },
        {"image": {"repository": "localhost/stillwatch", "pullPolicy": "Never"}},
        SCRAM | STRIMZI | CANARY | {"canary": {"enabled": True, "username": "b", "passwordSecret": {"name": "b"}}},
        MUTUAL_TLS | STRIMZI | CANARY | {"canary": {"enabled": True, "certificateSecret": {"name": "b"}}},
    ],
    ids=str,
)
def test_a_value_that_works_is_taken(values: dict[str, Any]) -> None:
    done = helm(values=with_kafka(values))
    assert done.returncode == 0, done.stderr


def test_a_canary_as_a_worker_is_warned_of_where_the_rights_are_not_the_charts() -> None:
    own = {"canary": {"enabled": True, "username": "b", "passwordSecret": {"name": "b"}}}
    assert "the canary runs as the workers' user" in notes(SCRAM | CANARY)
    assert "WARNING" not in notes(SCRAM | CANARY | own)
    assert "WARNING" not in notes(CANARY)  # brokers that ask nobody refuse nobody


# ---- by the first Job


@pytest.mark.parametrize(
    "values", [{"topics": {"job": "create"}}, {"topics": {"job": "check"}}, STRIMZI], ids=["create", "check", "Strimzi"]
)
def test_settings_that_do_not_go_together_end_the_installation_with_their_own_line(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """The command of the Job, run with its variables and its file."""
    objects = render(values | {"settings": {"session_timeout_seconds": 60}})
    job = one(objects, "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounted = {
        volume["name"]: volume["configMap"]["name"]
        for volume in job["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    }
    config = one(objects, "ConfigMap", mounted["config"])
    assert config["metadata"]["annotations"]["helm.sh/hook"] == job["metadata"]["annotations"]["helm.sh/hook"]
    assert int(config["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0  # there before the Job
    file = tmp_path / "stillwatch.toml"
    file.write_text(config["data"]["stillwatch.toml"])
    given = {name: str(value) for name, value in environment(container).items()} | {"STILLWATCH_CONFIG": str(file)}
    command = [sys.executable, "-m", "streams.cli", *container["args"]]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, check=False)
    assert "session_timeout_seconds may not be above request_timeout_seconds" in done.stderr
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [done.returncode])


def test_the_first_job_has_the_settings_of_the_workers() -> None:
    objects = render({"settings": {"slab_rows": 64, "account_ids": "hashed"}, "accountHashKeySecret": {"name": "key"}})
    first, workers = (one(objects, "ConfigMap", f"sw-stillwatch{end}") for end in ("-topics", ""))
    assert first["data"] == workers["data"]
    (container,) = one(objects, "Job")["spec"]["template"]["spec"]["containers"]
    assert environment(container)["STILLWATCH_ACCOUNT_HASH_KEY"]["secretKeyRef"]["name"] == "key"


HELM_WAITS_SECONDS = 300
"""`helm install --timeout`, unless told otherwise."""


def test_helm_is_still_there_when_the_first_job_is_given_up() -> None:
    assert one(render(), "Job")["spec"]["activeDeadlineSeconds"] < HELM_WAITS_SECONDS


def test_the_page_says_where_the_first_job_tells_what_is_wrong() -> None:
    install = (ROOT / "deploy" / "README.md").read_text().partition("## Install")[2].partition("\n## ")[0]
    assert "logs job/stillwatch-topics" in install


def test_an_installation_can_be_tested_as_the_workers_user() -> None:
    objects = render(SCRAM | {"topics": {"username": "admin", "passwordSecret": {"name": "admin"}}})
    (pod,) = of_kind(objects, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["topics", "check"]
    assert environment(container)["STILLWATCH_SASL_USERNAME"] == "stillwatch"
