"""Ten thousand hostile records among honest ones, from bytes to alerts: one documented thing comes of each."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest

from detectors import state
from detectors.baseline import Baseline
from detectors.embedding import WordLlamaEmbedder
from detectors.engine import Engine
from schemas.alert import Alert, encode_alert
from schemas.dead_letter import REASON_HEADER
from schemas.origin import read_origin
from streams import logs
from streams.ingest import Ingest
from streams.metrics import Metrics
from streams.scoring import Outputs
from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames
from streams.transport.partitioner import Partitioner
from tests.property.hostile.grammar import (
    ACCOUNT_MARK,
    ANY,
    DUPLICATE,
    PROMPT_MARK,
    SCORED,
    SENT_BACK,
    Headers,
    Hostile,
    records,
)
from tests.sent import Sent

COUNT = 10_000
SEED = 4
NOW = 1_767_571_200_000
PARTITIONS = 3
BATCH = 500
NAMES = TopicNames.of(load_settings())

DEAD_AFTER_ALL = "wrong dimension under a wrong key"
"""The kind that is sent back and then a dead letter: on its own partition first, its content is looked at."""


@dataclass(frozen=True)
class Meant(Sent):
    """A record, and what was meant by it; None for an honest one."""

    hostile: Hostile | None = None


@dataclass
class Service:
    """What a worker does with a topic, without a broker."""

    baseline: Baseline
    embedder: WordLlamaEmbedder
    log: list[list[Meant]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    alerts: list[Alert] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)
    """Everything that went out and may not quote a request: headers of dead letters, redacted ones, alerts, logs."""
    came_of: list[tuple[Meant, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.partitions = Partitioner()
        for topic in NAMES:
            self.partitions.learn(topic, PARTITIONS)
        self.metrics = Metrics()
        self.ingest = Ingest(
            encoder=self.baseline.encoder,
            embedder=self.embedder,
            expected_partition=lambda key: self.partitions(NAMES.requests, key),
        )
        self.engine = Engine(self.baseline, capacity=64)
        self.kept = Outputs(NAMES, self.partitions, self.metrics, redact=False)
        self.redacted = Outputs(NAMES, self.partitions, Metrics(), redact=True)

    def send(self, value: bytes | None, key: bytes | None, timestamp: int, hostile: Hostile | None = None) -> None:
        """Append to the topic, where a producer would put it."""
        home = self.partitions(NAMES.requests, key) if key is not None else 0
        partition = (home + 1) % PARTITIONS if hostile is not None and hostile.astray else home
        headers = [] if hostile is None else [(str(name), header) for name, header in hostile.headers]
        self._append(hostile, value, key, headers, partition, timestamp)

    def _append(
        self, hostile: Hostile | None, value: bytes | None, key: bytes | None, headers: Headers, p: int, time: int
    ) -> None:
        self.log[p].append(Meant(value, len(self.log[p]), p, key, timestamp=time, headers=headers, hostile=hostile))

    def run(self) -> None:
        """Score the topic to its end, with what is sent back to it."""
        read = [0] * PARTITIONS
        while (partition := next((p for p in range(PARTITIONS) if read[p] < len(self.log[p])), None)) is not None:
            batch = self.log[partition][read[partition] : read[partition] + BATCH]
            read[partition] += len(batch)
            self._score(partition, batch)

    def _score(self, partition: int, batch: list[Meant]) -> None:
        done = self.ingest(batch)
        by_offset = {record.offset: record for record in batch}  # ours, with what was meant by them
        alerts = self.engine.apply(partition, done.batch)
        self.alerts += alerts
        self.left += [encode_alert(alert) for alert in alerts]
        self.came_of += [(by_offset[offset], SCORED) for offset in done.batch.columns["offset"].tolist()]
        for letter in done.dead:
            self.came_of.append((by_offset[letter.record.offset], letter.reason.value))
            kept, redacted = self.kept.dead_letter(letter), self.redacted.dead_letter(letter)
            assert kept.value == letter.record.value
            assert kept.key == redacted.key == letter.record.key
            assert kept.size >= redacted.size - len(redacted.value or b"")
            assert dict(redacted.headers)[REASON_HEADER] == letter.reason.value.encode()
            self.left += [redacted.value or b"", *(header or b"" for _, header in redacted.headers)]
        for record, account in done.misplaced:
            self.came_of.append((by_offset[record.offset], SENT_BACK))
            back = self.kept.rekeyed(record, account)
            assert back.on_delivered is not None
            back.on_delivered()
            assert back.size > len(record.value or b"")
            origin = read_origin(back.headers)
            assert origin == (record.topic, record.partition, record.offset)
            self._append(
                by_offset[record.offset].hostile,
                back.value,
                back.key,
                back.headers,
                back.partition,
                back.timestamp or -1,
            )

    @property
    def raw_states(self) -> bytes:
        """Every account's record as it is stored, uncompressed."""
        envelopes = [envelope for p in range(PARTITIONS) for _, envelope in self.engine.snapshot(p)]
        return b"".join(state.unseal(e, self.baseline.encoder.hash).tobytes() for e in envelopes)


@pytest.fixture(scope="module")
def said() -> Iterator[io.StringIO]:
    """What is logged, as verbosely as can be."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    logs.configure(load_settings(log_level="DEBUG", account_ids="hashed", account_hash_key="a key"), stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    for name in ("streams", "detectors", "schemas", "faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def honest() -> list[tuple[bytes, bytes, int]]:
    """Requests of people, services and a few that extract, each prompt marked: (value, key, time)."""
    events: list[dict[str, Any]] = simulate(seed=3, days=4, organic=3, planted=2).events
    marked = [event | {"prompt": f"{event['prompt']} {PROMPT_MARK}"} for event in events]
    return [(orjson.dumps(event), event["account"].encode(), event["time"]) for event in marked]


@pytest.fixture(scope="module")
def undisturbed(baseline: Baseline, embedder: WordLlamaEmbedder) -> Service:
    """The honest requests alone."""
    service = Service(baseline, embedder)
    for value, key, time in honest():
        service.send(value, key, time)
    service.run()
    return service


@pytest.fixture(scope="module")
def service(baseline: Baseline, embedder: WordLlamaEmbedder, said: io.StringIO) -> Service:
    """Hostile records at random places among the honest ones."""
    service = Service(baseline, embedder)
    rng, hostile = Random(SEED), list(records(SEED, COUNT, NOW))
    places = sorted(rng.choices(range(len(requests := honest())), k=len(hostile)), reverse=True)
    for place, (value, key, time) in enumerate(requests):
        service.send(value, key, time)
        while places and places[-1] == place:
            places.pop()
            bad = hostile[len(places)]
            service.send(bad.value, bad.key, NOW + 3600_000, bad)
    service.run()
    return service


def test_the_grammar_makes_what_it_promises() -> None:
    made = list(records(SEED, COUNT, NOW))
    assert len(made) >= COUNT
    assert len({record.kind for record in made}) > 60
    assert [record.value for record in made] == [record.value for record in records(SEED, COUNT, NOW)]
    assert max(len(record.value or b"") for record in made) > 10_000_000


def test_every_record_comes_to_what_the_documentation_says(service: Service) -> None:
    wrong: Counter[tuple[str, str, str]] = Counter()
    for record, outcome in service.came_of:
        meant = record.hostile
        expected = SCORED if meant is None or meant.outcome == DUPLICATE else meant.outcome
        if meant is not None and meant.outcome == SENT_BACK and read_origin(record.headers):
            expected = "dimension" if meant.kind == DEAD_AFTER_ALL else SCORED
        if expected not in (ANY, outcome):
            wrong[meant.kind if meant else "honest", expected, outcome] += 1
    assert not wrong
    assert "internal" not in {outcome for _, outcome in service.came_of}


def test_counts_add_up(service: Service) -> None:
    counters, read = service.engine.counters, sum(map(len, service.log))
    outcomes = Counter(outcome for _, outcome in service.came_of)
    meant = Counter(record.hostile.outcome for log in service.log for record in log if record.hostile)
    dead = sum(n for outcome, n in outcomes.items() if outcome not in (SCORED, SENT_BACK))
    assert len(service.came_of) == read
    assert counters.events + counters.duplicates + dead + outcomes[SENT_BACK] == read
    assert counters.duplicates == meant[DUPLICATE] > 10
    assert counters.fenced == 0
    assert service.metrics.rekeyed._value.get() == outcomes[SENT_BACK] >= meant[SENT_BACK] / 2 > 100
    by_metric = sum(
        s.value for m in service.metrics.dead_letters.collect() for s in m.samples if s.name.endswith("_total")
    )
    assert by_metric == dead


def test_findings_do_not_depend_on_hostile_neighbours(service: Service, undisturbed: Service) -> None:
    def findings(alerts: list[Alert]) -> list[tuple[str, int, str, int]]:
        return sorted(
            (alert.finding_info.uid, alert.metadata.sequence, alert.activity_name, alert.time)
            for alert in alerts
            if ACCOUNT_MARK not in alert.account
        )

    assert findings(service.alerts) == findings(undisturbed.alerts) != []


def test_nothing_that_leaves_quotes_a_prompt(service: Service, said: io.StringIO) -> None:
    mark = PROMPT_MARK.encode()
    assert not [text for text in service.left if mark in text]
    assert mark not in service.raw_states
    assert mark not in service.metrics.text()
    assert PROMPT_MARK not in said.getvalue()


def test_logs_and_metrics_name_no_account_where_accounts_are_hashed(service: Service, said: io.StringIO) -> None:
    assert ACCOUNT_MARK not in said.getvalue()
    assert ACCOUNT_MARK.encode() not in service.metrics.text()
