"""Where workers run, what a drain may take, and what memory they have."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from streams.settings import load_settings
from streams.state_table import WRITE_BUFFER_BYTES
from tests.unit.deploy.manifests import CHART, Object, helm, one, render, with_kafka

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
MEBIBYTE = 1 << 20
UNITS = {"Mi": MEBIBYTE, "Gi": MEBIBYTE << 10}

WORKER_BYTES = 0.6e9
"""A worker without the caches and buffers of its partitions.

tests/bench/SPEED.md has 0.78 GB with 1,000,000 accounts on 4 partitions, which had 0.26 GB of them at most.
"""


def spec_of(objects: list[Object], kind: str) -> dict[str, Any]:
    return dict(one(objects, kind)["spec"])


def spread(spec: dict[str, Any]) -> dict[str, str]:
    found = spec["template"]["spec"].get("topologySpreadConstraints", [])
    return {entry["topologyKey"]: entry["whenUnsatisfiable"] for entry in found}


def test_what_nodes_have_no_label_for_can_be_left_out() -> None:
    both = spec_of(render(profile="large"), "StatefulSet")
    assert spread(both) == {ZONE: "DoNotSchedule", HOST: "ScheduleAnyway"}
    no_zones = spec_of(render({"topologySpread": {"zones": ""}}, profile="large"), "StatefulSet")
    assert spread(no_zones) == {HOST: "ScheduleAnyway"}
    neither = spec_of(render({"topologySpread": {"zones": "", "nodes": ""}}), "StatefulSet")
    assert "topologySpreadConstraints" not in neither["template"]["spec"]


def test_the_large_profile_says_what_it_needs() -> None:
    head = (CHART / "profiles" / "large.yaml").read_text().partition("workload:")[0]
    for words in ("seven nodes", "free cores", ZONE, "WaitForFirstConsumer"):
        assert words in head


def apart(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found = spec["template"]["spec"]["affinity"]["podAntiAffinity"]
    return list(found["requiredDuringSchedulingIgnoredDuringExecution"])


def test_a_roll_out_needs_no_more_nodes_than_there_are_workers() -> None:
    def strategy(**values: Any) -> dict[str, int]:
        return dict(spec_of(render({"workload": "Deployment"} | values), "Deployment")["strategy"]["rollingUpdate"])

    assert strategy() == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategy(antiAffinity=True) == {"maxSurge": 0, "maxUnavailable": 1}


def test_workers_of_an_older_revision_do_not_count_where_kubernetes_can_tell_them() -> None:
    def rendered(version: str, workload: str) -> dict[str, Any]:
        values = with_kafka({"workload": workload, "antiAffinity": True})
        done = helm("--kube-version", version, values=values)
        assert done.returncode == 0, done.stderr
        return spec_of([found for found in yaml.safe_load_all(done.stdout) if found], workload)

    def keys(spec: dict[str, Any]) -> list[Any]:
        constraints = [*spec["template"]["spec"]["topologySpreadConstraints"], *apart(spec)]
        return [constraint.get("matchLabelKeys") for constraint in constraints]

    revision = ["pod-template-hash"]
    assert keys(rendered("1.31.0", "Deployment")) == [revision, revision, revision]
    assert keys(rendered("1.30.0", "Deployment")) == [revision, revision, None]
    assert keys(rendered("1.31.0", "StatefulSet")) == [None, None, None]  # its pods have no such label


def test_an_affinity_stands_beside_that_of_the_chart() -> None:
    term = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "noisy"}}}
    given = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}, "nodeAffinity": {}}
    alone = spec_of(render({"affinity": given}), "StatefulSet")["template"]["spec"]["affinity"]
    assert alone == given
    both = apart(spec_of(render({"affinity": given, "antiAffinity": True}), "StatefulSet"))
    assert [entry["topologyKey"] for entry in both] == [ZONE, HOST]


@pytest.mark.parametrize("profile", ["trial", "standard", "large"])
def test_a_rebalance_makes_no_worker_unready(profile: str) -> None:
    """Else a drain of one node would let drains of others take the rest of the group."""
    (workload,) = [found for found in render(profile=profile) if found["kind"] in ("StatefulSet", "Deployment")]
    probe = workload["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * load_settings().rebalance_timeout_seconds


def test_readiness_and_budget_are_the_operators_to_choose() -> None:
    objects = render(
        {"probes": {"readinessSeconds": 301}, "podDisruptionBudget": {"unhealthyPodEvictionPolicy": "IfHealthyBudget"}}
    )
    probe = spec_of(objects, "StatefulSet")["template"]["spec"]["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 305
    assert spec_of(objects, "PodDisruptionBudget")["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"
    assert spec_of(render(), "PodDisruptionBudget")["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_rebalance_that_may_take_longer_than_readiness_is_refused() -> None:
    refused = helm(values=with_kafka({"settings": {"rebalance_timeout_seconds": 60}}))
    assert refused.returncode != 0
    assert "probes.readinessSeconds=60 is no longer than settings.rebalance_timeout_seconds=60" in refused.stderr


@pytest.mark.parametrize("profile", ["standard", "large"])
def test_one_worker_has_the_memory_for_all_partitions(profile: str) -> None:
    given = yaml.safe_load((CHART / "profiles" / f"{profile}.yaml").read_text())
    defaults = load_settings()
    settings = given["settings"]
    cache = settings.get("rocksdict_cache_mib", defaults.rocksdict_cache_mib) * MEBIBYTE
    rows = settings.get("slab_rows", defaults.slab_rows) - defaults.slab_rows
    needed = given["topics"]["partitions"] * (cache + 2 * WRITE_BUFFER_BYTES) + WORKER_BYTES + rows * 10_000
    (container,) = spec_of(render(profile=profile), "StatefulSet")["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert needed <= int(limit[:-2]) * UNITS[limit[-2:]]
