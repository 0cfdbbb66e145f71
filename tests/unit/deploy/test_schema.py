"""The chart's schema of values follows from the code, and names every value that there is."""

from __future__ import annotations

import json
from typing import Any

import yaml

from deploy.chart_schema import SCHEMA, SET_BY_THE_CHART, text_of, with_settings
from streams.settings import Settings
from tests.unit.deploy.manifests import CHART


def test_the_settings_in_it_are_those_of_the_code() -> None:
    written = SCHEMA.read_text()
    assert written == text_of(with_settings(json.loads(written))), "`make chart-schema` writes it again"


def test_what_the_chart_sets_are_settings() -> None:
    assert set(Settings.model_fields) >= SET_BY_THE_CHART


def names(schema: dict[str, Any], prefix: str = "") -> set[str]:
    """Every value that a schema names, with dots."""
    found = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{prefix}{name}"} | names(inner, f"{prefix}{name}.")
    return found


def keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Every key of nested values, with dots."""
    found = set()
    for name, inner in values.items():
        found |= {f"{prefix}{name}"} | (keys(inner, f"{prefix}{name}.") if isinstance(inner, dict) else set())
    return found


def test_every_value_has_a_default_in_the_file_that_explains_it() -> None:
    known = names(json.loads(SCHEMA.read_text()))
    given = keys(yaml.safe_load((CHART / "values.yaml").read_text()))
    free = (
        "settings.",
        "podSecurityContext.",
        "affinity.",
        "resources.",
        "replay.resources.",
        "canary.resources.",
        "monitoring.dashboard.labels.",
    )
    assert {name for name in known - given if not name.startswith(free)} - {"global"} == set()
    assert {name for name in given - known if not name.startswith(free)} == set()
