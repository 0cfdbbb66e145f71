"""A broker that lets nobody do what no ACL allows, and the ACLs of the chart's users on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.integration.broker import Broker, free_port, start_on_free_ports
from tests.unit.deploy.manifests import Object

PASSWORD = "correct-horse"  # noqa: S105

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,SCRAM://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,SCRAM://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SCRAM:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""Who comes to PLAINTEXT, the broker itself and the tests, may do all; whoever says a name may do what ACLs allow."""


@dataclass
class GuardedBroker:
    """The broker, and settings of its users."""

    broker: Broker
    port: int

    def settings(self, user: str, **others: Any) -> dict[str, Any]:
        """Settings of a client that comes as this user."""
        return {
            "brokers": f"127.0.0.1:{self.port}",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": PASSWORD,
        } | others

    def allow(self, users: Iterable[Object]) -> None:
        """Give each `KafkaUser` the rights that it names, as Strimzi's operator does."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        bindings = [binding for user in users for binding in _bindings(user)]
        for made in admin.create_acls(bindings).values():
            made.result(30)


def _bindings(user: Object) -> Iterable[AclBinding]:
    for acl in user["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        pattern = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
        for operation in acl["operations"]:
            yield AclBinding(
                ResourceType[resource["type"].upper()],
                resource["name"],
                pattern[resource["patternType"]],
                f"User:{user['metadata']['name']}",
                "*",
                AclOperation["DESCRIBE_CONFIGS" if operation == "DescribeConfigs" else operation.upper()],
                AclPermissionType.ALLOW,
            )


def start_guarded_broker(folder: Path, users: Iterable[str]) -> GuardedBroker:
    """Start it on free ports; it knows these users."""
    ports: list[int] = []

    def make(attempt: int) -> Broker:
        ports.append(free_port())
        known = " ".join(f"{user}:{PASSWORD}" for user in users)
        return Broker(folder / str(attempt), PROPERTIES.format(port=ports[-1]), known)

    return GuardedBroker(start_on_free_ports(make), ports[-1])
