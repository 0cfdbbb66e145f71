"""The engine: batches of events in, alerts out, accounts' records between.

Live scoring and replay run this same code. Records live in a slab of fixed capacity; one compiled loop takes a whole
batch through it. An account that is not in the slab is looked up with the caller's `lookup`; when the slab is full the
least recently used give way (CLOCK, Corbato 1968), and what was not yet saved of them waits, compressed, for the next
snapshot.

References
----------
[^1]: Corbato, F. J. (1968). A paging experiment with the Multics system. MIT Project MAC Report M-384.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import account, calibration, finding, portable_math, rivals, state
from detectors.account import FEATURES
from detectors.baseline import Baseline
from detectors.drift import PopulationWatch
from detectors.events import EventBatch
from detectors.report import Reporter
from detectors.statistics import memory
from schemas.alert import Alert
from schemas.durations import DAY_MS, HOUR_MS

Lookup = Callable[[int, bytes], bytes | None]

CHANGES = 64
SEALED_AT_ONCE = 256
"""Records copied side by side to be sealed: few enough to stay in the processor's cache."""

END_OF_TIME = 1 << 62


@dataclass(frozen=True)
class EngineOptions:
    """What an operator decides.

    Attributes
    ----------
    false_findings_per_1000_account_days
        The knob: findings on honest accounts that can be lived with, for each 1,000 days on which
        an account was active.
    finding_quiet_hours
        A finding closes when its account has not looked like extraction for so long; 72 hours span a weekend.
    state_expiry_days
        An account silent for longer, in event time, starts anew. Must be longer than `finding_quiet_hours`.
    canary_prefix
        How names of accounts begin that are tests of the operator's; empty for none. It changes how their alerts are
        marked, and not which there are.
    """

    false_findings_per_1000_account_days: float = 1.0
    finding_quiet_hours: float = 72.0
    state_expiry_days: float = 45.0
    canary_prefix: str = ""

    def __post_init__(self) -> None:
        if not self.false_findings_per_1000_account_days > 0.0:
            raise ValueError("false_findings_per_1000_account_days must be above 0")
        if not 0.0 < self.finding_quiet_hours < 24.0 * self.state_expiry_days:
            raise ValueError("finding_quiet_hours must be above 0 and shorter than state_expiry_days")

    @property
    def hash(self) -> str:
        """Hash of the options that decide, hex; named in each alert."""
        deciding = {name: value for name, value in asdict(self).items() if name != "canary_prefix"}
        return hashlib.sha256(repr(sorted(deciding.items())).encode()).hexdigest()[:16]


@dataclass
class EngineCounters:
    """What happened since the engine was made; nothing is lost silently."""

    events: int = 0
    fenced: int = 0
    duplicates: int = 0
    late: int = 0
    not_judged: int = 0
    expired: int = 0
    cold_starts: int = 0
    evictions: int = 0
    unreadable_states: int = 0
    encoder_changes: int = 0
    migrated_states: int = 0
    void_fences: int = 0


@dataclass
class Looks:
    """Every look at an account since the engine was made, by how near it came to a finding.

    Attributes
    ----------
    by_ratio
        Number of looks in each bucket of surprise over threshold: up to each of `finding.SURPRISE_EDGES`, and beyond.
    total_ratio
        Sum of the ratios, each to a thousandth.
    """

    by_ratio: list[int] = field(default_factory=lambda: [0] * (len(finding.SURPRISE_EDGES) + 1))
    total_ratio: float = 0.0


def none_known(partition: int, account: bytes) -> bytes | None:
    """The lookup of an engine without a store."""
    return None


class Engine:
    """Scores the events of any number of partitions.

    Parameters
    ----------
    baseline
        What to judge by.
    options
        What the operator decides.
    lookup
        Stored envelope of an account that is not in the slab, or None: `lookup(partition, account)`.
    capacity
        Rows of the slab, about 3 KB each.

    Attributes
    ----------
    watch
        Whether the population is still the baseline's.
    """

    def __init__(
        self,
        baseline: Baseline,
        options: EngineOptions | None = None,
        *,
        lookup: Lookup = none_known,
        capacity: int = 20_000,
    ) -> None:
        if capacity < 2:
            raise ValueError("capacity must be at least 2 rows")
        self.baseline = baseline
        self.options = options or EngineOptions()
        self.counters = EngineCounters()
        self.looks = Looks()
        self._lookup = lookup
        share = calibration.allowed_share(self.options.false_findings_per_1000_account_days, baseline.days_per_account)
        self._policy = np.zeros(1, finding.POLICY_DTYPE)
        self._policy["threshold"] = -portable_math.log(share)
        self._policy["quiet_ms"] = int(self.options.finding_quiet_hours * HOUR_MS)
        self._policy["expiry_ms"] = int(self.options.state_expiry_days * DAY_MS)
        threshold, prefix = float(self._policy["threshold"][0]), self.options.canary_prefix
        self._report = Reporter(baseline, self.options.hash, share, threshold, prefix)
        self.watch = PopulationWatch(baseline, threshold)
        self._slab = np.zeros(capacity, account.DTYPE)
        self._words = self._slab.view(np.int64).reshape(capacity, -1)
        self._bytes = self._slab.view(np.uint8).data
        self._requests: NDArray[np.int64] = self._slab["header"]["requests"]
        self._fences: NDArray[np.int64] = self._slab["header"]["offset"]
        self._referenced = np.zeros(capacity, np.uint8)
        self._is_referenced = self._referenced.data  # the same, and three times as fast one by one
        self._owner: list[tuple[int, str] | None] = [None] * capacity
        self._free = list(range(capacity - 1, -1, -1))
        self._hand = 0
        self._slots: dict[int, dict[str, int]] = {}
        self._dirty: dict[int, set[str]] = {}
        self._spilled: dict[int, dict[bytes, bytes]] = {}
        self._saving: dict[int, dict[bytes, bytes]] = {}
        self._latest: dict[int, int] = {}
        self._log_ends: dict[int, int] = {}
        self._changes = np.zeros(CHANGES, finding.CHANGE_DTYPE)
        self._counts = np.zeros(finding.COUNTS, np.int64)
        self._scratch = np.zeros(memory.HELD, np.int64)
        self._blank = np.zeros(1, account.DTYPE)

    @property
    def accounts(self) -> int:
        """Accounts in the slab."""
        return len(self._slab) - len(self._free)

    @property
    def threshold(self) -> float:
        """The surprise (-log of an organic share) at which a finding opens."""
        return float(self._policy["threshold"][0])

    def apply(self, partition: int, batch: EventBatch) -> list[Alert]:
        """Take a batch through the accounts' records, in order; the alerts that it raises, in order.

        An event at or below its account's fence (its last applied offset) was applied before and is skipped.
        """
        alerts: list[Alert] = []
        begin = 0
        if len(batch):
            self._latest[partition] = max(self._latest.get(partition, 0), int(batch.columns["time"].max()))
        if len(batch) and partition in self._log_ends:
            self.log_ends_at(partition, max(self._log_ends[partition], int(batch.columns["offset"].max()) + 1))
        while begin < len(batch):
            slots, end = self._slots_of(partition, batch, begin)
            events = batch.columns[begin:end]
            marks = np.zeros(len(events), np.uint8)
            done = 0
            while done < len(events):
                done, count = finding.run(
                    self._slab, slots, events, done, self.baseline.model[0], self._policy[0], self._changes,
                    self._counts, self._scratch, self._blank, self.watch.tally[0], marks,
                )  # fmt: skip
                for change in self._changes[:count]:
                    at = begin + int(change["event"])
                    alerts.append(self._report(change, batch.accounts[at], batch.ids[at], partition))
            self._dirty.setdefault(partition, set()).update(batch.accounts[begin:end])
            if self.options.canary_prefix:
                self._leave_canaries_out(marks, batch.accounts[begin:end])
            self.watch.take(marks)
            begin = end
        self._count()
        return alerts

    def _leave_canaries_out(self, marks: NDArray[np.uint8], names: list[str]) -> None:
        """What tests of the operator's do says nothing of the population."""
        for at in np.flatnonzero(marks):
            if names[at].startswith(self.options.canary_prefix):
                marks[at] = 0

    def latest(self, partition: int) -> int:
        """Latest event time (ms) of what was applied of a partition since it came to us, 0 before the first."""
        return self._latest.get(partition, 0)

    def log_ends_at(self, partition: int, end: int) -> None:
        """The log of a partition ends before this offset now; holds until it is said again, over `drop` too.

        No state can have seen a record at or beyond it: one that claims so has seen another log, of a topic that was
        deleted and made anew or that lost its end. Its fence is void then, and its account's events count again.
        Without this call fences are believed.
        """
        self._log_ends[partition] = end

    def erase(self, partition: int, name: str, offset: int) -> None:
        """Forget all that an account did before `offset`; what it does behind it starts anew.

        An account whose record has seen an event behind `offset` was erased before, and stays as it is.
        """
        slot = self._slots.setdefault(partition, {}).get(name)
        if slot is None:
            (slot,) = self._admit(partition, [name], set())
        if self._fences[slot] < offset or self._requests[slot] == 0:
            blank = np.zeros(1, account.DTYPE)
            blank["header"]["log"], blank["header"]["offset"] = self._slab["header"]["log"][slot], offset
            self._slab[slot] = blank[0]
            self._dirty.setdefault(partition, set()).add(name)

    def snapshot(self, partition: int) -> list[tuple[bytes, bytes]]:
        """(account, envelope) of every state that changed since the last snapshot; they count as saved from here on.

        An envelope that `state.is_erased` stands for a stored state that is to be deleted. Whoever fails to store them
        says so with `mark_dirty` before the next snapshot.
        """
        saving = self._spilled.pop(partition, {})
        slots = self._slots.get(partition, {})
        changed = {name: slots[name] for name in self._dirty.pop(partition, ()) if name in slots}
        saving |= self._seal(partition, changed)
        self._saving[partition] = saving
        return list(saving.items())

    def mark_dirty(self, partition: int, accounts: Iterable[bytes]) -> None:
        """These states of the last snapshot were not stored: they belong into the next one."""
        saving = self._saving.get(partition, {})
        slots = self._slots.get(partition, {})
        for key in accounts:
            name = key.decode()
            if name in slots:
                self._dirty.setdefault(partition, set()).add(name)
            elif key in saving:
                self._spilled.setdefault(partition, {}).setdefault(key, saving[key])

    def pending(self) -> int:
        """Number of changed states that wait for a snapshot."""
        return sum(map(len, self._dirty.values())) + sum(map(len, self._spilled.values()))

    def drop(self, partition: int) -> None:
        """Forget a partition that another worker owns now, saved or not."""
        for slot in self._slots.pop(partition, {}).values():
            self._release(slot)
        for held in (self._dirty, self._spilled, self._saving, self._latest):
            held.pop(partition, None)

    def close_all(self) -> list[Alert]:
        """At the end of a bounded replay, which is the end of time: closes every open finding, at last seen + quiet."""
        alerts = []
        for partition, slots in sorted(self._slots.items()):
            waiting = self._spilled.get(partition, {})
            rows = {name: self._slab[slot : slot + 1] for name, slot in slots.items()}
            rows |= {
                key.decode(): state.unseal(envelope, self.baseline.encoder.hash)
                for key, envelope in waiting.items()
                if not state.is_erased(envelope)
            }
            for name, row in sorted(rows.items()):
                count = finding.close_if_due(
                    row, 0, self.baseline.model[0], self._policy[0], END_OF_TIME, 0, self._changes, 0
                )
                alerts += [self._report(change, name, "", partition) for change in self._changes[:count]]
        return alerts

    def trace(self, batch: EventBatch, name: str) -> list[dict[str, float]]:
        """Statistics, scores and surprise of one account at each of its looks, from events alone.

        Keys: the names of `account.FEATURES`, `time`, `index` (in the batch), each head of `rivals.HEADS` as
        `score/HEAD`, each ratio as `ratio/HEAD/RIVAL`, `surprise` and `threshold`.
        """
        own = np.flatnonzero(np.array([a == name for a in batch.accounts], bool))
        latest = np.maximum.accumulate(batch.columns["time"][own])
        anew = np.flatnonzero(batch.columns["time"][own][1:] > latest[:-1] + self._policy["expiry_ms"][0]) + 1
        return [line for life in np.split(own, anew) for line in self._trace_of(batch, life)]

    def _trace_of(self, batch: EventBatch, own: NDArray[np.int64]) -> list[dict[str, float]]:
        """The trace of an account between two expiries, from its rows in the batch."""
        row = np.zeros(1, account.DTYPE)
        looks = np.zeros((len(own) // 4 + 1, len(FEATURES)))
        at = np.zeros(len(looks), np.int64)
        events = batch.columns[own]
        count = account.trace(row[0], events, self._scratch, looks, at)
        model = self.baseline.model[0]
        ratios = np.zeros((len(rivals.HEADS), len(rivals.RIVALS)))
        scores = np.zeros(len(rivals.HEADS))
        table = []
        for k in range(count):
            rivals.judge(model, looks[k], ratios, scores)
            line = {feature: float(x) for feature, x in zip(FEATURES, looks[k], strict=True)}
            line |= {"time": float(events["time"][at[k]]), "index": float(own[at[k]])}
            for h, head in enumerate(rivals.HEADS):
                line[f"score/{head}"] = float(scores[h])
                line |= {f"ratio/{head}/{rival}": float(ratios[h, r]) for r, rival in enumerate(rivals.RIVALS)}
            line["surprise"] = float(calibration.surprise(model, scores))
            line["threshold"] = self.threshold
            table.append(line)
        return table

    def _slots_of(self, partition: int, batch: EventBatch, begin: int) -> tuple[NDArray[np.int64], int]:
        """Slots of the batch's events from `begin` on, and where the slab could hold no more accounts at once."""
        slots = self._slots.setdefault(partition, {})
        names = batch.accounts[begin:] if begin else batch.accounts
        wanted = list(map(slots.get, names))
        if None in wanted:
            names = self._that_fit(names)
            missing = [name for name in dict.fromkeys(names) if name not in slots]
            self._admit(partition, missing, {slot for slot in wanted[: len(names)] if slot is not None})
            wanted = list(map(slots.get, names))
        found = np.array(wanted, np.int64)
        self._referenced[found] = 1
        return found, begin + len(names)

    def _that_fit(self, names: list[str]) -> list[str]:
        """The names up to where there are more accounts than rows."""
        if len(names) <= len(self._slab):
            return names
        seen: set[str] = set()
        for i, name in enumerate(names):
            seen.add(name)
            if len(seen) > len(self._slab):
                return names[:i]
        return names

    def _admit(self, partition: int, names: list[str], in_use: set[int]) -> list[int]:
        """Give accounts a row each: the stored record, or a blank one. Rows `in_use` stay."""
        envelopes = [self._stored(partition, name) for name in names]
        free = [self._free.pop() for _ in range(min(len(names), len(self._free)))]
        found = free + self._evict(len(names) - len(free), in_use)
        at = np.array(found, np.int64)
        self._words[at] = 0
        older = [slot for slot, envelope in zip(found, envelopes, strict=True) if self._unpack(envelope, slot)]
        unreadable = at[state.implausible(self._slab, at)]
        self._words[unreadable] = 0
        self.counters.unreadable_states += len(unreadable)
        self.counters.cold_starts += len(unreadable)
        self.counters.migrated_states += len(set(older).difference(unreadable.tolist()))
        for slot in at[self._fences[at] >= self._log_ends.get(partition, state.LAST_NUMBER)]:
            self._void_fence(self._slab[slot : slot + 1])
        self._slots[partition].update(zip(names, found, strict=True))
        for slot, name in zip(found, names, strict=True):
            self._owner[slot] = (partition, name)
        self._referenced[at] = 1
        return found

    def _stored(self, partition: int, name: str) -> bytes | None:
        """Envelope of an account that is not in the slab."""
        key = name.encode()
        held = self._spilled.get(partition, {}).pop(key, None)
        if held is not None:
            self._dirty.setdefault(partition, set()).add(name)
        else:
            held = self._saving.get(partition, {}).get(key)
        # Of an erased account the store may still have the old state.
        return self._lookup(partition, key) if held is None else held

    def _unpack(self, envelope: bytes | None, slot: int) -> bool:
        """Write a stored record into a blank row of the slab, unless it cannot be read; whether its layout is older."""
        size = self._slab.itemsize
        if envelope is not None:
            try:
                if not state.is_erased(envelope):
                    room = self._bytes[slot * size : (slot + 1) * size]
                    return state.unpack(envelope, self.baseline.encoder.hash, room)
                self._slab[slot] = state.blank_after(envelope)[0]
            except state.EncoderChangedError:
                self.counters.encoder_changes += 1
                # Its fence stays, or the old state would be taken for the newer one.
                self._slab[slot] = state.blank_after(envelope)[0]
            except state.LayoutUnknownError:
                self.counters.unreadable_states += 1
                self._slab[slot] = state.blank_after(envelope)[0]  # as with another encoder
            except state.StateError:
                self._words[slot] = 0
                self.counters.unreadable_states += 1
        self.counters.cold_starts += 1
        return False

    def _void_fence(self, row: NDArray[Any]) -> None:
        """The state is of another log: it carries on, with nothing seen of this one."""
        row["header"]["log"] += 1
        row["header"]["offset"] = -1
        row["identity"] = 0  # without an id a request is known by its offset, and these are given out again
        self.counters.void_fences += 1

    def _evict(self, count: int, in_use: set[int]) -> list[int]:
        """Free the rows of so many accounts that were not used for the longest time, roughly."""
        freed: list[int] = []
        unsaved: dict[int, dict[str, int]] = {}
        while len(freed) < count:
            slot = self._hand
            self._hand = (self._hand + 1) % len(self._slab)
            owner = self._owner[slot]
            if owner is None or slot in in_use:
                continue
            if self._is_referenced[slot]:
                self._is_referenced[slot] = 0
                continue
            partition, name = owner
            dirty = self._dirty.get(partition, set())
            if name in dirty:
                dirty.discard(name)
                unsaved.setdefault(partition, {})[name] = slot
            del self._slots[partition][name]
            self._owner[slot] = None
            freed.append(slot)
        self.counters.evictions += count
        for partition, slots in unsaved.items():
            self._spilled.setdefault(partition, {}).update(self._seal(partition, slots))
        return freed

    def _release(self, slot: int) -> None:
        self._owner[slot] = None
        self._referenced[slot] = 0
        self._free.append(slot)

    def _seal(self, partition: int, slots: dict[str, int]) -> dict[bytes, bytes]:
        """Envelopes of accounts by their keys, given their slots."""
        at, encoder_hash = np.array(list(slots.values()), np.int64), self.baseline.encoder.hash
        envelopes: list[bytes] = []
        for part in np.split(at, range(SEALED_AT_ONCE, len(at), SEALED_AT_ONCE)):
            rows = self._words[part].view(account.DTYPE).reshape(-1)
            envelopes += state.seal_all(rows, encoder_hash, self.latest(partition))
        for k in np.flatnonzero(self._requests[at] == 0):  # only what was erased holds no request
            envelopes[k] = state.seal_erased(self._slab[at[k] : at[k] + 1], encoder_hash)
        return dict(zip(map(str.encode, slots), envelopes, strict=True))

    def _count(self) -> None:
        counts, counters = self._counts, self.counters
        counters.events += int(counts[account.ADMITTED])
        counters.fenced += int(counts[account.FENCED])
        counters.duplicates += int(counts[account.DUPLICATE])
        counters.expired += int(counts[finding.EXPIRED])
        counters.late += int(counts[finding.LATE])
        counters.not_judged += int(counts[finding.NOT_JUDGED])
        looked = counts[finding.LOOKS : finding.SURPRISE_MILLIS].tolist()
        self.looks.by_ratio = [before + now for before, now in zip(self.looks.by_ratio, looked, strict=True)]
        self.looks.total_ratio += int(counts[finding.SURPRISE_MILLIS]) / 1000.0
        counts[:] = 0
