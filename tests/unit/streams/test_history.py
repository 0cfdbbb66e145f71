"""Reading a history for a fit: text and supplied embeddings, the population's mean, rows by account."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from xxhash import xxh3_64_intdigest

from detectors.embedding import WORDLLAMA
from detectors.events import EVENT_DTYPE
from schemas.request import RequestLimits
from streams import history as reading
from streams import replay
from streams.history import History, HistoryError, joined, read_history
from streams.side_by_side import processes

LIMITS = RequestLimits()
TIME = 1_767_571_200_000


def event(account: str, number: int, **more: Any) -> dict[str, Any]:
    return {"time": TIME + number * 1000, "account": account, "id": f"{account}-{number}", **more}


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(e) + b"\n" for e in events))
    return path


def read(path: Path, *more: Path, model: str | None = None, dimension: int | None = None) -> Any:
    return read_history([path, *more], LIMITS, model=model, dimension=dimension, advance=lambda amount: None)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    prompts = ("How do I prune a rose?", "Write a poem about the sea", "SQL join of two tables", "What is a quark?")
    events = [event(f"a{n % 2}", n, prompt=prompts[n % 4] + f" {n}") for n in range(20)]
    return write(tmp_path / "texts.jsonl", [*events, {"time": 5, "account": "late"}])


def vectors(count: int, dimension: int = 16) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield rng.normal(1.0, 1.0, dimension).astype(np.float32)


def test_text_is_embedded_and_every_request_is_in_its_accounts_rows(texts: Path) -> None:
    history = read(texts)
    assert (history.encoder.model, history.encoder.dimension) == (WORDLLAMA, 256)
    assert {name: len(rows) for name, rows in history.accounts.items()} == {"a0": 10, "a1": 10}
    assert history.events == 20
    assert history.refused == {"clock": 1}
    assert history.account_days == 2
    assert all((np.diff(rows["time"]) > 0).all() for rows in history.accounts.values())


def test_the_codes_are_those_of_the_populations_mean(texts: Path) -> None:
    bits = np.unpackbits(
        np.concatenate([rows["code"] for rows in read(texts).accounts.values()]).view(np.uint8), axis=1
    )
    assert 0.35 < bits.mean() < 0.65


def test_the_mean_weighs_accounts_and_not_requests(tmp_path: Path) -> None:
    one, other = np.eye(16, dtype=np.float32)[:2]
    loud = [event("loud", n, embedding=one.tolist(), embedding_model="m") for n in range(640)]
    quiet = [event("quiet", n, embedding=other.tolist(), embedding_model="m") for n in range(64)]
    mean = read(write(tmp_path / "e.jsonl", [*loud, *quiet])).encoder.mean
    assert mean[:3] == pytest.approx([0.5, 0.5, 0.0])


def test_the_mean_is_of_each_accounts_own_vectors_in_batches_of_any_size(tmp_path: Path) -> None:
    # Accounts in turn, more than are encoded at once: a mix-up of vectors between accounts would show.
    many = list(vectors(900))
    events = [event(f"a{n % 3}", n, embedding=v.tolist(), embedding_model="m") for n, v in enumerate(many)]
    units = np.array([v / np.linalg.norm(v) for v in many], np.float64)
    expected = np.mean([units[k::3].mean(axis=0) for k in range(3)], axis=0)
    assert read(write(tmp_path / "e.jsonl", events)).encoder.mean == pytest.approx(expected, abs=2e-6)


def test_embeddings_as_lists_tell_their_length_and_base64_needs_to_be_told(tmp_path: Path) -> None:
    many = list(vectors(20))
    lists = write(tmp_path / "l.jsonl", [event("a", n, embedding=v.tolist()) for n, v in enumerate(many)])
    encoded = [base64.b64encode(v.tobytes()).decode() for v in many]
    packed = write(tmp_path / "b.jsonl", [event("a", n, embedding=text) for n, text in enumerate(encoded)])
    from_lists, from_bytes = read(lists, model="m"), read(packed, model="m", dimension=16)
    assert from_lists.encoder.hash == from_bytes.encoder.hash
    assert (from_lists.accounts["a"]["code"] == from_bytes.accounts["a"]["code"]).all()
    with pytest.raises(HistoryError, match="--dimension"):
        read(packed, model="m")


def test_embeddings_of_an_unnamed_model_are_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", [event("a", 0, embedding=[1.0, 2.0])])
    with pytest.raises(HistoryError, match="--embedding-model"):
        read(path)


def test_a_history_of_another_model_too_leaves_that_out_and_counts_it(tmp_path: Path) -> None:
    many = list(vectors(10))
    events = [event("a", n, embedding=v.tolist(), embedding_model="mn"[n % 2]) for n, v in enumerate(many)]
    history = read(write(tmp_path / "e.jsonl", events))
    assert history.encoder.model == "m"
    assert history.events == 5
    assert history.refused == {"embedding_model": 5}


def test_a_history_without_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no request in it brings"):
        read(write(tmp_path / "e.jsonl", [event("a", 0), event("a", 1, prompt="")]))


def test_several_files_are_read_in_order_and_named_by_their_hashes(texts: Path, tmp_path: Path) -> None:
    second = write(tmp_path / "second.jsonl", [event("a0", 100, prompt="and later this")])
    history = read(texts, second)
    assert history.accounts["a0"]["time"][-1] == TIME + 100_000
    assert len(set(history.sha256)) == 2
    assert read(texts).sha256 == history.sha256[:1]


def busy(path: Path, accounts: int, days: int, a_day: int = 6) -> Path:
    """So many accounts that send so many prompts on each of so many days."""
    at = {"prompt": "How do I prune a rose?"}
    day_s = 86_400
    with path.open("wb") as file:
        for day in range(days):
            for k in range(a_day):
                for account in range(accounts):
                    number = day * day_s + k * 60 + account % 60
                    file.write(orjson.dumps(event(f"acct-{account}", number, **at)) + b"\n")
    return path


def same(one: History, other: History) -> bool:
    """Whether two histories are the same to the bit."""
    rows = [{name: events.tobytes() for name, events in history.accounts.items()} for history in (one, other)]
    rest = [(h.encoder.hash, h.population, h.active, h.shortened, h.events, h.refused, h.sha256) for h in (one, other)]
    return rows[0] == rows[1] and list(rows[0]) == list(rows[1]) and rest[0] == rest[1]


def test_several_processes_read_the_same_history(texts: Path, tmp_path: Path) -> None:
    more = busy(tmp_path / "more.jsonl", 30, 3, a_day=40)
    with processes(2) as run:
        several = read_history([texts, more], LIMITS, model=None, dimension=None, advance=lambda amount: None, run=run)
    assert same(several, read(texts, more))
    assert several.refused == {"clock": 1}


def test_every_byte_is_read_three_times_and_told(texts: Path) -> None:
    told: list[int] = []
    read_history([texts], LIMITS, model=None, dimension=None, advance=told.append)
    assert sum(told) == 3 * texts.stat().st_size


def test_what_is_kept_does_not_grow_with_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT_REQUESTS", 24)
    # Less at a time, so that short histories are many batches long.
    monkeypatch.setattr(reading, "BATCH_RECORDS", 200)
    monkeypatch.setattr(replay, "CHUNK_BYTES", 1 << 15)

    def kept_and_peak(days: int) -> tuple[int, int]:
        path = busy(tmp_path / f"{days}.jsonl", 40, days)
        tracemalloc.start()
        history = read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert history.events == 40 * 6 * days
        assert history.days_per_account == days
        assert history.account_days == 40 * days
        assert history.days == days
        assert history.shortened == (40 if days > 4 else 0)
        return sum(rows.nbytes for rows in history.accounts.values()), peak

    read(busy(tmp_path / "warm.jsonl", 40, 10))  # loads the text model
    (kept, peak), (kept_of_ten, peak_of_ten) = kept_and_peak(10), kept_and_peak(100)
    assert kept == kept_of_ten == 40 * 24 * EVENT_DTYPE.itemsize
    assert peak_of_ten < 1.5 * peak


def test_of_many_accounts_a_sample_is_kept_that_has_nothing_to_do_with_their_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = busy(tmp_path / "many.jsonl", 900, 2, a_day=2)
    whole = read(path)
    monkeypatch.setattr(reading, "SAMPLED_ACCOUNTS", 200)
    monkeypatch.setattr(reading, "KEPT_ACCOUNTS", 50)
    sampled = read(path)
    assert whole.population == len(whole.accounts) == 900
    assert len(sampled.active) == 200
    assert len(sampled.accounts) == 50
    by_hash = sorted(whole.accounts, key=lambda name: xxh3_64_intdigest(name.encode()))
    assert set(sampled.active) == set(by_hash[:200])
    assert set(sampled.accounts) == set(by_hash[:50])
    assert all(len(rows) == 4 for rows in sampled.accounts.values())
    assert 0.75 * 900 < sampled.population < 1.25 * 900  # one standard deviation is 7 %
    assert sampled.account_days == 2 * sampled.population
    assert sampled.events == 3600


def test_accounts_that_can_be_judged_are_kept_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT_ACCOUNTS", 3)
    few = [event(f"few {k}", k, prompt="hello there") for k in range(40)]
    many = [event(f"many {k % 3}", 100 + k, prompt=f"question {k}") for k in range(60)]
    assert set(read(write(tmp_path / "e.jsonl", [*few, *many])).accounts) == {"many 0", "many 1", "many 2"}


def test_no_batches_join_to_an_empty_one() -> None:
    assert len(joined([])) == 0
