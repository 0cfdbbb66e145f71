"""The page of all metrics, deploy/monitoring/METRICS.md, made from the list in `streams.metrics`.

``make pages`` writes it again; a test fails when what is checked in differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import Counter

from streams.metrics import METRICS, Metric

PAGE: Final = Path(__file__).parents[1] / "deploy" / "monitoring" / "METRICS.md"

HEAD = """\
# Metrics

<!-- Made by `make pages` from streams/metrics.py; a test fails when they differ. -->

Served in Prometheus's text format on `metrics_host:metrics_port` under `/metrics`; every replica counts for itself, so
sum over replicas. No label holds an account or anything else that comes with a request. Counters begin at 0 with each
start of a worker, and `…_created` beside each tells when that was; alerts and dead letters are there from the start,
with all their labels. `deploy/chart/files` has the alarms and the dashboard that are made of them. The alarms of the
group `stillwatch-kube-state` need kube-state-metrics: they see workers that never come up, and canaries that could
not be sent.

| metric | type | unit | labels | meaning |
|---|---|---|---|---|
"""


def page() -> str:
    """The page as it should be.

    Examples
    --------
    >>> [line for line in page().splitlines() if "rekeyed" in line]
    ['| `stillwatch_rekeyed_records_total` | counter | records | | Records sent back under the key of their account. |']
    """
    return HEAD + "".join(map(_line, METRICS.values()))


def exported_name(metric: Metric) -> str:
    """The name under which Prometheus stores it; a histogram's samples add `_bucket`, `_sum` and `_count`."""
    return metric.name + "_total" if metric.kind is Counter else metric.name


def _line(metric: Metric) -> str:
    labels = " " + ", ".join(f"`{label}`" for label in metric.labels) if metric.labels else ""
    cells = f"`{exported_name(metric)}` | {metric.kind.__name__.lower()} | {metric.unit} |{labels} | {metric.meaning}"
    return f"| {cells} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
