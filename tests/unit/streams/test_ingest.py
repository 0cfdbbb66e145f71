"""Every record becomes a row, a dead letter or a misplaced record, and the rows say what the requests were."""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from detectors.embedding import MAX_CHARACTERS, WORDLLAMA, WordLlamaEmbedder, lazy_wordllama
from detectors.encoder import Encoder, rotation_signs
from detectors.events import DECLARED, FAILED, NO_CONTENT, UNKNOWN
from schemas.dead_letter import DeadLetterReason as Reason
from schemas.origin import Origin, origin_headers
from schemas.request import RequestLimits
from streams.ingest import CHARACTERS_PER_TOKEN, Ingest, Ingested, origin_of
from streams.transport.partitioner import positive_murmur2
from tests.embedding_work import work_of
from tests.sent import Sent, log_of

NOW = 1_790_812_856_423
MOST_PIECES_OF_A_CHARACTER = 4
"""What no piece stands for is spelt in the bytes of UTF-8."""
PARTITIONS = 12


def event(**fields: Any) -> bytes:
    return orjson.dumps({"time": NOW, "account": "acct_7"} | fields)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(np.zeros(256, np.float32), rotation_signs(256), WORDLLAMA)


@pytest.fixture(scope="module")
def ingest(encoder: Encoder, embedder: WordLlamaEmbedder) -> Ingest:
    return Ingest(encoder=encoder, embedder=embedder)


@pytest.fixture(scope="module")
def vectors_only() -> Ingest:
    """A baseline of another model with four numbers, and no text model."""
    return Ingest(encoder=Encoder(np.zeros(4, np.float32), rotation_signs(4), "four"), embedder=None)


def on_topic(ingest: Ingest) -> Ingest:
    return Ingest(
        encoder=ingest._encoder,
        embedder=ingest._embedder,
        expected_partition=lambda key: positive_murmur2(key) % PARTITIONS,
    )


def only_reason(done: Ingested) -> Reason:
    assert (len(done.batch), len(done.dead), len(done.misplaced)) == (0, 1, 0)
    return done.dead[0].reason


def alive(done: Ingested) -> NDArray[Any]:
    assert not done.dead
    assert not done.misplaced
    return done.batch.columns


def half(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f2").tobytes()).decode()


# ------------------------------------------------------------------------------------------------- rows


def test_a_request_becomes_a_row(ingest: Ingest) -> None:
    done = ingest(
        [Sent(event(id="r1", prompt="Why is the sky blue?", output_tokens=88, endpoint="chat", end_user="u1"), 41)]
    )
    row = alive(done)[0]
    assert done.batch.accounts == ["acct_7"]
    assert done.batch.ids == ["r1"]
    assert (row["time"], row["offset"], row["output_tokens"], row["flags"]) == (NOW, 41, 88, 0)
    assert row["length"] == len("Why is the sky blue?")
    assert row["code"].any()
    assert row["end_user"] != 0
    assert row["endpoint"] != 0
    assert row["identity"] != 0


def test_no_records_are_an_empty_batch(ingest: Ingest) -> None:
    done = ingest([])
    assert (len(done.batch), done.dead, done.misplaced) == (0, [], [])


def test_what_is_missing_is_unknown(ingest: Ingest) -> None:
    row = alive(ingest(log_of(event(prompt="x", total_tokens=900))))[0]
    assert (row["output_tokens"], row["end_user"], row["endpoint"]) == (UNKNOWN, 0, 0)
    assert alive(ingest(log_of(event(prompt="x", output_tokens=0))))[0]["output_tokens"] == 0


def test_length_is_the_texts_else_guessed_from_input_tokens_else_zero(ingest: Ingest) -> None:
    rows = alive(
        ingest(log_of(event(prompt="four", input_tokens=9000), event(input_tokens=10), event(input_tokens=None)))
    )
    assert rows["length"].tolist() == [4.0, np.float32(10 * CHARACTERS_PER_TOKEN), 0.0]


def test_order_of_the_log_is_kept_around_dead_letters(ingest: Ingest) -> None:
    done = ingest(log_of(event(prompt="a"), b"{", event(prompt=[1, 2]), None, event(), event(prompt="b")))
    assert done.batch.columns["offset"].tolist() == [0, 4, 5]
    assert sorted((letter.record.offset, letter.reason) for letter in done.dead) == [
        (1, Reason.NOT_JSON),
        (2, Reason.TOKEN_IDS),
        (3, Reason.EMPTY),
    ]


def test_rows_do_not_depend_on_the_batch(ingest: Ingest) -> None:
    records = log_of(*(event(prompt="question " * n, id=str(n), output_tokens=n) for n in range(1, 40)))
    together = ingest(records).batch.columns
    one_by_one = np.concatenate([ingest([record]).batch.columns for record in records])
    assert together.tobytes() == one_by_one.tobytes()


# ------------------------------------------------------------------------------------------------- identity


def test_an_answer_logged_twice_has_one_identity(ingest: Ingest) -> None:
    twice = event(id="resp-1", prompt="hello")
    first, second = alive(ingest(log_of(twice, twice)))["identity"]
    assert first == second


def test_the_same_id_from_two_accounts_or_at_two_times_is_two_identities(ingest: Ingest) -> None:
    rows = alive(
        ingest(
            log_of(
                event(id="resp-213"), event(id="resp-213", account="acct_8"), event(id="resp-213", time=NOW + 3_600_000)
            )
        )
    )
    assert len(set(rows["identity"].tolist())) == 3


@pytest.mark.parametrize("no_id", ["", "None", "null", None])
def test_fifty_records_without_an_id_are_fifty_identities(ingest: Ingest, no_id: str | None) -> None:
    done = ingest(log_of(*[event(id=no_id, end_user=no_id)] * 50))
    assert len(set(alive(done)["identity"].tolist())) == 50
    assert done.batch.ids == [""] * 50
    assert not done.batch.columns["end_user"].any()


def test_without_an_id_identity_is_the_first_place_in_the_log(ingest: Ingest) -> None:
    original = Sent(event(), 17, 3)
    again = Sent(event(), 900, 5, headers=origin_headers(origin_of(original)))
    elsewhere = Sent(event(), 17, 5)
    first, copy, other = alive(ingest([original, again, elsewhere]))["identity"]
    assert first == copy != other
    assert origin_of(again) == Origin("stillwatch.requests", 3, 17)


# ------------------------------------------------------------------------------------------------- placement


def test_a_record_on_its_keys_partition_is_scored_in_place(ingest: Ingest) -> None:
    key = b"acct_7"
    done = on_topic(ingest)([Sent(event(), partition=positive_murmur2(key) % PARTITIONS, key=key)])
    assert len(alive(done)) == 1


@pytest.mark.parametrize("key", [b"", None, b"acct_8", b"\xff"])
def test_a_record_whose_key_is_not_its_account_goes_back(ingest: Ingest, key: bytes | None) -> None:
    record = Sent(event(prompt="x"), partition=positive_murmur2(b"acct_7") % PARTITIONS, key=key)
    done = on_topic(ingest)([record])
    assert done.misplaced == [(record, "acct_7")]
    assert (len(done.batch), done.dead) == (0, [])


def test_the_right_key_on_the_partition_that_crc32_chooses_goes_back_and_is_scored_once_returned(
    ingest: Ingest,
) -> None:
    accounts = [f"acct_{i}" for i in range(50)]
    records = [
        Sent(event(account=account), 5, zlib.crc32(account.encode()) % PARTITIONS, account.encode())
        for account in accounts
    ]
    done = on_topic(ingest)(records)
    assert len(done.batch) + len(done.misplaced) == 50
    assert len(done.misplaced) > 25
    returned = [
        Sent(
            record.value,
            6,
            positive_murmur2(account.encode()) % PARTITIONS,
            account.encode(),
            headers=origin_headers(origin_of(record)),
        )
        for record, account in done.misplaced
    ]
    assert alive(on_topic(ingest)(returned))["identity"].tolist() == [
        alive(ingest([record]))["identity"][0] for record, _ in done.misplaced
    ]


def test_in_a_file_nothing_is_misplaced(ingest: Ingest) -> None:
    assert len(alive(ingest([Sent(event(), key=b"other", partition=11)]))) == 1


# ------------------------------------------------------------------------------------------------- text


def test_a_lone_surrogate_does_not_hide_a_prompt(ingest: Ingest) -> None:
    plain = event(prompt="Explain the proof of the theorem of Pythagoras in detail")
    broken = plain[:-2] + rb'\ud83d"}'
    normal, hidden = alive(ingest(log_of(plain, broken)))
    assert hidden["flags"] == 0
    distance = int(np.bitwise_count(normal["code"] ^ hidden["code"]).sum())
    assert distance < 50


@pytest.mark.parametrize(("declared", "flags"), [("evaluation", DECLARED), ("", 0), (None, 0)])
def test_what_the_operator_declares_is_marked(ingest: Ingest, declared: str | None, flags: int) -> None:
    row = alive(ingest(log_of(event(prompt="Explain the proof", declared=declared))))[0]
    assert row["flags"] == flags
    assert row["code"].any()


@pytest.mark.parametrize("prompt", ["", "  \n", [], None])
def test_an_empty_prompt_is_activity_without_content(ingest: Ingest, prompt: Any) -> None:
    row = alive(ingest(log_of(event(prompt=prompt))))[0]
    assert row["flags"] == NO_CONTENT
    assert not row["code"].any()


@pytest.mark.parametrize("prompt", ["😀", "请解释一下量子纠缠是什么意思", "a" * 900_000, "word " * 180_000])
def test_any_text_is_scored_in_bounded_work(ingest: Ingest, embedder: WordLlamaEmbedder, prompt: str) -> None:
    with work_of(embedder) as work:
        row = alive(ingest(log_of(event(prompt=prompt))))[0]
    assert row["flags"] == 0
    assert row["code"].any()
    assert row["length"] == len(prompt)
    assert 0 < work.characters <= min(len(prompt), MAX_CHARACTERS)
    assert 0 < work.pieces <= MOST_PIECES_OF_A_CHARACTER * (MAX_CHARACTERS + 1)
    assert MAX_CHARACTERS < 10_000


def test_more_than_a_megabyte_is_refused(ingest: Ingest) -> None:
    assert only_reason(ingest(log_of(event(prompt="a" * (1 << 20))))) is Reason.OVERSIZE


def test_only_the_last_user_turn_is_embedded(ingest: Ingest) -> None:
    system = {"role": "system", "content": "You are the support assistant of a large telephone company. " * 300}
    done = ingest(
        log_of(
            event(prompt=[system, {"role": "user", "content": "How do I boil an egg?"}]),
            event(prompt="How do I boil an egg?"),
            event(prompt=[system, {"role": "user", "content": "What is the tax law of Peru?"}]),
        )
    )
    with_system, alone, other = alive(done)
    assert (with_system["code"] == alone["code"]).all()
    assert with_system["length"] == alone["length"]
    assert not (with_system["code"] == other["code"]).all()


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_failed_request_is_marked(ingest: Ingest, status: int) -> None:
    failed, retried = alive(ingest(log_of(event(prompt="x y z", status=status), event(prompt="x y z", status=200))))
    assert (failed["flags"], retried["flags"]) == (FAILED, 0)


# ------------------------------------------------------------------------------------------------- supplied embeddings


def test_base64_and_list_give_the_same_code(vectors_only: Ingest) -> None:
    rows = alive(
        vectors_only(
            log_of(event(embedding=half(1, -2, 0.5, 3)), event(embedding=[1, -2, 0.5, 3], embedding_model="four"))
        )
    )
    assert (rows["code"][0] == rows["code"][1]).all()
    assert rows["code"].any()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"embedding": half(1, 2, 3)}, Reason.DIMENSION),
        ({"embedding": []}, Reason.DIMENSION),
        ({"embedding": half(1, 2, np.nan, 4)}, Reason.EMBEDDING),
        ({"embedding": [1, 2, 3, 1e200]}, Reason.EMBEDDING),
        ({"embedding": "?"}, Reason.EMBEDDING),
        ({"embedding": half(1, 2, 3, 4), "embedding_model": "five"}, Reason.EMBEDDING_MODEL),
        ({"prompt": "text"}, Reason.NO_EMBEDDER),
        ({"prompt": [5, 6]}, Reason.TOKEN_IDS),
        ({"time": NOW * 1000}, Reason.CLOCK),
    ],
)
def test_what_cannot_be_compared_is_a_dead_letter_and_its_neighbours_are_scored(
    vectors_only: Ingest, fields: dict[str, Any], reason: Reason
) -> None:
    good = event(embedding=half(1, 2, 3, 4))
    done = vectors_only(log_of(good, event(**fields), good))
    assert [letter.reason for letter in done.dead] == [reason]
    assert done.batch.columns["offset"].tolist() == [0, 2]
    assert done.batch.columns["code"].any(axis=1).all()


def test_an_embedding_of_nothing_but_zeros_is_activity_without_content(vectors_only: Ingest) -> None:
    assert alive(vectors_only(log_of(event(embedding=half(0, 0, 0, 0)))))["flags"].tolist() == [NO_CONTENT]


def test_an_embedding_goes_before_the_prompt_beside_it(vectors_only: Ingest) -> None:
    rows = alive(
        vectors_only(
            log_of(
                event(embedding=half(1, 2, 3, 4), prompt="seven c"), event(embedding=half(1, 2, 3, 4), prompt=[1, 2])
            )
        )
    )
    assert rows["flags"].tolist() == [0, 0]
    assert rows["length"].tolist() == [7.0, 0.0]


def test_unnamed_embeddings_are_of_the_configured_model(encoder: Encoder) -> None:
    ingest = Ingest(encoder=encoder, embedder=None, embedding_model="other")
    vector = half(*([1.0] * 256))
    assert only_reason(ingest(log_of(event(embedding=vector)))) is Reason.EMBEDDING_MODEL
    assert len(alive(ingest(log_of(event(embedding=vector, embedding_model=WORDLLAMA))))) == 1


def test_a_text_model_other_than_the_baselines_is_refused_and_told_once(
    embedder: WordLlamaEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    ingest = Ingest(encoder=Encoder(np.zeros(4, np.float32), rotation_signs(4), "four"), embedder=embedder)
    for _ in range(2):
        assert only_reason(ingest(log_of(event(prompt="x")))) is Reason.EMBEDDING_MODEL
    (line,) = caplog.messages
    assert f"embedded with {WORDLLAMA}, and the baseline is for four" in line
    with pytest.raises(ValueError, match="256 numbers, the baseline has 4"):
        Ingest(encoder=Encoder(np.zeros(4, np.float32), rotation_signs(4), WORDLLAMA), embedder=embedder)


@pytest.mark.parametrize("model", [WORDLLAMA, "another"])
def test_the_text_model_is_loaded_with_the_first_text_that_it_is_for(model: str) -> None:
    lazy = lazy_wordllama()
    ingest = Ingest(encoder=Encoder(np.zeros(256, np.float32), rotation_signs(256), model), embedder=lazy)
    ingest(log_of(event(embedding=half(*([1.0] * 256))), event(prompt=""), event(prompt=None), b"{"))
    assert not lazy.is_loaded
    ingest(log_of(event(prompt="x")))
    assert lazy.is_loaded == (model == WORDLLAMA)


def test_text_embedded_lazily_gives_the_same_codes(encoder: Encoder, embedder: WordLlamaEmbedder) -> None:
    texts = log_of(*(event(prompt=text) for text in ("How do I boil an egg?", "x" * 9000)))
    eager, lazy = (Ingest(encoder=encoder, embedder=model)(texts) for model in (embedder, lazy_wordllama()))
    assert eager.batch.columns.tobytes() == lazy.batch.columns.tobytes()


# ------------------------------------------------------------------------------------------------- clock and faults


def test_microseconds_in_some_records_are_dead_letters_of_their_own(ingest: Ingest) -> None:
    done = ingest(log_of(*(event(time=NOW * 1000 if n % 100 == 7 else NOW + n) for n in range(300))))
    assert [letter.reason for letter in done.dead] == [Reason.CLOCK] * 3
    assert done.batch.columns["time"].max() < NOW + 300


def test_the_records_own_time_bounds_the_events(ingest: Ingest) -> None:
    assert only_reason(ingest([Sent(event(), timestamp=NOW - 25 * 3_600_000)])) is Reason.CLOCK
    assert len(alive(ingest([Sent(event(), timestamp=NOW - 23 * 3_600_000)]))) == 1


def test_limits_are_the_operators(encoder: Encoder) -> None:
    small = Ingest(encoder=encoder, embedder=None, limits=RequestLimits(record_bytes=10))
    assert only_reason(small(log_of(event()))) is Reason.OVERSIZE


@dataclass(frozen=True)
class Choking:
    """A text model with a fault: it fails on one word."""

    inner: WordLlamaEmbedder
    name: str = WORDLLAMA
    dimension: int = 256

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("poison" in text for text in texts):
            raise RuntimeError(f"cannot embed {texts}")
        if any("infinite" in text for text in texts):
            return np.full((len(texts), 256), np.inf, np.float32)
        return self.inner.embed(texts)


def test_a_fault_on_one_text_spares_the_batch_and_is_logged_without_content(
    encoder: Encoder, embedder: WordLlamaEmbedder, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    choking = Ingest(encoder=encoder, embedder=Choking(embedder))
    values = [event(prompt="one"), event(prompt="poison secret"), event(prompt="three")]
    with caplog.at_level(logging.DEBUG):
        done = choking(log_of(*values))
    assert [(letter.record.offset, letter.reason) for letter in done.dead] == [(1, Reason.INTERNAL)]
    assert done.batch.columns.tobytes() == ingest([Sent(values[0], 0), Sent(values[2], 2)]).batch.columns.tobytes()
    assert "secret" not in caplog.text
    assert "secret" not in done.dead[0].detail
    assert "stillwatch.requests[0]@1" in caplog.text


def test_a_text_model_that_gives_infinite_numbers_is_a_fault(encoder: Encoder, embedder: WordLlamaEmbedder) -> None:
    assert only_reason(Ingest(encoder=encoder, embedder=Choking(embedder))(log_of(event(prompt="infinite")))) is (
        Reason.INTERNAL
    )


def test_a_fault_in_reading_one_record_spares_the_others(ingest: Ingest) -> None:
    odd: Any = Sent(event(), 1, timestamp="now")  # type: ignore[arg-type]
    done = ingest([Sent(event(), 0), odd, Sent(event(), 2)])
    assert [letter.reason for letter in done.dead] == [Reason.INTERNAL]
    assert len(done.batch) == 2
