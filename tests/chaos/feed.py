"""Sends the traffic at a pace, as far as a scenario lets it, and tells the oracle where each record lies."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.chaos.oracle import Oracle, Place, Sent

TICK_SECONDS = 0.1
ANSWER_SECONDS = 180
"""Longer than any outage that a scenario makes: a record is confirmed in the end, or the harness fails."""


class Feed:
    """`async with Feed(...) as feed`, then `feed.up_to(0.5)`: half of the traffic may go out. The end sends the rest.

    Parameters
    ----------
    rate
        Records a second; None for as fast as they go.
    abort_every
        Write in transactions, and before each so manieth of them one that is aborted. 0: no transactions.
    """

    def __init__(
        self, kafka: str, topic: str, oracle: Oracle, *, rate: float | None = None, abort_every: int = 0
    ) -> None:
        self._oracle, self._topic, self._abort_every = oracle, topic, abort_every
        self._chunk = max(1, int(rate * TICK_SECONDS)) if rate else 1000
        self._pause = TICK_SECONDS if rate else 0.0
        self._position = self._target = self._transactions = 0
        self._moved = asyncio.Event()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=kafka,
            request_timeout_ms=ANSWER_SECONDS * 1000,
            enable_idempotence=True,
            transactional_id=f"feed-of-{topic}" if abort_every else None,
        )

    async def __aenter__(self) -> Feed:
        await self._producer.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.up_to(1.0)
            await self._task
        self._task.cancel()
        await self._producer.stop()

    @property
    def sent(self) -> int:
        """Records confirmed so far."""
        return self._position

    def up_to(self, share: float) -> None:
        """Let so much of the traffic go out, from 0 to 1; what is out stays out."""
        self._target = max(self._target, round(share * len(self._oracle.traffic)))
        self._moved.set()

    async def until(self, share: float) -> None:
        """Let so much go out, and wait until the brokers hold it."""
        self.up_to(share)
        while self._position < self._target and not self._task.done():  # noqa: ASYNC110 - no event for "enough"
            await asyncio.sleep(0.05)
        if self._task.done():
            self._task.result()

    async def _run(self) -> None:
        traffic = self._oracle.traffic
        while self._position < len(traffic):
            if self._position >= self._target:
                self._moved.clear()
                await self._moved.wait()
            chunk = traffic[self._position : min(self._target, self._position + self._chunk)]
            if self._abort_every:
                await self._send_in_transactions(chunk)
            else:
                await self._send(chunk)
            self._position += len(chunk)
            await asyncio.sleep(self._pause)

    async def _send(self, chunk: list[Sent]) -> None:
        futures = [await self._hand_over(sent, sent.value) for sent in chunk]
        for sent, confirmed in zip(chunk, await asyncio.gather(*futures), strict=True):
            self._oracle.places[sent.value] = Place(confirmed.partition, confirmed.offset)

    async def _hand_over(self, sent: Sent, value: bytes) -> Any:
        return await self._producer.send(self._topic, value, key=sent.request.key, partition=sent.request.partition)

    async def _send_in_transactions(self, chunk: list[Sent]) -> None:
        self._transactions += 1
        if self._transactions % self._abort_every == 0:
            await self._producer.begin_transaction()
            for sent in chunk:
                value = sent.value.replace(b'"id":"', b'"id":"aborted-') + b" "
                await self._hand_over(sent, value)
            await self._producer.flush()
            await self._producer.abort_transaction()
        async with self._producer.transaction():
            await self._send(chunk)
