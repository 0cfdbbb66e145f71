"""The topics as an AsyncAPI 3 document, deploy/asyncapi.json, made from the code.

``make pages`` writes it again; a test fails when what is checked in differs.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from schemas.alert import TEST_HEADER
from schemas.dead_letter import DETAIL_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, TOPIC_HEADER
from schemas.order import FORGET, ORDER_HEADER
from schemas.origin import ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER
from schemas.publish import TYPES, published
from schemas.version import VERSION
from streams.settings import Settings
from streams.stores.newer import ERASED_HEADER, FENCE_HEADER
from streams.topics import TopicNames, topic_specs
from streams.tracing import TRACEPARENT

FILE: Final = Path(__file__).parents[1] / "deploy" / "asyncapi.json"
ASYNCAPI: Final = "3.0.0"
KAFKA_BINDING: Final = "0.5.0"

JSON, BYTES = "application/json", "application/octet-stream"

ACCOUNT_KEY: Final = "The account, UTF-8. Partitioned by murmur2, as Kafka's own clients do."

TITLES: Final = {
    "requests": "What customers ask of the model, one record a request",
    "dead_letters": "Records that could not be read; they may hold prompts",
    "alerts": "Findings: OCSF 1.8 Detection Findings, one record for each step",
    "state": "The accounts' models, a changelog that workers alone read and write",
}

CLOUDEVENTS: Final = {
    "ce_specversion": "Version of CloudEvents, 1.0.",
    "ce_id": "Unique to the alert: metadata.uid.",
    "ce_source": "/stillwatch",
    "ce_type": "stillwatch.finding.create, .update or .close.",
    "ce_subject": "The account.",
    "ce_time": "Event time of the alert.",
    "ce_dataschema": "The OCSF class.",
    "content-type": JSON,
    TEST_HEADER: "1 on the alert of a canary, which is a test; absent on all others.",
    TRACEPARENT: "W3C Trace Context: the span that made the alert. Absent when traces are off (otlp_endpoint).",
}


def document() -> dict[str, Any]:
    """Return the document, for the default settings; the prefix of the topics is a parameter of their addresses."""
    # The variables of whoever runs this are not asked.
    settings = Settings.model_construct()
    names = TopicNames.of(settings)._asdict()
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "stillwatch",
            "version": VERSION,
            "description": "Tells, while it happens, that somebody copies a model through its API.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "plain": _server("kafka", 9092, "security_protocol=PLAINTEXT or SASL_PLAINTEXT."),
            "secured": _server("kafka-secure", 9093, "security_protocol=SSL or SASL_SSL."),
        },
        "channels": {
            channel: {
                "address": "{prefix}" + name.removeprefix(settings.topic_prefix),
                "title": TITLES[channel],
                "parameters": {
                    "prefix": {"default": settings.topic_prefix, "description": "The setting topic_prefix."}
                },
                "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in MESSAGES[channel]},
                "bindings": {"kafka": _topic(settings, name)},
            }
            for channel, name in names.items()
        },
        "operations": _operations(),
        "components": {
            "messages": {name: _message(**given) for of in MESSAGES.values() for name, given in of.items()},
            "schemas": _schemas(),
        },
    }


def _server(protocol: str, port: int, description: str) -> dict[str, Any]:
    return {
        "host": "{brokers}",
        "protocol": protocol,
        "description": description,
        "variables": {"brokers": {"default": f"kafka:{port}", "description": "The setting brokers."}},
    }


DEAD_LETTER_HEADERS: Final = {
    REASON_HEADER: "Why, a code.",
    DETAIL_HEADER: "Why, in words that quote nothing of it.",
    TOPIC_HEADER: "Where it lay: topic,",
    PARTITION_HEADER: "partition,",
    OFFSET_HEADER: "and offset.",
}

MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "requests": {
        "request": {
            "summary": "A request event.",
            "payload": "RequestEvent",
            "headers": {
                ORIGIN_TOPIC_HEADER: "Where a record first lay that was sent back under its account: topic,",
                ORIGIN_PARTITION_HEADER: "partition,",
                ORIGIN_OFFSET_HEADER: "and offset.",
                TRACEPARENT: "W3C Trace Context: yours, if you trace. Spans of alerts that it raises are linked to it.",
            },
            "example": "request",
        },
        "forget": {
            "summary": "An order to forget all of its account before it (`forget`). No value: a null of Kafka's.",
            "content_type": BYTES,
            "headers": {ORDER_HEADER: FORGET.decode()},
        },
    },
    "dead_letters": {
        "refused": {
            "summary": "A record that could not be read, byte for byte, under its own key.",
            "content_type": BYTES,
            "headers": DEAD_LETTER_HEADERS,
            "key": "The record's own key.",
        },
        "redacted": {
            "summary": "What stands in for one with `dead_letter_content=redacted`, or when it is too large.",
            "payload": "RedactedRecord",
            "headers": DEAD_LETTER_HEADERS,
            "key": "The record's own key, or none if it is too large.",
            "example": "dead_letter",
        },
    },
    "alerts": {
        "alert": {
            "summary": "A step of a finding: opened, changed or closed. A CloudEvent in binary mode.",
            "payload": "Alert",
            "headers": CLOUDEVENTS,
            "example": "alert",
        }
    },
    "state": {
        "state": {"summary": "The account's model, in a form of its own.", "content_type": BYTES},
        "deletion": {
            "summary": "The account's state is gone. No value: a null of Kafka's.",
            "content_type": BYTES,
            "headers": {FENCE_HEADER: "Last offset that it had seen.", ERASED_HEADER: "1 when it was ordered."},
        },
    },
}
"""Messages of each topic."""


def _topic(settings: Settings, name: str) -> dict[str, Any]:
    (spec,) = [spec for spec in topic_specs(settings) if spec.name == name]
    numbers = {key: int(value) for key, value in spec.config.items() if key in ("retention.ms", "max.message.bytes")}
    configuration: dict[str, Any] = {"cleanup.policy": [spec.config["cleanup.policy"]], **numbers}
    # Its name, partitions and replicas are the operator's.
    return {
        "topicConfiguration": configuration,
        "bindingVersion": KAFKA_BINDING,
    }


def _message(
    *,
    summary: str,
    payload: str | None = None,
    content_type: str = JSON,
    headers: dict[str, str] | None = None,
    key: str = ACCOUNT_KEY,
    example: str | None = None,
) -> dict[str, Any]:
    message: dict[str, Any] = {"summary": summary, "contentType": content_type}
    if payload is not None:
        message["payload"] = {"$ref": f"#/components/schemas/{payload}"}
    if headers:
        properties = {name: {"type": "string", "description": text} for name, text in headers.items()}
        message["headers"] = {"type": "object", "properties": properties}
    message["bindings"] = {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": KAFKA_BINDING}}
    if example is not None:
        message["examples"] = [{"name": example, "payload": orjson.loads(published()[f"{example}.example.json"])}]
    return message


def _operations() -> dict[str, Any]:
    """What a worker does with the topics."""
    verbs = {
        "score": ("receive", "requests", ("request", "forget"), "Scores requests, carries out orders to forget."),
        "sendBack": (
            "send",
            "requests",
            ("request", "forget"),
            "Sends back under their account what was keyed wrongly.",
        ),
        "refuse": ("send", "dead_letters", ("refused", "redacted"), "Puts aside what cannot be read."),
        "alert": ("send", "alerts", ("alert",), "Tells what it has found."),
        "save": ("send", "state", ("state", "deletion"), "Saves states at each checkpoint."),
        "restore": ("receive", "state", ("state", "deletion"), "Restores states of partitions that come to it."),
    }
    return {
        name: {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages],
        }
        for name, (action, channel, messages, summary) in verbs.items()
    }


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(tuple(TYPES.values()), ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        if "description" in schema:
            # Python 3.13 strips the indentation of docstrings, earlier ones keep it.
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(schemas.items()))


def page() -> bytes:
    """The file as it should be."""
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    FILE.write_bytes(page())
