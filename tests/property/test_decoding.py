"""Whatever bytes arrive, each record becomes exactly one row, dead letter or misplaced record, and nothing raises."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.embedding import load_wordllama
from detectors.encoder import Encoder, rotation_signs
from detectors.events import DECLARED, FAILED, NO_CONTENT
from schemas.dead_letter import dead_letter_headers
from schemas.origin import ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER, origin_headers
from schemas.request import nesting, prune, repair_text
from streams.ingest import Ingest, origin_of
from tests.sent import Sent

TIME = 1_790_812_856_423
HOME = len("acct_7")
"""The partition of the accounts below, where a key's length says where it belongs."""
EMBEDDER = load_wordllama()
TEXT_INGEST = Ingest(
    encoder=Encoder(np.zeros(256, np.float32), rotation_signs(256), EMBEDDER.name),
    embedder=EMBEDDER,
    expected_partition=len,
)
VECTOR_INGEST = Ingest(encoder=Encoder(np.zeros(4, np.float32), rotation_signs(4), "four"), embedder=None)


# Any code point, lone surrogates too, as Python's json module writes them.
texts = st.text(st.characters(), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
jsons = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
embeddings = (
    st.lists(st.floats(), max_size=5)
    | st.binary(max_size=20).map(lambda b: base64.b64encode(b).decode())
    | st.sampled_from([4, 8])
    .flatmap(lambda n: st.binary(min_size=2 * n, max_size=2 * n))
    .map(lambda b: base64.b64encode(b).decode())
)
parts = st.fixed_dictionaries({}, optional={"type": st.just("text") | jsons, "text": texts | jsons, "content": jsons})
messages = st.fixed_dictionaries(
    {}, optional={"role": st.just("user") | jsons, "content": texts | st.lists(parts) | jsons, "parts": jsons}
)
prompts = texts | st.lists(texts) | st.lists(messages, max_size=4) | jsons
events = st.fixed_dictionaries(
    {"time": st.just(TIME) | scalars, "account": st.sampled_from(["acct_7", "acct_8"]) | scalars},
    optional={
        "id": texts | scalars,
        "end_user": texts,
        "endpoint": texts,
        "links": st.dictionaries(texts, texts, max_size=3) | jsons,
        "status": st.sampled_from([200, 429, 500]) | scalars,
        "output_tokens": st.integers(0, 2**31) | scalars,
        "input_tokens": st.integers(0, 2**31) | scalars,
        "embedding": embeddings | jsons,
        "embedding_model": st.just("four") | scalars,
        "prompt": prompts,
        "other": jsons,
    },
).map(lambda value: json.dumps(value).encode())
unescaped = events.map(lambda value: json.dumps(json.loads(value), ensure_ascii=False).encode(errors="surrogatepass"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An event with some bytes replaced, cut off or put in."""
    value = bytearray(draw(events))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


values = st.none() | st.binary(max_size=60) | events | unescaped | damaged()
header_names = st.sampled_from([ORIGIN_TOPIC_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_OFFSET_HEADER]) | st.text(
    max_size=5
)
headers = st.lists(st.tuples(header_names, st.binary(max_size=5)), max_size=4)
keys = st.sampled_from([b"acct_7", b"acct_8", b"", None])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(values, keys, headers), max_size=6), st.sampled_from([TEXT_INGEST, VECTOR_INGEST]))
def test_every_record_comes_to_exactly_one_thing(
    sent: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]], ingest: Ingest
) -> None:
    records = [
        Sent(value, offset, HOME, key, timestamp=TIME, headers=head) for offset, (value, key, head) in enumerate(sent)
    ]
    done = ingest(records)
    columns = done.batch.columns
    offsets = [
        *columns["offset"].tolist(),
        *(letter.record.offset for letter in done.dead),
        *(record.offset for record, _ in done.misplaced),
    ]
    assert sorted(offsets) == list(range(len(records)))
    assert columns["offset"].tolist() == sorted(columns["offset"].tolist())
    assert np.isfinite(columns["length"]).all()
    assert (columns["length"] >= 0).all()
    assert (columns["output_tokens"] >= -1).all()
    assert (columns["flags"] <= FAILED | NO_CONTENT | DECLARED).all()
    assert (columns["code"].any(axis=1) | ((columns["flags"] & NO_CONTENT) != 0)).all()
    assert columns["identity"].all()
    for text in [*done.batch.accounts, *done.batch.ids, *(account for _, account in done.misplaced)]:
        text.encode()
    for letter in done.dead:
        assert letter.reason != "internal", letter
        dead_letter_headers(letter.reason, letter.detail, topic="t", partition=0, offset=letter.record.offset)


@settings(max_examples=200, deadline=None)
@given(st.lists(unescaped | events, min_size=1, max_size=5))
def test_rows_are_the_same_in_any_batch(many: list[bytes]) -> None:
    records = [Sent(value, offset, HOME, timestamp=TIME) for offset, value in enumerate(many)]
    together = VECTOR_INGEST(records)
    apart = [VECTOR_INGEST([record]) for record in records]
    assert together.batch.columns.tobytes() == b"".join(one.batch.columns.tobytes() for one in apart)
    assert together.batch.accounts == [account for one in apart for account in one.batch.accounts]


@given(jsons)
def test_repair_changes_nothing_but_broken_characters(value: Any) -> None:
    written = json.dumps(value)
    repaired = repair_text(written.encode())
    as_python_reads = json.dumps(json.loads(written)).encode("ascii")
    whole = not any(0xD800 <= ord(c) < 0xE000 for c in json.dumps(json.loads(written), ensure_ascii=False))
    if whole:
        assert repaired == as_python_reads
    else:
        json.dumps(json.loads(repaired), ensure_ascii=False).encode()


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(jsons)
def test_nesting_is_counted_as_a_parser_nests(value: Any) -> None:
    written = json.dumps(value)
    assert nesting(written.encode()) == depth(json.loads(written))


def pruned(value: Any, limit: int) -> Any:
    if isinstance(value, (dict, list)) and limit == 0:
        return None
    if isinstance(value, dict):
        return {name: pruned(inner, limit - 1) for name, inner in value.items()}
    return [pruned(inner, limit - 1) for inner in value] if isinstance(value, list) else value


@given(jsons, st.integers(0, 4))
def test_pruning_cuts_what_is_deeper_and_nothing_else(value: Any, limit: int) -> None:
    left = json.loads(prune(json.dumps(value).encode(), limit))
    assert json.dumps(left) == json.dumps(pruned(json.loads(json.dumps(value)), limit))


@given(st.text(max_size=20), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_origins_survive_any_topic_name(topic: str, partition: int, offset: int) -> None:
    first = Sent(None, offset, partition, topic=topic)
    carried = origin_headers(origin_of(first))
    assert origin_of(Sent(None, headers=carried)) == origin_of(first)
