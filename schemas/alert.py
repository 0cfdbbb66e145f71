"""Alerts: OCSF 1.8 Detection Findings, one record for each step of a finding (opened, changed, closed).

The types follow the published class ``detection_finding`` (https://schema.ocsf.io/1.8.0/classes/detection_finding) and
hold only what stillwatch fills in. Fields left `UNSET` are not written. Times are epoch milliseconds of *event* time:
nothing in an alert depends on the clock of the worker, so that a replay writes the same bytes.

A field whose name or value OCSF derives from another (``type_uid``, captions such as ``severity``) is derived here too
and need not be given; a given one that contradicts is an error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, Literal

import msgspec
import orjson
from msgspec import UNSET, UnsetType

OCSF_VERSION: Final = "1.8.0"
OCSF_CLASS_URL: Final = f"https://schema.ocsf.io/{OCSF_VERSION}/classes/detection_finding"

DETECTION_FINDING: Final = 2004
FINDINGS: Final = 2
"""``class_uid`` and ``category_uid`` of every alert."""

CLOUDEVENTS_VERSION: Final = "1.0"
CLOUDEVENTS_SOURCE: Final = "/stillwatch"
CLOUDEVENTS_TYPE_PREFIX: Final = "stillwatch.finding."
CONTENT_TYPE: Final = b"application/json"

ACCOUNT_OBSERVABLE: Final = 35
"""OCSF observable type "Account Object: uid"."""

STATISTICAL: Final = 3
"""OCSF analytic type "Statistical"."""


class Activity(IntEnum):
    """What happened to the finding."""

    CREATE = 1
    UPDATE = 2
    CLOSE = 3


class Severity(IntEnum):
    """How bad it is if the finding is right; the caption is the name in title case."""

    UNKNOWN = 0
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


class Confidence(IntEnum):
    """How sure the detector is that the finding is right."""

    UNKNOWN = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Status(IntEnum):
    """Where the finding stands; the analyst's own states are set by other tools."""

    NEW = 1
    IN_PROGRESS = 2
    RESOLVED = 4


class Verdict(IntEnum):
    """OCSF's verdicts on a finding that are ours to give; all others are an analyst's."""

    TEST = 6


INCIDENT_PROFILE: Final = "incident"
"""OCSF profile that verdicts belong to."""

TEST_LABEL: Final = "test"
TEST_HEADER: Final = "stillwatch-test"
"""Header of a test's record, for what filters without reading values, such as Kafka Connect."""

STATUS_OF_ACTIVITY: Final = {
    Activity.CREATE: Status.NEW,
    Activity.UPDATE: Status.IN_PROGRESS,
    Activity.CLOSE: Status.RESOLVED,
}


def caption(value: IntEnum) -> str:
    """OCSF's caption of an enumeration value.

    Examples
    --------
    >>> caption(Status.IN_PROGRESS)
    'In Progress'
    """
    return value.name.replace("_", " ").title()


class Ocsf(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all OCSF objects: immutable, built with keywords; unknown fields are ignored when read."""


class Tactic(Ocsf, frozen=True, kw_only=True):
    """A tactic of MITRE ATLAS."""

    uid: str
    name: str
    src_url: str | UnsetType = UNSET


class Technique(Ocsf, frozen=True, kw_only=True):
    """A technique or sub-technique of MITRE ATLAS."""

    uid: str
    name: str
    src_url: str | UnsetType = UNSET


class Attack(Ocsf, frozen=True, kw_only=True):
    """What the account is thought to do, in the terms of MITRE ATLAS."""

    version: str
    tactic: Tactic
    technique: Technique
    sub_technique: Technique | UnsetType = UNSET


ATLAS_VERSION: Final = "5.5.0"
"""Release of MITRE ATLAS that the ids below are taken from."""

_ATLAS_URL: Final = "https://atlas.mitre.org"


def _tactic(uid: str, name: str) -> Tactic:
    return Tactic(uid=uid, name=name, src_url=f"{_ATLAS_URL}/tactics/{uid}")


def _technique(uid: str, name: str) -> Technique:
    return Technique(uid=uid, name=name, src_url=f"{_ATLAS_URL}/techniques/{uid}")


EXTRACT_AI_MODEL: Final = Attack(
    version=ATLAS_VERSION,
    tactic=_tactic("AML.TA0010", "Exfiltration"),
    technique=_technique("AML.T0024", "Exfiltration via AI Inference API"),
    sub_technique=_technique("AML.T0024.002", "Extract AI Model"),
)
"""The finding itself: the model is copied through its answers."""


class Analytic(Ocsf, frozen=True, kw_only=True):
    """The detector that raised the finding."""

    name: str
    uid: str | UnsetType = UNSET
    type_id: int = STATISTICAL
    type: str = "Statistical"
    version: str | UnsetType = UNSET
    desc: str | UnsetType = UNSET


class FindingInfo(Ocsf, frozen=True, kw_only=True):
    """The finding that the alert is a step of; ``uid`` is the same in all its steps."""

    uid: str
    title: str
    desc: str
    analytic: Analytic
    attacks: tuple[Attack, ...] = (EXTRACT_AI_MODEL,)
    first_seen_time: int
    last_seen_time: int
    created_time: int
    modified_time: int | UnsetType = UNSET
    types: tuple[str, ...] | UnsetType = UNSET


class TimeSpan(Ocsf, frozen=True, kw_only=True):
    """The time that an observation covers."""

    start_time: int
    end_time: int


class Observation(Ocsf, frozen=True, kw_only=True):
    """One value of a statistic. OCSF wants text: see `number`."""

    value: str
    count: int | UnsetType = UNSET
    timespan: TimeSpan | UnsetType = UNSET


class Anomaly(Ocsf, frozen=True, kw_only=True):
    """What the account did, or (in ``baselines``) what organic accounts do, in one statistic.

    ``observation_parameter`` is the statistic's name, ``observation_type`` its kind ("Sequence Analysis", "Distribution
    Analysis", ...), ``observed_pattern`` what the value means in words.
    """

    observation_parameter: str
    observation_type: str | UnsetType = UNSET
    observations: tuple[Observation, ...]
    observed_pattern: str | UnsetType = UNSET


class AnalysisTarget(Ocsf, frozen=True, kw_only=True):
    """Whose behaviour was analysed."""

    name: str
    type: str = "Account"


class AnomalyAnalysis(Ocsf, frozen=True, kw_only=True):
    """Statistics of an account beside their baselines; OCSF refuses every other key here."""

    analysis_targets: tuple[AnalysisTarget, ...]
    anomalies: tuple[Anomaly, ...]
    baselines: tuple[Anomaly, ...] | UnsetType = UNSET


class Evidence(Ocsf, frozen=True, kw_only=True):
    """Evidence in numbers. ``data`` is free JSON: shares of the evidence, quantiles, counts, exemplar requests."""

    name: str | UnsetType = UNSET
    data: dict[str, Any]


class Observable(Ocsf, frozen=True, kw_only=True):
    """A value that other tools can pivot on; ``name`` is the path of the attribute that holds it."""

    name: str
    type_id: int
    type: str
    value: str


class Product(Ocsf, frozen=True, kw_only=True):
    """The product that wrote the alert."""

    name: str = "stillwatch"
    vendor_name: str = "stillwatch"
    version: str


class Metadata(Ocsf, frozen=True, kw_only=True):
    """About the alert itself.

    ``uid`` is unique to the alert (not the finding), ``sequence`` counts the alerts of one finding from 1, and
    ``correlation_uid`` is the finding's uid.
    """

    version: Literal["1.8.0"] = OCSF_VERSION
    product: Product
    uid: str
    sequence: int
    correlation_uid: str | UnsetType = UNSET
    labels: tuple[str, ...] | UnsetType = UNSET
    profiles: tuple[str, ...] | UnsetType = UNSET


class Alert(Ocsf, frozen=True, kw_only=True):
    """An OCSF 1.8 Detection Finding.

    Parameters
    ----------
    activity_id
        What happened to the finding. ``type_uid``, ``status_id`` and the captions follow from it.
    time
        Event time of the request that raised this alert; for a closing, last seen plus quiet.
    severity_id, confidence_id
        See `Severity` and `Confidence`.
    message
        One line for a person: what, who, how much.
    count
        Requests of the account that the finding rests on.
    verdict_id, verdict, is_alert
        Of a test (`as_test`) "Test" and false; else absent and true.
    finding_info, anomaly_analyses, evidences, observables, metadata
        As OCSF defines them. `account_observable` makes the one observable that every alert must have.
    unmapped
        Free JSON for what OCSF has no place for: configuration and baseline hashes, source offsets.

    Raises
    ------
    ValueError
        A derived field was given and contradicts the field it derives from, or the account observable is missing.
    """

    class_uid: Literal[2004] = DETECTION_FINDING
    class_name: Literal["Detection Finding"] = "Detection Finding"
    category_uid: Literal[2] = FINDINGS
    category_name: Literal["Findings"] = "Findings"
    activity_id: Activity
    activity_name: str = ""
    type_uid: int = 0
    type_name: str = ""
    time: int
    severity_id: Severity
    severity: str = ""
    confidence_id: Confidence
    confidence: str = ""
    status_id: Status | UnsetType = UNSET
    status: str = ""
    status_detail: str | UnsetType = UNSET
    verdict_id: Verdict | UnsetType = UNSET
    verdict: str | UnsetType = UNSET
    is_alert: bool = True
    message: str
    count: int | UnsetType = UNSET
    start_time: int | UnsetType = UNSET
    end_time: int | UnsetType = UNSET
    finding_info: FindingInfo
    anomaly_analyses: tuple[AnomalyAnalysis, ...] = ()
    evidences: tuple[Evidence, ...] = ()
    observables: tuple[Observable, ...]
    metadata: Metadata
    unmapped: dict[str, Any] = {}

    def __post_init__(self) -> None:
        status = STATUS_OF_ACTIVITY[self.activity_id] if self.status_id is UNSET else self.status_id
        activity_name = caption(self.activity_id)
        derived: dict[str, Any] = {
            "activity_name": activity_name,
            "type_uid": DETECTION_FINDING * 100 + self.activity_id,
            "type_name": f"Detection Finding: {activity_name}",
            "severity": caption(self.severity_id),
            "confidence": caption(self.confidence_id),
            "status_id": status,
            "status": caption(status),
        }
        for name, value in derived.items():
            given = getattr(self, name)
            if given is UNSET or given in ("", 0):
                msgspec.structs.force_setattr(self, name, value)
            elif given != value:
                raise ValueError(f"{name} must be {value!r} here")
        if not any(observable.type_id == ACCOUNT_OBSERVABLE for observable in self.observables):
            raise ValueError("an alert needs the observable of its account: account_observable(account)")

    @property
    def account(self) -> str:
        """The account that the alert is about; also the key of its record on the alerts topic."""
        return next(o.value for o in self.observables if o.type_id == ACCOUNT_OBSERVABLE)

    @property
    def is_test(self) -> bool:
        """Whether the alert is about an account of ours that tests whether extraction is found (`as_test`)."""
        return self.verdict_id is not UNSET and self.verdict_id == Verdict.TEST

    @property
    def cloudevents_type(self) -> str:
        """``stillwatch.finding.create``, ``.update`` or ``.close``."""
        return CLOUDEVENTS_TYPE_PREFIX + self.activity_id.name.lower()


def as_test(alert: Alert) -> Alert:
    """Return the alert marked as a test, in every way that OCSF has.

    It is no alert (``is_alert``), its verdict is "Test", and its metadata bear the label ``test``, for whatever filters
    by those alone.
    """
    return msgspec.structs.replace(
        alert,
        is_alert=False,
        verdict_id=Verdict.TEST,
        verdict=caption(Verdict.TEST),
        message=f"{TEST_LABEL}: {alert.message}",
        metadata=msgspec.structs.replace(alert.metadata, labels=(TEST_LABEL,), profiles=(INCIDENT_PROFILE,)),
    )


def account_observable(account: str) -> Observable:
    """Return the observable that names the account of an alert."""
    return Observable(
        name="anomaly_analyses[].analysis_targets[].name",
        type_id=ACCOUNT_OBSERVABLE,
        type="Account Object: uid",
        value=account,
    )


def number(value: float) -> str:
    """Write a statistic's value as the text that OCSF wants: six significant digits.

    Examples
    --------
    >>> number(0.123456789), number(1200.0), number(float("nan"))
    ('0.123457', '1200', 'nan')
    """
    return format(value, ".6g")


_DECODER: Final = msgspec.json.Decoder(Alert)


def encode_alert(alert: Alert) -> bytes:
    """Return the alert as JSON, keys in the order of the class, free objects in the order they were built in."""
    return orjson.dumps(msgspec.to_builtins(alert))


def decode_alert(data: bytes) -> Alert:
    """Read an alert back.

    Raises
    ------
    msgspec.DecodeError
        `data` is not JSON, or (its subclass ``ValidationError``) not an alert of this version.
    """
    return _DECODER.decode(data)


def cloudevents_headers(alert: Alert) -> list[tuple[str, bytes]]:
    """Return the Kafka headers that make the alert's record a CloudEvent in binary mode.

    See the Kafka protocol binding, section 3.2 (https://github.com/cloudevents/spec, version 1.0.2). A test has one
    header more.
    """
    time = datetime.fromtimestamp(alert.time / 1000, UTC).isoformat(timespec="milliseconds")
    attributes = {
        "specversion": CLOUDEVENTS_VERSION,
        "id": alert.metadata.uid,
        "source": CLOUDEVENTS_SOURCE,
        "type": alert.cloudevents_type,
        "subject": alert.account,
        "time": time.replace("+00:00", "Z"),
        "dataschema": OCSF_CLASS_URL,
    }
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    test = [(TEST_HEADER, b"1")] if alert.is_test else []
    return [("content-type", CONTENT_TYPE), *headers, *test]
