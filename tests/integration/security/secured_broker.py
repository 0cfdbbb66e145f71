"""A broker whose listeners want to know who comes: SCRAM, SCRAM over TLS, mutual TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.broker import Broker, free_port, start_on_free_ports
from tests.integration.security.certificates import YESTERDAY, Authority

USER, PASSWORD = "stillwatch", "correct-horse"

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,{listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location={broker}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.mutual.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={expired}
{logins}
"""
"""The listener PLAINTEXT is the brokers' own. `expired` shows a certificate that has expired."""

MECHANISMS = ("scram-sha-256", "scram-sha-512")
LOGIN = "listener.name.{}.{}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"

LISTENERS = {
    "scram": "SASL_PLAINTEXT",
    "scram_tls": "SASL_SSL",
    "mutual": "SSL",
    "expired": "SASL_SSL",
}


@dataclass
class SecuredBroker:
    """The broker, its CA, and settings of a client for each listener."""

    broker: Broker
    authority: Authority
    ports: dict[str, int]
    folder: Path
    _pairs: dict[str, Any] = field(default_factory=dict)

    def settings(self, listener: str, **others: Any) -> dict[str, Any]:
        """Settings that get in at a listener; `others` win, and None takes a setting away."""
        protocol = LISTENERS[listener]
        settings: dict[str, Any] = {
            "brokers": f"127.0.0.1:{self.ports[listener]}",
            "security_protocol": protocol,
        }
        if protocol.startswith("SASL"):
            settings |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": PASSWORD}
        if protocol.endswith("SSL"):
            settings["ssl_ca_file"] = self.authority.file
        if protocol == "SSL":
            client = self.authority.issue("client")
            settings |= {"ssl_cert_file": client.certificate, "ssl_key_file": client.key}
        return {name: value for name, value in (settings | others).items() if value is not None}


def start_secured_broker(folder: Path) -> SecuredBroker:
    """Start it on free ports."""
    authority = Authority(folder, "trusted")
    ports: dict[str, int] = {}

    def make(attempt: int) -> Broker:
        ports.update({name: free_port() for name in LISTENERS})
        properties = PROPERTIES.format(
            listeners=",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()),
            protocols=",".join(f"{name.upper()}:{protocol}" for name, protocol in LISTENERS.items()),
            broker=authority.issue("broker").both,
            expired=authority.issue("expired-broker", until=YESTERDAY).both,
            ca=authority.file,
            logins="\n".join(LOGIN.format(name, mechanism) for name in LISTENERS for mechanism in MECHANISMS),
        )
        return Broker(folder / str(attempt), properties, f"{USER}:{PASSWORD}")

    return SecuredBroker(start_on_free_ports(make), authority, ports, folder)
