"""The consumer of deploy/SUBSCRIBING.md, as it stands there, on a real Kafka."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import orjson

from schemas.alert import as_test, cloudevents_headers, decode_alert, encode_alert
from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames, create_topics
from tests.integration.streams.running import ROOT, Request, Start, read, send, wait_done, wait_until

PAGE = ROOT / "deploy" / "SUBSCRIBING.md"


async def test_the_example_prints_every_finding_and_no_test(
    kafka: str, topic_prefix: str, start: Start, tmp_path: Path
) -> None:
    names = TopicNames.of(load_settings(topic_prefix=topic_prefix))
    await create_topics(load_settings(brokers=kafka, topic_prefix=topic_prefix))
    events = simulate(seed=3, days=4, organic=2, planted=2).events
    await send(kafka, names.requests, [Request(event["account"].encode(), orjson.dumps(event)) for event in events])
    worker = start()
    await wait_done(kafka, topic_prefix, names.requests, 60, worker)
    assert worker.stop() == 0
    alerts = [decode_alert(record.value) for record in await read(kafka, names.alerts)]
    assert len(alerts) > 1
    # Behind the test, on the same partition, comes what is none: once that is printed, the test was passed over.
    key, test = alerts[0].account.encode(), as_test(alerts[0])
    behind = [Request(key, encode_alert(of), headers=cloudevents_headers(of)) for of in (test, alerts[0])]
    await send(kafka, names.alerts, behind)
    assert printed_by_the_example(kafka, names.alerts, len(alerts) + 1, tmp_path) == sorted(
        f"{a.finding_info.uid} {a.activity_name} {a.severity} {a.message}" for a in [*alerts, alerts[0]]
    )


def test_the_example_ends_with_the_reason_when_it_cannot_read(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    with printed.open("wb") as out:
        ended = the_example(kafka, f"{topic_prefix}nowhere", tmp_path, out).wait(60)
    assert ended != 0
    assert "KafkaException" in printed.read_text()


def printed_by_the_example(kafka: str, topic: str, lines: int, folder: Path) -> list[str]:
    """What the page's program prints, once it is so many lines."""
    printed = folder / "printed"
    with printed.open("wb") as out:
        consumer = the_example(kafka, topic, folder, out)
    try:
        wait_until(lambda: len(printed.read_text().splitlines()) >= lines, 60)
    finally:
        consumer.kill()
        consumer.wait()
    return sorted(printed.read_text().splitlines())


def the_example(kafka: str, topic: str, folder: Path, out: IO[bytes]) -> subprocess.Popen[bytes]:
    """The page's program, started for a topic."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert '"stillwatch.alerts"' in snippet
    program, properties = folder / "consumer.py", folder / "kafka.properties"
    program.write_text(snippet.replace("stillwatch.alerts", topic))
    properties.write_text(f"bootstrap.servers={kafka}\nsecurity.protocol=PLAINTEXT\n")
    environment = os.environ | {"KAFKA_PROPERTIES": str(properties)}
    return subprocess.Popen([sys.executable, program], env=environment, stdout=out, stderr=subprocess.STDOUT)
