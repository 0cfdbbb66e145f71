"""Metrics: one documented list, and the port that serves them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from detectors.engine import EngineCounters
from streams.app import build
from streams.metrics import METRICS, Following, Metrics, serve
from streams.settings import load_settings


def test_every_metric_is_listed_with_unit_and_meaning() -> None:
    metrics = Metrics()
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    for metric in METRICS.values():
        assert families[metric.name].documentation == f"{metric.meaning} Unit: {metric.unit}."
    assert set(families) - {metric.name for metric in METRICS.values()} <= {name + "_created" for name in families}
    assert set(Metrics.__annotations__) == set(METRICS)


def test_sets_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.records.inc(3)
    assert one.registry.get_sample_value("stillwatch_records_total") == 3
    assert other.registry.get_sample_value("stillwatch_records_total") == 0


def test_a_total_kept_elsewhere_is_followed_and_never_falls() -> None:
    metrics = Metrics()
    following = Following(metrics.forgotten)
    for total in (2, 2, 5, 1, 6):
        following.follow(total)
    assert metrics.registry.get_sample_value("stillwatch_forgotten_accounts_total") == 6


@dataclass
class Health:
    """What a worker would answer."""

    ready: bool = False
    live: bool = True


@pytest.fixture
def port() -> Iterator[tuple[str, Health]]:
    health = Health()
    server = serve(Metrics(), lambda: health.ready, lambda: health.live, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_address[1]}", health
    server.shutdown()
    server.server_close()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_readiness_and_liveness_follow_the_worker(port: tuple[str, Health]) -> None:
    url, health = port
    assert (status_of(f"{url}/ready"), status_of(f"{url}/live")) == (503, 200)
    health.ready, health.live = True, False
    assert (status_of(f"{url}/ready"), status_of(f"{url}/live")) == (200, 503)
    assert status_of(f"{url}/metrics") == 200
    assert status_of(f"{url}/table/accounts") == 404


def test_all_that_the_engine_counts_is_served(tmp_path: Path) -> None:
    service = build(load_settings(store="memory", data_dir=tmp_path))
    for amount, counter in enumerate(fields(EngineCounters), start=101):
        setattr(service.engine.counters, counter.name, amount)
    for following, total in service._followed:
        following.follow(total())
    told = {line.rpartition(" ")[2] for line in service.metrics.text().decode().splitlines()}
    # Every account that is seen for the first time starts cold: that is no event of note.
    for name in {counter.name for counter in fields(EngineCounters)} - {"cold_starts"}:
        assert f"{getattr(service.engine.counters, name)}.0" in told, name
