"""Every client of the service on listeners that want to know who comes; what is wrong is told in a line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from streams.cli.demo import on_embedded_broker
from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames
from tests.integration.security.certificates import YESTERDAY, Authority
from tests.integration.security.conftest import Command
from tests.integration.security.secured_broker import PASSWORD, USER, SecuredBroker
from tests.integration.streams.running import Worker, wait_done

Settings = dict[str, Any]

UNLOCKING = "horse"

WITHIN_SECONDS = 15
"""In which what is wrong must have been said. Most of it is the loading of a worker on a busy machine."""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traffic with something to find in it."""
    file = tmp_path_factory.mktemp("events") / "events.jsonl"
    traffic = simulate(seed=3, days=3, organic=2, planted=2)
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in traffic.events))
    return file


# ---- good credentials


@pytest.mark.parametrize("listener", ["scram", "scram_tls", "mutual"])
def test_every_client_gets_in(
    listener: str, secured: SecuredBroker, command: Command, events: Path, topic_prefix: str, tmp_path: Path
) -> None:
    settings = secured.settings(listener, topic_prefix=topic_prefix, group_id=topic_prefix, store="memory")
    requests = TopicNames.of(load_settings(topic_prefix=topic_prefix)).requests
    lines = events.read_bytes().splitlines()
    count, account = len(lines), orjson.loads(lines[0])["account"]

    assert "requests: created" in command(settings, "topics", "create", "--partitions", 2).out
    assert f"{requests}: 2 partitions" in command(settings, "topics", "check").out
    assert f"{count} requests sent" in command(settings, "produce", events).err
    worker = Worker(tmp_path, settings)
    try:
        asyncio.run(wait_done(secured.broker.bootstrap, topic_prefix, requests, 60, worker))
        forgotten = command(settings, "forget", account)
        assert (forgotten.code, forgotten.err) == (0, "")
        assert f"{account} is erased" in forgotten.out
        assert f"{topic_prefix}alerts" in forgotten.out
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert "WARNING" not in worker.log
    waiting = command(settings, "forget", account)
    assert waiting.code == 1
    assert f"{account} is not erased yet: no worker of group {topic_prefix} runs" in waiting.out

    live = command(settings, "alerts", "--json").out.splitlines()
    assert len(live) >= 2
    replayed = command(settings, "replay", "--topic", requests, "--no-close")
    assert f"{count + 2} records, {count} requests scored" in replayed.err
    assert "2 orders to forget an account" in replayed.err
    assert findings(replayed.out.splitlines()) == findings(live)
    simulated = command(settings, "simulate", "--to-topic", "--organic", 1, "--planted", 0, "--days", 3)
    assert simulated.code == 0
    assert "requests sent to" in simulated.err


def findings(lines: list[str]) -> list[tuple[str, int, int]]:
    alerts = map(orjson.loads, lines)
    return sorted((a["finding_info"]["uid"], a["metadata"]["sequence"], a["time"]) for a in alerts)


def test_the_other_mechanism_and_a_key_with_a_password_get_in(
    secured: SecuredBroker, command: Command, topic_prefix: str
) -> None:
    assert command(secured.settings("scram_tls", sasl_mechanism="SCRAM-SHA-256"), "topics", "create").code == 0
    pair = secured.authority.issue("locked", key_password=UNLOCKING)
    settings = secured.settings("mutual", ssl_cert_file=pair.certificate, ssl_key_file=pair.key)
    assert command(settings | {"ssl_key_password": UNLOCKING}, "topics", "check").code == 0

    without = command(settings, "topics", "check")
    assert without.code == 2
    assert "ssl_key_password" in without.err
    assert without.err.count("\n") == 1


def test_the_demo_gets_in(secured: SecuredBroker, command: Command) -> None:
    settings = secured.settings("scram_tls")
    few = ("--organic", 3, "--planted", 1, "--days", 3, "--rate", 5000)
    ended = command(settings, "demo", "--brokers", settings["brokers"], *few)
    assert (ended.code, "planted 1, found 1" in ended.out) == (0, True), ended


def test_the_broker_of_the_demo_asks_nobody_whatever_is_set(secured: SecuredBroker) -> None:
    given = load_settings(**secured.settings("scram_tls"))
    assert on_embedded_broker(given, "127.0.0.1:1").client_options()["security_protocol"] == "PLAINTEXT"


def test_a_worker_whose_credentials_change_ends_to_be_started_again(
    secured: SecuredBroker, command: Command, topic_prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    settings = secured.settings(
        "scram_tls", topic_prefix=topic_prefix, store="memory", sasl_password=None, sasl_password_file=file
    )
    assert command(settings, "topics", "create").code == 0
    worker = Worker(tmp_path, settings)
    try:
        worker.wait_ready()
        assert worker.get("/live")[0] == 200
        file.write_text("rotated")
        assert worker.process.wait(WITHIN_SECONDS + 30) == 75
    finally:
        worker.kill()
    assert "credentials have changed" in worker.log
    assert "ending hard" not in worker.log
    assert "rotated" not in worker.log
    assert f"refused user {USER}" in command(settings, "topics", "check").err


# ---- bad ones


WRONG = "not-the-password"


class Fault(NamedTuple):
    """What is set wrong, and what the line about it must say."""

    settings: Callable[[SecuredBroker, Path], Settings]
    says: tuple[str, ...]


def unknown_ca(secured: SecuredBroker, folder: Path) -> Settings:
    return secured.settings("scram_tls", ssl_ca_file=Authority(folder, "unknown").file)


def expired_client(secured: SecuredBroker, folder: Path) -> Settings:
    pair = secured.authority.issue("expired-client", until=YESTERDAY)
    return secured.settings("mutual", ssl_cert_file=pair.certificate, ssl_key_file=pair.key)


def foreign_client(secured: SecuredBroker, folder: Path) -> Settings:
    pair = Authority(folder, "foreign").issue("client")
    return secured.settings("mutual", ssl_cert_file=pair.certificate, ssl_key_file=pair.key)


FAULTS = {
    "wrong password": Fault(
        lambda secured, _: secured.settings("scram_tls", sasl_password=WRONG),
        (f"refused user {USER} with SCRAM-SHA-512", "sasl_password"),
    ),
    "wrong password without TLS": Fault(
        lambda secured, _: secured.settings("scram", sasl_password=WRONG), ("refused user", "sasl_password")
    ),
    "unknown CA": Fault(unknown_ca, ("is of a CA that is not among", "unknown-ca.pem", "ssl_ca_file")),
    "expired certificate of the broker": Fault(
        lambda secured, _: secured.settings("expired"), ("its certificate, or its CA's, has expired",)
    ),
    "expired certificate of ours": Fault(
        expired_client, ("trusted-expired-client.pem", f"expired on {YESTERDAY:%Y-%m-%d}", "ssl_cert_file")
    ),
    "certificate of ours of an unknown CA": Fault(
        foreign_client, ("refused our certificate", "foreign-client.pem", "ssl_cert_file")
    ),
    "no certificate of ours": Fault(
        lambda secured, _: secured.settings("mutual", ssl_cert_file=None, ssl_key_file=None),
        ("wants a certificate of us", "ssl_cert_file"),
    ),
    "another name": Fault(
        lambda secured, _: secured.settings("scram_tls", brokers=f"localhost:{secured.ports['scram_tls']}"),
        ("not for the name localhost", "brokers"),
    ),
    "no TLS where it is wanted": Fault(
        lambda secured, _: secured.settings("scram_tls", security_protocol="SASL_PLAINTEXT"),
        ("does not speak SASL_PLAINTEXT", "security_protocol"),
    ),
    "TLS where there is none": Fault(
        lambda secured, _: secured.settings("scram_tls", brokers=secured.broker.bootstrap), ("security_protocol",)
    ),
    "no user where one is wanted": Fault(
        lambda secured, _: {"brokers": f"127.0.0.1:{secured.ports['scram']}"}, ("set security_protocol",)
    ),
    "a user where none is wanted": Fault(
        lambda secured, _: secured.settings("scram", brokers=secured.broker.bootstrap), ("set security_protocol",)
    ),
    "a mechanism that is not offered": Fault(
        lambda secured, _: secured.settings("scram", sasl_mechanism="PLAIN"), ("does not offer PLAIN", "sasl_mechanism")
    ),
}

CLIENTS = {
    "topics create": ("topics", "create"),
    "topics check": ("topics", "check"),
    "produce": ("produce", "EVENTS"),
    "simulate": ("simulate", "--to-topic", "--organic", "1", "--planted", "0", "--days", "3"),
    "alerts": ("alerts",),
    "forget": ("forget", "acct-17"),
    "replay": ("replay", "--topic", "stillwatch.requests"),
    "demo": ("demo", "--brokers", "BROKERS", "--organic", "1", "--planted", "0", "--days", "3"),
}

EACH_CLIENT = ("wrong password", "unknown CA", "expired certificate of the broker", "expired certificate of ours")


@pytest.mark.parametrize(
    ("fault", "client"),
    [(fault, client) for fault in EACH_CLIENT for client in CLIENTS]
    + [(fault, "topics check") for fault in FAULTS if fault not in EACH_CLIENT],
)
def test_what_keeps_a_command_out_is_said_in_a_line(
    fault: str, client: str, secured: SecuredBroker, command: Command, events: Path, tmp_path: Path
) -> None:
    settings = FAULTS[fault].settings(secured, tmp_path)
    places = {"EVENTS": str(events), "BROKERS": settings["brokers"]}
    began = time.monotonic()
    ended = command(settings, *(places.get(word, word) for word in CLIENTS[client]))
    assert time.monotonic() - began < WITHIN_SECONDS
    assert ended.code == 4, ended
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(f"stillwatch: brokers {settings['brokers']}")
    for words in FAULTS[fault].says:
        assert words in ended.err
    assert "Traceback" not in ended.out + ended.err
    assert WRONG not in ended.out + ended.err


@pytest.mark.parametrize(
    ("fault", "check_topics"), [*((fault, True) for fault in EACH_CLIENT), ("wrong password", False)]
)
def test_what_keeps_a_worker_out_is_said_in_a_line(
    fault: str, check_topics: bool, secured: SecuredBroker, tmp_path: Path
) -> None:
    settings = FAULTS[fault].settings(secured, tmp_path)
    worker = Worker(tmp_path, settings | {"check_topics": check_topics})
    try:
        assert worker.process.wait(2 * WITHIN_SECONDS) == 4
    finally:
        worker.kill()
    assert worker.log.count("\n") == 1
    assert f"brokers {settings['brokers']}" in worker.log
    for words in FAULTS[fault].says:
        assert words in worker.log
    assert WRONG not in worker.log
