"""What is published is what the code does."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jsonschema_rs
import orjson
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from schemas.alert import OCSF_VERSION, decode_alert
from schemas.publish import FOLDER, TYPES, published
from schemas.request import RequestLimits, decode_request, user_text

FILES = published()


def schema_of(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(orjson.loads(FILES[f"{name}.schema.json"]))


def example_of(name: str) -> Any:
    return orjson.loads(FILES[f"{name}.example.json"])


def test_checked_in_files_are_those_that_the_code_makes() -> None:
    checked_in = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert checked_in == FILES, "write them again: python -m schemas.publish"


def test_every_process_makes_the_same_files() -> None:
    code = "import sys\nfrom schemas.publish import published\nsys.stdout.buffer.write(b''.join(published().values()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout == b"".join(FILES.values())


@pytest.mark.parametrize("name", list(TYPES))
def test_examples_are_valid(name: str) -> None:
    schema_of(name).validate(example_of(name))


def test_the_example_request_is_read() -> None:
    event = decode_request(FILES["request.example.json"], RequestLimits())
    assert user_text(event) == "How do I boil an egg?"


def test_the_example_alert_is_read_and_is_ocsf() -> None:
    assert decode_alert(FILES["alert.example.json"]).account == "acct_8ea01d52"
    ocsf = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=OCSF_VERSION)).get_class_schema("detection_finding")
    jsonschema_rs.validator_for(ocsf).validate(example_of("alert"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("account", ""),
        ("account", "a\n"),
        ("account", "a\x07"),
        ("account", "x" * 257),
        ("time", "now"),
        ("time", 1_790_812_856),
        ("time", 1_790_812_856_423_000),
        ("output_tokens", -1),
        ("links", {str(i): "x" for i in range(33)}),
        ("embedding", [None]),
        ("prompt", 5),
    ],
)
def test_the_request_schema_refuses_what_the_code_refuses(field: str, value: object) -> None:
    assert not schema_of("request").is_valid(example_of("request") | {field: value})


def test_the_request_schema_accepts_unknown_fields_and_null_counts() -> None:
    schema_of("request").validate(example_of("request") | {"new": 1, "output_tokens": None, "embedding": [0.5]})
