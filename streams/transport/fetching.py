"""The consumer's thread: fetches that know the position they left, commits that tell a refusal from an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ensure_aiokafka_TP
from faust.types import TP

from streams.logs import FAUST

log = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 100
"""How long a broker may hold a fetch that finds nothing. A node answers for all its partitions at once, so Faust's
1500 ms let one idle partition hold up the others, and made recovery three times slower."""

LEAVE_SECONDS = 5.0
"""How long a stop waits for a rebalance under way: the other members hear of one with their next heartbeat."""


class Fetched(NamedTuple):
    """Records of one partition, and aiokafka's position right after it handed them out."""

    records: list[Any]
    position: int


class FetchingThread(AIOKafkaConsumerThread):
    """Faust's consumer thread. All that touches aiokafka's consumer runs in here."""

    logger = FAUST

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Why overridden: what Faust does not let us set.

        `fetch_max_wait_ms=1500` is hard-coded. What an aborted transaction wrote was never sent. And a position that is
        no longer in the log, since retention was quicker, goes to the first record there is, whatever `start_at` says
        for groups that begin: `latest` would pass over all that waits, and on the state topic over states.
        """
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        consumer._isolation_level = "read_committed"
        consumer._auto_offset_reset = "earliest"
        return consumer

    async def on_thread_stop(self) -> None:
        """Why overridden: aiokafka's stop waits for the end of a rebalance under way, and so for every other member.

        One that is suspended or dead would hold it up until its session is over.
        """
        await self.method_queue.stop()  # what was asked of this thread comes first, as in stock
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is not None:
            try:
                async with asyncio.timeout(LEAVE_SECONDS):
                    await coordinator.close()
            except TimeoutError:
                log.warning("the group is still rebalancing: ending without a word to it, it will miss this worker")
        await super().on_thread_stop()

    async def _highwaters(self, partitions: Any) -> Mapping[TP, int]:
        """Why overridden: a consumer that reads what is committed takes the first open transaction for the log's end.

        Recovery would be complete there, without the states behind it. It waits until the transaction is over.
        """
        consumer = self._ensure_consumer()
        asking = copy(consumer._fetcher)
        asking._isolation_level = READ_UNCOMMITTED
        ends = await asking.end_offsets(partitions, consumer._request_timeout_ms)
        return {TP(tp.topic, tp.partition): end for tp, end in ends.items()}

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        """Why overridden: only here is the position known that belongs to the records; `put_back` compares it."""
        records = await super()._fetch_records(consumer, *args, **kwargs)
        return {
            TP(tp.topic, tp.partition): Fetched(fetched, self._position(consumer, tp))
            for tp, fetched in records.items()
        }

    @staticmethod
    def _position(consumer: Any, tp: TopicPartition) -> int:
        assignment = consumer._subscription.subscription and consumer._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment and tp in assignment.tps else None
        return state.position if state is not None and state.has_valid_position else -1

    async def put_back(self, tp: TP, fetched: Fetched) -> bool:
        """Seek back to records that were fetched but not delivered; not if the partition left or was sought elsewhere.

        Stock Faust drops such records: those of a partition paused after the fetch, and deliveries cut off.
        """
        return bool(await self.call_thread(self._put_back, tp, fetched))

    async def _put_back(self, tp: TP, fetched: Fetched) -> bool:
        consumer, partition = self._ensure_consumer(), ensure_aiokafka_TP(tp)
        if self._position(consumer, partition) != fetched.position or fetched.position < 0:
            return False
        consumer.seek(partition, fetched.records[0].offset)
        return True

    async def commit_as_member(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets; False when the group refuses because we are no longer its member.

        Raises `KafkaError` when that could not be told; among these is that another process has joined under our
        `instance_id`, for which aiokafka 0.14 has no error of its own. Why not Faust's `commit`: it crashes the worker
        on the latter, and its caller takes a refused offset for committed.
        """
        return bool(await self.call_thread(self._commit_as_member, offsets))

    async def _commit_as_member(self, offsets: Mapping[TP, int]) -> bool:
        wanted = {ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        try:
            await self._ensure_consumer().commit(wanted)
        except (CommitFailedError, IllegalStateError):
            return False
        return True

    async def join_again(self) -> None:
        """Ask the group for a new assignment, with fresh metadata."""
        await self.call_thread(self._join_again)

    async def _join_again(self) -> None:
        consumer = self._ensure_consumer()
        await consumer._client.force_metadata_update()
        await asyncio.sleep(1.0)  # the coordinator must see the new metadata before it assigns
        consumer._coordinator.request_rejoin()
