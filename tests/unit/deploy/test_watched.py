"""What the chart makes of alarms, dashboard and canary."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.manifests import (
    CHART,
    SCRAM,
    Object,
    environment,
    helm,
    of_kind,
    one,
    pod_specs,
    render,
    with_kafka,
)
from tests.unit.deploy.test_monitoring import OF_KUBERNETES, promtool, selectors

CANARY: dict[str, Any] = {"canary": {"enabled": True}, "settings": {"canary_prefix": "canary-7e2a9b-"}}


def rules_of(objects: list[Object]) -> list[dict[str, Any]]:
    return [rule for group in one(objects, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]


def test_alarms_come_whole_and_link_to_where_the_runbook_is_read() -> None:
    written = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    rules = {"enabled": True}
    given = rules_of(render({"monitoring": {"prometheusRule": rules}}))
    assert [rule | {"expr": ""} for rule in given] == [
        rule | {"expr": ""} for group in written["groups"] for rule in group["rules"]
    ]
    base = "https://wiki.example/stillwatch"
    linked = rules_of(render({"monitoring": {"prometheusRule": rules | {"runbooks": base}}}))
    assert {rule["annotations"]["runbook_url"].partition("#")[0] for rule in linked} == {base}
    assert len(linked) == sum(len(group["rules"]) for group in written["groups"])


@pytest.mark.parametrize(
    ("monitors", "ours"),
    [
        ({}, 'namespace="detection"'),
        ({"podMonitor": {"enabled": True}}, 'namespace="detection", job=~"(detection/)?sw-stillwatch"'),
        ({"serviceMonitor": {"enabled": True}}, 'namespace="detection", job=~"(detection/)?sw-stillwatch"'),
    ],
    ids=["scraped otherwise", "PodMonitor", "ServiceMonitor"],
)
def test_an_alarm_looks_at_its_own_release_alone(monitors: dict[str, Any], ours: str) -> None:
    names = {"statefulset", "deployment", "pod", "job_name"}
    for rule in rules_of(render({"monitoring": {"prometheusRule": {"enabled": True}} | monitors})):
        for metric, selector in selectors(rule["expr"]):
            assert ours in selector if metric not in OF_KUBERNETES else 'namespace="detection"' in selector
            named = {label: value for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selector) if label in names}
            assert all(value.startswith("sw-stillwatch") for value in named.values()), selector


def test_of_two_releases_in_one_prometheus_the_one_that_is_gone_is_missed_once(tmp_path: Path) -> None:
    watched = {"monitoring": {"prometheusRule": {"enabled": True}, "podMonitor": {"enabled": True}}}
    for name in ("here", "gone"):
        groups = one(render(watched | {"fullnameOverride": name}), "PrometheusRule")["spec"]["groups"]
        # Prometheus loads each rule object as a file of its own; groups of a name may be in several.
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"groups": groups}))
    fired = {"labels": '{alertname="StillwatchDown", namespace="detection"}', "value": 1}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": 'stillwatch_ready{namespace="detection", job="detection/here", pod="here-0"}', "values": "1x20"}
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname, namespace) (ALERTS{alertstate="firing"})',
                "eval_time": "10m",
                "exp_samples": [fired],
            }
        ],
    }
    tests = {"rule_files": ["here.yaml", "gone.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    tested = promtool("test", "rules", "test.yaml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_dashboard_comes_whole() -> None:
    written = json.loads((CHART / "files" / "dashboard.json").read_text())
    maps = of_kind(render({"monitoring": {"dashboard": {"enabled": True}}}), "ConfigMap")
    (dashboard,) = [found for found in maps if found["metadata"]["name"].endswith("-dashboard")]
    assert [json.loads(text) for text in dashboard["data"].values()] == [written]


def test_a_canary_runs_on_its_schedule_with_the_prefix_that_the_workers_have() -> None:
    objects = render(CANARY | {"kafka": {"brokers": "kafka:9092", "groupId": "mine"}})
    job = one(objects, "CronJob")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["backoffLimit"] == 0
    ((_, pod),) = pod_specs(of_kind(objects, "CronJob"))
    (container,) = pod["containers"]
    assert container["args"] == ["canary", "--group-id=mine", "--wait=600"]
    mounted = [volume for volume in pod["volumes"] if volume["name"] == "config"]
    config = one(objects, "ConfigMap", mounted[0]["configMap"]["name"])["data"]["stillwatch.toml"]
    assert tomllib.loads(config)["canary_prefix"] == "canary-7e2a9b-"
    assert environment(container)["STILLWATCH_CONFIG"] == "/etc/stillwatch/config/stillwatch.toml"


def test_a_canary_can_be_a_user_of_its_own() -> None:
    canary = {"canary": {"enabled": True, "username": "bird", "passwordSecret": {"name": "bird"}}}
    objects = render(SCRAM | CANARY | canary)
    ((_, pod),) = pod_specs(of_kind(objects, "CronJob"))
    assert environment(pod["containers"][0])["STILLWATCH_SASL_USERNAME"] == "bird"
    assert "bird" in json.dumps(pod["volumes"])
    ((_, worker),) = pod_specs(of_kind(objects, "StatefulSet"))
    assert "bird" not in json.dumps(worker)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"canary": {"enabled": True}}, "canary.enabled needs settings.canary_prefix"),
        (CANARY | {"settings": {"canary_prefix": "short"}}, "canary_prefix"),
        (CANARY | {"canary": {"enabled": True, "schedule": "whenever"}}, "schedule"),
    ],
)
def test_a_canary_that_cannot_sing_is_refused_with_words(values: dict[str, Any], words: str) -> None:
    refused = helm(values=with_kafka(values))
    assert refused.returncode != 0
    assert words in refused.stderr


def test_without_being_asked_for_there_is_no_canary() -> None:
    assert of_kind(render(), "CronJob") == []
