"""What Kafka Connect itself makes of deploy/connect, with its own sink, which prints, in the place of the products'.

`test_connectors.py` has the products' connectors, where there are any.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.alert import as_test
from tests.integration.connect.connect_worker import ConnectWorker
from tests.integration.connect.sent_alerts import FILES, connector, document, finding, record, secrets
from tests.integration.streams.running import Request, send, wait_done

PRINTING = {"connector.class": "org.apache.kafka.connect.tools.VerifiableSinkConnector"}


def printing(file: Path, topic: str) -> dict[str, Any]:
    """A file for a test's topic, with the sink that prints."""
    posted = connector(file, topic, "http://127.0.0.1:1")
    return posted | {"config": posted["config"] | PRINTING}


def printed(worker: ConnectWorker, after: int) -> list[Any]:
    """Key and value of each record that came to a sink, `after` so many lines; it calls them by other names."""
    lines = [json.loads(line) for line in worker.printed[after:]]
    return [(line["task"], line["seqno"]) for line in lines if "flushed" not in line]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_the_file_is_taken_and_findings_come_once_without_tests(
    file: Path, plain: ConnectWorker, kafka: str, topic_prefix: str, make_topics
) -> None:
    topic = f"{topic_prefix}alerts"
    await make_topics(topic)
    first, second = finding(1), finding(2)
    await send(kafka, topic, [record(first), record(as_test(first)), record(second)])
    posted, before = printing(file, topic), len(plain.printed)
    with plain.running(posted):
        # The group is the one of the page's rights. What was left out counts as read.
        await wait_done(kafka, posted["name"], topic, 60)
        _, told = plain.ask("GET", f"/connectors/{posted['name']}")
    found = printed(plain, before)
    values = [json.loads(value) if isinstance(value, str) else value for _, value in found]
    assert values == [document(first), document(second)]
    by_uid = file.stem in {"elasticsearch", "opensearch"}
    assert [key for key, _ in found] == [a.metadata.uid if by_uid else a.account for a in (first, second)]
    # What Connect tells of a connector names its secret and does not tell it.
    assert "${env:" in json.dumps(told)
    assert not any(secret in json.dumps(told) for secret in secrets().values())


async def test_a_record_that_is_no_finding_stops_the_task_and_says_which(
    plain: ConnectWorker, kafka: str, topic_prefix: str, make_topics
) -> None:
    topic = f"{topic_prefix}alerts"
    await make_topics(topic)
    await send(kafka, topic, [record(finding(1)), Request(b"acct", b"no JSON")])
    posted = printing(next(file for file in FILES if file.stem == "elasticsearch"), topic)
    with plain.running(posted):
        plain.wait_until(lambda: plain.states(posted["name"]) == ["RUNNING", "FAILED"], 60)
    assert f"{{topic='{topic}', partition=0, offset=1" in plain.log


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_connect_finds_no_error_in_what_it_reads_itself_and_knows_all_of_it(file: Path, plain: ConnectWorker) -> None:
    errors, unknown = plain.errors_and_unknown(printing(file, "alerts"))
    assert errors == {}
    of_connect = ("transforms", "predicates", "errors", "topics", "tasks", "connector")
    assert {name for name in unknown if name.startswith(of_connect)} == set()
