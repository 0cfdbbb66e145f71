"""What goes out for records: keys are as untrusted as the rest of them."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2

from schemas.alert import as_test, decode_alert
from schemas.dead_letter import DeadLetterReason
from schemas.publish import published
from streams.ingest import DeadLetter
from streams.metrics import Metrics
from streams.scoring import MAX_SMALL_KEY_BYTES, Outputs
from streams.settings import load_settings
from streams.topics import TopicNames
from streams.transport import partitioner
from streams.transport.delivery import Outgoing
from streams.transport.partitioner import CACHED_KEY_BYTES, Partitioner, positive_murmur2
from tests.sent import Sent

NAMES = TopicNames.of(load_settings())
PARTITIONS = 12
SOURCE = 5


class Watched(Partitioner):
    """A partitioner that tells the sizes of what it hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        for topic in NAMES:
            self.learn(topic, PARTITIONS)

    def __call__(self, topic: str, key: bytes) -> int:
        self.sizes.append(len(key))
        return super().__call__(topic, key)


@pytest.fixture
def partitions() -> Watched:
    return Watched()


def record(key: bytes | None) -> Sent:
    return Sent(b"no JSON", 17, SOURCE, key)


def letter(partitions: Partitioner, key: bytes | None, *, redact: bool = False) -> Outgoing:
    outputs = Outputs(NAMES, partitions, Metrics(), redact=redact)
    return outputs.dead_letter(DeadLetter(record(key), DeadLetterReason.NOT_JSON, "no JSON"))


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("size", [MAX_SMALL_KEY_BYTES + 1, 1_000_000])
def test_a_large_key_is_never_hashed_and_goes_out_as_it_came(partitions: Watched, size: int, redact: bool) -> None:
    sent = letter(partitions, b"k" * size, redact=redact)
    assert max(partitions.sizes) <= 2
    assert sent.key == b"k" * size
    assert sent.partition == partitions(NAMES.dead_letters, b"%d" % SOURCE)
    assert sent.small is not None
    assert sent.small().key is None


@pytest.mark.parametrize("key", [b"acct-1", b"k" * MAX_SMALL_KEY_BYTES])
def test_letters_of_a_small_key_stay_together(partitions: Watched, key: bytes) -> None:
    sent = letter(partitions, key)
    assert sent.partition == positive_murmur2(key) % PARTITIONS
    assert sent.small is not None
    assert sent.small().key == key


@pytest.mark.parametrize("key", [None, b""])
def test_letters_without_a_key_go_by_their_source(partitions: Watched, key: bytes | None) -> None:
    assert letter(partitions, key).partition == partitions(NAMES.dead_letters, b"%d" % SOURCE)


def test_a_record_that_is_sent_back_pays_for_no_dead_letter_unless_it_is_refused(partitions: Watched) -> None:
    sent = Outputs(NAMES, partitions, Metrics(), redact=False).rekeyed(record(b"k" * 100_000), "acct-1")
    assert partitions.sizes == [len(b"acct-1")]
    assert sent.small is not None
    bare = sent.small()
    assert (bare.topic, bare.small is None) == (NAMES.requests, False)
    assert bare.small is not None
    refused = bare.small()
    assert refused.topic == NAMES.dead_letters
    assert max(partitions.sizes) < 10


def test_only_small_keys_are_kept_with_their_hashes() -> None:
    large, small = b"only here " * 200, (b"only here " * 200)[:CACHED_KEY_BYTES]
    held = partitioner._kept.cache_info().currsize
    assert positive_murmur2(large) == murmur2(large) & 0x7FFFFFFF
    assert partitioner._kept.cache_info().currsize == held
    assert positive_murmur2(small) == murmur2(small) & 0x7FFFFFFF
    assert partitioner._kept.cache_info().currsize == held + 1


@pytest.mark.parametrize("test", [False, True], ids=["a finding", "a canary"])
def test_an_alert_is_counted_when_the_brokers_have_it(partitions: Watched, test: bool) -> None:
    metrics = Metrics()
    found = decode_alert(published()["alert.example.json"])
    sent = Outputs(NAMES, partitions, metrics, redact=False).alert(as_test(found) if test else found)

    def counted() -> list[float]:
        counters = [metrics.findings, metrics.canary_findings]
        return [sum(s.value for m in c.collect() for s in m.samples if s.name.endswith("_total")) for c in counters]

    assert counted() == [0, 0]
    assert sent.on_delivered is not None
    sent.on_delivered()
    assert counted() == ([0, 1] if test else [1, 0])
