"""Publishes the contracts: JSON Schemas made from the code, with an example each, in ``schemas/published``.

``python -m schemas.publish`` writes them again; a test fails when what is checked in differs.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from schemas import alert as a
from schemas.dead_letter import DeadLetterReason, RedactedRecord, redacted_value
from schemas.durations import DAY_MS
from schemas.request import RequestEvent

FOLDER: Final = Path(__file__).parent / "published"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "request": RequestEvent,
    "alert": a.Alert,
    "dead_letter": RedactedRecord,
}

_SEEN: Final = 1_790_812_856_423
_ACCOUNT: Final = "acct_8ea01d52"


def published() -> dict[str, bytes]:
    """Return the files of ``schemas/published`` by name: ``<name>.schema.json`` and ``<name>.example.json``.

    Examples
    --------
    >>> sorted(published())[:2]
    ['alert.example.json', 'alert.schema.json']
    """
    files = {f"{name}.schema.json": _pretty(_schema(name, kind)) for name, kind in TYPES.items()}
    return files | {f"{name}.example.json": _pretty(example) for name, example in _examples().items()}


def _pretty(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _schema(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    schema = {"$schema": DIALECT, "$id": f"urn:stillwatch:{name}"} | msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        if "description" in definition:
            # Python 3.13 strips the indentation of docstrings, earlier ones keep it.
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def _examples() -> dict[str, Any]:
    refused = redacted_value(
        DeadLetterReason.CLOCK,
        "outside 2015 to 2100; times are milliseconds",
        topic="stillwatch.requests",
        partition=3,
        offset=1_204_331,
        value=b" " * 412,
    )
    return {
        "request": {
            "time": _SEEN,
            "account": _ACCOUNT,
            "id": "286d663524f72ff3",
            "org": "org_5d1f",
            "end_user": "1d2de440ccbed3ca",
            "links": {"payment": "714447b28b91ffce", "ip": "eee362b5c5378baa"},
            "model": "frontier-1",
            "endpoint": "chat.completions",
            "input_tokens": 812,
            "output_tokens": 256,
            "status": 200,
            "prompt": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": [{"type": "text", "text": "How do I boil an egg?"}]},
            ],
        },
        "alert": orjson.loads(a.encode_alert(_example_alert())),
        "dead_letter": orjson.loads(refused),
    }


def _example_alert() -> a.Alert:
    first = _SEEN - 3 * DAY_MS
    observed = a.Observation(value=a.number(0.991), count=812, timespan=a.TimeSpan(start_time=first, end_time=_SEEN))
    return a.Alert(
        activity_id=a.Activity.CREATE,
        time=_SEEN,
        severity_id=a.Severity.HIGH,
        confidence_id=a.Confidence.HIGH,
        message=f"{_ACCOUNT}: 812 requests in 3 days look drawn from a shuffled list",
        count=812,
        start_time=first,
        end_time=_SEEN,
        finding_info=a.FindingInfo(
            uid="5b0c9d1e77aa42f0",
            title="Model extraction by one account",
            desc="No organic explanation holds: neither a person nor a service nor a batch job asks like this.",
            analytic=a.Analytic(name="stillwatch account model", uid="account", version="0.1.0"),
            attacks=(a.EXTRACT_AI_MODEL,),
            first_seen_time=first,
            last_seen_time=_SEEN,
            created_time=_SEEN,
        ),
        anomaly_analyses=(
            a.AnomalyAnalysis(
                analysis_targets=(a.AnalysisTarget(name=_ACCOUNT),),
                anomalies=(
                    a.Anomaly(
                        observation_parameter="order",
                        observation_type="Sequence Analysis",
                        observations=(observed,),
                        observed_pattern="successive requests are no more alike than any two",
                    ),
                ),
                baselines=(
                    a.Anomaly(
                        observation_parameter="order",
                        observation_type="Sequence Analysis",
                        observations=(a.Observation(value=a.number(0.62)),),
                        observed_pattern="median of organic accounts of this length",
                    ),
                ),
            ),
        ),
        evidences=(
            a.Evidence(
                data={
                    "shares": {"order": 3.25, "coverage": 1.5, "recurrence": 2.0},
                    "requests": [{"time": _SEEN, "partition": 3, "offset": 1_204_331, "id": "286d663524f72ff3"}],
                }
            ),
        ),
        observables=(a.account_observable(_ACCOUNT),),
        metadata=a.Metadata(
            product=a.Product(version="0.1.0"),
            uid="5b0c9d1e77aa42f0-1",
            sequence=1,
            correlation_uid="5b0c9d1e77aa42f0",
        ),
        unmapped={"baseline": "9a0b44c1d2e3f405", "configuration": "c0ffee0012345678"},
    )


def write() -> None:
    """Write the published files anew and remove those that are no longer made."""
    files = published()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    write()
