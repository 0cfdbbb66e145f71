"""Writes the parts of the chart's values.schema.json that follow from others: what `settings` may hold follows from the
code, which alarms may be left out or have another threshold from their file.

`make chart-schema` runs it; a test fails when the file is not as this would write it.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from streams.settings import SECRETS, Settings

SCHEMA = Path(__file__).parent / "chart" / "values.schema.json"

RULES = SCHEMA.parent / "files" / "rules.yaml"

THRESHOLD = re.compile(r"> \((\d+(?:\.\d+)?)\)")
"""The number of an alarm's expression that a value of the chart may replace."""

SET_BY_THE_CHART = frozenset(
    {
        "brokers", "topic_prefix", "group_id", "instance_id", "security_protocol", "sasl_mechanism", "sasl_username",
        "sasl_password_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", "partitions", "replication_factor",
        "baseline_file", "store", "data_dir", "metrics_host", "metrics_port", "otlp_endpoint",
    }
)  # fmt: skip
"""Settings that follow from other values of the chart."""

KEPT = ("type", "enum", "minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "pattern")


def settings_schema() -> dict[str, Any]:
    """Schema of `settings`, from the settings of the code."""
    properties = Settings.model_json_schema()["properties"]
    return {
        "description": "Other settings of stillwatch by name; `stillwatch config` lists them.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _simple(schema) for name, schema in properties.items() if name not in SET_BY_THE_CHART | SECRETS
        },
    }


def _simple(schema: dict[str, Any]) -> dict[str, Any]:
    """Without titles, defaults, and the null that stands for not given."""
    (given,) = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return {"description": schema["description"]} | {key: given[key] for key in KEPT if key in given}


def alarms() -> dict[str, float | None]:
    """Every alarm of the chart by its name, with the threshold that may be replaced where there is one.

    Raises `ValueError` when an expression has several.
    """
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: _threshold(rule) for group in groups for rule in group["rules"]}


def _threshold(rule: dict[str, Any]) -> float | None:
    found = THRESHOLD.findall(rule["expr"])
    if len(found) > 1:
        raise ValueError(f"{rule['alert']} has several numbers in brackets of their own: {', '.join(found)}")
    return float(found[0]) if found else None


def alarms_schema() -> dict[str, Any]:
    """Schema of what values say about alarms by their names."""
    adjustable = [name for name, threshold in alarms().items() if threshold is not None]
    return {
        "disabled": {
            "description": "Alarms to leave out.",
            "type": "array",
            "uniqueItems": True,
            "items": {"enum": list(alarms())},
        },
        "thresholds": {
            "description": "Numbers above which alarms are raised.",
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"type": "number", "minimum": 0} for name in adjustable},
        },
    }


def completed(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with today's settings and alarms in it."""
    schema = deepcopy(schema)
    schema["properties"]["settings"] = settings_schema()
    schema["properties"]["monitoring"]["properties"]["prometheusRule"]["properties"] |= alarms_schema()
    return schema


def text_of(schema: dict[str, Any]) -> str:
    """As it lies in the file."""
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text_of(completed(json.loads(SCHEMA.read_text()))))
