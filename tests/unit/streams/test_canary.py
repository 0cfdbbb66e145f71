"""The canary is found whatever the baseline is for, and only its own alerts are marked as tests."""

from __future__ import annotations

import orjson
import pytest

from detectors.baseline import Baseline, load_default
from detectors.engine import EngineOptions
from schemas.alert import Alert
from streams.canary import REQUESTS, Event, events_of, new_name
from streams.detection import make_engine, make_ingest
from streams.settings import SettingsError, load_settings
from tests.made_up import plain_baseline
from tests.sent import log_of

PREFIX = "canary-7e2a9b-"
NOW = 1_790_812_856_423
HOUR = 3_600_000


def scored(baseline: Baseline, events: list[Event], **settings: object) -> list[Alert]:
    given = load_settings(**({"canary_prefix": PREFIX} | settings))
    read = make_ingest(given, baseline)(log_of(*map(orjson.dumps, events)))
    assert (read.dead, len(read.batch)) == ([], REQUESTS)
    return make_engine(given, baseline, lambda partition, account: None).apply(0, read.batch)


@pytest.mark.parametrize("baseline", [load_default(), plain_baseline()], ids=["text", "embeddings of another model"])
def test_a_canary_is_found_and_marked_as_a_test(baseline: Baseline) -> None:
    name = new_name(PREFIX, NOW)
    alerts = scored(baseline, events_of(name, baseline, NOW))
    assert {(alert.account, alert.is_test, alert.is_alert) for alert in alerts} == {(name, True, False)}


@pytest.mark.parametrize("seed", range(3))
def test_a_stricter_knob_finds_it_too(seed: int) -> None:
    baseline = load_default()
    events = events_of(f"{PREFIX}{seed}", baseline, NOW)
    assert scored(baseline, events, false_findings_per_1000_account_days=0.1)


@pytest.mark.parametrize("name", ["canary-7e2a9c-1", "acct-canary-7e2a9b-", "canary"])
def test_nobody_else_is_marked(name: str) -> None:
    alerts = scored(load_default(), events_of(name, load_default(), NOW))
    assert {(alert.is_test, alert.is_alert) for alert in alerts} == {(False, True)}


def test_without_a_prefix_nobody_is_marked() -> None:
    alerts = scored(load_default(), events_of(f"{PREFIX}1", load_default(), NOW), canary_prefix="")
    assert {alert.is_test for alert in alerts} == {False}


def test_the_mark_changes_no_finding_and_not_the_hash_of_what_decides() -> None:
    events = events_of(f"{PREFIX}1", load_default(), NOW)
    marked, plain = scored(load_default(), events), scored(load_default(), events, canary_prefix="")
    assert [(a.finding_info, a.time, a.severity_id, a.unmapped) for a in marked] == [
        (a.finding_info, a.time, a.severity_id, a.unmapped) for a in plain
    ]
    assert EngineOptions(canary_prefix=PREFIX).hash == EngineOptions().hash


@pytest.mark.parametrize(("prefix", "counted"), [(PREFIX, False), ("", True)])
def test_canaries_are_no_part_of_the_population_that_is_watched(prefix: str, counted: bool) -> None:
    given = load_settings(canary_prefix=prefix)
    engine = make_engine(given, load_default(), lambda partition, account: None)
    events = [event for k in range(3) for event in events_of(f"{PREFIX}{k}", load_default(), NOW)]
    alerts = engine.apply(0, make_ingest(given, load_default())(log_of(*map(orjson.dumps, events))).batch)
    assert len({alert.account for alert in alerts}) == 3
    assert (engine.watch.account_days > 0) == counted


def test_its_times_lie_behind_now_in_order_and_are_no_burst() -> None:
    times = [event["time"] for event in events_of(f"{PREFIX}1", load_default(), NOW)]
    assert times == sorted(times)
    assert NOW - 13 * HOUR < times[0] < NOW - 11 * HOUR
    assert NOW - HOUR / 10 < times[-1] <= NOW


def test_a_name_is_its_own_and_its_requests_follow_from_it() -> None:
    assert new_name(PREFIX, NOW) != new_name(PREFIX, NOW)
    one, other = f"{PREFIX}1", f"{PREFIX}2"
    assert events_of(one, load_default(), NOW) == events_of(one, load_default(), NOW)
    assert {e["prompt"] for e in events_of(one, load_default(), NOW)} != {
        e["prompt"] for e in events_of(other, load_default(), NOW)
    }


@pytest.mark.parametrize("prefix", ["c", "canary", "canary \x1b[2J", "x" * 200])
def test_a_prefix_that_customers_could_have_by_chance_or_from_an_example_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="canary_prefix"):
        load_settings(canary_prefix=prefix)
