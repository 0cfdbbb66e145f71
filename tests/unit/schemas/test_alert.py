"""Alerts are valid OCSF 1.8 Detection Findings, and read back as they were written."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import orjson
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from schemas import alert as a


def make_alert(**changes: Any) -> a.Alert:
    account = changes.pop("account", "acct_7")
    fields: dict[str, Any] = {
        "activity_id": a.Activity.CREATE,
        "time": 1_790_812_856_423,
        "severity_id": a.Severity.HIGH,
        "confidence_id": a.Confidence.HIGH,
        "message": "acct_7: 812 requests look drawn from a shuffled list",
        "count": 812,
        "finding_info": a.FindingInfo(
            uid="f0c3",
            title="Model extraction",
            desc="No organic explanation of this account's requests holds.",
            analytic=a.Analytic(name="stillwatch account model", version="0.1.0"),
            first_seen_time=1_790_000_000_000,
            last_seen_time=1_790_812_856_423,
            created_time=1_790_812_856_423,
        ),
        "anomaly_analyses": (
            a.AnomalyAnalysis(
                analysis_targets=(a.AnalysisTarget(name=account),),
                anomalies=(
                    a.Anomaly(
                        observation_parameter="order",
                        observation_type="Sequence Analysis",
                        observations=(
                            a.Observation(
                                value=a.number(0.991), count=812, timespan=a.TimeSpan(start_time=1, end_time=2)
                            ),
                        ),
                        observed_pattern="successive requests are no more alike than any two",
                    ),
                ),
                baselines=(a.Anomaly(observation_parameter="order", observations=(a.Observation(value="0.62"),)),),
            ),
        ),
        "evidences": (a.Evidence(data={"shares": {"order": 3.25}, "requests": [{"partition": 3, "offset": 17}]}),),
        "observables": (a.account_observable(account),),
        "metadata": a.Metadata(product=a.Product(version="0.1.0"), uid="f0c3-1", sequence=1),
        "unmapped": {"baseline": "9a0b", "source": {"topic": "stillwatch.requests", "partition": 3, "offset": 17}},
    }
    return a.Alert(**(fields | changes))


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=a.OCSF_VERSION)).get_class_schema("detection_finding")
    return jsonschema_rs.validator_for(schema)


@pytest.mark.parametrize("activity", list(a.Activity))
def test_every_step_of_a_finding_is_valid_against_the_published_schema(
    validator: jsonschema_rs.Validator, activity: a.Activity
) -> None:
    validator.validate(orjson.loads(a.encode_alert(make_alert(activity_id=activity))))


@pytest.mark.parametrize("activity", list(a.Activity))
def test_a_marked_test_is_valid_with_the_profile_that_it_names(activity: a.Activity) -> None:
    marked = orjson.loads(a.encode_alert(a.as_test(make_alert(activity_id=activity))))
    assert marked["metadata"]["profiles"] == ["incident"]
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=a.OCSF_VERSION)).get_class_schema(
        "detection_finding", profiles=marked["metadata"]["profiles"]
    )
    jsonschema_rs.validator_for(schema).validate(marked)
    assert (marked["verdict_id"], marked["verdict"], marked["is_alert"]) == (6, "Test", False)
    assert marked["metadata"]["labels"] == ["test"]


def test_a_mark_can_be_read_back_and_no_other_alert_has_one() -> None:
    alert = make_alert()
    marked = a.decode_alert(a.encode_alert(a.as_test(alert)))
    assert (marked.is_test, alert.is_test, a.decode_alert(a.encode_alert(alert)).is_test) == (True, False, False)
    assert b"verdict" not in a.encode_alert(alert)
    assert a.cloudevents_headers(marked) == [*a.cloudevents_headers(alert), ("stillwatch-test", b"1")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("class_uid",), 2005),
        (("activity_id",), 7),
        (("time",), "yesterday"),
        (("ai_model",), "frontier-1"),
        (("metadata", "baseline"), "9a0b"),
        (("finding_info", "uid"), None),
        (("anomaly_analyses", 0, "score"), 3.2),
        (("anomaly_analyses", 0, "anomalies", 0, "observations", 0, "value"), 0.991),
        (("evidences", 0, "shares"), {}),
    ],
)
def test_a_wrong_alert_fails_the_published_schema(
    validator: jsonschema_rs.Validator, path: tuple[Any, ...], value: object
) -> None:
    wrong = orjson.loads(a.encode_alert(make_alert()))
    place = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not validator.is_valid(wrong)


def test_what_follows_from_other_fields_is_filled_in() -> None:
    alert = make_alert(activity_id=a.Activity.CLOSE, severity_id=a.Severity.MEDIUM)
    assert (alert.type_uid, alert.type_name) == (200403, "Detection Finding: Close")
    assert (alert.status_id, alert.status, alert.severity, alert.confidence) == (4, "Resolved", "Medium", "High")


def test_a_contradiction_is_an_error() -> None:
    with pytest.raises(ValueError, match="type_uid must be 200401"):
        make_alert(type_uid=200402)


def test_an_alert_without_its_account_is_an_error() -> None:
    with pytest.raises(ValueError, match="account_observable"):
        make_alert(observables=())


def test_an_alert_reads_back_equal_and_writes_the_same_bytes() -> None:
    alert = make_alert()
    data = a.encode_alert(alert)
    again = a.decode_alert(data)
    assert again == alert
    assert again.account == "acct_7"
    assert a.encode_alert(again) == data


def test_reading_ignores_unknown_fields_and_refuses_contradictions() -> None:
    written = orjson.loads(a.encode_alert(make_alert()))
    assert a.decode_alert(orjson.dumps(written | {"osint": []})) == make_alert()
    with pytest.raises(msgspec.ValidationError):
        a.decode_alert(orjson.dumps(written | {"severity": "Low"}))
    with pytest.raises(msgspec.DecodeError):
        a.decode_alert(b"{")


def test_absent_fields_are_not_written() -> None:
    written = orjson.loads(a.encode_alert(make_alert(count=msgspec.UNSET)))
    assert "count" not in written
    assert "uid" not in written["finding_info"]["analytic"]


def test_cloudevents_headers_name_the_step_the_account_and_the_event_time() -> None:
    headers = dict(a.cloudevents_headers(make_alert(account="zoë", activity_id=a.Activity.UPDATE)))
    assert headers == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"f0c3-1",
        "ce_source": b"/stillwatch",
        "ce_type": b"stillwatch.finding.update",
        "ce_subject": "zoë".encode(),
        "ce_time": b"2026-10-01T00:00:56.423Z",
        "ce_dataschema": b"https://schema.ocsf.io/1.8.0/classes/detection_finding",
    }
