"""The AsyncAPI document is what the code does, and AsyncAPI 3."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import orjson
import pytest

from schemas.alert import as_test, cloudevents_headers, decode_alert
from schemas.dead_letter import DeadLetterReason, dead_letter_headers
from schemas.publish import published
from streams.asyncapi import ASYNCAPI, FILE, page
from streams.settings import load_settings
from streams.topics import TopicNames, topic_specs
from streams.tracing import TRACEPARENT
from tests.unit.deploy.manifests import tools

DOCUMENT: dict[str, Any] = orjson.loads(FILE.read_bytes())
MESSAGES = DOCUMENT["components"]["messages"]


def test_the_document_is_that_of_the_code() -> None:
    assert FILE.read_bytes() == page(), "`make pages` writes it again"


def test_it_does_not_follow_the_settings_of_whoever_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLWATCH_TOPIC_PREFIX", "mine.")
    assert page() == FILE.read_bytes()


def test_it_is_asyncapi_3() -> None:
    schema = tools() / f"asyncapi-{ASYNCAPI}.json"
    validator = jsonschema_rs.validator_for(orjson.loads(schema.read_bytes()))
    assert [(list(error.instance_path), error.message) for error in validator.iter_errors(DOCUMENT)] == []
    assert not validator.is_valid(DOCUMENT | {"channels": {"requests": {"address": 7}}})


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for part in node for found in references(part)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for part in node.values() for found in references(part)]

    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_it_has_every_topic_as_it_is_made() -> None:
    settings = load_settings()
    names = TopicNames.of(settings)._asdict()
    assert {channel: of["address"] for channel, of in DOCUMENT["channels"].items()} == {
        channel: name.replace(settings.topic_prefix, "{prefix}") for channel, name in names.items()
    }
    made = {spec.name: spec.config for spec in topic_specs(settings)}
    for channel, name in names.items():
        told = DOCUMENT["channels"][channel]["bindings"]["kafka"]["topicConfiguration"]
        assert {key: ",".join(v) if isinstance(v, list) else str(v) for key, v in told.items()}.items() <= made[
            name
        ].items()
        assert told.get("retention.ms") == (int(made[name]["retention.ms"]) if "retention.ms" in made[name] else None)


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "examples" in message])
def test_examples_are_valid(name: str) -> None:
    schema = {"$ref": MESSAGES[name]["payload"]["$ref"], "components": DOCUMENT["components"]}
    validator = jsonschema_rs.validator_for(schema)
    for example in MESSAGES[name]["examples"]:
        validator.validate(example["payload"])
        assert not validator.is_valid({})


def test_headers_are_those_that_records_have() -> None:
    alert = as_test(decode_alert(published()["alert.example.json"]))
    assert set(headers_of("alert")) == {name for name, _ in cloudevents_headers(alert)} | {TRACEPARENT}
    refused = dead_letter_headers(DeadLetterReason.CLOCK, "", topic="t", partition=0, offset=0)
    assert set(headers_of("refused")) == set(headers_of("redacted")) == {name for name, _ in refused}


def test_what_has_no_value_has_no_payload() -> None:
    assert {name for name, message in MESSAGES.items() if "No value" in message["summary"]} == {"forget", "deletion"}
    for name in ("forget", "deletion"):
        assert "payload" not in MESSAGES[name]
        assert MESSAGES[name]["contentType"] != "application/json"


def test_what_an_operator_chooses_is_not_told_as_ours() -> None:
    for channel in DOCUMENT["channels"].values():
        assert set(channel["bindings"]["kafka"]) == {"topicConfiguration", "bindingVersion"}


def headers_of(message: str) -> dict[str, Any]:
    properties: dict[str, Any] = MESSAGES[message]["headers"]["properties"]
    return properties
