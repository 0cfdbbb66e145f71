"""The commands of the README on a real Kafka, in the order in which a user meets them."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.conftest import Run

Simulated = tuple[Path, dict[str, dict[str, object]]]
Started = Callable[..., Any]


@pytest.fixture
def broker_flags(kafka: str, topic_prefix: str, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Settings of one run, as a user would export them; commands read them from the environment."""
    return {
        "STILLWATCH_BROKERS": kafka,
        "STILLWATCH_TOPIC_PREFIX": topic_prefix,
        "STILLWATCH_GROUP_ID": f"{topic_prefix}group",
        "STILLWATCH_STORE": "memory",
        "STILLWATCH_METRICS_PORT": "0",
        "STILLWATCH_DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture(autouse=True)
def exported(broker_flags: dict[str, str], environment: dict[str, str]) -> None:
    environment.update(broker_flags)


def findings(lines: str) -> list[tuple[str, int, int, str]]:
    """What must be equal in live and replayed alerts; offsets differ, a file has none."""
    alerts = map(orjson.loads, lines.splitlines())
    return sorted((a["finding_info"]["uid"], a["metadata"]["sequence"], a["time"], a["message"]) for a in alerts)


def alerts_when_there(stillwatch: Run, accounts: set[str], seconds: float = 120) -> str:
    """The alerts topic once every one of `accounts` is in it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = stillwatch("alerts", "--json").stdout
        if all(account in lines for account in accounts):
            return lines
        time.sleep(1)
    raise AssertionError(f"no alerts of all of {accounts}: {lines[:2000]}")


def test_a_service_without_topics_is_told_how_to_make_them(stillwatch: Run) -> None:
    assert "`stillwatch topics create`" in stillwatch("topics", "check", code=4).stderr
    assert "has `stillwatch topics create` been run?" in stillwatch("alerts", code=4).stderr
    assert "there is no topic" in stillwatch("replay", "--topic", "nothing", code=4).stderr


def test_the_whole_way(
    stillwatch: Run, started: Started, simulated: Simulated, planted: set[str], topic_prefix: str, tmp_path: Path
) -> None:
    events, _ = simulated
    count = len(events.read_bytes().splitlines())
    assert "requests: created" in stillwatch("topics", "create", "--partitions", 3).stdout
    again = stillwatch("topics", "create")
    assert ("requests: was there" in again.stdout, again.stderr) == (True, "")
    assert f"{topic_prefix}requests: 3 partitions" in stillwatch("topics", "check").stdout
    assert f"{topic_prefix}state has 3 partitions, not 4" in stillwatch("topics", "check", "--partitions", 4).stderr
    assert "no alerts" in stillwatch("alerts").stderr
    assert f"{count} requests sent" in stillwatch("produce", events).stderr

    with started("worker") as worker, started("alerts", "--follow") as following:
        live = alerts_when_there(stillwatch, planted)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
        followed = following.stdout.read()
        assert "Traceback" not in following.stderr.read()
    assert all(account in followed for account in planted)
    live = stillwatch("alerts", "--json").stdout

    # The same findings from the topic and from the file.
    requests = f"{topic_prefix}requests"
    report = stillwatch("replay", "--topic", requests, "--out", "replayed.jsonl", "--no-close").stderr
    assert f"{count} records, {count} requests scored" in report
    assert findings((tmp_path / "replayed.jsonl").read_text()) == findings(live)
    assert findings(stillwatch("replay", events, "--no-close").stdout) == findings(live)

    # Between two times, by the records' own time, which is now.
    assert "0 records" in stillwatch("replay", "--topic", requests, "--until", "1h").stderr
    assert f"{count} records" in stillwatch("replay", "--topic", requests, "--since", "1h").stderr

    # Views of the alerts.
    one = min(planted)
    table = stillwatch("alerts", "--account", one).stdout
    assert one in table
    assert not [account for account in planted - {one} if account in table]
    assert "not a person" in table
    times = [orjson.loads(line)["time"] for line in live.splitlines()]
    late = stillwatch("alerts", "--json", "--since", max(times)).stdout.splitlines()
    assert [orjson.loads(line)["time"] for line in late] == [max(times)]


def test_simulated_traffic_goes_straight_to_the_topic_and_a_pipe_too(stillwatch: Run, topic_prefix: str) -> None:
    stillwatch("topics", "create", "--partitions", 2)
    stillwatch("simulate", "--to-topic", "--organic", 2, "--planted", 0, "--days", 3)
    line = '{"time": 1767571200000, "account": "acct-17", "prompt": "hello"}\n'
    assert "2 requests sent" in stillwatch("produce", "-", stdin=line + "no JSON\n").stderr
    report = stillwatch("replay", "--topic", f"{topic_prefix}requests").stderr
    assert "1 not_json" in report
    assert "passed over" not in report


def test_ctrl_c_ends_a_producer_that_waits_for_its_pipe_and_what_came_is_sent(
    stillwatch: Run, started: Started, topic_prefix: str
) -> None:
    stillwatch("topics", "create")
    with started("produce", "-") as producing:
        producing.stdin.write('{"time": 1767571200000, "account": "acct-17", "prompt": "hello"}\n')
        producing.stdin.flush()
        time.sleep(4)
        producing.send_signal(signal.SIGINT)
        assert producing.wait(30) == 130
    assert "1 records, 1 requests scored" in stillwatch("replay", "--topic", f"{topic_prefix}requests").stderr


def test_a_canary_is_found_marked_and_forgotten_and_silence_is_told(
    stillwatch: Run, started: Started, environment: dict[str, str]
) -> None:
    environment["STILLWATCH_CANARY_PREFIX"] = "canary-7e2a9b-"
    stillwatch("topics", "create")
    with started("worker"):
        text = stillwatch("canary").stdout
        assert re.search(
            r"canary-7e2a9b-\S+ found \d+\.\d s after it was sent, at its request \d+; marked as a test", text
        )
        (opened,) = [a for a in map(orjson.loads, stillwatch("alerts", "--json").stdout.splitlines()) if is_opening(a)]
        name = opened["observables"][0]["value"]
        assert name in text
        assert opened["verdict"] == "Test"
        replayed = stillwatch("replay", "--topic", f"{environment['STILLWATCH_TOPIC_PREFIX']}requests").stdout
        (again,) = [a for a in map(orjson.loads, replayed.splitlines()) if is_opening(a)]
        assert again == opened
    silent = stillwatch("canary", "--wait", 2, code=1).stderr
    assert "was not found" in silent
    assert "is not forgotten yet" in silent
    environment["STILLWATCH_CANARY_PREFIX"] = ""
    assert "canary_prefix is not set" in stillwatch("canary", code=2).stderr


def test_a_canary_of_which_the_workers_know_nothing_is_no_test(
    stillwatch: Run, started: Started, environment: dict[str, str]
) -> None:
    stillwatch("topics", "create")
    with started("worker"):
        assert "not marked as a test" in stillwatch("canary", "--canary-prefix", "canary-7e2a9b-", code=1).stderr


def is_opening(alert: dict[str, Any]) -> bool:
    return bool(alert["activity_id"] == 1)


def test_what_is_no_alert_on_the_topic_is_passed_over_with_a_word(
    stillwatch: Run, broker_flags: dict[str, str], topic_prefix: str, kafka: str
) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await producer.send_and_wait(f"{topic_prefix}alerts", b"\x1b[2J no alert")

    stillwatch("topics", "create")
    asyncio.run(send())
    done = stillwatch("alerts")
    assert "is no alert" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_the_demo_on_a_real_kafka_cleans_up(stillwatch: Run, kafka: str) -> None:
    text = stillwatch("demo", "--brokers", kafka, "--organic", 10, "--planted", 2, "--rate", 3000).stdout
    assert "planted 2, found 2" in text
    assert "false alerts: 0 of 10" in text
    assert not topics_named(kafka, "stillwatch-demo-")


def topics_named(kafka: str, prefix: str) -> list[str]:
    async def names() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            return list(await admin.list_topics())
        finally:
            await admin.close()

    return [name for name in asyncio.run(names()) if name.startswith(prefix)]
