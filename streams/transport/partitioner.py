"""Where a key belongs: Kafka's default partitioner, murmur2 of the key over the topic's partitions."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2

CACHED_KEYS = 20_000
"""Hashes kept, about 5 MB: murmur2 in Python takes 3 µs for 20 bytes and 20 for 200, a look-up 0.1."""

CACHED_KEY_BYTES = 1024
"""Keys up to this size are kept with their hashes, 25 MB at most; every account's fits."""


def positive_murmur2(key: bytes) -> int:
    """murmur2 of a key without its sign bit, as Kafka's Java client takes it.

    Takes 0.17 s for a megabyte: bound what others chose.
    """
    return _kept(key) if len(key) <= CACHED_KEY_BYTES else _hash(key)


def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


_kept = lru_cache(maxsize=CACHED_KEYS)(_hash)


class Partitioner:
    """Partition of a key in a topic, by the number of partitions last learned.

    >>> partitions = Partitioner()
    >>> partitions.learn("requests", 4)
    >>> partitions("requests", b"acme")
    0
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def learn(self, topic: str, partitions: int) -> None:
        """Take note of a topic's number of partitions."""
        self._counts[topic] = partitions

    def count(self, topic: str) -> int:
        """Number of partitions of a topic. Raises `KeyError` when it was never learned."""
        return self._counts[topic]

    def __call__(self, topic: str, key: bytes) -> int:
        """Partition that a key belongs to."""
        return positive_murmur2(key) % self._counts[topic]
