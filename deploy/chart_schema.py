"""Writes the part of the chart's values.schema.json that follows from the code: what `settings` may hold.

`make chart-schema` runs it; a test fails when the file is not as this would write it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streams.settings import SECRETS, Settings

SCHEMA = Path(__file__).parent / "chart" / "values.schema.json"

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


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with today's settings in it."""
    return schema | {"properties": schema["properties"] | {"settings": settings_schema()}}


def text_of(schema: dict[str, Any]) -> str:
    """As it lies in the file."""
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text_of(with_settings(json.loads(SCHEMA.read_text()))))
