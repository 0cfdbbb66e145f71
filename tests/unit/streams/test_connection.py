"""What is said of brokers that cannot be reached: the cause, and the setting to look at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from streams.connection import check_connection, reason_of, why_unreachable
from streams.settings import SettingsError, load_settings

BOOTSTRAP = KafkaConnectionError("Unable to bootstrap from [('a', 1, <AddressFamily.AF_UNSPEC: 0>)]")


def test_a_port_that_nobody_listens_on() -> None:
    said = reason_of(BOOTSTRAP, load_settings(brokers="127.0.0.1:1"))
    assert said == "nothing listens there: is the broker up, and are host and port in brokers right?"


def test_each_of_several_brokers_has_its_reason() -> None:
    said = reason_of(BOOTSTRAP, load_settings(brokers="127.0.0.1:1,nowhere.invalid:9092"))
    assert "127.0.0.1:1: nothing listens there" in said
    assert "nowhere.invalid:9092: there is no host nowhere.invalid" in said


def test_alike_reasons_are_told_once() -> None:
    assert why_unreachable(load_settings(brokers="127.0.0.1:1,127.0.0.1:2")).count("nothing listens there") == 1


async def test_it_can_be_asked_inside_a_running_loop() -> None:
    assert "nothing listens" in why_unreachable(load_settings(brokers="127.0.0.1:1"))
    assert "nothing listens" in str(await check_connection(load_settings(brokers="127.0.0.1:1")))


def test_a_server_that_hangs_up_points_to_the_protocol() -> None:
    async def ask() -> str | None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await check_connection(load_settings(brokers=f"127.0.0.1:{port}"))

    said = asyncio.run(ask())
    assert said == "closed the connection, as a listener does that does not speak PLAINTEXT: set security_protocol"


def test_other_errors_are_left_as_they_are_in_one_line() -> None:
    assert reason_of(KafkaTimeoutError("too\n  slow")) == "KafkaTimeoutError: too slow"


@pytest.mark.parametrize("name", ["ssl_ca_file", "ssl_cert_file"])
def test_a_file_without_certificates_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    path.write_text("nothing")
    files = {name: path} | ({"ssl_key_file": path} if name == "ssl_cert_file" else {})
    with pytest.raises(SettingsError, match=f"{name} {path}"):
        load_settings(security_protocol="SSL", **files).ssl_context()
