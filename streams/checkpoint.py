"""The checkpoint: the one place that decides what is done, and in which order it becomes so.

1. Snapshot, of every partition at one instant: next offset, changed states, outputs.
2. Membership probe: commit again what is committed. Refused means that another worker owns the partitions: nothing is
   written then.
3. Outputs delivered: alerts, dead letters, records sent back keyed. From here on a crash repeats outputs, never
   loses them; alerts repeat with the same uid and sequence.
4. States delivered to the changelog, once more those that lie behind another worker's late ones, and deletions of those
   that can go; then into the local store. Each state carries the last offset it has seen, so what a crash makes us read
   again is not counted again.
5. Offsets committed.

When a step fails, states count as changed again and outputs as pending, scoring waits, and the next checkpoint begins
anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, cast

from aiokafka.errors import KafkaError

from detectors.state import is_erased
from streams.metrics import Metrics
from streams.stores.newer import Forgotten, deletion_headers, erasure_headers, readable_fence
from streams.stores.rocks import StoreError
from streams.tracing import OFF, Traces
from streams.transport.delivery import Delivered, DeliveryError, Outgoing

log = logging.getLogger(__name__)

PROBE_AFTER_SECONDS = 2.0
"""A commit accepted so recently proves membership: a session lasts several times as long, and a process that was
stopped in between sees that more time has passed."""

OUTPUTS_WAIT_SECONDS = 0.2
"""Alerts and dead letters go out with a checkpoint: while some wait, one is due so soon after the last."""

RETRY_SECONDS = 1.0
"""Pause before a failed checkpoint is tried again."""


class NotAMember(Exception):  # noqa: N818 - what we have learned, not a fault
    """The group no longer counts us in. Nothing may be written; a new assignment will come."""


class Snapshots(Protocol):
    """What the checkpoint needs of the engine."""

    def snapshot(self, partition: int) -> list[tuple[bytes, bytes]]:
        """States changed since the last call, marked clean; one that `is_erased` is to be deleted.

        Until the next call the engine itself remembers them.
        """

    def mark_dirty(self, partition: int, accounts: Iterable[bytes]) -> None:
        """These states of the last snapshot were not saved."""

    def pending(self) -> int:
        """Number of changed states."""


class States(Protocol):
    """What the checkpoint needs of the local store; `streams.stores` says what the methods mean."""

    def raw_write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None: ...  # noqa: D102

    def note_erased(self, partition: int, states: Mapping[bytes, bytes]) -> None: ...  # noqa: D102

    def take_forgotten(self, partition: int) -> Forgotten: ...  # noqa: D102

    def give_back_forgotten(self, partition: int, forgotten: Forgotten) -> None: ...  # noqa: D102

    def take_overwritten(self, partition: int) -> dict[bytes, bytes]: ...  # noqa: D102

    def give_back_overwritten(self, partition: int, accounts: Iterable[bytes]) -> None: ...  # noqa: D102

    def drop(self, partition: int) -> None: ...  # noqa: D102


class Idle(Protocol):
    """What the checkpoint needs of housekeeping."""

    def idle(self, committed: Mapping[int, int | None]) -> Mapping[int, Mapping[bytes, bytes]]:
        """States that can be deleted, by partition, given the committed offsets. Not told again at once."""


class Group(Protocol):
    """What the checkpoint needs of the consumer group and of recovery."""

    def generation(self) -> int:
        """Generation of the group as we know it."""

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit next offsets of source partitions; False when refused to us as no member."""

    def restore_point(self, partition: int) -> int | None:
        """Changelog offset up to which the local store is complete; None when unknown."""

    def advance_restore_point(self, partition: int, offset: int) -> None:
        """The local store is complete up to here."""


Deliver = Callable[[Iterable[Outgoing]], Awaitable[dict[tuple[str, int], Delivered]]]


@dataclass
class _Partition:
    """What is not saved yet of a partition that we own. A new object each time that we come to own it."""

    committed: int | None
    next_offset: int | None = None
    outputs: list[Outgoing] = field(default_factory=list)


@dataclass
class _Snapshot:
    owned: _Partition
    next_offset: int
    states: dict[bytes, bytes]
    overwritten: dict[bytes, bytes]
    forgotten: Forgotten
    idle: dict[bytes, bytes]
    outputs: list[Outgoing]


class Checkpoint:
    """What has been scored and is not saved, and the saving of it.

    Parameters
    ----------
    engine, store, group
        Where states come from, where they go on this machine, and who owns partitions.
    housekeeping
        Which states can be deleted, since their accounts have long been idle.
    deliver
        Writes records and waits until the brokers hold them.
    state_topic
        Changelog of the states; a state goes to the partition of its source.
    on_not_a_member
        Called when the group refuses us: no more may be scored until partitions are assigned.
    interval_seconds, max_events, max_bytes
        A checkpoint is due after so long (sooner while outputs wait), so many events, or so many bytes of outputs.
    max_states
        ... or so many changed states.
    traces
        Where checkpoints are traced.
    """

    def __init__(
        self,
        *,
        engine: Snapshots,
        store: Callable[[], States],
        group: Group,
        housekeeping: Idle,
        deliver: Deliver,
        state_topic: str,
        metrics: Metrics,
        on_not_a_member: Callable[[], None],
        interval_seconds: float,
        max_events: int,
        max_bytes: int,
        max_states: int,
        traces: Traces = OFF,
    ) -> None:
        self._engine = engine
        self._store = store
        self._group = group
        self._housekeeping = housekeeping
        self._deliver = deliver
        self._state_topic = state_topic
        self._metrics = metrics
        self._on_not_a_member = on_not_a_member
        self._interval_seconds = interval_seconds
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_states = max_states
        self._traces = traces
        self._partitions: dict[int, _Partition] = {}
        self._events = 0
        self._bytes = 0
        self._failing = False
        self._last_at = monotonic()
        self._member_at = float("-inf")
        self.lock = asyncio.Lock()
        self.failure = ""
        """Why the latest checkpoint failed and is tried again; empty once one held."""
        self.last_success_at = monotonic()

    # --- what there is to save

    def own(self, partition: int, committed: int | None) -> None:
        """A partition is ours, and its committed offset is this (None: nothing is committed yet)."""
        self._partitions[partition] = _Partition(committed)

    def disown(self, partition: int) -> None:
        """Forget a partition, with all that is not saved of it."""
        self._partitions.pop(partition, None)

    def left(self, partition: int) -> None:
        """A partition is no longer ours: what the store still had to delete of it is another worker's to judge."""
        self._store().drop(partition)

    def committed(self, partition: int) -> int | None:
        """The committed offset of a partition that is ours."""
        return self._partitions[partition].committed

    def starts_at(self, partition: int, offset: int) -> None:
        """The first record we get of a partition; while nothing is committed, membership is probed with it."""
        owned = self._partitions[partition]
        if owned.committed is None:
            owned.committed = offset

    def scored(self, partition: int, next_offset: int, events: int, outputs: Sequence[Outgoing]) -> None:
        """Records of a partition up to `next_offset` are scored, and these are to go out for them."""
        owned = self._partitions[partition]
        owned.next_offset = next_offset
        owned.outputs.extend(outputs)
        self._events += events
        self._bytes += sum(output.size for output in outputs)

    def due(self) -> bool:
        """Whether it is time."""
        if self._failing:
            return True
        patience = min(self._interval_seconds, OUTPUTS_WAIT_SECONDS) if self._bytes else self._interval_seconds
        return self._events > 0 and (
            self._events >= self._max_events
            or self._bytes >= self._max_bytes
            or monotonic() - self._last_at >= patience
            or self._engine.pending() >= self._max_states
        )

    # --- saving it

    async def keep_up(self) -> None:
        """Run a checkpoint when one is due, and do not return before it is through: scoring waits meanwhile."""
        while self.due():
            if await self.attempt():
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """Save all that is scored, due or not, and do not return before it is through, or the group refuses us.

        What another checkpoint is about to save is not saved: that one is waited for, and may fail.
        """
        while self.lock.locked() or any(owned.next_offset is not None for owned in self._partitions.values()):
            if await self.attempt():
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def tick(self) -> None:
        """Run a checkpoint when one is due; after a failed one not before a pause is over."""
        if self.due() and not (self._failing and monotonic() - self._last_at < RETRY_SECONDS):
            await self.attempt()

    async def attempt(self) -> bool:
        """Run a checkpoint; False when it failed and is worth another try."""
        try:
            await self.run()
        except NotAMember:
            log.warning("the group no longer counts this worker in: nothing is written until partitions are assigned")
            self._on_not_a_member()
        except (KafkaError, TimeoutError) as error:
            self.failure = f"{type(error).__name__}: {error}"
            self._metrics.checkpoint_failures.inc()
            log.warning("checkpoint failed, scoring waits: %s", error)
            return False
        except StoreError:
            log.error("checkpoint given up: its records will be read again")
        return True

    async def final(self, seconds: float) -> None:
        """A last checkpoint before partitions go; gives up after so long, and then another worker reads them again."""
        started = monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self.run(probe=True)
        except NotAMember:
            log.warning("the group no longer counts this worker in: its last records will be read again")
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning(
                "last checkpoint given up after %.1f s, its records will be read again: %s",
                monotonic() - started,
                type(error).__name__,
            )

    async def run(self, *, probe: bool = False) -> None:
        """One checkpoint, as this module's head says. Raises what Kafka raises, and `NotAMember`."""
        async with self.lock:
            started = monotonic()
            generation = self._group.generation()
            snapshots = self._take()
            self._failing = False
            if not snapshots:
                return
            try:
                with self._traces.checkpoint(snapshots):
                    if not await self._save(snapshots, generation, probe=probe):
                        return
            except BaseException:
                self._failing = True
                self._restore(snapshots)
                raise
            self.failure = ""
            self.last_success_at = monotonic()
            self._metrics.checkpoint_seconds.observe(self.last_success_at - started)

    async def _save(self, snapshots: Mapping[int, _Snapshot], generation: int, *, probe: bool) -> bool:
        """Steps 2 to 5. False when another generation began before the last two."""
        if probe or monotonic() - self._member_at > PROBE_AFTER_SECONDS:
            await self._probe()
        await self._deliver_outputs(snapshots.values())
        if generation != self._group.generation():
            raise NotAMember
        delivered = await self._deliver(self._state_records(snapshots))
        if generation != self._group.generation():
            return False  # partitions may have left and come back: recovery reads what was just written
        with self._traces.step("store"):
            self._keep(snapshots, delivered)
        await self._commit(snapshots)
        return True

    def _take(self) -> dict[int, _Snapshot]:
        store = self._store()
        taken = {}
        changed = {partition: owned for partition, owned in self._partitions.items() if owned.next_offset is not None}
        all_idle = self._housekeeping.idle({partition: owned.committed for partition, owned in changed.items()})
        # Before the first state counts as saved: a store that cannot be read raises.
        to_repair = {p: (store.take_forgotten(p), store.take_overwritten(p)) for p in changed}
        for partition, owned in changed.items():
            states = dict(self._engine.snapshot(partition))
            all_forgotten, all_overwritten = to_repair[partition]
            forgotten = {account: fence for account, fence in all_forgotten.items() if account not in states}
            overwritten = {account: state for account, state in all_overwritten.items() if account not in states}
            idle = {account: state for account, state in all_idle.get(partition, {}).items() if account not in states}
            next_offset = cast(int, owned.next_offset)
            taken[partition] = _Snapshot(owned, next_offset, states, overwritten, forgotten, idle, owned.outputs)
            owned.outputs, owned.next_offset = [], None
        self._events = self._bytes = 0
        self._last_at = monotonic()
        return taken

    def _restore(self, snapshots: Mapping[int, _Snapshot]) -> None:
        """Put back what did not go through, of partitions that never left us."""
        for partition, snapshot in snapshots.items():
            if self._partitions.get(partition) is not snapshot.owned:
                continue
            owned = snapshot.owned
            owned.outputs[:0] = snapshot.outputs
            owned.next_offset = snapshot.next_offset if owned.next_offset is None else owned.next_offset
            self._bytes += sum(output.size for output in snapshot.outputs)
            self._engine.mark_dirty(partition, snapshot.states)
            if snapshot.forgotten:
                self._store().give_back_forgotten(partition, snapshot.forgotten)
            self._store().give_back_overwritten(partition, snapshot.overwritten)

    async def _deliver_outputs(self, snapshots: Collection[_Snapshot]) -> None:
        """Deliver them; what went through is not sent again when something else fails."""
        try:
            await self._deliver(output for snapshot in snapshots for output in snapshot.outputs)
        except DeliveryError as error:
            for snapshot in snapshots:
                snapshot.outputs = [o for o in snapshot.outputs if (o.topic, o.partition) not in error.delivered]
            raise
        for snapshot in snapshots:
            snapshot.outputs = []

    async def _probe(self) -> None:
        committed = {p: owned.committed for p, owned in self._partitions.items() if owned.committed is not None}
        if committed:
            with self._traces.step("probe"):
                if not await self._group.commit(committed):
                    raise NotAMember
            self._member_at = monotonic()

    def _state_records(self, snapshots: Mapping[int, _Snapshot]) -> Iterable[Outgoing]:
        for partition, snapshot in snapshots.items():
            for account, state in snapshot.states.items():
                if is_erased(state):
                    yield Outgoing(self._state_topic, partition, account, None, erasure_headers(state))
                else:
                    yield Outgoing(self._state_topic, partition, account, state)
            for account, state in snapshot.overwritten.items():
                yield Outgoing(self._state_topic, partition, account, state)
            idle = {account: readable_fence(state) for account, state in snapshot.idle.items()}
            for account, fence in (snapshot.forgotten | idle).items():
                yield Outgoing(self._state_topic, partition, account, None, deletion_headers(fence))

    def _keep(self, snapshots: Mapping[int, _Snapshot], delivered: Mapping[tuple[str, int], Delivered]) -> None:
        """Take delivered states into the local store, and move its restore point where that is sound."""
        for partition, snapshot in snapshots.items():
            written = delivered.get((self._state_topic, partition))
            if written is not None:
                self._keep_states(partition, snapshot, written)
            # From here on only the commit can be wanting.
            snapshot.states, snapshot.overwritten, snapshot.forgotten, snapshot.idle = {}, {}, {}, {}

    def _keep_states(self, partition: int, snapshot: _Snapshot, written: Delivered) -> None:
        restore_point = self._group.restore_point(partition)
        # Only if nobody else wrote in between: else a worker that lost the partition would skip its successor's states
        # when it gets the partition back.
        own = written.contiguous and restore_point is not None and written.first == restore_point + 1
        store, erased = self._store(), {a: state for a, state in snapshot.states.items() if is_erased(state)}
        states = {**snapshot.states, **dict.fromkeys(erased), **dict.fromkeys(snapshot.idle)}
        store.raw_write(partition, states, written.last if own else None)
        if erased:
            store.note_erased(partition, erased)
        if own:
            self._group.advance_restore_point(partition, written.last)
        self._metrics.deleted_states.inc(len(snapshot.idle))
        sent = (*snapshot.states.values(), *snapshot.overwritten.values())
        self._metrics.state_bytes.inc(sum(map(len, sent)))

    async def _commit(self, snapshots: Mapping[int, _Snapshot]) -> None:
        offsets = {partition: snapshot.next_offset for partition, snapshot in snapshots.items()}
        if not await self._group.commit(offsets):
            raise NotAMember
        self._member_at = monotonic()
        for partition, snapshot in snapshots.items():
            snapshot.owned.committed = offsets[partition]
