"""Strict checks of custom resources: unknown fields fail, as with the API server's strict field validation."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
import yaml

from tests.unit.deploy.manifests import Object, tools


def faults(resource: Object) -> list[str]:
    """What is wrong with a custom resource, by the definition of its kind; a kind without one is wrong as well."""
    schema = _schemas().get((resource["apiVersion"], resource["kind"]))
    if schema is None:
        return [f"there is no definition of {resource['apiVersion']} {resource['kind']}"]
    found = [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in schema.iter_errors(resource)]
    if resource["kind"] == "ScaledObject":
        found += [fault for trigger in resource["spec"]["triggers"] for fault in _trigger_faults(trigger)]
    return found


def is_defined(resource: Object) -> bool:
    """Whether a definition was fetched; all else is Kubernetes' own."""
    return (resource["apiVersion"], resource["kind"]) in _schemas()


def _trigger_faults(trigger: Object) -> list[str]:
    """KEDA's definition lets any metadata pass; its list of scalers does not."""
    scalers = json.loads((tools() / "keda-scalers.json").read_text())["scalers"]
    (parameters,) = [scaler["parameters"] for scaler in scalers if scaler["type"] == trigger["type"]]
    known = {parameter["name"] for parameter in parameters}
    unknown = [f"trigger {trigger['type']}: unknown {name}" for name in trigger["metadata"] if name not in known]
    texts = [f"trigger {trigger['type']}: {k} is no text" for k, v in trigger["metadata"].items() if type(v) is not str]
    return unknown + texts


@cache
def _schemas() -> dict[tuple[str, str], Any]:
    """A validator for each served version of each definition, by API version and kind."""
    made = {}
    for file in sorted((tools() / "crds").glob("*.yaml")):
        for definition in yaml.safe_load_all(file.read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    schema = _strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    made[key] = jsonschema_rs.validator_for(schema)
    return made


def _strict(schema: Any) -> Any:
    """A definition's schema as JSON Schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(part) for key, part in schema.items() if key != "format"}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ended = made.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in made and "type" in made and "additionalProperties" not in made and not open_ended:
        made["additionalProperties"] = False
    return made
