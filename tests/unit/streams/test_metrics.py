"""Metrics: one documented list, and the port that serves them."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from detectors.drift import NEW_DAY
from detectors.engine import EngineCounters
from detectors.finding import severity_of
from schemas.alert import Severity, caption
from schemas.dead_letter import DeadLetterReason
from streams.app import build
from streams.metrics import METRICS, Following, FollowingHistogram, Metrics, serve
from streams.settings import load_settings


def test_every_metric_is_listed_with_unit_and_meaning() -> None:
    metrics = Metrics()
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    for metric in METRICS.values():
        assert families[metric.name].documentation == f"{metric.meaning} Unit: {metric.unit}."
    assert set(families) - {metric.name for metric in METRICS.values()} <= {name + "_created" for name in families}
    assert set(Metrics.__annotations__) == set(METRICS)


def test_what_alarms_look_for_an_increase_of_begins_at_0() -> None:
    """Of a series that begins at 5, Prometheus sees no increase: the first burst would raise nothing."""
    told = Metrics().registry.get_sample_value
    assert {told("stillwatch_dead_letters_total", {"reason": reason.value}) for reason in DeadLetterReason} == {0.0}
    assert {
        told("stillwatch_findings_total", {"activity": activity, "severity": caption(Severity(severity)).lower()})
        for activity in ("create", "update", "close")
        for severity in {severity_of(requests) for requests in range(3000)}
    } == {0.0}


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


def test_looks_counted_elsewhere_become_a_histogram() -> None:
    metrics = Metrics()
    following = FollowingHistogram(metrics.surprise)
    edges = METRICS["surprise"].buckets
    following.follow([5, 0, 1] + [0] * (len(edges) - 2), 1.0)
    following.follow([5, 0, 2] + [0] * (len(edges) - 3) + [4], 13.5)
    told = metrics.registry.get_sample_value
    assert told("stillwatch_surprise_ratio_bucket", {"le": str(edges[1])}) == 5
    assert told("stillwatch_surprise_ratio_bucket", {"le": str(edges[2])}) == 7
    assert told("stillwatch_surprise_ratio_bucket", {"le": "+Inf"}) == 11
    assert told("stillwatch_surprise_ratio_sum") == 13.5


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


@pytest.mark.parametrize(("prefix", "told"), [("canary-7e2a9b-", 0.0), ("", None)])
def test_canaries_are_counted_from_0_where_there_are_any(tmp_path: Path, prefix: str, told: float | None) -> None:
    metrics = build(load_settings(store="memory", data_dir=tmp_path, canary_prefix=prefix)).metrics
    assert metrics.registry.get_sample_value("stillwatch_canary_findings_total", {"activity": "create"}) == told


def test_a_population_that_is_off_is_logged_once_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = build(load_settings(store="memory", data_dir=tmp_path))
    sample = service.metrics.registry.get_sample_value
    service._watch_population()
    assert sample("stillwatch_refit") == 0.0
    assert sample("stillwatch_drift", {"count": "near_10"}) == 0.0
    service.engine.watch.take(np.full(500, NEW_DAY | 0b10, np.uint8))  # all come as near as the knob at 10
    with caplog.at_level(logging.WARNING, "streams"):
        service._watch_population()
        service._watch_population()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["refit"]
    for following, total in service._followed:
        following.follow(total())
    assert sample("stillwatch_refit") == 1.0
    assert (sample("stillwatch_drift", {"count": "near_10"}) or 0.0) > 50.0
    assert (sample("stillwatch_drift_calls_total", {"count": "near_10"}) or 0.0) >= 1.0
    assert sample("stillwatch_beyond_people", {"statistic": "vn_recent"}) == 0.0
