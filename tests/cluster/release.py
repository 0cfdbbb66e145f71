"""The chart as a platform team meets it: rendered, and installed as a release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, Output

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"

PROFILES = {name: str(CHART / "profiles" / f"{name}.yaml") for name in ("trial", "standard", "large")}
"""Files of values to start from."""

EVERYTHING = (
    "autoscaling.enabled=true",
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboard.enabled=true",
    "replay.enabled=true",
    "replay.until=2026-01-07T00:00:00Z",
    "strimzi.enabled=true",
    "strimzi.cluster=kafka",
)
"""What the chart has beside the workers."""

WORKERS = "app.kubernetes.io/component=worker"
"""Labels of the workers' pods."""

WAIT = ("--wait", "--timeout", "240s")
FORCE = ("--force-conflicts",)

METRICS_PORT = 9464
RULES = CHART / "files" / "rules.yaml"
SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
COUNTED = re.compile(r'or increase\((\w+)\{job=~"\.\*"(?:, )?([^}]*)\}\[\w+\]\)\) > \(?0\)?$')
"""How an alarm ends that fires as soon as a counter rises: the counter, and labels."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """A release of the chart by its name, in a namespace; `brokers` are its Kafka's."""

    cluster: Cluster
    name: str
    namespace: str
    brokers: str = "kafka.example:9092"

    def install(self, *values: str) -> Output:
        """Install and wait until it works. Raises `CommandError`."""
        return self._helm("install", self.name, CHART, *WAIT, *self._set(values))

    def upgrade(self, *values: str, force: bool = False) -> Output:
        """Change values, keep the others, and wait until it works; `force`: take over what others have set since.

        Raises `CommandError`.
        """
        flags = (*WAIT, *(FORCE if force else ()), *self._set(values))
        return self._helm("upgrade", self.name, CHART, "--reset-then-reuse-values", *flags)

    def roll_back(self, revision: int, *, force: bool = False) -> Output:
        """Go back to a revision, and wait until it works; `force` as in `upgrade`. Raises `CommandError`."""
        return self._helm("rollback", self.name, str(revision), *WAIT, *(FORCE if force else ()))

    def uninstall(self) -> None:
        """Remove it, and wait until the workers have ended, which Helm does not. Raises `CommandError`."""
        self._helm("uninstall", self.name, *WAIT)
        self.cluster.until("workers ended", lambda: not self.pods())

    def render(self, *values: str) -> list[Object]:
        """Objects of the chart, hooks among them."""
        text = self._helm("template", self.name, CHART, *self._set(values)).out
        return [each for each in yaml.safe_load_all(text) if each]

    def pods(self) -> list[Object]:
        """Pods of the workers."""
        return self.cluster.get("pods", of=self.namespace, labels=WORKERS)

    def claims(self) -> dict[str, Object]:
        """Claims of volumes by their names, without those that are about to go."""
        claims = self.cluster.get("persistentvolumeclaims", of=self.namespace)
        return {claim["metadata"]["name"]: claim for claim in claims if not is_stopping(claim)}

    def identities(self) -> set[str]:
        """Identities of the workers that are not about to stop: a pod that replaces one of its name has another."""
        return {pod["metadata"]["uid"] for pod in self.pods() if not is_stopping(pod)}

    def ready(self) -> list[str]:
        """Names of workers that are ready and not about to stop."""
        return sorted(pod["metadata"]["name"] for pod in self.pods() if is_ready(pod))

    def metric(self, name: str) -> float:
        """Sum of a metric over the workers; of the samples with these labels alone when it ends in some."""
        return sum(self._samples(name))

    def _samples(self, name: str) -> Iterator[float]:
        named, _, labels = name.removesuffix("}").partition("{")
        wanted = set(filter(None, labels.split(",")))
        for worker in self.ready():
            path = f"/api/v1/namespaces/{self.namespace}/pods/{worker}:{METRICS_PORT}/proxy/metrics"
            for sample in SAMPLE.finditer(self.cluster.call("GET", path)):
                if sample["name"] == named and wanted <= set((sample["labels"] or "").split(",")):
                    yield float(sample["value"])

    def alarms(self) -> set[str]:
        """Alarms of the chart that fire at once when something has happened, and it has since the workers started."""
        return {alert for alert, counter in counted_by_alarms().items() if self.metric(counter) > 0}

    def evict(self, pod: str) -> None:
        """Ask for a pod's eviction, as a drain does. Raises `CommandError` when the budget refuses it."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        asked = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}})
        self.cluster.kubectl("create", "--raw", path, "-f", "-", text=asked)

    def workload(self) -> Object:
        """The StatefulSet or Deployment of the workers."""
        (found,) = self.cluster.get(
            "statefulsets,deployments", of=self.namespace, labels=f"app.kubernetes.io/instance={self.name}"
        )
        return found

    def _helm(self, *arguments: str | Path) -> Output:
        return self.cluster.helm(*arguments, of=self.namespace)

    def _set(self, values: Sequence[str]) -> list[str]:
        """Flags for `key=value` and for files of values."""
        here = ("networkPolicy.kafkaAnywhere=true", "image.pullPolicy=Never")  # nodes have the image, or run nothing
        given = [f"kafka.brokers={self.brokers}", *here, *values]
        return [word for each in given for word in (("--set", each) if "=" in each else ("--values", each))]


def now() -> str:
    """This moment, as the window of a replay has it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def counted_by_alarms() -> dict[str, str]:
    """The counter, with labels, of each alarm of the chart that fires as soon as it rises."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    found = {rule["alert"]: COUNTED.search(rule["expr"]) for rule in rules}
    return {alert: f"{of[1]}{{{of[2]}}}" for alert, of in found.items() if of}


def is_ready(pod: Object) -> bool:
    """Whether a pod counts for a budget: ready, and not asked to stop."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not is_stopping(pod)


def is_stopping(pod: Object) -> bool:
    """Whether a pod was asked to stop."""
    return "deletionTimestamp" in pod["metadata"]


def pods_of(objects: Sequence[Object]) -> list[Object]:
    """Pods among objects, and those that workloads among them would make, so that admission judges them."""
    single = [each for each in objects if each["kind"] == "Pod"]
    return [_pod_of(each) for each in objects if "template" in each.get("spec", {})] + single


def _pod_of(workload: Object) -> Object:
    template = workload["spec"]["template"]
    claims = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])]
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": workload["metadata"]["name"]},
        # A service account of the chart is not there before it is installed.
        "spec": {**template["spec"], "volumes": template["spec"]["volumes"] + claimed, "serviceAccountName": "default"},
    }
