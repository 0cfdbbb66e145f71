"""Odd records that real logs hold, taken the whole way: from bytes over rows to the account's state and alerts."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detectors import account, state
from detectors.baseline import Baseline
from detectors.embedding import MAX_CHARACTERS, WordLlamaEmbedder, clip
from detectors.engine import Engine
from detectors.statistics import shape
from schemas.alert import Activity, Alert, encode_alert
from schemas.dead_letter import DeadLetterReason as Reason
from schemas.origin import Origin, origin_headers, read_origin
from schemas.request import RequestLimits
from streams.ingest import Ingest, Ingested
from streams.metrics import Metrics
from streams.scoring import Outputs
from streams.settings import load_settings
from streams.simulation.traffic import simulate
from streams.topics import TopicNames
from streams.transport.partitioner import Partitioner
from tests.embedding_work import work_of
from tests.sent import Sent, log_of

NOW = 1_767_571_200_000
MINUTE = 60_000
PARTITIONS = 12
NAMES = TopicNames.of(load_settings())

QUESTIONS = tuple(
    f"{ask} the {thing} of {place}?"
    for place in ("Peru", "Japan", "Kenya", "Norway", "Chile", "Greece", "Egypt", "Nepal", "Cuba", "Laos")
    for ask, thing in (
        ("What is", "tax law"),
        ("Who painted", "oldest church"),
        ("How deep is", "longest river"),
        ("When was", "first railway"),
        ("Why did they change", "national anthem"),
    )
)
"""Fifty different prompts."""


def event(number: int = 0, *, account: str = "acct_7", **fields: Any) -> bytes:
    """The request event number `number` of an account, a minute after the one before, with a prompt of its own."""
    usual = {"time": NOW + number * MINUTE, "account": account, "prompt": QUESTIONS[number % len(QUESTIONS)]}
    # Not orjson: it writes no lone surrogates, and many gateways do.
    return json.dumps(usual | fields).encode()


class Service:
    """What a worker does with records, without a broker. `on_topic`: keys and partitions count."""

    def __init__(self, baseline: Baseline, embedder: WordLlamaEmbedder, *, on_topic: bool = False) -> None:
        self.partitions = Partitioner()
        for topic in NAMES:
            self.partitions.learn(topic, PARTITIONS)
        expected = (lambda key: self.partitions(NAMES.requests, key)) if on_topic else None
        self.ingest = Ingest(encoder=baseline.encoder, embedder=embedder, expected_partition=expected)
        self.engine = Engine(baseline, capacity=64)
        self.outputs = Outputs(NAMES, self.partitions, Metrics(), redact=False)
        self.alerts: list[Alert] = []
        self.dead: list[tuple[int, Reason]] = []

    def take(self, records: Sequence[Sent]) -> Ingested:
        """Score consecutive records of one partition."""
        done = self.ingest(records)
        self.alerts += self.engine.apply(records[0].partition, done.batch)
        self.dead += [(letter.record.offset, letter.reason) for letter in done.dead]
        return done

    def saved(self, name: str, partition: int = 0) -> Any:
        """The record that is saved of an account, shape `(1,)`."""
        envelopes = dict(self.engine.snapshot(partition))
        self.engine.mark_dirty(partition, envelopes)
        return state.unseal(envelopes[name.encode()], self.engine.baseline.encoder.hash)

    def counts(self, name: str = "acct_7", partition: int = 0) -> tuple[int, int, int]:
        """(Requests counted, requests that covered something, repeats) of an account."""
        row = self.saved(name, partition)[0]
        return int(row["header"]["requests"]), int(row["header"]["covered"]), int(row["recurrence"]["repeats"])


@pytest.fixture
def service(baseline: Baseline, embedder: WordLlamaEmbedder) -> Service:
    return Service(baseline, embedder)


@pytest.fixture
def on_topic(baseline: Baseline, embedder: WordLlamaEmbedder) -> Service:
    return Service(baseline, embedder, on_topic=True)


def statistics(row: Any) -> dict[str, float]:
    """All statistics of an account's record."""
    out = np.zeros(len(account.FEATURES))
    account.features(row[0], out)
    return dict(zip(account.FEATURES, out.tolist(), strict=True))


# ------------------------------------------------------------------------------------------------- counted once


def test_a_streaming_answer_that_was_logged_twice_is_counted_once(service: Service) -> None:
    first, logged_twice = event(0, id="resp-1"), event(1, id="resp-2")
    service.take(log_of(first, logged_twice, logged_twice))
    assert service.counts() == (2, 2, 0)
    assert service.engine.counters.duplicates == 1


def test_the_same_id_from_two_accounts_is_two_requests(service: Service) -> None:
    service.take(log_of(*(event(account=name, id="resp-213") for name in ("acct_7", "acct_8"))))
    assert service.counts("acct_7")[0] == service.counts("acct_8")[0] == 1
    assert service.engine.counters.duplicates == 0


@pytest.mark.parametrize("nothing", ["", "None", None])
def test_fifty_records_without_an_id_all_count(service: Service, nothing: str | None) -> None:
    service.take(log_of(*(event(n, id=nothing, time=NOW) for n in range(50))))
    assert service.counts() == (50, 50, 0)


# ------------------------------------------------------------------------------------------------- missing counts


def test_answers_of_unknown_length_are_unknown_rather_than_short(service: Service) -> None:
    service.take(log_of(*(event(n, total_tokens=900) for n in range(40))))
    unknown = service.saved("acct_7")[0]["shape"]
    assert unknown["answers"] == 0.0
    assert shape.short_share(unknown) == 0.0


def test_an_answer_of_no_tokens_is_a_short_one(service: Service) -> None:
    service.take(log_of(*(event(n, output_tokens=0) for n in range(40))))
    assert shape.short_share(service.saved("acct_7")[0]["shape"]) == 1.0


def test_answers_of_unknown_length_do_not_dilute_the_known_ones(service: Service) -> None:
    service.take(log_of(*(event(n, output_tokens=3 if n % 2 else None) for n in range(40))))
    assert shape.short_share(service.saved("acct_7")[0]["shape"]) == 1.0


def test_a_prompt_of_unknown_length_is_unknown_rather_than_empty(service: Service) -> None:
    vector = np.random.default_rng(7).normal(size=(40, 256)).astype("<f2")
    embeddings = [base64.b64encode(row.tobytes()).decode() for row in vector]
    service.take(log_of(*(event(n, prompt=None, embedding=embeddings[n], total_tokens=900) for n in range(40))))
    row = service.saved("acct_7")
    assert row["header"]["covered"][0] == 40
    assert row["shape"]["lengths"][0] == 0.0
    assert statistics(row)["vn_length"] == 1.0


# ------------------------------------------------------------------------------------------------- nobody hides


def extraction(**changes: Any) -> list[bytes]:
    """The log of one account that works off a list of exercises, some 570 of them."""
    events = simulate(seed=1, days=3, organic=0, planted=1).events
    return [json.dumps(item | {key: change(item) for key, change in changes.items()}).encode() for item in events]


def test_a_lone_surrogate_at_the_end_of_every_prompt_does_not_hide_an_extraction(service: Service) -> None:
    values = extraction(prompt=lambda item: item["prompt"] + "\ud83d")
    assert all(rb"\ud83d" in value for value in values)
    service.take(log_of(*values))
    assert not service.dead
    assert [alert.activity_id for alert in service.alerts][:1] == [Activity.CREATE]
    assert len({alert.account for alert in service.alerts}) == 1


def without_counts() -> list[Sent]:
    return log_of(*extraction(input_tokens=lambda item: None, output_tokens=lambda item: None))


def test_an_extraction_without_token_counts_is_found(service: Service) -> None:
    service.take(without_counts())
    assert Activity.CREATE in [alert.activity_id for alert in service.alerts]


def test_an_alert_makes_up_no_share_of_answers_of_unknown_length(service: Service) -> None:
    service.take(without_counts())
    assert not any(b"% short answers" in encode_alert(alert) for alert in service.alerts)


# ------------------------------------------------------------------------------------------------- clocks


def test_microseconds_in_one_record_of_a_hundred_leave_the_account_as_if_they_were_not_there(
    service: Service, baseline: Baseline, embedder: WordLlamaEmbedder
) -> None:
    values = [event(n, id=f"r{n}", output_tokens=200) for n in range(400)]
    broken = range(37, 400, 100)
    mixed = log_of(
        *(
            event(n, id=f"r{n}", time=(NOW + n * MINUTE) * 1000) if n in broken else value
            for n, value in enumerate(values)
        )
    )
    service.take(mixed)
    undisturbed = Service(baseline, embedder)
    undisturbed.take([record for record in mixed if record.offset not in broken])
    assert service.dead == [(offset, Reason.CLOCK) for offset in broken]
    assert service.saved("acct_7").tobytes() == undisturbed.saved("acct_7").tobytes()


# ------------------------------------------------------------------------------------------------- keys


def elsewhere(service: Service, key: bytes) -> int:
    """The partition that a client with CRC32 puts a key on."""
    chosen = zlib.crc32(key) % PARTITIONS
    assert chosen != service.partitions(NAMES.requests, key)
    return chosen


@pytest.mark.parametrize("key", [b"", None, b"acct_7"])
@pytest.mark.parametrize("has_id", [True, False])
@pytest.mark.parametrize("times_sent", [1, 2])
def test_a_record_under_a_wrong_key_or_on_a_wrong_partition_is_sent_back_and_scored_once(
    on_topic: Service,
    baseline: Baseline,
    embedder: WordLlamaEmbedder,
    key: bytes | None,
    has_id: bool,
    times_sent: int,
) -> None:
    home = on_topic.partitions(NAMES.requests, b"acct_7")
    wrong = elsewhere(on_topic, b"acct_7") if key else home
    proper = [Sent(event(n, id=f"r{n}" if has_id else ""), n, home, b"acct_7") for n in range(20)]

    done = on_topic.take([replace(record, partition=wrong, key=key) for record in proper])
    assert len(done.batch) == 0
    sent_back = [on_topic.outputs.rekeyed(record, name) for record, name in done.misplaced]
    assert len(sent_back) == 20

    copies = [copy for copy in sent_back for _ in range(times_sent)]
    arrived = [Sent(c.value, 100 + n, c.partition, c.key, c.topic, -1, c.headers) for n, c in enumerate(copies)]
    assert not on_topic.take(arrived).misplaced

    undisturbed = Service(baseline, embedder, on_topic=True)
    undisturbed.take(proper)
    assert on_topic.counts(partition=home) == (20, 20, 0)
    assert on_topic.engine.counters.duplicates == 20 * (times_sent - 1)
    assert statistics(on_topic.saved("acct_7", home)) == statistics(undisturbed.saved("acct_7", home))


@pytest.mark.parametrize("has_id", [True, False])
@pytest.mark.parametrize("sources", [1, 4])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_sent_back_records_that_a_crash_has_sent_once_more_are_scored_once(
    on_topic: Service, has_id: bool, sources: int, batch: int
) -> None:
    home = on_topic.partitions(NAMES.requests, b"acct_7")
    others = [partition for partition in range(PARTITIONS) if partition != home][:sources]
    strays = [
        Sent(event(n, id=f"r{n}" if has_id else ""), 100 + n, others[n % sources], None, headers=[("trace", b"1")])
        for n in range(20)
    ]
    sent_back = {
        partition: [
            on_topic.outputs.rekeyed(record, name)
            for record, name in on_topic.take([stray for stray in strays if stray.partition == partition]).misplaced
        ]
        for partition in others
    }
    # Each source's block comes twice; what the first worker had sent of the last ones only in part.
    blocks = [sent_back[partition] for partition in others]
    copies = [copy for block in (*blocks, blocks[-1][:3], *blocks[::-1]) for copy in block]
    arrived = [Sent(c.value, n, c.partition, c.key, c.topic, -1, c.headers) for n, c in enumerate(copies)]
    for begin in range(0, len(arrived), batch):
        assert not on_topic.take(arrived[begin : begin + batch]).misplaced
    assert on_topic.counts(partition=home) == (20, 20, 0)
    assert on_topic.engine.counters.duplicates == len(copies) - 20


def test_a_copy_that_is_sent_on_once_more_names_the_place_it_was_sent_on_from(on_topic: Service) -> None:
    wrong = elsewhere(on_topic, b"acct_7")
    first = on_topic.outputs.rekeyed(Sent(event(), 17, 3), "acct_7")
    ((record, name),) = on_topic.take([Sent(first.value, 900, wrong, first.key, headers=first.headers)]).misplaced
    again = on_topic.outputs.rekeyed(record, name)
    assert read_origin(again.headers) == Origin(NAMES.requests, wrong, 900)
    assert len(again.headers) == len(first.headers)


@pytest.mark.parametrize("offset", [2**63 - 1, 2**47])
def test_an_origin_that_no_log_has_is_none(on_topic: Service, offset: int) -> None:
    home = on_topic.partitions(NAMES.requests, b"acct_7")
    headers = origin_headers(Origin(NAMES.requests, 3, offset))
    done = on_topic.take([Sent(event(), 0, home, b"acct_7", headers=headers)])
    assert (done.batch.columns["origin"][0] != 0) == (offset < 2**63 - 1)
    assert on_topic.counts(partition=home)[0] == 1


# ------------------------------------------------------------------------------------------------- failures


def test_a_refused_request_and_its_retry_are_two_requests_that_covered_one_prompt(service: Service) -> None:
    prompt = "Explain the proof of the theorem of Pythagoras"
    service.take(log_of(event(0, prompt=prompt, status=429), event(1, prompt=prompt, status=200)))
    assert service.counts() == (2, 1, 0)
    assert service.saved("acct_7")[0]["cadence"]["failed"] == 1


def test_a_prompt_that_was_answered_twice_is_a_repeat(service: Service) -> None:
    prompt = "Explain the proof of the theorem of Pythagoras"
    service.take(log_of(event(0, prompt=prompt, status=200), event(1, prompt=prompt, status=200)))
    assert service.counts() == (2, 2, 1)


# ------------------------------------------------------------------------------------------------- prompts


def test_of_a_message_list_only_the_last_user_turn_counts(
    service: Service, baseline: Baseline, embedder: WordLlamaEmbedder
) -> None:
    system = {"role": "system", "content": "You are the support assistant of a large telephone company. " * 300}
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "What can I do for you?"}]
    listed = [[system, *history, {"role": "user", "content": question}] for question in QUESTIONS]
    rows = service.take(log_of(*(event(n, prompt=listed[n]) for n in range(50)))).batch.columns
    bare = Service(baseline, embedder)
    bare_rows = bare.take(log_of(*(event(n) for n in range(50)))).batch.columns
    assert rows["code"].tobytes() == bare_rows["code"].tobytes()
    assert service.saved("acct_7").tobytes() == bare.saved("acct_7").tobytes()


@pytest.mark.parametrize("prompt", ["", " \n", [], [{"role": "system", "content": "You are a poet."}]])
def test_an_empty_prompt_is_activity_that_covered_nothing(service: Service, prompt: Any) -> None:
    service.take(log_of(*(event(n, prompt=prompt) for n in range(20))))
    assert not service.dead
    assert service.counts() == (20, 0, 0)


@pytest.mark.parametrize("prompt", ["😀", "请解释一下量子纠缠是什么意思", "👩‍👩‍👧‍👦🏳️‍🌈", "שלום \u202e עולם"])
def test_a_prompt_in_any_script_is_scored(service: Service, prompt: str) -> None:
    service.take(log_of(event(0), event(1, prompt=prompt), event(2, prompt=prompt)))
    assert not service.dead
    assert service.counts() == (3, 3, 1)


@pytest.mark.parametrize("unit", ["a", "word ", "请解释一下"])
def test_of_a_prompt_of_nearly_a_megabyte_both_ends_are_read_and_nothing_more(
    service: Service, embedder: WordLlamaEmbedder, unit: str
) -> None:
    # Written without escapes, so that the limit is on what was asked.
    prompt = (unit * 1_000_000).encode()[:1_000_000].decode(errors="ignore")
    value = json.dumps({"time": NOW, "account": "acct_7", "prompt": prompt}, ensure_ascii=False).encode()
    with work_of(embedder) as work:
        (long,) = service.take([Sent(value, 0)]).batch.columns
    with work_of(embedder) as least:
        (cut,) = service.take([Sent(event(1, prompt=clip(prompt)), 1)]).batch.columns
    assert work == least
    assert 0 < work.characters <= MAX_CHARACTERS
    assert len(clip(prompt)) == MAX_CHARACTERS
    assert long["code"].tobytes() == cut["code"].tobytes()
    assert long["length"] == len(prompt)
    assert service.counts() == (2, 2, 1)


def test_a_record_longer_than_the_limit_is_refused_unread_and_its_neighbours_are_scored(service: Service) -> None:
    limit = RequestLimits().record_bytes
    too_long = event(1, prompt="a" * limit)
    service.take(log_of(event(0), too_long, event(2)))
    assert service.dead == [(1, Reason.OVERSIZE)]
    assert service.counts() == (2, 2, 0)
