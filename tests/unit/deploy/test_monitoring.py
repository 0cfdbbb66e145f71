"""Metrics, alarms and the dashboard fit each other, and each alarm has a place in the runbook."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics import METRICS, Metric, Metrics
from streams.metrics_page import PAGE, page
from tests.unit.deploy.manifests import CANARY, CHART, ROOT, one, render, tools

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
    "kube_statefulset_status_replicas_updated": {"statefulset"},
    "kube_deployment_spec_replicas": {"deployment"},
    "kube_deployment_status_replicas_ready": {"deployment"},
    "kube_deployment_status_replicas_updated": {"deployment"},
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
    ends = {"Counter": ("_total", "_created"), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}
    return {metric.name + end for end in ends[metric.kind.__name__]}


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


def test_a_worker_tells_since_when_it_counts_what_alarms_ask_that_of() -> None:
    asked = {metric for _, expression in expressions() for metric, _ in selectors(expression) if "_created" in metric}
    metrics = Metrics()
    for why in ("unreadable", "encoder"):
        metrics.cold_starts.labels(why=why)
    assert len(asked) > 4
    assert asked <= {line.partition(b"{")[0].split()[0].decode() for line in metrics.text().splitlines() if line}


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


def rendered_rules(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the chart makes of the alarms, as a file of rules: of stillwatch in the namespace detection."""
    monitoring = {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True} | values.get("prometheusRule", {}),
    }
    others = {key: value for key, value in values.items() if key != "prometheusRule"}
    objects = render({"fullnameOverride": "stillwatch", "monitoring": monitoring} | others)
    return {"groups": one(objects, "PrometheusRule")["spec"]["groups"]}


def complaints(rules: Mapping[str, Any], tests: str, folder: Path) -> str:
    """What promtool complains about rules, under the text of a file of tests."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
    (folder / "test.yaml").write_text(re.sub(r"^  - .*rules.yaml$", "  - rules.yaml", tests, flags=re.MULTILINE))
    tested = promtool("test", "rules", "test.yaml", folder=folder)
    return "" if tested.returncode == 0 else tested.stdout + tested.stderr


def valid_rules(file: Path) -> int:
    """How many rules promtool finds in a file."""
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (found,) = re.findall(r"SUCCESS: (\d+) rules found", checked.stdout)
    return int(found)


def test_alarms_are_valid_and_fire_on_what_they_are_for(tmp_path: Path) -> None:
    """Those that the chart makes of the file."""
    rules = rendered_rules(CANARY)
    assert complaints(rules, RULES_TEST.read_text(), tmp_path) == ""
    assert valid_rules(tmp_path / "rules.yaml") == valid_rules(RULES) == len(alarms())


def test_an_alarm_that_does_not_fire_any_more_is_noticed(tmp_path: Path) -> None:
    head, *cases = re.split(r"(?=^  - name: )", RULES_TEST.read_text(), flags=re.MULTILINE)
    few = "".join([head, *(case for case in cases if re.match("  - name: (Nobody is|A batch|A campaign)", case))])
    written = RULES.read_text()
    assert complaints(yaml.safe_load(written), few, tmp_path) == ""
    broken = written.replace("stillwatch_scoring_failures_total", "up")
    assert "StillwatchScoringFails" in complaints(yaml.safe_load(broken), few, tmp_path)


def what_fires(rules: Mapping[str, Any], series: Mapping[str, str], after: str, folder: Path) -> set[str]:
    """Names of the alarms that fire so long after the beginning; `series` are of a worker, by metric and labels."""
    named = {
        f"stillwatch_{metric}{{{', '.join(filter(None, (OURS, labels)))}}}": values
        for metric, _, labels, values in ((*key.partition(" "), values) for key, values in series.items())
    }
    given = [{"series": name, "values": values} for name, values in named.items()]
    asked = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": after, "exp_samples": []}
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    told = complaints(rules, yaml.safe_dump(tests), folder)
    return set(re.findall(r'alertname="(\w+)"', told))


OURS = 'namespace="detection", job="detection/stillwatch", pod="stillwatch-0"'
READY = {"ready": "1x3000"}
CANARIES = 'canary_findings_total activity="create"'
FINDINGS = 'findings_total activity="create", severity="medium"'


@pytest.mark.parametrize(
    ("values", "series", "after", "fired"),
    [
        ({}, {FINDINGS: "0+0.2x90"}, "80m", set()),
        ({"thresholds": {"StillwatchManyFindings": 5}}, {FINDINGS: "0+0.2x90"}, "80m", {"StillwatchManyFindings"}),
        ({"thresholds": {"StillwatchFarBehind": 1e6}}, {"lag_seconds": "7200x60"}, "40m", {"StillwatchBehind"}),
        ({"thresholds": {"StillwatchBehind": 0.5}}, {"lag_seconds": "1x60"}, "40m", {"StillwatchBehind"}),
        ({"disabled": ["StillwatchBehind"]}, {"lag_seconds": "400x60"}, "40m", set()),
        ({"thresholds": {"StillwatchBaselineOld": 360}}, {'baseline hash="a"': "-15638400x60"}, "40m", set()),
    ],
)  # fmt: skip
def test_a_changed_value_changes_when_an_alarm_fires(
    values: dict[str, Any], series: dict[str, str], after: str, fired: set[str], tmp_path: Path
) -> None:
    assert what_fires(rendered_rules({"prometheusRule": values}), READY | series, after, tmp_path) == fired


def canary(schedule: str, **rule: Any) -> dict[str, Any]:
    return {"canary": {"enabled": True, "schedule": schedule}, "settings": CANARY["settings"], "prometheusRule": rule}


SILENT, MANY = "StillwatchCanarySilent", "StillwatchCanaryTooMany"
OF_WORKING_HOURS = "17 8-18 * * 1-5"
"""Eleven a day, and none from Friday evening to Monday morning, for 62 hours."""


@pytest.mark.parametrize(
    ("values", "found", "after", "fired"),
    [
        # Silence for the time of two, and half an hour each.
        (canary("5 * * * *"), "0x60 1x300", "230m", set()),
        (canary("5 * * * *"), "0x60 1x300", "250m", {SILENT}),
        (canary("@hourly"), "0x60 1x300", "250m", {SILENT}),
        (canary("17 */6 * * *"), "0x60 1x300", "250m", set()),
        (canary("17 3 * * *"), "0x60 1x3000", "2990m", set()),
        (canary("17 3 * * *"), "0x60 1x3100", "3010m", {SILENT}),
        (canary(OF_WORKING_HOURS, canaryHours=62, thresholds={MANY: 13}), "0x60 1x7700", "7550m", set()),
        (canary(OF_WORKING_HOURS, canaryHours=62, thresholds={MANY: 13}), "0x60 1x7700", "7570m", {SILENT}),
        # Two more a day than are sent.
        (canary("17 */6 * * *"), "0+1x7", "7m", {MANY}),
        (canary("5 * * * *"), "0+1x26", "26m", set()),
        (canary("5 * * * *"), "0+1x27", "27m", {MANY}),
        (canary("17 */6 * * *", thresholds={MANY: 20}), "0+1x20", "20m", set()),
        (canary(OF_WORKING_HOURS, canaryHours=62, thresholds={MANY: 13}), "0+1x13", "13m", set()),
        (canary(OF_WORKING_HOURS, canaryHours=62, thresholds={MANY: 13}), "0+1x14", "14m", {MANY}),
        # None is sent from here: nobody waits for any, and whoever hides behind the prefix is seen.
        ({"settings": CANARY["settings"]}, "0x3000", "2990m", set()),
        ({"settings": CANARY["settings"]}, "0+1x3", "3m", {MANY}),
    ],
)
def test_alarms_of_the_canary_follow_its_schedule(
    values: dict[str, Any], found: str, after: str, fired: set[str], tmp_path: Path
) -> None:
    groups = [group for group in rendered_rules(values)["groups"] if group["name"] == "stillwatch-canary"]
    assert what_fires({"groups": groups}, {CANARIES: found}, after, tmp_path) == fired


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


def test_a_panel_links_to_the_runbooks_of_alarms_about_what_it_shows() -> None:
    looks_at = {alarm["alert"]: {metric for metric, _ in selectors(alarm["expr"])} for alarm in alarms()}
    linked = set()
    for panel in panels():
        shown = {metric for target in panel.get("targets", ()) for metric, _ in selectors(target["expr"])}
        for link in panel.get("links", ()):
            name = link["title"].removeprefix("Runbook: ")
            assert link["url"] == f"deploy/README.md#{name.lower()}"
            assert shown & looks_at[name], name
            linked.add(name)
    assert linked == {name for name, metrics in looks_at.items() if metrics & SAMPLES.keys()}


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]:
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
