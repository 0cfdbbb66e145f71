"""The products' own connectors with the files of deploy/connect, against a far end that answers as the products do.

No package registry has these connectors: `make connect-test CONNECTORS=folder` takes those that the folder holds, each
unpacked into a folder of its own as for a worker's `plugin.path`.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.alert import as_test
from tests.integration.connect.connect_worker import ConnectWorker
from tests.integration.connect.far_end import FarEnd
from tests.integration.connect.sent_alerts import FILES, connector, document, finding, record, secrets
from tests.integration.streams.running import send, wait_done

# Splunk's connector asks every 10 s what is indexed, and rests for a minute after an error.
ARRIVAL_SECONDS = 60
REJECTIONS = {"splunk": 1, "http": 3, "elasticsearch": 8, "opensearch": 8}
RETRY_SECONDS = 180


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest, equipped: ConnectWorker) -> Path:
    """Each file whose connector there is."""
    chosen: Path = request.param
    wanted = json.loads(chosen.read_text())["config"]["connector.class"]
    if wanted not in {plugin["class"] for plugin in equipped.ask("GET", "/connector-plugins")[1]}:
        pytest.skip(f"no {wanted} among the connectors")
    return chosen


@pytest.fixture
def posted(file: Path, far_end: FarEnd, topic_prefix: str) -> dict[str, Any]:
    """The file for the test's topic and far end."""
    return connector(file, f"{topic_prefix}alerts", far_end.address)


def authorization(file: Path) -> str:
    """What the far end must be shown."""
    basic = base64.b64encode(f"stillwatch:{secrets().get(f'{file.stem.upper()}_PASSWORD')}".encode()).decode()
    return {
        "splunk": f"Splunk {secrets()['SPLUNK_HEC_TOKEN']}",
        "http": secrets()["HTTP_AUTHORIZATION"],
    }.get(file.stem, f"Basic {basic}")


def uid(event: Any) -> str:
    """What is unique to a step of a finding."""
    return str(event["metadata"]["uid"])


def test_the_connector_knows_every_option_and_finds_no_error(posted: dict[str, Any], equipped: ConnectWorker) -> None:
    errors, unknown = equipped.errors_and_unknown(posted)
    assert errors == {}
    # Connect hands these on to the converters and to the consumer.
    handed_on = ("key.converter.", "value.converter.", "consumer.override.")
    assert {name for name in unknown if not name.startswith(handed_on)} == set()


async def test_each_finding_comes_once_and_whole_and_no_test(
    file: Path, posted: dict[str, Any], far_end: FarEnd, equipped: ConnectWorker, kafka: str, make_topics
) -> None:
    topic = posted["config"]["topics"]
    await make_topics(topic)
    alerts = [finding(number) for number in range(3)]
    await send(kafka, topic, [record(alerts[0]), record(as_test(alerts[0])), *map(record, alerts[1:])])
    with equipped.running(posted):
        await wait_done(kafka, posted["name"], topic, ARRIVAL_SECONDS)
        # In any order: a search engine is sent several requests at once.
        assert sorted(far_end.events, key=uid) == list(map(document, alerts))
        assert far_end.authorizations == {authorization(file)}
        if file.stem == "splunk":
            assert {(each["index"], each["sourcetype"]) for each in far_end.wrapped} == {
                ("security", "stillwatch:ocsf")
            }
            # When it was told, not when it happened.
            assert all(abs(float(each["time"]) - time.time()) < 600 for each in far_end.wrapped)
        # What a worker writes twice after a crash is one document where documents have ids.
        await send(kafka, topic, [record(alerts[2])])
        await wait_done(kafka, posted["name"], topic, ARRIVAL_SECONDS)
        if file.stem in {"elasticsearch", "opensearch"}:
            assert far_end.kept == {alert.metadata.uid: document(alert) for alert in alerts}
        assert equipped.states(posted["name"]) == ["RUNNING", "RUNNING"]


async def test_what_was_rejected_comes_later(
    file: Path, posted: dict[str, Any], far_end: FarEnd, equipped: ConnectWorker, kafka: str, make_topics
) -> None:
    topic = posted["config"]["topics"]
    await make_topics(topic)
    far_end.rejections = REJECTIONS[file.stem]
    with equipped.running(posted):
        await send(kafka, topic, [record(finding(1)), record(finding(2))])
        await wait_done(kafka, posted["name"], topic, RETRY_SECONDS)
        assert sorted(map(uid, far_end.events)) == [finding(number).metadata.uid for number in (1, 2)]
        assert far_end.rejections == 0
        assert equipped.states(posted["name"]) == ["RUNNING", "RUNNING"]
