"""Kafka Connect's configurations: what their connectors document, only findings, no secret, no test of ours.

Quick checks: tests/integration/connect runs the files, with the connectors themselves where there are any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.alert import TEST_HEADER
from streams.settings import load_settings
from streams.topics import TopicNames
from tests.unit.deploy.manifests import CHART, ROOT

FILES = sorted((ROOT / "deploy" / "connect").glob("*.json"))
PAGE = (ROOT / "deploy" / "SUBSCRIBING.md").read_text()

# What every sink takes, from Kafka's own documentation.
COMMON = {
    "connector.class",
    "tasks.max",
    "topics",
    "consumer.override.group.id",
    "consumer.override.max.poll.interval.ms",
    "errors.log.enable",
    "errors.log.include.messages",
    "key.converter",
    "value.converter",
    "value.converter.schemas.enable",
}

SEARCH = {
    *(
        "connection.url",
        "connection.username",
        "connection.password",
        "batch.size",
        "max.buffered.records",
        "linger.ms",
    ),
    *("flush.timeout.ms", "max.retries", "retry.backoff.ms", "key.ignore", "schema.ignore", "drop.invalid.message"),
    *("behavior.on.null.values", "behavior.on.malformed.documents"),
}
OPENSEARCH = SEARCH | {"behavior.on.version.conflict"}

# What each connector's documentation lists, and of it what must be there.
DOCUMENTED: dict[str, tuple[set[str], set[str]]] = {
    "com.splunk.kafka.connect.SplunkSinkConnector": (
        {"splunk.hec.uri", "splunk.hec.token"},
        {"splunk.indexes", "splunk.sourcetypes", "splunk.hec.raw", "splunk.hec.use.record.timestamp"}
        | {"splunk.hec.ack.enabled", "splunk.hec.ssl.trust.store.path"},
    ),
    "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector": ({"connection.url", "key.ignore"}, SEARCH),
    "io.aiven.kafka.connect.opensearch.OpenSearchSinkConnector": ({"connection.url", "key.ignore"}, OPENSEARCH),
    "io.aiven.kafka.connect.http.HttpSinkConnector": (
        {"http.url", "http.authorization.type"},
        {"http.headers.authorization", "http.headers.content.type", "batching.enabled", "max.retries"}
        | {"retry.backoff.ms"},
    ),
}

FILTER = {
    "transforms.tests.type": "org.apache.kafka.connect.transforms.Filter",
    "transforms.tests.predicate": "isTest",
    "predicates": "isTest",
    "predicates.isTest.type": "org.apache.kafka.connect.transforms.predicates.HasHeaderKey",
    "predicates.isTest.name": TEST_HEADER,
}

# A document's id is the record's key, made of the value's metadata.uid: ValueToKey reaches no nested field.
EXTRACT = "org.apache.kafka.connect.transforms.ExtractField$Key"
UID_AS_KEY = {
    "key.ignore": "false",
    "transforms": "tests,uid,metadata,key",
    "transforms.uid.type": "org.apache.kafka.connect.transforms.ValueToKey",
    "transforms.uid.fields": "metadata",
    "transforms.metadata.type": EXTRACT,
    "transforms.metadata.field": "metadata",
    "transforms.key.type": EXTRACT,
    "transforms.key.field": "uid",
}
KEY_AS_IT_IS = {"transforms": "tests"}


def test_there_is_one_for_each_product_that_the_page_names() -> None:
    assert {f"deploy/connect/{file.name}" for file in FILES} == set(
        re.findall(r"`(deploy/connect/\w+\.json)` \|", PAGE)
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_configuration_has_what_its_connector_documents_and_nothing_else(file: Any) -> None:
    given = json.loads(file.read_text())
    assert set(given) == {"name", "config"}
    config = given["config"]
    assert all(isinstance(value, str) for value in config.values()), "Connect takes strings"
    needed, known = DOCUMENTED[config["connector.class"]]
    transforms = FILTER | (UID_AS_KEY if "key.ignore" in needed else KEY_AS_IT_IS)
    assert needed <= set(config) <= COMMON | needed | known | set(transforms)
    assert config["topics"] == TopicNames.of(load_settings()).alerts
    assert config["consumer.override.group.id"] == given["name"]
    assert transforms.items() <= config.items()
    assert config["errors.log.enable"] == config["errors.log.include.messages"] == "true"
    secret = [value for name, value in config.items() if re.search("token|password|authorization$", name)]
    assert secret
    assert all(re.fullmatch(r"\$\{env:[A-Z_]+\}", value) for value in secret)


def test_the_index_template_makes_dates_of_the_times_and_of_nothing_else() -> None:
    template = json.loads((ROOT / "deploy" / "connect" / "search" / "index-template.json").read_text())
    assert template["index_patterns"] == [f"{TopicNames.of(load_settings()).alerts}*"]
    ((rule,),) = [each.values() for each in template["template"]["mappings"]["dynamic_templates"]]
    assert rule["mapping"] == {"type": "date", "format": "epoch_millis"}
    numbers = set(whole_numbers(json.loads((ROOT / "schemas" / "published" / "alert.example.json").read_text())))
    dates = {name for name, _ in numbers if re.fullmatch(rule["match"], name)}
    # Milliseconds since 1970 are greater than whatever is counted.
    assert dates == {name for name, value in numbers if value > 10**12} != set()


def whole_numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Name and value of each field that holds one, at any depth."""
    if type(value) is int:
        yield name, value
    elif isinstance(value, dict):
        for key, nested in value.items():
            yield from whole_numbers(nested, key)
    elif isinstance(value, list):
        for nested in value:
            yield from whole_numbers(nested, name)


def test_every_group_is_one_that_the_page_and_the_chart_give_rights_to() -> None:
    """A sink would join `connect-NAME`, which nobody may by these rights."""
    (granted,) = re.findall(r"--group (\S+) --resource-pattern-type prefixed", PAGE)
    assert granted == f"{load_settings().group_id}-alerts"
    assert '(dict "groups" (printf "%s-alerts" $group)' in (CHART / "templates" / "strimzi.yaml").read_text()
    groups = [json.loads(file.read_text())["config"]["consumer.override.group.id"] for file in FILES]
    assert len(set(groups)) == len(FILES)
    assert all(group.startswith(granted) for group in [*groups, *re.findall(r'"group.id": "([^"]+)"', consumer())])


def consumer() -> str:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(snippet)


def test_the_consumer_is_ten_lines_or_so() -> None:
    assert len([line for line in consumer().splitlines() if line.strip()]) <= 12
