"""The checkpoint: its order, and that a failure at any step loses nothing and hands out nothing too early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from detectors import state
from detectors.account import DTYPE
from streams import checkpoint
from streams.checkpoint import Checkpoint, NotAMember
from streams.metrics import Metrics
from streams.stores.newer import Forgotten
from streams.transport.delivery import Delivered, DeliveryError, Outgoing

BLANK = np.zeros(1, DTYPE)
BLANK["header"]["offset"] = 11
ERASED = state.seal_erased(BLANK, "00" * 8)
"""Stands for the state of an account that an order at offset 11 has erased."""

ALERT = Outgoing("alerts", 3, b"a", b"alert")


class World:
    """Engine, store, group and brokers as one record of what happened; `breaks_at` fails that step once."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.metrics = Metrics()
        self.breaks_at = ""
        self.moves_at = ""
        self.refused = False
        self.changed: dict[bytes, bytes] = {}
        self.saving: dict[bytes, bytes] = {}
        self.stored: dict[bytes, bytes | None] = {}
        self.forgotten: Forgotten = {}
        self.overwritten: set[bytes] = set()
        self.can_go: dict[bytes, bytes] = {}
        self.erased: dict[bytes, bytes] = {}
        self.headers: list[Any] = []
        self.offsets: dict[int, int] = {}
        self.point: int | None = -1
        self.end = 0
        self.now = 1
        self.checkpoint = Checkpoint(
            engine=self, store=lambda: self, group=self, housekeeping=self, deliver=self.deliver, state_topic="state",
            metrics=self.metrics, on_not_a_member=lambda: self.step("told"), interval_seconds=0.0, max_events=100,
            max_bytes=1000, max_states=100,
        )  # fmt: skip
        self.checkpoint.own(0, 10)

    def step(self, name: str) -> None:
        if self.breaks_at == name:
            self.breaks_at = ""
            raise KafkaConnectionError(name)
        self.happened.append(name)
        if self.moves_at == name:
            self.now += 1

    def score(self, offset: int, state: bytes) -> None:
        self.changed[b"a"] = state
        self.checkpoint.scored(0, offset + 1, 1, [ALERT])

    # the engine
    def snapshot(self, partition: int) -> list[tuple[bytes, bytes]]:
        self.saving, self.changed = self.changed, {}
        return list(self.saving.items())

    def mark_dirty(self, partition: int, accounts: Iterable[bytes]) -> None:
        for account in accounts:
            self.changed.setdefault(account, self.saving[account])

    def pending(self) -> int:
        return len(self.changed)

    # the store
    def raw_write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        self.stored.update(states)

    def note_erased(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        self.erased = dict(states)

    def take_forgotten(self, partition: int) -> Forgotten:
        taken, self.forgotten = self.forgotten, {}
        return taken

    def give_back_forgotten(self, partition: int, forgotten: Forgotten) -> None:
        self.forgotten.update(forgotten)

    def take_overwritten(self, partition: int) -> dict[bytes, bytes]:
        taken, self.overwritten = self.overwritten, set()
        return {account: self.stored[account] or b"" for account in taken}

    def give_back_overwritten(self, partition: int, accounts: Iterable[bytes]) -> None:
        self.overwritten |= set(accounts)

    def drop(self, partition: int) -> None: ...

    # housekeeping, asked with what is committed
    def idle(self, committed: Mapping[int, int | None]) -> dict[int, dict[bytes, bytes]]:
        return dict.fromkeys(committed, self.can_go)

    # the group
    def generation(self) -> int:
        return self.now

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        self.step(f"commit {dict(offsets)}")
        if not self.refused:
            self.offsets.update(offsets)
        return not self.refused

    def restore_point(self, partition: int) -> int | None:
        return self.point

    def advance_restore_point(self, partition: int, offset: int) -> None:
        self.point = offset

    # the brokers
    async def deliver(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], Delivered]:
        delivered = {}
        for record in records:
            self.step(f"{record.topic} {record.value!r}")
            self.headers += record.headers
            first, self.end = self.end, self.end + (record.topic == "state")
            delivered[record.topic, record.partition] = Delivered(first, first, True)
        return delivered


@pytest.fixture
def world() -> World:
    return World()


ORDER = ["commit {0: 10}", "alerts b'alert'", "state b's1'", "commit {0: 12}"]


async def test_the_order_is_probe_outputs_states_commit(world: World) -> None:
    world.score(11, b"s1")
    await world.checkpoint.run()
    assert world.happened == ORDER
    assert world.stored == {b"a": b"s1"}
    assert world.offsets == {0: 12}


@pytest.mark.parametrize("step", ORDER)
async def test_a_failure_at_any_step_is_made_good_by_the_next_checkpoint(world: World, step: str) -> None:
    world.score(11, b"s1")
    world.breaks_at = step
    assert not await world.checkpoint.attempt()
    assert world.offsets.get(0, 10) == 10
    assert world.checkpoint.due()
    assert await world.checkpoint.attempt()
    assert world.stored == {b"a": b"s1"}
    assert world.offsets == {0: 12}
    assert "alerts b'alert'" in world.happened
    assert not world.checkpoint.due()


def failures(world: World) -> float | None:
    return world.metrics.registry.get_sample_value("stillwatch_checkpoint_failures_total")


async def test_a_failure_that_is_tried_again_is_counted_and_named_until_one_holds(world: World) -> None:
    world.score(11, b"s1")
    world.breaks_at = "alerts b'alert'"
    await world.checkpoint.attempt()
    assert failures(world) == 1
    assert world.checkpoint.failure == "KafkaConnectionError: KafkaConnectionError: alerts b'alert'"
    await world.checkpoint.attempt()
    assert (failures(world), world.checkpoint.failure) == (1, "")


async def test_what_is_not_tried_again_is_no_failed_checkpoint(world: World) -> None:
    world.score(11, b"s1")
    world.refused = True
    await world.checkpoint.attempt()
    world.refused = False
    world.breaks_at = "alerts b'alert'"
    await world.checkpoint.final(5.0)
    assert "told" in world.happened
    assert failures(world) == 0


async def test_what_was_scored_after_a_failure_is_newer_than_what_failed(world: World) -> None:
    world.score(11, b"s1")
    world.breaks_at = "state b's1'"
    await world.checkpoint.attempt()
    world.score(12, b"s2")
    await world.checkpoint.attempt()
    assert world.stored == {b"a": b"s2"}
    assert world.offsets == {0: 13}
    assert world.happened.count("alerts b'alert'") == 2  # the first one not again, and the new one


async def test_of_outputs_that_failed_only_those_are_sent_again_that_did_not_go_through(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse_alerts(records: Iterable[Outgoing]) -> Any:
        await world.deliver(record for record in records if record.topic != "alerts")
        raise DeliveryError(TopicAuthorizationFailedError("alerts"), frozenset({("dlq", 1)}))

    world.checkpoint.scored(0, 12, 1, [ALERT, Outgoing("dlq", 1, b"a", b"dead")])
    with monkeypatch.context() as patched:
        patched.setattr(world.checkpoint, "_deliver", refuse_alerts)
        assert not await world.checkpoint.attempt()
    assert await world.checkpoint.attempt()
    assert world.happened.count("dlq b'dead'") == 1
    assert world.happened.count("alerts b'alert'") == 1
    assert world.offsets == {0: 12}


async def test_a_timer_does_not_hurry_a_checkpoint_that_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.score(11, b"s1")
    world.breaks_at = "alerts b'alert'"
    await world.checkpoint.tick()
    await world.checkpoint.tick()
    assert world.offsets == {0: 10}
    monkeypatch.setattr(checkpoint, "RETRY_SECONDS", 0.0)
    await world.checkpoint.tick()
    assert world.offsets == {0: 12}


async def test_a_worker_that_is_no_member_writes_nothing(world: World) -> None:
    world.refused = True
    world.score(11, b"s1")
    assert await world.checkpoint.attempt()
    assert world.happened == ["commit {0: 10}", "told"]
    assert world.stored == {}


@pytest.mark.parametrize("step", ["alerts b'alert'", "state b's1'"])
async def test_a_generation_that_moves_on_the_way_commits_nothing(world: World, step: str) -> None:
    world.moves_at = step
    world.score(11, b"s1")
    if "alerts" in step:
        with pytest.raises(NotAMember):
            await world.checkpoint.run()
    else:
        await world.checkpoint.run()
    assert world.offsets == {0: 10}
    assert world.stored == {}


async def test_what_failed_is_not_put_back_into_a_partition_that_left_and_came_back(world: World) -> None:
    world.score(11, b"s1")
    deliver = world.deliver

    async def lose_partition(records: Iterable[Outgoing]) -> Any:
        world.checkpoint.disown(0)
        world.checkpoint.own(0, 50)
        world.checkpoint._deliver = deliver
        raise KafkaConnectionError

    world.checkpoint._deliver = lose_partition
    assert not await world.checkpoint.attempt()
    assert world.changed == {}
    await world.checkpoint.attempt()
    assert world.offsets == {0: 10}  # of the probe, before the partition left


async def test_the_restore_point_moves_only_over_our_own_contiguous_writes(world: World) -> None:
    world.score(11, b"s1")
    await world.checkpoint.run()
    assert world.point == 0
    world.end += 1  # somebody else wrote
    world.score(12, b"s2")
    await world.checkpoint.run()
    assert world.point == 0
    assert world.stored == {b"a": b"s2"}


async def test_a_forgotten_account_that_is_back_is_not_deleted(world: World) -> None:
    world.forgotten = {b"a": 5, b"b": 6}
    world.score(11, b"s1")
    await world.checkpoint.run()
    assert world.happened[2:4] == ["state b's1'", "state None"]
    assert world.headers == [("stillwatch-fence", b"6")]


@pytest.mark.parametrize("step", ["", "state b's1'", "state b'good'", "commit {0: 12}"])
async def test_a_state_behind_which_a_late_one_lies_is_written_once_more(world: World, step: str) -> None:
    world.stored = {b"overwritten": b"good", b"a": b"s0"}
    world.overwritten = {b"overwritten", b"a"}  # of which one has a newer state
    world.score(11, b"s1")
    world.breaks_at = step
    if step:
        assert not await world.checkpoint.attempt()
    await world.checkpoint.run()
    assert [what for what in world.happened if "s0" in what] == []
    assert world.happened.count("state b'good'") == 1
    assert world.stored == {b"overwritten": b"good", b"a": b"s1"}
    assert world.overwritten == set()
    assert world.offsets == {0: 12}


@pytest.mark.parametrize("fails", [False, True])
async def test_states_that_can_go_are_deleted_from_the_changelog_then_from_the_store(world: World, fails: bool) -> None:
    world.stored = {b"idle": b"old", b"a": b"s0"}
    world.can_go = {b"idle": b"old", b"a": b"s0"}  # of which one is active again
    world.score(11, b"s1")
    if fails:
        world.breaks_at = "state None"
        assert not await world.checkpoint.attempt()
        assert world.stored == {b"idle": b"old", b"a": b"s0"}
    assert await world.checkpoint.attempt()
    assert world.happened[-3:] == ["state b's1'", "state None", "commit {0: 12}"]
    assert world.stored == {b"idle": None, b"a": b"s1"}
    assert world.metrics.registry.get_sample_value("stillwatch_deleted_states_total") == 1


async def test_it_is_due_by_events_bytes_and_changed_states(world: World) -> None:
    world.checkpoint._interval_seconds = 3600.0
    world.checkpoint.scored(0, 12, 1, [])
    assert not world.checkpoint.due()
    world.checkpoint.scored(0, 13, 0, [ALERT._replace(value=b"x" * 2000)])
    assert world.checkpoint.due()


async def test_outputs_do_not_wait_for_the_interval(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.checkpoint._interval_seconds = 3600.0
    later = world.checkpoint._last_at + 1.0
    monkeypatch.setattr("streams.checkpoint.monotonic", lambda: later)
    world.checkpoint.scored(0, 12, 1, [])
    assert not world.checkpoint.due()
    world.checkpoint.scored(0, 13, 1, [ALERT])
    assert world.checkpoint.due()


@pytest.mark.parametrize("step", ["", "state None", "commit {0: 12}"])
async def test_an_erased_account_is_deleted_with_the_place_up_to_which_it_is_gone(world: World, step: str) -> None:
    world.stored = {b"a": b"s0"}
    world.score(11, ERASED)
    world.breaks_at = step
    if step:
        assert not await world.checkpoint.attempt()
    await world.checkpoint.run()
    assert world.stored == {b"a": None}
    assert world.erased == {b"a": ERASED}
    assert set(world.headers) == {("stillwatch-fence", b"11"), ("stillwatch-erased", b"1")}
    assert world.offsets == {0: 12}


async def test_flush_saves_what_is_not_due_and_tries_until_it_is_through(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "RETRY_SECONDS", 0.0)
    world.checkpoint._interval_seconds = 3600.0
    await world.checkpoint.flush()
    assert world.happened == []
    world.score(11, b"s1")
    assert not world.checkpoint.due()
    world.breaks_at = "state b's1'"
    await world.checkpoint.flush()
    assert world.offsets == {0: 12}
    assert world.stored == {b"a": b"s1"}


@pytest.mark.parametrize("step", ["", "state b's1'", "commit {0: 12}"])
async def test_flush_waits_for_a_checkpoint_that_is_on_its_way_and_makes_good_what_fails_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(checkpoint, "RETRY_SECONDS", 0.0)
    held, reached, deliver = asyncio.Event(), asyncio.Event(), world.deliver

    async def hold(records: Iterable[Outgoing]) -> Any:
        reached.set()
        await held.wait()
        return await deliver(records)

    monkeypatch.setattr(world.checkpoint, "_deliver", hold)
    world.score(11, b"s1")
    world.breaks_at = step
    tick = asyncio.create_task(world.checkpoint.tick())
    await reached.wait()
    flush = asyncio.create_task(world.checkpoint.flush())
    await asyncio.sleep(0)
    assert not flush.done()
    held.set()
    await flush
    assert world.offsets == {0: 12}
    assert world.stored == {b"a": b"s1"}
    await tick


async def test_flush_ends_when_the_group_refuses_us(world: World) -> None:
    world.refused = True
    world.score(11, b"s1")
    await world.checkpoint.flush()
    assert world.happened == ["commit {0: 10}", "told"]
