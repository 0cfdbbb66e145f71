"""From a batch of records to what goes out for it: alerts, dead letters, records sent back under their account."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from detectors.engine import Engine
from schemas.alert import Activity, Alert, cloudevents_headers, encode_alert
from schemas.dead_letter import DeadLetterReason, dead_letter_headers, redacted_value
from schemas.origin import ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER, Origin, origin_headers
from streams.checkpoint import Checkpoint
from streams.exit_codes import ExitCode
from streams.ingest import DeadLetter, Ingest, Record
from streams.metrics import Metrics
from streams.orders import order_of, runs
from streams.stores.rocks import StoreError
from streams.topics import TopicNames
from streams.tracing import OFF, Span, Traces
from streams.transport.batch import Batch, Epoch
from streams.transport.delivery import Outgoing
from streams.transport.partitioner import Partitioner

log = logging.getLogger(__name__)

ORIGIN_HEADERS = frozenset({ORIGIN_TOPIC_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_OFFSET_HEADER})

MAX_SMALL_KEY_BYTES = 1024
"""A dead letter goes to its key's partition for a key up to this size, beyond it to that of its source; and one that
the brokers found too large keeps such a key. An account of ours fits."""

TOO_LARGE_TO_SEND_BACK = "not under its account's key or partition, and the topic takes no record of its size back"

MAX_REFUSED = 100
"""Records of a partition whose scoring failed, since it was assigned. More of them are no accident of a record: the
worker ends rather than turn the stream into dead letters."""


class Outputs:
    """Makes the records that go out, and counts them.

    `redact` keeps the content of dead letters to ourselves.
    """

    def __init__(
        self, names: TopicNames, partitions: Partitioner, metrics: Metrics, *, redact: bool, traces: Traces = OFF
    ) -> None:
        self._names = names
        self._partitions = partitions
        self._metrics = metrics
        self._redact = redact
        self._traces = traces

    def alert(self, alert: Alert, cause: Record | None = None) -> Outgoing:
        """An alert under the key of its account, counted when the brokers have it: one that they refuse is no sign.

        `cause` is the record of the request that raised it, where it is at hand; the alert's trace names that one's.
        """
        key = alert.account.encode()
        activity = Activity(alert.activity_id).name.lower()
        if alert.is_test:
            counter = self._metrics.canary_findings.labels(activity=activity)
        else:
            counter = self._metrics.findings.labels(activity=activity, severity=alert.severity.lower())
        topic = self._names.alerts
        partition = self._partitions(topic, key)
        headers = [*cloudevents_headers(alert), *self._traces.alert(topic, partition, alert, cause)]
        return Outgoing(topic, partition, key, encode_alert(alert), headers, on_delivered=counter.inc)

    def dead_letter(self, dead: DeadLetter) -> Outgoing:
        """A record that cannot be scored, with the reason in its headers."""
        self._metrics.dead_letters.labels(reason=dead.reason.value).inc()
        return self._letter(dead)

    def _letter(self, dead: DeadLetter, on_delivered: Callable[[], None] | None = None) -> Outgoing:
        record = dead.record
        where: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        headers = dead_letter_headers(dead.reason, dead.detail, **where)
        # Keys are as untrusted as the rest: to hash one of a megabyte would hold up all partitions, and who compresses
        # records gets one past the brokers.
        has_small_key = len(record.key or b"") <= MAX_SMALL_KEY_BYTES
        topic = self._names.dead_letters
        partition = self._partitions(topic, record.key if record.key and has_small_key else b"%d" % record.partition)
        # The record's own headers may say where a re-keyed one comes from.
        others = [*record.headers, *headers]
        original = Outgoing(topic, partition, record.key, record.value, others, on_delivered=on_delivered)

        def redacted() -> Outgoing:
            value = redacted_value(dead.reason, dead.detail, **where, value=record.value)
            return original._replace(value=value, headers=headers)

        def smallest() -> Outgoing:
            return redacted() if has_small_key else redacted()._replace(key=None)

        return (redacted() if self._redact else original)._replace(small=smallest)

    def rekeyed(self, record: Record, account: str) -> Outgoing:
        """A record whose key is not its account, or that lies on the wrong partition: the same under its account.

        It keeps its timestamp, which its time is held against; and its other headers, unless they make it too large. A
        record that is too large without them (it came compressed, or the topic took larger ones then) ends as a dead
        letter. Which of the two it was is known, and counted, when the brokers have it.

        Its headers name the place that it comes from, of a copy that is sent on once more the latest: only from there
        do its like come in order, which is what repeated ones are known by (`detectors.statistics.identity`).
        """
        key, topic = account.encode(), self._names.requests
        others = [header for header in record.headers if header[0] not in ORIGIN_HEADERS]
        timestamp = record.timestamp if record.timestamp >= 0 else None
        dead = DeadLetter(record, DeadLetterReason.OVERSIZE, TOO_LARGE_TO_SEND_BACK)
        count = self._metrics.dead_letters.labels(reason=DeadLetterReason.OVERSIZE.value).inc
        bare = Outgoing(
            topic,
            self._partitions(topic, key),
            key,
            record.value,
            origin_headers(Origin(record.topic, record.partition, record.offset)),
            timestamp,
            small=lambda: self._letter(dead, count),
            on_delivered=self._metrics.rekeyed.inc,
        )
        return bare._replace(headers=[*others, *bare.headers], small=lambda: bare)


class Scorer:
    """Scores batches in the order of the log, and holds what belongs to our partitions.

    What the consumer calls is in `streams.transport.consumer.PartitionOwner`.

    Parameters
    ----------
    ingest, engine
        Records to events, events to alerts.
    checkpoint, outputs
        Where results go.
    epoch_of, seek
        The consumer's.
    log_ends
        Asks the brokers for the offset that the next record of each partition will have.
    log_begins
        Asks them for that of the first record that a partition still holds.
    learn_partitions
        Asks the brokers for the number of partitions of every topic, and raises when they do not fit.
    fatal
        Ends the worker, with a reason in a line and an exit code.
    settle_seconds
        Bound of the last checkpoint before partitions go.
    traces
        Where batches are traced.
    """

    def __init__(
        self,
        *,
        ingest: Ingest,
        engine: Engine,
        checkpoint: Checkpoint,
        outputs: Outputs,
        metrics: Metrics,
        epoch_of: Callable[[TP], Epoch],
        seek: Callable[[TP, int], Awaitable[None]],
        log_ends: Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]],
        log_begins: Callable[[TP], Awaitable[int]],
        learn_partitions: Callable[[], Awaitable[None]],
        fatal: Callable[[str, ExitCode], None],
        settle_seconds: float,
        traces: Traces = OFF,
    ) -> None:
        self._ingest = ingest
        self._engine = engine
        self._checkpoint = checkpoint
        self._outputs = outputs
        self._metrics = metrics
        self._epoch_of = epoch_of
        self._seek = seek
        self._log_ends = log_ends
        self._log_begins = log_begins
        self._learn_partitions = learn_partitions
        self._fatal = fatal
        self._settle_seconds = settle_seconds
        self._traces = traces
        self._next: dict[TP, int | None] = {}
        self._scored_at: dict[TP, float] = {}
        self._accepted_gaps: dict[TP, tuple[int, int]] = {}
        self._one_by_one: dict[TP, int] = {}
        self._refused: dict[TP, set[int]] = defaultdict(set)
        self._told_shorter: set[TP] = set()
        self.ready = False
        self.last_progress_at = monotonic()

    # --- partitions come and go

    async def assigned(self, committed: Mapping[TP, int | None]) -> None:
        """Partitions are ours, their states are restored."""
        await self._learn_partitions()
        ends = await self._log_ends(committed) if committed else {}
        self._forget_all()
        self._told_shorter.clear()
        for tp, offset in committed.items():
            self._begin(tp, offset, ends.get(tp))
        self.ready = True
        self.last_progress_at = monotonic()
        self._metrics.assignments.inc()
        log.info("ready", extra={"partitions": len(committed)})

    async def settle(self) -> None:
        """Save and commit what is scored, within bounds. Does not raise."""
        self.ready = False
        try:
            await self._checkpoint.final(self._settle_seconds)
        except Exception:
            log.exception("the last checkpoint failed: its records will be read again")

    def revoked(self, partitions: set[TP]) -> None:
        """Partitions are no longer ours."""
        self.ready = False
        for tp in partitions & self._next.keys():
            self._forget(tp)
        for tp in partitions:  # also those whose recovery was cut off
            self._checkpoint.left(tp.partition)

    def not_a_member(self) -> None:
        """The group refuses us: score nothing until it assigns partitions."""
        self.ready = False

    def positions(self) -> dict[TP, int | None]:
        """Next offset to score of each partition that is ours."""
        return dict(self._next)

    def scored_at(self) -> dict[TP, float]:
        """Timestamp (epoch seconds) of the last record that was scored of each partition, where it has one."""
        return dict(self._scored_at)

    def _begin(self, tp: TP, committed: int | None, end: int | None) -> None:
        """Begin with a partition at its committed offset, or wherever the consumer does when the log is shorter."""
        if end is not None:
            self._engine.log_ends_at(tp.partition, end)
            if committed is not None and committed > end:
                self._tell_shorter(tp, end)
                committed = None
        self._checkpoint.own(tp.partition, committed)
        self._next[tp] = committed

    def _tell_shorter(self, tp: TP, end: int | None = None) -> None:
        if tp not in self._told_shorter:
            self._told_shorter.add(tp)
            log.warning(
                "the log is shorter than what was scored of it: the topic was deleted and made anew, or lost records. "
                "Accounts keep what they have learned, and every record of the new log counts",
                extra={"topic": tp.topic, "partition": tp.partition} | ({} if end is None else {"end": end}),
            )

    def _forget_all(self) -> None:
        for tp in list(self._next):
            self._forget(tp)

    def _forget(self, tp: TP) -> None:
        self._engine.drop(tp.partition)
        self._checkpoint.disown(tp.partition)
        for memory in (self._next, self._scored_at, self._accepted_gaps, self._one_by_one, self._refused):
            memory.pop(tp, None)

    # --- scoring

    async def score(self, batch: Batch) -> None:
        """Score a batch, unless it is void, and save when that is due; scoring waits until it is through."""
        if self._is_valid(batch) and await self._follows(batch):
            self._checkpoint.starts_at(batch.tp.partition, batch.first)
            with self._traces.batch(*batch.tp, batch.first, len(batch.records)) as span:
                await self._score_records(batch, span)
            await self._checkpoint.keep_up()

    def _is_valid(self, batch: Batch) -> bool:
        """Whether a batch is ours to score: fetched since its partition last came, or was sought."""
        return self.ready and batch.epoch == self._epoch_of(batch.tp)

    async def tick(self) -> None:
        """Save when that is due though nothing comes in. Called by a timer."""
        if self.ready:
            await self._checkpoint.tick()

    async def _follows(self, batch: Batch) -> bool:
        """Whether a batch continues where we are. A gap is looked at once more before it is believed.

        What makes a real gap: compaction, retention, markers of transactional producers.
        """
        expected = self._next[batch.tp]
        if expected is not None and batch.first < expected and await self._is_another_log(batch, expected):
            return False
        if expected is None or batch.first <= expected:
            return True
        gap = (expected, batch.first)
        where = {"topic": batch.tp.topic, "partition": batch.tp.partition, "from": gap[0], "to": gap[1]}
        if self._accepted_gaps.get(batch.tp) == gap:
            log.info("the gap in the log is real: going on", extra=where)
            await self._tell_lost(batch.tp, *gap)
            return True
        self._accepted_gaps[batch.tp] = gap
        log.info("a gap in the log: reading it again", extra=where)
        await self._seek(batch.tp, expected)
        return False

    async def _tell_lost(self, tp: TP, expected: int, first: int) -> None:
        """Count what retention deleted of a gap: all of it that lies before the log's beginning."""
        try:
            lost = min(await self._log_begins(tp), first) - expected
        except (KafkaError, TimeoutError):
            lost = 0
        if lost > 0:
            self._metrics.lost_records.inc(lost)
            log.warning(
                "records were deleted before they were read: this group was further behind than the topic's retention",
                extra={"topic": tp.topic, "partition": tp.partition, "from": expected, "lost": lost},
            )

    async def _is_another_log(self, batch: Batch, expected: int) -> bool:
        """Whether offsets went back since the log did; then it is begun anew, and the batch comes once more.

        The consumer goes to the log's beginning when its position is no longer there, and says nothing.
        """
        try:
            end = (await self._log_ends([batch.tp])).get(batch.tp, expected)
        except (KafkaError, TimeoutError):
            return False
        if end >= expected:
            return False
        await self._checkpoint.attempt()  # what was scored of the old log is to be kept
        async with self._checkpoint.lock:
            if batch.epoch != self._epoch_of(batch.tp) or batch.tp not in self._next:
                return True
            self._forget(batch.tp)
            self._begin(batch.tp, expected, end)
        await self._seek(batch.tp, batch.first)
        return True

    async def _score_records(self, batch: Batch, span: Span) -> None:
        tp, expected = batch.tp, self._next[batch.tp]
        new = [record for record in batch.records if expected is None or record.offset >= expected]
        for run in self._runs(tp, new):
            if order_of(run[0]) is not None:
                # What came before an order must never be read again: without the state that it erases, the account's
                # last requests would be scored as those of a new one.
                await self._checkpoint.flush()
                if not self._is_valid(batch):
                    return
            try:
                self._score_run(tp, run)
            except StoreError as error:
                span.failed(error)
                log.error("scoring given up: its records will be read again")
                self._forget(tp)  # half of them may be scored
                return
            except Exception as error:
                span.failed(error)
                self._metrics.scoring_failures.inc()
                log.exception(
                    "scoring failed",
                    extra={"topic": tp.topic, "partition": tp.partition, "from": run[0].offset, "to": run[-1].offset},
                )
                await self._go_back(tp, run)
                return

    def _runs(self, tp: TP, records: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """All records at once but for orders to forget, or one by one up to where scoring has failed before."""
        until = self._one_by_one.get(tp, -1)
        alone = [record for record in records if record.offset <= until]
        yield from ([record] for record in alone)
        yield from runs(records[len(alone) :])

    def _score_run(self, tp: TP, records: Sequence[Any]) -> None:
        """Score consecutive records; either all of it counts or, when it raises, nothing of it was handed on."""
        if records[0].offset in self._refused[tp]:
            dead = DeadLetter(records[0], DeadLetterReason.INTERNAL, "scoring this record failed")
            self._hand_on(tp, records, 0, [self._outputs.dead_letter(dead)])
            return
        with self._traces.step("decode") as span:
            ingested = self._ingest(records)
            span.set("stillwatch.requests", len(ingested.batch))
            span.set("stillwatch.dead_letters", len(ingested.dead))
            span.set("stillwatch.misplaced", len(ingested.misplaced))
        for erasure in ingested.erasures:
            self._engine.erase(tp.partition, *erasure)
            log.info("an account is erased on order", extra={"partition": tp.partition, "offset": erasure.offset})
        self._metrics.erased.inc(len(ingested.erasures))
        void = self._engine.counters.void_fences
        with self._traces.step("score") as span:
            alerts = self._engine.apply(tp.partition, ingested.batch)
            span.set("stillwatch.alerts", len(alerts))
        if self._engine.counters.void_fences > void:
            self._tell_shorter(tp)
        outputs = [self._outputs.alert(alert, cause_of(alert, records)) for alert in alerts]
        outputs += [self._outputs.dead_letter(dead) for dead in ingested.dead]
        outputs += [self._outputs.rekeyed(record, account) for record, account in ingested.misplaced]
        self._hand_on(tp, records, len(ingested.batch), outputs)
        for alert in alerts:
            log.info(
                "finding",
                extra={"account": alert.account, "activity": alert.activity_name, "severity": alert.severity}
                | ({"test": True} if alert.is_test else {}),
            )

    def _hand_on(self, tp: TP, records: Sequence[Any], events: int, outputs: list[Outgoing]) -> None:
        self._metrics.records.inc(len(records))
        self._metrics.batch_records.observe(len(records))
        if records[-1].timestamp >= 0:
            self._scored_at[tp] = records[-1].timestamp / 1000.0
        self._next[tp] = records[-1].offset + 1
        self._checkpoint.scored(tp.partition, records[-1].offset + 1, max(events, 1), outputs)
        self.last_progress_at = monotonic()

    async def _go_back(self, tp: TP, run: Sequence[Any]) -> None:
        """After a failure: drop all that is not saved of the partition, and read it again.

        States may be half updated, so only what is saved counts. A run of several records is then scored one by one;
        a record that fails alone becomes a dead letter. So one record can neither stop its partition nor be lost.
        """
        async with self._checkpoint.lock:
            committed = self._checkpoint.committed(tp.partition)
            one_by_one, refused = run[-1].offset, self._refused[tp]
            if len(run) == 1:
                refused.add(run[0].offset)
                if len(refused) > MAX_REFUSED:
                    reason = "scoring fails for record after record: a fault of stillwatch, please report it"
                    self._fatal(reason, ExitCode.FAULT)
            self._forget(tp)
            self._checkpoint.own(tp.partition, committed)
            self._next[tp] = committed
            self._one_by_one[tp], self._refused[tp] = one_by_one, refused
        if committed is not None:
            await self._seek(tp, committed)


def cause_of(alert: Alert, records: Sequence[Record]) -> Record | None:
    """The request that raised an alert, if it is among these records of its partition; no request causes a closing."""
    offsets = alert.unmapped.get("stillwatch", {}).get("source", {}).get("offsets")
    if alert.activity_id == Activity.CLOSE or not offsets:
        return None
    at = bisect_left(records, offsets[-1], key=lambda record: record.offset)
    return records[at] if at < len(records) and records[at].offset == offsets[-1] else None
