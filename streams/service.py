"""The Faust application: our transport, recovery and store in it, and the scorer wired to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from faust.types import TP

from schemas.version import VERSION
from streams import logs, tracing
from streams.checkpoint import Checkpoint
from streams.credentials import CredentialFiles
from streams.detection import make_engine, make_ingest, read_baseline, warm_up
from streams.exit_codes import ExitCode
from streams.housekeeping import Housekeeping
from streams.lag import Lag, LagWatch
from streams.metrics import Following, FollowingHistogram, Metrics
from streams.recovery import BatchRecovery, BatchTableManager
from streams.scoring import Outputs, Scorer
from streams.settings import Settings
from streams.state_table import StateTable, Store
from streams.topics import TopicNames
from streams.transport.batch import BatchTopic
from streams.transport.consumer import BatchConsumer, BatchTransport
from streams.transport.delivery import Delivered, Outgoing, deliver
from streams.transport.partitioner import Partitioner

log = logging.getLogger(__name__)

STATE_TABLE = "accounts"

SETTLE_SHARE = 0.6
"""Share of the grace, and of a rebalance, that the last checkpoint may take: what follows needs time as well."""

SLAB_SHARE = 0.5
"""A checkpoint is due when so much of the slab has changed: an engine full of unsaved states has no room."""


class WithoutWeb(BootStrategy):
    """Why: the `faust worker` command overwrites `web_enabled=False`; Faust's pages show tables."""

    enable_web = False


class Service(faust.App):
    """The application of one worker.

    Attributes
    ----------
    settings, names, metrics, traces
        As given, the topics' names, what is counted and what is traced.
    scorer
        Scores batches; owns what belongs to partitions.
    checkpoint
        Saves what is scored.
    exit_code
        How the process should end.
    stop_worker
        Begins the stop of the process; set by the worker that runs this application.
    """

    BootStrategy = WithoutWeb
    logger = logs.FAUST

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = TopicNames.of(settings)
        self.metrics = Metrics()
        self.traces = tracing.start(settings)
        self.exit_code = ExitCode.OK
        self.stop_worker: Callable[[], None] = _no_worker
        self._credentials = CredentialFiles(settings.credential_files)
        self._partitions = Partitioner()
        self._lag_watch = LagWatch()
        self._progress_at = monotonic()
        super().__init__(
            settings.group_id,
            Topic=BatchTopic,
            TableManager=BatchTableManager,
            Table=StateTable,
            Worker="streams.worker:Worker",
            **settings.faust_options(),
        )
        self._wire(settings)

    def _new_transport(self) -> BatchTransport:
        """Why overridden: Faust picks its transport by a URL."""
        return BatchTransport(self.conf.broker_consumer, self)

    def _wire(self, settings: Settings) -> None:
        self._baseline = baseline = read_baseline(settings)
        names, metrics = self.names, self.metrics
        self.engine = make_engine(settings, baseline, self._lookup)
        settle_seconds = SETTLE_SHARE * min(settings.shutdown_grace_seconds, settings.rebalance_timeout_seconds)
        self.checkpoint = Checkpoint(
            engine=self.engine,
            store=lambda: self.store,
            group=GroupOf(self),
            housekeeping=Housekeeping(
                store=lambda: self.store, latest=self.engine.latest, expiry_days=settings.state_expiry_days
            ),
            deliver=self._deliver,
            state_topic=names.state,
            metrics=metrics,
            on_not_a_member=lambda: self.scorer.not_a_member(),
            interval_seconds=settings.checkpoint_interval_seconds,
            max_events=settings.checkpoint_max_events,
            max_bytes=settings.checkpoint_max_bytes,
            max_states=max(1, int(settings.slab_rows * SLAB_SHARE)),
            traces=self.traces,
        )
        self.scorer = Scorer(
            ingest=make_ingest(settings, baseline, lambda key: self._partitions(names.requests, key)),
            engine=self.engine,
            checkpoint=self.checkpoint,
            outputs=Outputs(
                names,
                self._partitions,
                metrics,
                redact=settings.dead_letter_content == "redacted",
                traces=self.traces,
            ),
            metrics=metrics,
            epoch_of=lambda tp: self.group_consumer.epoch_of(tp),
            seek=lambda tp, offset: self.group_consumer.seek(tp, offset),
            log_ends=self._log_ends,
            log_begins=self._log_begins,
            learn_partitions=self._learn_partitions,
            fatal=self.fatal,
            settle_seconds=settle_seconds,
            traces=self.traces,
        )
        if settings.canary_prefix:
            metrics.canary_findings.labels(activity="create")  # at 0, so that its standing still can be noticed
        metrics.build.labels(version=VERSION).set(1)
        metrics.baseline.labels(hash=baseline.hash).set(_epoch_seconds(baseline.provenance.made_at))
        self._surprise = FollowingHistogram(metrics.surprise)
        counters = self.engine.counters
        self._followed: list[tuple[Following, Callable[[], int]]] = [
            (Following(metrics.scored), lambda: counters.events),
            (Following(metrics.skipped.labels(why="duplicate")), lambda: counters.duplicates),
            (Following(metrics.skipped.labels(why="fenced")), lambda: counters.fenced),
            (Following(metrics.late), lambda: counters.late),
            (Following(metrics.not_judged), lambda: counters.not_judged),
            (Following(metrics.evictions), lambda: counters.evictions),
            (Following(metrics.cold_starts.labels(why="unreadable")), lambda: counters.unreadable_states),
            (Following(metrics.cold_starts.labels(why="encoder")), lambda: counters.encoder_changes),
            (Following(metrics.cold_starts.labels(why="expired")), lambda: counters.expired),
            (Following(metrics.migrated_states), lambda: counters.migrated_states),
            (Following(metrics.void_fences), lambda: counters.void_fences),
            (Following(metrics.forgotten), lambda: self.store.forgotten),
            (Following(metrics.late_writes), lambda: self.store.late_writes),
        ]
        calls = self.engine.watch.calls
        self._followed += [
            (Following(metrics.drift_calls.labels(count=name)), partial(calls.__getitem__, name)) for name in calls
        ]

    @property
    def store(self) -> Store:
        """The local store of states."""
        return cast(StateTable, self.tables[STATE_TABLE]).data

    @property
    def recovery(self) -> BatchRecovery:
        """Restores states of partitions that come."""
        return cast(BatchTableManager, self.tables).recovery

    @property
    def group_consumer(self) -> BatchConsumer:
        """The consumer."""
        return cast(BatchConsumer, self.consumer)

    @property
    def _kafka_producer(self) -> AIOKafkaProducer:
        return cast(Any, self.producer)._producer

    def _lookup(self, partition: int, account: bytes) -> bytes | None:
        """Stored state of an account that the engine does not hold."""
        return self.store.raw_get(partition, account)

    async def _deliver(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], Delivered]:
        """Write records and wait until the brokers hold them. The producer is there once the application runs."""
        return await deliver(self._kafka_producer, records, self.traces)

    async def _learn_partitions(self) -> None:
        """How many partitions each topic has now; a state lies on the partition of its source."""
        producer = self._kafka_producer
        for topic in self.names:
            self._partitions.learn(topic, len(await producer.partitions_for(topic)))
        requests, state = self._partitions.count(self.names.requests), self._partitions.count(self.names.state)
        if requests != state:
            reason = f"{self.names.requests} has {requests} partitions and {self.names.state} {state}"
            self.fatal(reason)
            raise RuntimeError(reason)

    async def _log_ends(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The offset that the next record of each partition will have."""
        ends = await self.consumer.highwaters(*partitions)
        return {tp: end for tp, end in ends.items() if end is not None}

    async def _log_begins(self, partition: TP) -> int:
        """The offset of the first record that a partition still holds."""
        return (await self.consumer.earliest_offsets(partition)).get(partition) or 0

    def warm_up(self) -> None:
        """Compile what scoring needs."""
        warm_up(self.settings, self._baseline)

    # --- how it goes

    def is_ready(self) -> bool:
        """Whether this worker scores what comes in: recovered, and not handing partitions over."""
        return self.scorer.ready and self.recovery.completed.is_set() and not self.rebalancing

    async def measure(self) -> None:
        """Bring gauges up to date, and take note of progress. Asks the brokers for the ends of our partitions.

        Faust's own numbers move only with what is fetched, and so stand still when a worker is stuck.
        """
        for following, total in self._followed:
            following.follow(total())
        self._surprise.follow(self.engine.looks.by_ratio, self.engine.looks.total_ratio)
        self.metrics.partitions.set(len(self.scorer.positions()))
        self._watch_population()
        self.metrics.accounts.set(self.store.accounts())
        self.metrics.store_bytes.set(self.store.bytes_held())
        self.metrics.accounts_ready.set(self.engine.accounts)
        self.metrics.ready.set(self.is_ready())
        try:
            lag = await self._lag()
        except (KafkaError, TimeoutError) as error:
            # An error in a timer would end the worker; and brokers that do not answer are no progress.
            log.debug("the brokers do not say how far behind we are: %s", type(error).__name__)
            return
        self.metrics.lag.set(lag.records)
        self.metrics.lag_seconds.set(lag.seconds)
        idle = lag.records == 0 and self.is_ready() and not self.checkpoint.due()
        without_partitions = not self.consumer.assignment() and not self.rebalancing
        if idle or without_partitions:
            self._progress_at = monotonic()

    async def mind_credentials(self) -> None:
        """End, to be started again, when the files of our credentials have changed; the end saves what is scored."""
        if self.exit_code is ExitCode.OK and self._credentials.changed():
            log.warning("the files of our credentials have changed: ending, to be started again with the new ones")
            self.exit_code = ExitCode.TEMPORARY
            self.stop_worker()

    def _watch_population(self) -> None:
        """Say when the accounts are no longer those of the baseline, and show by how much."""
        watch, metrics = self.engine.watch, self.metrics
        for line in watch.news():
            log.warning(line)
        metrics.refit.set(watch.is_off)
        for name in watch.names:
            metrics.drift.labels(count=name).set(watch.rate(name).ratio)
        for statistic, share in watch.beyond().items():
            metrics.beyond.labels(statistic=statistic).set(share)

    async def _lag(self) -> Lag:
        positions = self.scorer.positions()
        ends = await self.consumer.highwaters(*positions) if positions else {}
        behind = {}
        for tp, next_offset in positions.items():
            passed = await self.group_consumer.passed(tp, next_offset or 0)
            behind[tp] = max(0, (ends.get(tp) or 0) - passed)
        return self._lag_watch.look(behind, self.scorer.scored_at(), time.time())

    def progress_at(self) -> float:
        """When (monotonic) this worker last got anywhere: scored, saved, restored, or had nothing to do."""
        return max(
            self._progress_at,
            self.scorer.last_progress_at,
            self.checkpoint.last_success_at,
            self.recovery.last_progress_at,
        )

    def fatal(self, reason: str, code: ExitCode = ExitCode.BROKER) -> None:
        """End this worker: a bounded stop, then a hard exit. What is not saved will be read again."""
        if self.exit_code is not ExitCode.OK:
            return  # is ending already
        log.critical("%s", reason)
        self.exit_code = code
        self.scorer.not_a_member()
        self.stop_worker()


class GroupOf:
    """The consumer group and recovery as the checkpoint sees them (`streams.checkpoint.Group`)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def generation(self) -> int:
        """Generation of the group as we know it."""
        return self._service.consumer_generation_id

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit next offsets of source partitions; False when refused to us as no member."""
        requests = self._service.names.requests
        with self._service.traces.committing(requests):
            return await self._service.group_consumer.thread.commit_as_member(
                {TP(requests, partition): offset for partition, offset in offsets.items()}
            )

    def restore_point(self, partition: int) -> int | None:
        """Changelog offset up to which the local store is complete; None when unknown."""
        recovery, tp = self._service.recovery, TP(self._service.names.state, partition)
        return recovery.active_offsets.get(tp) if tp in recovery.active_tps else None

    def advance_restore_point(self, partition: int, offset: int) -> None:
        """The local store is complete up to here."""
        self._service.recovery.active_offsets[TP(self._service.names.state, partition)] = offset


def _epoch_seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _no_worker() -> None:
    raise RuntimeError("no worker runs this application")
