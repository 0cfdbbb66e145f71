"""Recovery: the changelog straight into the store, and an order of resuming that loses no record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, cast

from faust import Service
from faust.exceptions import ConsistencyError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

from streams.logs import FAUST
from streams.state_table import StateTable
from streams.transport.fetching import Fetched

SETTLE_SECONDS = 0.5
"""How often recovery looks whether what is missing can still come."""

AGAIN_SECONDS = 1.0


class BatchRecovery(Recovery):
    """Faust's recovery without an event for each record."""

    app: Any
    logger = FAUST
    last_progress_at = 0.0
    """When (monotonic) a record of a changelog was last taken over."""

    _began_at: float | None = None
    _restored = 0
    """Records taken over since then."""

    def apply(self, tp: TP, fetched: Fetched) -> None:
        """Take over fetched records of a changelog partition. Called by the consumer's loop; does not wait."""
        if tp not in self.active_tps:
            return
        seen = self.active_offsets.get(tp)
        records = [record for record in fetched.records if seen is None or record.offset > seen]
        if records:
            cast(StateTable, self.tp_to_table[tp]).data.raw_apply(tp.partition, records)
            self._restored += len(records)
        # The position is past records that compaction or a transaction's marker left out; the last offset is not.
        self.active_offsets[tp] = max(-1 if seen is None else seen, fetched.position - 1)
        self.last_progress_at = monotonic()
        self._end_if_complete()

    def _end_if_complete(self) -> None:
        if self.in_recovery and not self.need_recovery():
            self.signal_recovery_end.set()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Why overridden: stock reads events from a queue that ours never fills.

        What is left to do: a changelog whose tail was compacted away, or is a transaction's marker, brings no further
        record, so `apply` never hears that its end was reached; the consumer's position does.
        """
        before: Mapping[TP, Any] = {}
        while not self.should_stop:
            await self.sleep(SETTLE_SECONDS)
            now = await self._stalled_positions() if self.in_recovery else {}
            # Seen twice unchanged: no fetched record is still on its way to `apply`.
            for tp in [tp for tp, stalled in now.items() if before.get(tp) == stalled]:
                self.active_offsets[tp] = self.active_highwaters[tp]
            before = now
            self._end_if_complete()

    async def _stalled_positions(self) -> dict[TP, tuple[int, int]]:
        """Position and applied offset of partitions whose records all were fetched, but not seen to the end."""
        stalled = {}
        for tp, remaining in self.active_remaining().items():
            if remaining > 0 and tp in self.active_tps:
                position = await self.app.consumer.position(tp)
                if position is not None and position > self.active_highwaters[tp]:
                    stalled[tp] = (position, self.active_offsets[tp])
        return stalled

    def _set_recovery_started(self) -> None:
        """Why overridden: the end signal of the last recovery, still set, would end this one with an empty table."""
        super()._set_recovery_started()
        self.signal_recovery_end.clear()
        if self._began_at is None:  # one that a rebalance cuts off goes on in the next
            self._began_at, self._restored = monotonic(), 0

    @Service.task
    async def _restart_recovery(self) -> None:
        """Why overridden: stock takes a request's time-out for the end of the service, and never recovers again."""
        while not self.should_stop:
            try:
                await Recovery._restart_recovery.fun(self)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self.should_stop or (task is not None and task.cancelling()):
                    raise
                self.log.warning("recovery was cut off by a stray cancellation: once more")
            except ConsistencyError:
                self.app.fatal(
                    "the local store is ahead of the state topic: the topic was deleted or made anew. "
                    "Delete data_dir, or restore the topic"
                )
                return
            except Exception as error:
                self.log.warning("recovery failed, once more: %s", type(error).__name__)
                self.app.traces.recovery_failed(self.app.names.state, error)
            if self.should_stop:
                return
            await asyncio.sleep(AGAIN_SECONDS)
            self._recover_again()

    def _recover_again(self) -> None:
        self._generation_id = self.app.consumer_generation_id
        self.signal_recovery_start.set()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Why overridden: stock resumes the source partitions before it seeks, so records fetched in between are lost.

        The order here: seek, tell the owner, resume. And no readiness with a table that is not complete.
        """
        consumer = self.app.consumer
        if self.need_recovery():
            self.log.warning("recovery claimed to be complete and is not: once more")
            self._recover_again()
            return
        assignment = consumer.assignment()
        sources = {tp for tp in assignment if not self._is_changelog_tp(tp)}
        if missing := [tp for tp in sources if not self._has_changelog(tp)]:
            # A topic made a moment ago is not in the group leader's metadata; stock would start without its states.
            self.log.warning("no changelog partition is assigned for %s: joining again", missing)
            await consumer.thread.join_again()
            return
        await self.app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        if self.app.consumer_generation_id != generation_id:
            return
        if assignment:
            await self._wait(consumer.perform_seek(), timeout=self.app.conf.broker_request_timeout)
        await consumer.owner.assigned({tp: consumer._committed_offset[tp] for tp in sources})
        if self.app.consumer_generation_id != generation_id:
            return
        self.completed.set()
        if sources and self._began_at is not None:
            seconds = monotonic() - self._began_at
            self.app.metrics.recovery_seconds.observe(seconds)
            self.app.traces.recovered(self.app.names.state, len(sources), self._restored, seconds)
        self._began_at = None
        self.app.flow_control.resume()
        consumer.resume_partitions(sources)
        consumer.resume_flow()
        await self.app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        self.app.on_rebalance_end()
        self.log.info("Worker ready")

    def _has_changelog(self, tp: TP) -> bool:
        names = (table.changelog_topic.get_topic_name() for table in self.tables.values())
        return all(TP(name, tp.partition) in self.active_tps for name in names)


class BatchTableManager(TableManager):
    """Faust's table manager with our recovery."""

    logger = FAUST

    @property
    def recovery(self) -> BatchRecovery:
        """Why overridden: to use our recovery."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast(BatchRecovery, self._recovery)
