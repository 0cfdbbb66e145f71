"""Metrics, alarms and the dashboard fit each other, and each alarm has a place in the runbook."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics import METRICS, Metric
from streams.metrics_page import PAGE, exported_name, page
from tests.unit.deploy.manifests import CHART, ROOT, tools

RULES = CHART / "files" / "rules.yaml"
RULES_TEST = ROOT / "deploy" / "monitoring" / "rules_test.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
RUNBOOK = ROOT / "deploy" / "README.md"

# Labels that whoever scrapes adds, and that of a histogram's buckets.
OUTSIDE_LABELS = {"namespace", "job", "pod", "le"}

# What alarms take of kube-state-metrics, with the labels of its documentation.
OF_KUBERNETES = {
    "kube_statefulset_replicas": {"statefulset"},
    "kube_statefulset_status_replicas_ready": {"statefulset"},
    "kube_deployment_spec_replicas": {"deployment"},
    "kube_deployment_status_replicas_ready": {"deployment"},
    "kube_pod_container_status_restarts_total": {"container"},
    "kube_job_status_failed": {"job_name", "reason"},
    "kube_job_status_start_time": {"job_name"},
}
SEVERITIES = {"critical", "warning", "info"}


def alarms() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Name and PromQL of every alarm and panel."""
    for alarm in alarms():
        yield alarm["alert"], alarm["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def samples(metric: Metric) -> set[str]:
    """Names of the series that Prometheus has of a metric."""
    name = exported_name(metric)
    return {name} if metric.kind.__name__ != "Histogram" else {name + end for end in ("_bucket", "_sum", "_count")}


SAMPLES = {name: metric for metric in METRICS.values() for name in samples(metric)}
LABELS = {name: {*metric.labels} for name, metric in SAMPLES.items()} | OF_KUBERNETES


def selectors(expression: str) -> list[tuple[str, str]]:
    """Metrics that PromQL names, each with what stands in its braces."""
    found = re.findall(r"\b((?:stillwatch|kube)_\w+)(?:\{((?:\"[^\"]*\"|[^}])*)\})?", expression)
    return [(metric, re.sub(r"\s+", " ", selector)) for metric, selector in found]


def test_the_page_of_metrics_is_that_of_the_code() -> None:
    assert PAGE.read_text() == page(), "`make pages` writes it again"


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_every_metric_and_label_of_an_alarm_or_panel_exists(name: str, expression: str) -> None:
    used = selectors(expression)
    assert used
    for metric, selector in used:
        assert metric in LABELS, metric
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
        assert labels <= LABELS[metric] | OUTSIDE_LABELS
        for edge in re.findall(r'le="([^"]+)"', selector):
            assert float(edge) in SAMPLES[metric].buckets
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped <= {label for metric, _ in used for label in LABELS[metric]} | OUTSIDE_LABELS


@pytest.mark.parametrize("alarm", alarms(), ids=lambda alarm: alarm["alert"])
def test_every_selector_of_an_alarm_has_what_the_chart_puts_the_release_in(alarm: dict[str, Any]) -> None:
    for metric, selector in selectors(alarm["expr"]):
        wanted = 'namespace=~".*"' if metric in OF_KUBERNETES else 'job=~".*"'
        assert wanted in selector.split(", "), metric


def test_alarms_that_need_kube_state_metrics_are_a_group_of_their_own() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for group in groups:
        used = {metric for rule in group["rules"] for metric, _ in selectors(rule["expr"])}
        assert used <= OF_KUBERNETES.keys() if group["name"] == "stillwatch-kube-state" else used <= SAMPLES.keys()


def test_every_metric_is_shown() -> None:
    shown = {metric for _, expression in expressions() for metric in re.findall(r"stillwatch_\w+", expression)}
    assert {key for key, metric in METRICS.items() if not samples(metric) & shown} == set()


def test_every_alarm_says_how_bad_it_is_and_what_to_do() -> None:
    names = [alarm["alert"] for alarm in alarms()]
    assert len(names) == len(set(names))
    for alarm in alarms():
        assert alarm["labels"]["severity"] in SEVERITIES
        assert alarm["annotations"]["summary"]
        assert alarm["annotations"]["description"]
        assert alarm["annotations"]["runbook_url"] == f"deploy/README.md#{alarm['alert'].lower()}"


def test_every_alarm_has_its_place_in_the_runbook_and_none_is_there_that_does_not_exist() -> None:
    headings = re.findall(r"^#+ (Stillwatch\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    assert headings == [alarm["alert"] for alarm in alarms()]


def test_every_alarm_is_shown_to_fire_with_its_severity() -> None:
    fired = set(re.findall(r'alertname="(\w+)", severity="(\w+)"', RULES_TEST.read_text()))
    assert fired == {(alarm["alert"], alarm["labels"]["severity"]) for alarm in alarms()}


def promtool(*arguments: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tools() / "bin" / "promtool", *arguments], capture_output=True, text=True, cwd=folder, check=False
    )


def test_alarms_are_valid_and_fire_on_what_they_are_for() -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(alarms())} rules found" in checked.stdout
    tested = promtool("test", "rules", RULES_TEST.name, folder=RULES_TEST.parent)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_alarm_that_does_not_fire_any_more_is_noticed(tmp_path: Path) -> None:
    tests = yaml.safe_load(RULES_TEST.read_text())
    tests["rule_files"] = ["rules.yaml"]
    tests["tests"] = [test for test in tests["tests"] if test["name"].startswith(("Nobody", "A batch", "A campaign"))]
    (tmp_path / "rules.yaml").write_text(RULES.read_text().replace("stillwatch_scoring_failures_total", "up"))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    tested = promtool("test", "rules", "test.yaml", folder=tmp_path)
    assert tested.returncode != 0
    assert "StillwatchScoringFails" in tested.stderr


def test_every_panel_asks_what_prometheus_understands(tmp_path: Path) -> None:
    asked = [
        {"record": f"panel:{panel['id']}:{target['refId']}", "expr": with_variables(target["expr"])}
        for panel in panels()
        for target in panel.get("targets", ())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(asked)} rules found" in checked.stdout


def with_variables(expression: str) -> str:
    """As Grafana fills in what it knows."""
    filled = expression.replace("$__rate_interval", "2m").replace("$namespace", ".*").replace("$job", ".*")
    assert "$" not in filled
    return filled


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]:
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
