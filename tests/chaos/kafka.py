"""The brokers that scenarios run on: one with an authoriser, or three that replicate each other."""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.integration.broker import KAFKA_SCRIPT, PORT_TRIES, Broker, BrokerError, free_port

Kind = Literal["one", "three"]

ONE = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,LINKED://127.0.0.1:{behind}
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,LINKED://127.0.0.1:{front}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINKED:PLAINTEXT
"""
"""Everybody may do everything until a scenario says otherwise. LINKED is reached through a `link.Link` only: it listens
on one port and tells clients to come to another."""

OF_THREE = """
node.id={number}
controller.quorum.voters={voters}
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
min.insync.replicas=2
broker.session.timeout.ms=6000
"""
"""A broker that is killed is missed after 6 s, as in a cluster with short time-outs (default 9 s)."""

HEAP = "256m"


@dataclass
class Kafka:
    """Brokers that serve one cluster. `front` and `behind`: ports of the linked listener, 0 where there is none."""

    brokers: list[Broker]
    front: int = 0
    behind: int = 0

    @property
    def bootstrap(self) -> str:
        """Where clients begin."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def replication(self) -> int:
        """Replicas of each topic."""
        return len(self.brokers)

    def controller(self) -> int:
        """Index of the broker that is the active controller, as the nodes' own records say."""
        states = [broker.folder / "data" / "__cluster_metadata-0" / "quorum-state" for broker in self.brokers]
        newest = max((json.loads(state.read_text()) for state in states), key=lambda state: int(state["leaderEpoch"]))
        return int(newest["leaderId"]) - 1

    def stop(self) -> None:
        """Shut all of them down."""
        for broker in self.brokers:
            if (broker.folder / "pid").exists():
                broker.kill()


def kafka_version() -> str:
    """Version of the jars that brokers run on."""
    pom = KAFKA_SCRIPT.with_name("pom.xml").read_text()
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<", pom)
    return found[1] if found else "unknown"


def start_kafka(kind: Kind, folder: Path) -> Kafka:
    """Start it on free ports, trying others when one was taken in between."""
    os.environ.setdefault("KAFKA_HEAP", HEAP)
    for attempt in range(PORT_TRIES):
        kafka = _one(folder / str(attempt)) if kind == "one" else _three(folder / str(attempt))
        try:
            start_all(kafka.brokers)
        except BrokerError as error:
            kafka.stop()
            last = error
        else:
            return kafka
    raise last


def start_all(brokers: Sequence[Broker]) -> None:
    """Start brokers at the same time: one of a quorum does not serve before there is a majority."""
    with ThreadPoolExecutor(len(brokers)) as pool:
        list(pool.map(lambda broker: broker.start(), brokers))


def _one(folder: Path) -> Kafka:
    front, behind = free_port(), free_port()
    return Kafka([Broker(folder, ONE.format(front=front, behind=behind))], front, behind)


def _three(folder: Path) -> Kafka:
    cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    nodes = [Broker(folder / str(number), cluster_id=cluster) for number in (1, 2, 3)]
    voters = ",".join(f"{number}@127.0.0.1:{node.controller_port}" for number, node in enumerate(nodes, 1))
    for number, node in enumerate(nodes, 1):
        node.properties = OF_THREE.format(number=number, voters=voters)
    return Kafka(nodes)
