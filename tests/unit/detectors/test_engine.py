"""Findings as an operator sees them: opened, made worse, closed after quiet; and what the engine counts."""

from __future__ import annotations

import itertools
from typing import Any

import jsonschema_rs
import numpy as np
import orjson
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from detectors import account, finding, state
from detectors.account import FEATURES
from detectors.baseline import Baseline
from detectors.engine import Engine, EngineOptions
from detectors.events import DECLARED, EVENT_DTYPE, NO_CONTENT, WORDS, EventBatch
from detectors.finding import HIGH_REQUESTS
from schemas.alert import OCSF_VERSION, Activity, Alert, Confidence, Severity, decode_alert, encode_alert
from tests.made_up import (
    DAY,
    HOUR,
    START,
    batch_job,
    clock_times,
    events_of,
    generator,
    listed,
    part,
    person,
    plain_baseline,
    service,
    stream_of,
    with_failures,
)

QUIET = 72 * HOUR


def alone(events: np.ndarray, name: str = "a") -> EventBatch:
    events = events.copy()
    events["offset"] = np.arange(len(events))
    events["identity"] = np.arange(1, len(events) + 1)
    return EventBatch([name] * len(events), [f"r{k}" for k in range(len(events))], events)


def findings_of(baseline: Baseline, events: np.ndarray, **options: Any) -> list[Alert]:
    return Engine(baseline, EngineOptions(**options)).apply(0, alone(events))


def steps(alerts: list[Alert]) -> list[tuple[str, int]]:
    return [(alert.activity_name, alert.metadata.sequence) for alert in alerts]


def returning(*times: int, before: int = 120) -> np.ndarray:
    """A list, and a person's requests at later times (milliseconds after its last one)."""
    events = np.concatenate([listed(before, 1), person(len(times), 2)])
    events["time"][before:] = events["time"][before - 1] + np.array(times)
    return events


# --- what is found


def test_a_list_is_found_and_organic_accounts_are_not(baseline: Baseline) -> None:
    accounts = {f"list {k}": listed(200, k, account=f"list {k}") for k in range(4)}
    accounts |= {f"person {k}": person(300, k, account=f"person {k}") for k in range(6)}
    accounts |= {"service": service(800, 1, account="s"), "job": batch_job(800, 1, account="j")}
    accounts |= {"heartbeat": events_of(np.ones((500, WORDS), np.uint64), clock_times(500, generator(1)), account="h")}
    alerts = Engine(baseline).apply(0, stream_of(accounts))
    assert {alert.account for alert in alerts} == {f"list {k}" for k in range(4)}


def test_looks_are_told_by_how_near_they_came_to_a_finding(baseline: Baseline) -> None:
    engine = Engine(baseline)
    engine.apply(0, stream_of({"person": person(160, 5)}))
    below = list(engine.looks.by_ratio)
    edge = finding.SURPRISE_EDGES.index(1.0) + 1
    assert sum(below[:edge]) == sum(below) > 0
    before = len(engine.apply(0, alone(listed(120, 6), "list")))
    assert before > 0
    assert sum(engine.looks.by_ratio[edge:]) > 0
    looks = sum(engine.looks.by_ratio)
    # Not more than the ratios' upper bounds allow, and not less than the lower ones.
    ends = (0.0, *finding.SURPRISE_EDGES)
    assert sum(n * low for n, low in zip(engine.looks.by_ratio, ends, strict=True)) - 0.001 * looks <= (
        engine.looks.total_ratio
    )
    engine.apply(0, alone(listed(120, 6), "list"))
    assert sum(engine.looks.by_ratio) == looks, "what is fenced off is not looked at"


def test_a_list_is_found_although_most_requests_fail(baseline: Baseline) -> None:
    alerts = findings_of(baseline, with_failures(listed(600, 1), 0.7, 2))
    assert alerts
    assert alerts[0].evidences[0].data["account"]["failed"] > 0


def test_requests_without_content_are_activity_only(baseline: Baseline) -> None:
    events = listed(300, 1)
    events["flags"] |= NO_CONTENT
    engine = Engine(baseline)
    assert engine.apply(0, alone(events)) == []
    assert engine.counters.events == 300


def test_declared_requests_are_counted_and_change_no_statistic(baseline: Baseline) -> None:
    own, granted = person(300, 1), listed(300, 2)
    granted["flags"] |= DECLARED
    granted["time"] = own["time"] + 1
    together = np.stack([own, granted], axis=1).ravel()
    together["offset"] = np.arange(600)
    alone_looks, looks = (Engine(baseline).trace(alone(events), "a")[-1] for events in (own, together))
    assert {name: looks[name] for name in FEATURES} == {name: alone_looks[name] for name in FEATURES}
    engine = Engine(baseline)
    assert engine.apply(0, alone(together)) == []
    assert (engine.counters.events, engine.counters.not_judged) == (600, 300)


def test_an_alert_tells_what_was_declared(baseline: Baseline) -> None:
    events = listed(400, 1)
    events["flags"][:40] |= DECLARED
    alert = findings_of(baseline, events)[0]
    assert b"40 more were declared" in encode_alert(alert)
    assert alert.evidences[0].data["account"]["declared"] == 40


def test_an_account_is_not_judged_by_one_burst(baseline: Baseline) -> None:
    events = listed(150, 1)
    events["time"] = START - START % (15 * 60_000) + np.arange(150) * 100
    assert findings_of(baseline, events) == []


def test_a_stricter_knob_finds_later_or_not_at_all(baseline: Baseline) -> None:
    opened = [
        findings_of(baseline, listed(300, 1), false_findings_per_1000_account_days=knob)[0].time
        for knob in (10.0, 1.0, 0.1)
    ]
    assert opened == sorted(opened)
    assert findings_of(baseline, listed(300, 1), false_findings_per_1000_account_days=1e-12) == []


# --- episodes


def test_a_finding_is_opened_once_and_updated_when_twice_as_much_was_seen(baseline: Baseline) -> None:
    alerts = findings_of(baseline, listed(400, 1))
    counts = [alert.count for alert in alerts]
    assert steps(alerts)[0] == ("Create", 1)
    assert {kind for kind, _ in steps(alerts)[1:]} == {"Update"}
    assert [number for _, number in steps(alerts)] == list(range(1, len(alerts) + 1))
    assert len({alert.finding_info.uid for alert in alerts}) == 1
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(counts))


def test_severity_rises_with_the_requests_that_leaked(baseline: Baseline) -> None:
    alerts = findings_of(baseline, listed(2200, 1))
    assert alerts[0].severity_id == Severity.MEDIUM
    assert [a.severity_id for a in alerts] == sorted(a.severity_id for a in alerts)
    (high,) = [a for a in alerts if a.severity_id == Severity.HIGH][:1]
    assert isinstance(high.count, int)
    assert HIGH_REQUESTS <= high.count < HIGH_REQUESTS + 64
    assert alerts[-1].severity_id == Severity.CRITICAL


def test_confidence_rises_with_the_surprise(baseline: Baseline) -> None:
    confidences = [alert.confidence_id for alert in findings_of(baseline, listed(600, 1))]
    assert confidences == sorted(confidences)
    assert confidences[-1] == Confidence.HIGH


def test_a_finding_closes_by_the_next_record_dated_last_seen_and_quiet(baseline: Baseline) -> None:
    events = returning(QUIET + HOUR)
    alerts = findings_of(baseline, events)
    closing = alerts[-1]
    assert closing.activity_id == Activity.CLOSE
    assert closing.time == closing.end_time + QUIET
    assert closing.finding_info.uid == alerts[0].finding_info.uid
    assert closing.metadata.sequence == len(alerts)
    assert closing.evidences[0].data["decided_by"] == {"time": closing.time}
    assert alerts[0].evidences[0].data["decided_by"]["id"].startswith("r")


def test_a_finding_stays_open_while_it_is_not_quiet(baseline: Baseline) -> None:
    assert Activity.CLOSE not in [a.activity_id for a in findings_of(baseline, returning(QUIET - HOUR))]


def test_a_new_episode_is_a_finding_of_its_own(baseline: Baseline) -> None:
    events = np.concatenate([listed(120, 1), listed(120, 2)])
    events["time"][120:] += 10 * DAY
    alerts = findings_of(baseline, events)
    created = [alert for alert in alerts if alert.activity_id == Activity.CREATE]
    assert len(created) == 2
    assert created[0].finding_info.uid != created[1].finding_info.uid
    assert created[1].metadata.sequence == 1


def test_at_the_end_of_a_replay_every_open_finding_is_closed_whatever_others_sent(baseline: Baseline) -> None:
    engine = Engine(baseline)
    opened = engine.apply(0, alone(listed(120, 1)))
    other = person(3, 1)
    other["time"] = opened[-1].time + 30 * DAY
    engine.apply(1, EventBatch(["b"] * 3, [""] * 3, other))
    (closing,) = engine.close_all()
    assert (closing.account, closing.activity_id) == ("a", Activity.CLOSE)
    assert closing.time == closing.end_time + QUIET


def test_what_leaked_never_falls_and_leaves_out_an_honest_stretch(baseline: Baseline) -> None:
    events = np.concatenate([listed(300, 1), service(600, 2), listed(400, 3)])
    events["time"] = clock_times(len(events), generator(4))
    alerts = findings_of(baseline, events)
    leaked = [alert.count for alert in alerts]
    assert leaked == sorted(leaked)
    assert leaked[-1] < len(events) - 300
    for before, after in itertools.pairwise(alerts):
        assert after.activity_id == Activity.CLOSE or (
            after.severity_id > before.severity_id or after.count >= 2 * before.count
        )


def test_a_closing_says_what_was_seen_and_judges_nothing_anew(baseline: Baseline) -> None:
    opened, *_, closing = findings_of(baseline, returning(QUIET + HOUR, before=200))
    assert closing.activity_id == Activity.CLOSE
    assert closing.count <= 200
    assert closing.finding_info.title == opened.finding_info.title
    assert "not a " not in closing.message + closing.finding_info.desc


def test_a_trace_starts_anew_where_the_account_expires(baseline: Baseline) -> None:
    events = np.concatenate([person(72, 1), person(68, 2)])
    events["time"][72:] += events["time"][71] - events["time"][72] + 60 * DAY
    assert [line["n"] for line in Engine(baseline).trace(alone(events), "a")][-1] == 64


def test_the_uid_is_that_of_account_and_opening_request(baseline: Baseline) -> None:
    events = listed(120, 1)
    named = [Engine(baseline).apply(0, alone(events, name))[0].finding_info.uid for name in ("a", "b")]
    assert len(set(named)) == 2
    again = Engine(baseline, EngineOptions(finding_quiet_hours=24.0))
    assert again.apply(5, alone(events, "a"))[0].finding_info.uid == named[0]


# --- the account's life


def test_a_silent_account_starts_anew(baseline: Baseline) -> None:
    engine = Engine(baseline, EngineOptions(state_expiry_days=45.0))
    events = np.concatenate([person(60, 1), person(40, 2)])
    events["time"][60:] += events["time"][59] - events["time"][60] + 46 * DAY
    engine.apply(0, alone(events))
    ((_, envelope),) = engine.snapshot(0)
    row = state.unseal(envelope, baseline.encoder.hash)
    assert engine.counters.expired == 1
    assert row["header"]["requests"][0] == 40
    assert row["header"]["offset"][0] == 99
    assert row["identity"]["count"][0] == 40


def test_a_silent_account_goes_on_as_one_without_a_state(baseline: Baseline) -> None:
    # A finding before and one after, and in between the closing of the first.
    events = np.concatenate([listed(120, 1), listed(120, 2)])
    events["time"][120:] += events["time"][119] - events["time"][120] + 46 * DAY
    log = alone(events)
    kept, fresh = Engine(baseline), Engine(baseline)
    before, after = kept.apply(0, part(log, 0, 121)), kept.apply(0, part(log, 121, 240))
    fresh.apply(0, part(log, 120, 121))
    assert before[-1].activity_id == Activity.CLOSE
    assert after
    assert [encode_alert(alert) for alert in fresh.apply(0, part(log, 121, 240))] == [encode_alert(a) for a in after]
    assert kept.snapshot(0) == fresh.snapshot(0)
    assert before[0].finding_info.uid != after[0].finding_info.uid


def test_a_late_record_is_counted_and_scored(baseline: Baseline) -> None:
    engine = Engine(baseline)
    events = listed(200, 1)
    events["time"][50] -= 10 * HOUR
    assert engine.apply(0, alone(events))
    assert engine.counters.late == 1
    assert engine.counters.events == 200


def test_a_takeover_is_dated_from_where_it_began(baseline: Baseline) -> None:
    events = np.concatenate([person(200, 1), listed(200, 2)])
    events["time"][200:] += events["time"][199] - events["time"][200] + HOUR
    alerts = findings_of(baseline, events)
    assert alerts
    first_seen, last_honest = alerts[0].finding_info.first_seen_time, int(events["time"][199])
    assert abs(first_seen - last_honest) < 2 * DAY
    assert isinstance(alerts[0].count, int)
    assert alerts[0].count < 200


# --- partitions, slab, store


def test_a_dropped_partition_is_forgotten_and_read_from_the_store_again(baseline: Baseline) -> None:
    store: dict[bytes, bytes] = {}
    engine = Engine(baseline, lookup=lambda partition, name: store.get(name))
    log = alone(listed(300, 1))
    told = engine.apply(3, part(log, 0, 100))
    store.update(engine.snapshot(3))
    told += engine.apply(3, part(log, 100, 150))
    engine.drop(3)
    assert (engine.accounts, engine.pending(), engine.snapshot(3)) == (0, 0, [])
    told += engine.apply(3, part(log, 100, 300))
    expected = Engine(baseline).apply(3, log)
    assert {encode_alert(a) for a in told} == {encode_alert(a) for a in expected}


def test_partitions_are_independent(baseline: Baseline) -> None:
    engine = Engine(baseline)
    log = alone(listed(120, 1))
    assert len(engine.apply(0, log)) == len(engine.apply(1, log))
    engine.drop(0)
    assert [name for name, _ in engine.snapshot(1)] == [b"a"]


def test_a_snapshot_holds_what_changed_since_the_last_one(baseline: Baseline) -> None:
    engine = Engine(baseline)
    log = stream_of({name: person(30, k, account=name) for k, name in enumerate("abc")})
    engine.apply(0, log)
    assert engine.pending() == 3
    assert {name for name, _ in engine.snapshot(0)} == {b"a", b"b", b"c"}
    assert engine.pending() == 0
    assert engine.snapshot(0) == []
    engine.mark_dirty(0, [b"b", b"unknown"])
    assert [name for name, _ in engine.snapshot(0)] == [b"b"]


def test_a_state_that_has_seen_more_than_there_is_of_the_log_carries_on_and_its_events_count(
    baseline: Baseline,
) -> None:
    store: dict[bytes, bytes] = {}
    log = stream_of({name: person(40, k, account=name) for k, name in enumerate("ab")})
    first = Engine(baseline)
    first.apply(0, log)
    store.update(first.snapshot(0))
    engine = Engine(baseline, lookup=lambda partition, name: store.get(name), capacity=2)
    anew = stream_of({name: person(30, 9, account=name) for name in "abc"})  # of a topic made anew: offsets from 0
    engine.log_ends_at(0, 0)
    for begin in range(0, len(anew), 10):
        engine.apply(0, part(anew, begin, begin + 10))
        told = engine.snapshot(0)
        assert all(state.fence_of(sealed) > state.fence_of(store[name]) for name, sealed in told if name in store)
        store.update(told)
    rows = {name: state.unseal(sealed, baseline.encoder.hash) for name, sealed in store.items()}
    assert {name: int(row["header"]["requests"][0]) for name, row in rows.items()} == {b"a": 70, b"b": 70, b"c": 30}
    assert {name: int(row["header"]["log"][0]) for name, row in rows.items()} == {b"a": 1, b"b": 1, b"c": 0}
    assert (engine.counters.void_fences, engine.counters.fenced) == (2, 0)
    assert engine.apply(0, anew) == []
    assert engine.counters.fenced == len(anew)


def test_a_fence_within_the_log_holds(baseline: Baseline) -> None:
    log = alone(person(40, 1))
    first = Engine(baseline)
    first.apply(0, part(log, 0, 30))
    stored = dict(first.snapshot(0))
    engine = Engine(baseline, lookup=lambda partition, name: stored.get(name))
    engine.log_ends_at(0, 30)
    engine.apply(0, log)
    assert (engine.counters.void_fences, engine.counters.fenced, engine.counters.events) == (0, 30, 10)


def test_an_erased_account_starts_anew_and_others_stay(baseline: Baseline) -> None:
    log = stream_of({"a": listed(120, 1, account="a"), "b": listed(120, 2, account="b")})
    place = int(log.columns["offset"][160])
    engine = Engine(baseline)
    told = engine.apply(0, part(log, 0, 160))
    engine.erase(0, "a", place)
    told += engine.apply(0, part(log, 160, 240))
    untouched = Engine(baseline).apply(0, log)
    after = Engine(baseline).apply(0, part(log, 160, 240))
    before = Engine(baseline).apply(0, part(log, 0, 160))
    assert [encode_alert(x) for x in told if x.account == "b"] == [
        encode_alert(x) for x in untouched if x.account == "b"
    ]
    of_a = [encode_alert(x) for x in [*before, *after] if x.account == "a"]
    assert of_a
    assert [encode_alert(x) for x in told if x.account == "a"] == of_a


def test_an_erased_account_is_deleted_by_the_next_snapshot_and_not_looked_up_until_then(baseline: Baseline) -> None:
    log = alone(listed(60, 1))
    before = Engine(baseline)
    before.apply(0, part(log, 0, 40))
    store = dict(before.snapshot(0))
    engine = Engine(baseline, lookup=lambda partition, name: store.get(name))
    place = int(log.columns["offset"][40])
    engine.erase(0, "a", place)
    ((name, erased),) = engine.snapshot(0)
    assert (name, state.is_erased(erased), state.fence_of(erased)) == (b"a", True, place)
    engine.mark_dirty(0, [b"a"])
    assert engine.snapshot(0) == [(b"a", erased)]
    assert engine.snapshot(0) == []
    engine.mark_dirty(0, [b"a"])
    engine.apply(0, part(log, 40, 50))
    ((_, envelope),) = engine.snapshot(0)
    assert state.unseal(envelope, baseline.encoder.hash)["header"]["requests"] == 10


def test_an_order_read_again_erases_nothing_that_came_after_it(baseline: Baseline) -> None:
    log = alone(listed(60, 1))
    engine = Engine(baseline)
    engine.apply(0, log)
    engine.erase(0, "a", int(log.columns["offset"][40]))
    ((_, envelope),) = engine.snapshot(0)
    assert state.unseal(envelope, baseline.encoder.hash)["header"]["requests"] == 60


def test_an_account_erased_in_a_log_made_anew_keeps_a_fence_above_that_of_the_old_log(baseline: Baseline) -> None:
    log = alone(person(40, 1))
    first = Engine(baseline)
    first.apply(0, log)
    stored = dict(first.snapshot(0))
    engine = Engine(baseline, lookup=lambda partition, name: stored.get(name))
    engine.log_ends_at(0, 5)
    engine.erase(0, "a", 5)
    ((_, erased),) = engine.snapshot(0)
    assert state.is_erased(erased)
    assert state.fence_of(erased) > state.fence_of(stored[b"a"])
    engine.apply(0, part(log, 6, 10))
    ((_, anew),) = engine.snapshot(0)
    assert state.fence_of(anew) > state.fence_of(erased)
    assert state.unseal(anew, baseline.encoder.hash)["header"]["requests"] == 4


def test_after_another_encoder_the_new_state_has_the_higher_fence(baseline: Baseline) -> None:
    log = alone(person(40, 1))
    first = Engine(baseline)
    first.apply(0, log)
    ((_, old),) = first.snapshot(0)
    row = state.unseal(old, baseline.encoder.hash)
    row["header"]["log"] = 1
    engine = Engine(baseline, lookup=lambda partition, name: state.seal(row, "ff" * 8))
    engine.apply(0, part(log, 39, 40))
    ((_, new),) = engine.snapshot(0)
    assert engine.counters.encoder_changes == 1
    assert state.header_of(new).fence >= state.fence_of(state.seal(row, "ff" * 8))


@pytest.mark.parametrize("saved", [True, False])
def test_an_erased_account_that_leaves_the_slab_stays_erased(baseline: Baseline, saved: bool) -> None:
    log = alone(listed(60, 1))
    store: dict[bytes, bytes] = {}
    engine = Engine(baseline, lookup=lambda partition, name: store.get(name), capacity=2)
    engine.apply(0, part(log, 0, 40))
    store.update(engine.snapshot(0))
    engine.erase(0, "a", int(log.columns["offset"][40]))
    if saved:
        assert [state.is_erased(saved) for _, saved in engine.snapshot(0)] == [
            True
        ]  # the store has not heard of it yet
    others = stream_of({name: person(2, k, account=name) for k, name in enumerate("bcde")})
    engine.apply(0, others)
    engine.apply(0, part(log, 40, 60))
    states = dict(engine.snapshot(0))
    assert state.unseal(states[b"a"], baseline.encoder.hash)["header"]["requests"] == 20
    assert engine.close_all() == []


def test_a_flood_of_new_accounts_stays_within_the_slab(baseline: Baseline) -> None:
    engine = Engine(baseline, capacity=10)
    columns = np.zeros(500, EVENT_DTYPE)
    columns["time"] = START + np.arange(500)
    columns["offset"], columns["identity"] = np.arange(500), np.arange(500)
    columns["code"] = 1
    engine.apply(0, EventBatch([f"new {k}" for k in range(500)], [""] * 500, columns))
    assert engine.accounts == 10
    assert engine.counters.evictions == 490
    assert engine.pending() == 500
    assert len(engine.snapshot(0)) == 500


def test_unreadable_states_start_cold_and_are_counted(baseline: Baseline) -> None:
    good = state.seal(np.zeros(1, account.DTYPE), "f" * 16)
    stored = {b"foreign": b"not a state", b"other encoder": good}
    engine = Engine(baseline, lookup=lambda partition, name: stored.get(name))
    log = stream_of({name: person(3, 1, account=name) for name in ("foreign", "other encoder", "new")})
    engine.apply(0, log)
    counters = engine.counters
    assert (counters.unreadable_states, counters.encoder_changes, counters.cold_starts) == (1, 1, 3)
    assert counters.events == 9


def test_an_account_by_any_name_is_told_apart(baseline: Baseline) -> None:
    names = ["", "é", "e\u0301", "a\0b", "👩‍🚀", "x" * 1000]
    engine = Engine(baseline)
    engine.apply(0, stream_of({name: person(5, 1, account=name) for name in names}))
    assert {name.decode() for name, _ in engine.snapshot(0)} == set(names)


@pytest.mark.parametrize(
    "options",
    [
        {"false_findings_per_1000_account_days": 0.0},
        {"false_findings_per_1000_account_days": float("nan")},
        {"finding_quiet_hours": 0.0},
        {"finding_quiet_hours": 24.0 * 46},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        EngineOptions(**options)


def test_a_slab_needs_two_rows(baseline: Baseline) -> None:
    with pytest.raises(ValueError, match="at least 2 rows"):
        Engine(baseline, capacity=1)


def test_an_empty_batch_changes_nothing(baseline: Baseline) -> None:
    engine = Engine(baseline)
    assert engine.apply(0, EventBatch([], [], np.zeros(0, EVENT_DTYPE))) == []
    assert engine.snapshot(0) == engine.close_all() == []


# --- alerts


@pytest.fixture(scope="module")
def alerts() -> list[Alert]:
    """Opened, updated and closed."""
    events = returning(QUIET + HOUR, before=400)
    return Engine(plain_baseline()).apply(2, alone(events, "acct 7"))


def test_every_alert_is_a_valid_detection_finding(alerts: list[Alert]) -> None:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=OCSF_VERSION)).get_class_schema("detection_finding")
    validator = jsonschema_rs.validator_for(schema)
    assert {alert.activity_id for alert in alerts} == set(Activity)
    for alert in alerts:
        validator.validate(orjson.loads(encode_alert(alert)))
        assert decode_alert(encode_alert(alert)) == alert


def test_an_alert_points_to_the_latest_requests(alerts: list[Alert]) -> None:
    source = alerts[0].unmapped["stillwatch"]["source"]
    times = alerts[0].evidences[0].data["latest_requests"]
    assert source["partition"] == 2
    assert source["offsets"] == list(range(source["offsets"][0], source["offsets"][0] + 8))
    assert times == sorted(times)
    assert times[-1] == alerts[0].time


def test_an_alert_says_why_in_words_and_numbers(alerts: list[Alert], baseline: Baseline) -> None:
    alert = alerts[0]
    assert "not a person" in alert.message
    assert "not a service" in alert.message
    assert "not a batch job" in alert.message
    data = alert.evidences[0].data
    assert set(data["log_likelihood_ratios"]) == {"person", "service", "batch"}
    assert data["surprise"] >= data["threshold"]
    assert data["account"]["covered"] == data["statistics"]["n"]
    (analysis,) = alert.anomaly_analyses
    assert [a.observation_parameter for a in analysis.anomalies] == [
        b.observation_parameter for b in analysis.baselines or ()
    ]
    assert alert.unmapped["stillwatch"]["baseline"] == baseline.hash
    assert alert.unmapped["stillwatch"]["options"] == EngineOptions().hash


def test_numbers_in_alerts_are_finite(alerts: list[Alert]) -> None:
    for alert in alerts:
        assert b"null" not in encode_alert(alert)
        assert b"NaN" not in encode_alert(alert)


def test_no_code_of_a_request_is_in_an_alert(alerts: list[Alert]) -> None:
    told = b"".join(encode_alert(alert) for alert in alerts)
    for word in listed(400, 1)["code"].ravel():
        assert str(int(word)).encode() not in told


def test_events_have_no_room_for_a_prompt() -> None:
    fields = [EVENT_DTYPE[name] for name in EVENT_DTYPE.names or ()]
    assert all(field.kind in "iuf" or field.shape == (WORDS,) for field in fields)
    assert all(np.dtype(kind).kind not in "SUOV" for kind in _plain_kinds(account.DTYPE))


def _plain_kinds(dtype: np.dtype[Any]) -> list[Any]:
    if dtype.subdtype is not None:
        return _plain_kinds(dtype.subdtype[0])
    if dtype.fields is None:
        return [dtype]
    return [kind for field in dtype.fields.values() for kind in _plain_kinds(field[0])]


# --- explain


def test_a_trace_shows_what_the_engine_saw(baseline: Baseline) -> None:
    log = stream_of({"a": listed(200, 1, account="a"), "b": person(200, 1, account="b")})
    engine = Engine(baseline)
    alerts = [alert for alert in engine.apply(0, log) if alert.account == "a"]
    table = engine.trace(log, "a")
    opened = next(line for line in table if line["surprise"] >= line["threshold"])
    assert opened["time"] == alerts[0].time
    assert log.accounts[int(opened["index"])] == "a"
    for feature, value in alerts[0].evidences[0].data["statistics"].items():
        assert opened[feature] == pytest.approx(value, rel=1e-5, abs=1e-9)
    assert engine.trace(log, "nobody") == []


def test_a_trace_leaves_the_engine_alone(baseline: Baseline) -> None:
    log = alone(listed(100, 1))
    engine = Engine(baseline)
    engine.trace(log, "a")
    assert (engine.accounts, engine.pending(), engine.counters.events) == (0, 0, 0)


def test_states_that_are_admitted_together_are_judged_one_by_one(baseline: Baseline) -> None:
    log = stream_of({name: person(20, k, account=name) for k, name in enumerate("abcd")})
    first = Engine(baseline)
    first.apply(0, part(log, 0, 40))
    stored = dict(first.snapshot(0))
    before = {
        name: int(state.unseal(sealed, baseline.encoder.hash)["header"]["requests"][0])
        for name, sealed in stored.items()
    }
    damaged = bytearray(stored[b"b"])
    damaged[-1] ^= 1
    impossible = state.unseal(stored[b"c"], baseline.encoder.hash)
    impossible["memory"]["count"] = -1
    stored[b"b"], stored[b"c"] = bytes(damaged), state.seal(impossible, baseline.encoder.hash)
    engine = Engine(baseline, lookup=lambda partition, name: stored.get(name))
    engine.apply(0, part(log, 40, 80))
    events = {name: log.accounts[40:].count(name.decode()) for name in before}
    after = {
        name: int(state.unseal(sealed, baseline.encoder.hash)["header"]["requests"][0])
        for name, sealed in engine.snapshot(0)
    }
    started_anew = {b"b", b"c"}
    assert after == {name: events[name] + (0 if name in started_anew else n) for name, n in before.items()}
    assert (engine.counters.unreadable_states, engine.counters.cold_starts) == (2, 2)


def test_the_end_of_time_closes_nothing_of_an_erased_account_that_left_the_slab(baseline: Baseline) -> None:
    engine = Engine(baseline, capacity=2)
    assert engine.apply(0, alone(listed(120, 1)))
    engine.erase(0, "a", 1_000)
    engine.apply(0, stream_of({name: person(2, k, account=name) for k, name in enumerate("bcde")}))
    assert engine.close_all() == []


@pytest.mark.parametrize(("knob", "extrapolated"), [(1.0, False), (0.4, True)])
def test_an_alert_says_when_the_knob_lies_below_what_the_baseline_can_resolve(
    baseline: Baseline, knob: float, extrapolated: bool
) -> None:
    # One account in 400 (its groups) at five days an account: 0.5 false findings for each 1,000 account-days.
    (alert, *_) = findings_of(baseline, listed(300, 1), false_findings_per_1000_account_days=knob)
    assert alert.evidences[0].data["knob_is_extrapolated"] is extrapolated
    assert ("by extrapolation" in (alert.finding_info.desc or "")) is extrapolated
