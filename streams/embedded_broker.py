"""A Kafka broker inside this process, for trying things out: librdkafka's mock cluster.

It speaks the Kafka protocol to any client on this machine, groups and idempotent producers included. What it is not:
about 5 MB are kept a partition (older records are dropped), nothing is compacted or written to disk, there are no
administrative calls (topics appear with 4 partitions on first use), no look-ups of offsets by time, and groups want
static membership.
"""

from __future__ import annotations

from types import TracebackType

from confluent_kafka import Producer

PARTITIONS = 4
"""Partitions of every topic of the mock cluster."""

KEPT_BYTES_A_PARTITION = 5 * 1024 * 1024
"""What the mock cluster keeps; a consumer further behind than this loses records."""

START_TIMEOUT_SECONDS = 10.0


class EmbeddedBroker:
    """Context manager: the broker serves at `address` until it is left.

    Examples
    --------
    >>> with EmbeddedBroker() as broker:
    ...     broker.address.startswith("127.0.0.1:")
    True
    """

    def __init__(self) -> None:
        self._cluster: Producer | None = None
        self.address = ""

    def __enter__(self) -> EmbeddedBroker:
        # The cluster lives in the client that asks for it and ends with it. Nothing is sent through this client.
        self._cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0})
        (broker,) = self._cluster.list_topics(timeout=START_TIMEOUT_SECONDS).brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None
