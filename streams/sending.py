"""Request events onto the requests topic: keyed by account and partitioned by murmur2, which keeps each in order."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.request import repair_text
from streams.settings import RECORD_HEADROOM_BYTES, Settings

IN_FLIGHT = 5000
"""Records sent and not yet confirmed; bounds memory, and what a lost broker can make us wait for."""

PACE_SECONDS = 0.05
"""How often a paced sender looks at the clock."""


class Addressed(msgspec.Struct):
    """The one field that decides where an event goes."""

    account: str


_DECODER = msgspec.json.Decoder(Addressed)


def key_of(line: bytes) -> bytes | None:
    r"""The account of an event as its record's key; None when it cannot be read, so that the service can say why.

    Examples
    --------
    >>> key_of(b'{"account": "acme", "time": 1}'), key_of(b"no JSON")
    (b'acme', None)
    >>> key_of(rb'{"account": "acme", "prompt": "\ud83d"}')
    b'acme'
    """
    for text in (line, repair_text(line)):
        try:
            return _DECODER.decode(text).account.encode()
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
    return None


class Sender:
    """Sends lines to a topic, at most so many a second, and waits for their confirmation.

    Parameters
    ----------
    producer
        A started producer with the default partitioner, which is murmur2.
    topic
        Where to.
    rate
        Lines a second; None for as fast as the brokers take them.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str, rate: float | None = None) -> None:
        self._producer, self._topic, self._rate = producer, topic, rate
        self._unconfirmed: deque[asyncio.Future[Any]] = deque()
        self._began = monotonic()
        self.sent = 0
        self.unkeyed = 0

    async def send(self, line: bytes) -> None:
        """Send one line. Returning does not mean that it is there: `confirm` does."""
        key = key_of(line)
        self.unkeyed += key is None
        self._unconfirmed.append(await self._producer.send(self._topic, line, key=key))
        self.sent += 1
        if len(self._unconfirmed) >= IN_FLIGHT:
            await self._unconfirmed.popleft()
        if self._rate:
            ahead = self.sent / self._rate - (monotonic() - self._began)
            if ahead > PACE_SECONDS:
                await asyncio.sleep(ahead)

    async def confirm(self) -> None:
        """Wait until the brokers have everything that was sent. Raises `KafkaError` for what they refused."""
        while self._unconfirmed:
            await self._unconfirmed.popleft()


def make_producer(settings: Settings) -> AIOKafkaProducer:
    """A producer that loses nothing: confirmed by all replicas in sync, repeats left out."""
    return AIOKafkaProducer(
        **settings.client_options(),
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        max_request_size=settings.max_record_bytes + RECORD_HEADROOM_BYTES,
    )
