"""The consumer: one event a partition and fetch, nothing lost between fetch and delivery, offsets left to others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from time import monotonic
from typing import Any, Protocol, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.logs import FAUST
from streams.transport.batch import Batch, Epoch
from streams.transport.fetching import Fetched, FetchingThread

log = logging.getLogger(__name__)

FETCH_SECONDS = 1.0
"""How long one look for fetched records waits; also how fast the loop sees that it should stop."""

AFTER_STRAY_CANCELLATION_SECONDS = 0.5


class PartitionOwner(Protocol):
    """Whoever holds state of partitions: told by the consumer when they come and go."""

    async def assigned(self, committed: dict[TP, int | None]) -> None:
        """Source partitions are ours, their state is restored, and fetching starts at these committed offsets."""

    async def settle(self) -> None:
        """Last chance to save and commit, before partitions are revoked and before the end. Must not raise."""

    def revoked(self, partitions: set[TP]) -> None:
        """Partitions are no longer ours: forget what belongs to them."""


class BatchConsumer(driver.Consumer):
    """Faust's consumer with batches.

    Faust itself commits nothing: the source topics are declared with `acks=False`, so it counts no acks (it acks
    events that it skipped, and a refused commit counts as done), and the checkpoint calls `thread.commit_as_member`.
    """

    app: Any
    logger = FAUST
    _thread: FetchingThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._epoch = 0
        self._partition_epochs: Counter[TP] = Counter()
        self.last_fetch_at = monotonic()

    def _new_consumer_thread(self) -> FetchingThread:
        """Why overridden: to use our thread."""
        return FetchingThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> FetchingThread:
        """The thread that aiokafka's consumer lives in."""
        return self._thread

    @property
    def owner(self) -> PartitionOwner:
        """Who scores the batches of this consumer."""
        return cast(PartitionOwner, self.app.scorer)

    def epoch_of(self, tp: TP) -> Epoch:
        """Epoch of a partition now; records fetched in another one are void."""
        return self._epoch, self._partition_epochs[tp]

    # --- the group

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Why overridden: told to stop before it has subscribed, stock still does, without the changelog, and joins."""
        if not self.app.should_stop:
            await super().subscribe(topics)

    def close(self) -> None:
        """Why overridden: stock calls this when a rebalance begins during a stop, and closes aiokafka's client there.

        It does so in the wrong loop and under the join, which then, elected leader, waits for metadata without end.
        Nothing is left to do: the thread's stop closes the client.
        """

    # --- partitions come and go

    async def wait_empty(self) -> None:
        """Why overridden: stock waits for acks; ours saves and commits. Called at revoke and at stop."""
        await self.owner.settle()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Why overridden: what was fetched is void from here on, and state of the partitions has to go."""
        self._epoch += 1
        await super().on_partitions_revoked(revoked)
        self._epoch += 1
        self.owner.revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Why overridden: what was fetched before is void."""
        self._epoch += 1
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Why overridden: a seek voids what was fetched before it and what is fetched while it runs.

        And a group that begins at the end goes there here: the consumer's own reset is always to the earliest.
        """
        self._epoch += 1
        await super().perform_seek()
        if self.app.conf.consumer_auto_offset_reset == "latest":
            await self._seek_new_to_end()
        self._epoch += 1

    async def _seek_new_to_end(self) -> None:
        new = [
            tp
            for tp in self.assignment()
            if self._committed_offset[tp] is None and tp.topic not in self.app.tables.changelog_topics
        ]
        if new:
            await self._thread.seek_wait(
                {driver.ensure_aiokafka_TP(tp): end for tp, end in (await self.highwaters(*new)).items()}
            )

    async def seek(self, partition: TP, offset: int) -> None:
        """Why overridden: voids what was fetched of this partition (one epoch for all voided others' batches)."""
        tp = TP(*partition)
        self._partition_epochs[tp] += 1
        await super().seek(tp, offset)
        self._partition_epochs[tp] += 1

    async def _seek(self, partition: TP, offset: int) -> None:
        """Why overridden: stock seeks from the main thread, which races aiokafka's fetcher and kills it."""
        await self._thread.seek_wait({driver.ensure_aiokafka_TP(partition): offset})

    async def passed(self, tp: TP, next_offset: int) -> int:
        """The next offset after all that was scored up to `next_offset`, and that holds no record of ours.

        Markers of transactions take offsets, and so do records of aborted ones and those that retention deleted.
        """
        delivered = self._read_offset[tp]
        if delivered is not None and delivered >= next_offset:
            return next_offset
        return max(next_offset, await self.position(tp) or 0)

    # --- the loop

    async def _drain_messages(self, fetcher: Any) -> None:
        """Why overridden: stock makes an event of each record, and loses records between fetch and delivery."""
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):
            try:
                await self._drain_once()
            except self.consumer_stopped_errors:
                if self.app.should_stop:
                    return
                raise
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self.app.should_stop:
                    return
                if task is not None and task.cancelling():
                    raise
                # Not meant for this task: a future inside the fetch was cancelled. Stock ends the fetcher for good.
                log.warning("fetching was cut off by a stray cancellation: going on")
                await asyncio.sleep(AFTER_STRAY_CANCELLATION_SECONDS)

    async def _drain_once(self) -> None:
        before = self._moves()
        await asyncio.sleep(0)
        fetched_of, active = cast(Any, await self._wait_next_records(FETCH_SECONDS))
        if self.should_stop or not fetched_of:
            return
        self.last_fetch_at = monotonic()
        for tp, fetched in fetched_of.items():
            wanted = active is None or tp in active or tp in self._buffered_partitions
            if wanted and self.flow_active and self._moves() == before:
                await self._deliver(tp, fetched)
            elif await self.thread.put_back(tp, fetched):
                log.debug("put back records", extra={"topic": tp.topic, "partition": tp.partition})

    def _moves(self) -> tuple[int, int, int]:
        return self._epoch, self._partition_epochs.total(), self.app.consumer_generation_id

    async def _deliver(self, tp: TP, fetched: Fetched) -> None:
        if tp.topic in self.app.tables.changelog_topics:
            self.app.tables.recovery.apply(tp, fetched)
            return
        message = self._batch_message(Batch(tp, fetched.records, self.epoch_of(tp)))
        # Cut off by `suspend_flow`, the batch is void anyway: a seek to the committed offsets follows.
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        self._read_offset[tp] = fetched.records[-1].offset

    def _batch_message(self, batch: Batch) -> ConsumerMessage:
        last = batch.records[-1]
        return ConsumerMessage(
            batch.tp.topic,
            batch.tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            cast(Any, batch),
            None,
            0,
            0,
            batch.tp,
            generation_id=self.app.consumer_generation_id,
        )


class BatchTransport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = BatchConsumer
