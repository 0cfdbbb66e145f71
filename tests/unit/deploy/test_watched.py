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
    CANARY,
    CHART,
    SCRAM,
    Object,
    environment,
    helm,
    notes,
    of_kind,
    one,
    pod_specs,
    render,
    with_kafka,
)
from tests.unit.deploy.test_monitoring import OF_KUBERNETES, promtool, selectors


def rules_of(objects: list[Object]) -> list[dict[str, Any]]:
    return [rule for group in one(objects, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]


RUNBOOKS = "https://wiki.example/stillwatch"


def alarms(values: dict[str, Any] | None = None, **rule: Any) -> dict[str, dict[str, Any]]:
    """The alarms of a release by name."""
    return {
        alarm["alert"]: alarm
        for alarm in rules_of(render({"monitoring": {"prometheusRule": {"enabled": True} | rule}} | (values or {})))
    }


def test_alarms_come_whole_and_say_whose_they_are() -> None:
    given = alarms(CANARY, runbooks=RUNBOOKS)
    written = {alarm["alert"]: alarm for alarm in WRITTEN}
    assert list(given) == list(written)
    for name, alarm in given.items():
        assert alarm["labels"] == written[name]["labels"] | {"namespace": "detection", "service": "sw-stillwatch"}
        assert alarm["annotations"] == written[name]["annotations"] | {"runbook_url": f"{RUNBOOKS}#{name.lower()}"}
        assert alarm.get("for") == written[name].get("for")


WRITTEN = [
    rule for group in yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"] for rule in group["rules"]
]


def test_a_link_that_would_lead_nowhere_is_none() -> None:
    for name, alarm in alarms().items():
        assert "runbook_url" not in alarm["annotations"]
        assert alarm["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"


def test_alarms_have_the_labels_that_one_gives_them() -> None:
    assert {alarm["labels"]["team"] for alarm in alarms(extraLabels={"team": "detection"}).values()} == {"detection"}


@pytest.mark.parametrize("label", ["severity", "namespace", "service"])
def test_labels_that_tell_alarms_and_releases_apart_are_not_given_away(label: str) -> None:
    refused = helm(values=with_kafka({"monitoring": {"prometheusRule": {"extraLabels": {label: "page"}}}}))
    assert refused.returncode != 0
    assert f"monitoring.prometheusRule.extraLabels: {label} is the chart's own" in refused.stderr


def test_an_alarm_can_be_left_out_and_nothing_else_goes_with_it() -> None:
    left_out = ["StillwatchNothingComesIn", "StillwatchRestarts"]
    assert set(alarms(CANARY)) - set(alarms(CANARY, disabled=left_out)) == set(left_out)


def test_a_group_without_alarms_is_none() -> None:
    groups = one(render({"monitoring": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")["spec"]["groups"]
    assert "stillwatch-canary" not in {group["name"] for group in groups}
    assert all(group["rules"] for group in groups)


@pytest.mark.parametrize(
    ("values", "watched"),
    [
        ({}, set()),
        ({"settings": CANARY["settings"]}, {"StillwatchCanaryTooMany"}),
        (CANARY, {"StillwatchCanarySilent", "StillwatchCanaryTooMany", "StillwatchCanaryFails"}),
    ],
    ids=["no canaries", "canaries from elsewhere", "canaries"],
)
def test_a_canary_that_nobody_sends_is_not_waited_for(values: dict[str, Any], watched: set[str]) -> None:
    assert {name for name in alarms(values) if "Canary" in name} == watched


def test_hours_between_canaries_do_not_stand_for_how_many_are_sent() -> None:
    """Eleven each working day would be too many where 62 hours at most are taken for one in 62 hours."""
    irregular = CANARY | {"canary": {"enabled": True, "schedule": "17 8-18 * * 1-5"}}
    rule = {"enabled": True, "canaryHours": 62}
    refused = helm(values=with_kafka(irregular | {"monitoring": {"prometheusRule": rule}}))
    assert refused.returncode != 0
    assert "thresholds.StillwatchCanaryTooMany is needed with canaryHours=62" in refused.stderr
    given = alarms(irregular, canaryHours=62, thresholds={"StillwatchCanaryTooMany": 13})
    assert given["StillwatchCanaryTooMany"]["expr"].endswith("> (13)")
    assert "StillwatchCanarySilent" in alarms(irregular, canaryHours=62, disabled=["StillwatchCanaryTooMany"])


def test_a_run_of_the_canary_that_failed_counts_until_the_next_has_had_its_time() -> None:
    def failed(schedule: str) -> str:
        given = alarms(CANARY | {"canary": {"enabled": True, "schedule": schedule}})
        return str(given["StillwatchCanaryFails"]["expr"])

    assert failed("17 */6 * * *").endswith("> time() - 390 * 60")
    hourly = alarms(CANARY | {"canary": {"enabled": True, "schedule": "@hourly"}, "fullnameOverride": "sw-390"})
    assert 'job_name=~"sw-390-canary-.*"' in hourly["StillwatchCanaryFails"]["expr"]
    assert failed("5 * * * *").endswith("> time() - 90 * 60")
    assert failed("@weekly").endswith("> time() - 10110 * 60")


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
    for rule in rules_of(render(CANARY | {"monitoring": {"prometheusRule": {"enabled": True}} | monitors})):
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
    fired = {"labels": '{alertname="StillwatchDown", namespace="detection", service="gone"}', "value": 1}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": 'stillwatch_ready{namespace="detection", job="detection/here", pod="here-0"}', "values": "1x20"}
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname, namespace, service) (ALERTS{alertstate="firing"})',
                "eval_time": "10m",
                "exp_samples": [fired],
            }
        ],
    }
    tests = {"rule_files": ["here.yaml", "gone.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    tested = promtool("test", "rules", "test.yaml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def dashboard(values: dict[str, Any] | None = None, **rule: Any) -> tuple[str, dict[str, Any]]:
    """The file that Grafana's sidecar makes, by its name, and the dashboard in it."""
    monitoring = {"dashboard": {"enabled": True}, "prometheusRule": rule}
    maps = of_kind(render({"monitoring": monitoring} | (values or {})), "ConfigMap")
    (found,) = [found for found in maps if found["metadata"]["name"].endswith("-dashboard")]
    ((file, text),) = found["data"].items()
    return file, json.loads(text)


def test_the_dashboard_comes_whole() -> None:
    written = json.loads((CHART / "files" / "dashboard.json").read_text())
    _, given = dashboard(runbooks=RUNBOOKS)
    assert {link["url"].partition("#")[0] for panel in given["panels"] for link in panel.get("links", ())} == {RUNBOOKS}
    namespace = given["templating"]["list"][1]
    assert (namespace["name"], namespace["current"]["value"]) == ("namespace", ["detection"])
    for one_of in (given, written):
        one_of |= {"uid": "", "title": ""}
        one_of["templating"]["list"][1]["current"] = {}
        for panel in one_of["panels"]:
            for link in panel.get("links", ()):
                link["url"] = link["url"].partition("#")[2]
    assert given == written
    assert not any("links" in panel for panel in dashboard()[1]["panels"])


def test_dashboards_of_two_releases_lie_beside_each_other() -> None:
    (file, here), (other_file, there) = dashboard(), dashboard({"fullnameOverride": "other"})
    assert dashboard()[1]["uid"] == here["uid"]  # links to it go on over upgrades
    assert re.fullmatch(r"[\w-]{1,40}", here["uid"])
    assert file != other_file
    assert all(here[key] != there[key] for key in ("uid", "title"))


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
        (
            CANARY
            | {
                "canary": {"enabled": True, "schedule": "17 8-18 * * 1-5"},
                "monitoring": {"prometheusRule": {"enabled": True}},
            },
            "monitoring.prometheusRule.canaryHours is needed",
        ),
    ],
)
def test_a_canary_that_cannot_sing_is_refused_with_words(values: dict[str, Any], words: str) -> None:
    refused = helm(values=with_kafka(values))
    assert refused.returncode != 0
    assert words in refused.stderr


def test_without_being_asked_for_there_is_no_canary() -> None:
    assert of_kind(render(), "CronJob") == []


# ---- what an installation says


PEER = '{"kubernetes.io/metadata.name":"monitoring"}'


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {},
            (
                "Metrics on port 9464 of each worker, and nothing here has them fetched", PEER, "Alarms off",
                "Dashboard off", "Canary off", "the topics fit: helm --namespace detection test sw --logs",
            ),
        ),
        ({"networkPolicy": {"kafkaAnywhere": True, "metricsPeers": []}}, ("from anywhere: networkPolicy",)),
        (
            {"monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}},
            ("fetched by a PodMonitor", "Alarms on without links", "kube-prometheus-stack passes them over"),
        ),
        ({"monitoring": {"prometheusRule": {"enabled": True}}}, ("they see nothing until metrics are fetched",)),
        (
            CANARY
            | {
                "monitoring": {
                    "labels": {"release": "kps"},
                    "serviceMonitor": {"enabled": True},
                    "prometheusRule": {"enabled": True, "runbooks": RUNBOOKS, "disabled": ["StillwatchRefit"]},
                    "dashboard": {"enabled": True},
                }
            },
            (
                "fetched by a ServiceMonitor", 'Alarms on, without StillwatchRefit labelled {"release":"kps"}',
                "Dashboard on", "Canary sent at 17 */6 * * *",
            ),
        ),
    ],
    ids=["nothing on", "metrics for anybody", "on", "nobody fetches", "all on"],
)  # fmt: skip
def test_an_installation_says_what_is_watched_and_what_not(values: dict[str, Any], said: tuple[str, ...]) -> None:
    text = notes(values)
    for words in said:
        assert words in text
