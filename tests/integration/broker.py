"""A real Kafka broker for tests, started from deploy/kafka, and what tests do to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

KAFKA_SCRIPT = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka.sh"

# The script gives up on a broker after 90 s, and on a machine that has never run it, fetches jars and packages first.
START_TIMEOUT_SECONDS = 600
STOP_TIMEOUT_SECONDS = 60

# Another program may take a port between our choosing it and Kafka's binding it.
PORT_TRIES = 3


class BrokerError(RuntimeError):
    """The broker did not start; the message is what its script said."""


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Broker:
    """One Kafka node with its own ports and data below `folder`.

    `stop` is a clean shutdown and `start` afterwards serves the same data on the same port. The node ends by itself
    when this process does, however that ends: it runs until its standard input closes.

    `properties` are further settings of the node, `scram_users` names and passwords of users that it knows,
    `cluster_id` that of a node which is one of several; all as deploy/kafka/kafka.sh takes them.
    """

    folder: Path
    properties: str = ""
    scram_users: str = ""
    cluster_id: str = ""
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def bootstrap(self) -> str:
        """The address that clients connect to first."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the Java process, for tests that suspend it."""
        return int((self.folder / "pid").read_text())

    def start(self) -> None:
        """Start and wait until it serves; raises `BrokerError` with the script's words."""
        environment = os.environ | {
            "KAFKA_PORT": str(self.port),
            "KAFKA_CONTROLLER_PORT": str(self.controller_port),
            "KAFKA_FOLDER": str(self.folder),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.properties:
            (self.folder / "further.properties").write_text(self.properties)
            environment |= {
                "KAFKA_PROPERTIES": str(self.folder / "further.properties"),
                "KAFKA_SCRAM_USERS": self.scram_users,
                "KAFKA_CLUSTER_ID": self.cluster_id,
            }
        words = self.folder / "script.log"
        with words.open("w") as stderr:
            self._process = subprocess.Popen(
                [KAFKA_SCRIPT, "run"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
                # Ctrl-C goes to every process of the terminal: without a session of its own the broker would end
                # before the tests that use it have ended.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != self.bootstrap:
            self.stop()
            raise BrokerError(words.read_text().strip())

    def stop(self) -> None:
        """Shut down cleanly and wait for the end; does nothing when it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            process.communicate(timeout=STOP_TIMEOUT_SECONDS)
        finally:
            process.kill()

    def kill(self) -> None:
        """End it as a power failure does, and wait for the end; `start` serves what it had acknowledged."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()


def start_broker(folder: Path) -> Broker:
    """Start a broker on free ports."""
    return start_on_free_ports(lambda attempt: Broker(folder / str(attempt)))


def start_on_free_ports(make: Callable[[int], Broker]) -> Broker:
    """Start what `make` makes on ports that are free, another one when a port was taken in between."""
    for attempt in range(PORT_TRIES):
        broker = make(attempt)
        try:
            broker.start()
        except BrokerError as error:
            if "is taken" not in str(error) and "ended at once" not in str(error):
                raise
            last = error
        else:
            return broker
    raise last


async def create_topics(bootstrap: str, *names: str, partitions: int = 1, config: dict[str, str] | None = None) -> None:
    """Create topics, each with the same number of partitions and the same settings; raises when one exists."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics(
            [NewTopic(name, partitions, replication_factor=1, topic_configs=config or {}) for name in names]
        )
        refused = [topic for topic in answer.topic_errors if topic[1] != 0]
        if refused:
            raise BrokerError(f"topics not created: {refused}")
    finally:
        await admin.close()
