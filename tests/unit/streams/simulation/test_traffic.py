"""Simulated traffic is repeatable, complete, and its kinds behave as real ones do."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from streams.simulation import Simulation, simulate
from streams.simulation.curriculum import CAPABILITIES, exercises
from streams.simulation.prose import documents, popular_questions
from streams.simulation.traffic import DAY, START
from streams.simulation.vocabulary import domains


@pytest.fixture(scope="module")
def traffic() -> Simulation:
    return simulate(seed=7)


def prompts_of(traffic: Simulation, kind: str) -> list[list[str]]:
    by: dict[str, list[str]] = collections.defaultdict(list)
    for event in traffic.events:
        if traffic.accounts[event["account"]].kind == kind:
            by[event["account"]].append(event["prompt"])
    return list(by.values())


def repeated_share(prompts: list[str]) -> float:
    return 1 - len(set(prompts)) / len(prompts)


def test_the_same_seed_makes_the_same_bytes() -> None:
    first, second = (json.dumps(simulate(seed=3, organic=12).events) for _ in range(2))
    assert first == second


def test_another_seed_makes_other_accounts_and_prompts() -> None:
    first, second = simulate(seed=3, organic=12), simulate(seed=4, organic=12)
    assert not first.accounts.keys() & second.accounts.keys()
    assert first.events != second.events


def test_events_are_in_order_of_time_inside_the_days_asked_for(traffic: Simulation) -> None:
    times = [event["time"] for event in traffic.events]
    assert times == sorted(times)
    assert times[0] >= START * 1000
    assert times[-1] < (START + 7 * DAY) * 1000


def test_labels_count_what_was_sent(traffic: Simulation) -> None:
    sent = collections.Counter(event["account"] for event in traffic.events)
    assert sent == {name: account.requests for name, account in traffic.accounts.items()}


def test_there_are_organic_accounts_of_every_kind_and_planted_ones_of_every_kind(traffic: Simulation) -> None:
    kinds = collections.Counter((account.planted, account.kind) for account in traffic.accounts.values())
    assert sum(n for (planted, _), n in kinds.items() if not planted) == 60
    assert {kind for planted, kind in kinds if not planted} == {
        "person",
        "service",
        "batch",
        "heartbeat",
        "evaluation",
    }
    assert {kind for planted, kind in kinds if planted} == {
        "sweep",
        "reasoning",
        "human-hours",
        "one-capability",
        "takeover",
    }


def test_ids_are_unique(traffic: Simulation) -> None:
    assert len({event["id"] for event in traffic.events}) == len(traffic.events)


def test_a_takeover_begins_after_an_honest_past(traffic: Simulation) -> None:
    (takeover,) = [account for account in traffic.accounts.values() if account.kind == "takeover"]
    assert 30 <= takeover.starts < takeover.requests - 400


@pytest.mark.parametrize("kind", ["sweep", "reasoning", "human-hours", "one-capability"])
def test_an_extraction_list_is_deduplicated(traffic: Simulation, kind: str) -> None:
    assert all(repeated_share(prompts) == 0 for prompts in prompts_of(traffic, kind))


def test_services_and_jobs_ask_the_same_again(traffic: Simulation) -> None:
    for kind in ("service", "batch", "evaluation", "heartbeat"):
        assert all(repeated_share(prompts) > 0.25 for prompts in prompts_of(traffic, kind)), kind


def test_an_evaluation_sends_one_set_each_night(traffic: Simulation) -> None:
    for prompts in prompts_of(traffic, "evaluation"):
        size = len(prompts) // 5
        assert all(prompts[i * size : (i + 1) * size] == prompts[:size] for i in range(5))


def test_batch_answers_are_short_and_reasoning_answers_long(traffic: Simulation) -> None:
    answers: dict[str, list[int]] = collections.defaultdict(list)
    for event in traffic.events:
        if event["status"] == 200:
            answers[traffic.accounts[event["account"]].kind].append(event["output_tokens"])
    assert max(answers["batch"]) <= 8
    assert np.median(answers["reasoning"]) > 300


def test_too_few_days_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 days"):
        simulate(days=2)


def test_every_domain_has_words_of_every_class() -> None:
    assert len(domains()) >= 40
    for domain in domains():
        for words in (domain.things, domain.acts, domain.troubles, domain.traits, domain.settings):
            assert len(words) >= 6, domain.name
            assert all(words), domain.name


def test_every_frame_of_every_capability_can_be_filled() -> None:
    for capability in CAPABILITIES:
        prompts = exercises(60, Random(1), (capability,))
        assert len(set(prompts)) == 60
        assert not any("{" in p.replace("{ ", "") for p in prompts if capability != "code")


def test_questions_and_documents_are_distinct() -> None:
    assert len(set(popular_questions(domains()[0], 300, Random(1)))) == 300
    assert len(set(documents(domains()[0], 300, Random(1)))) == 300


# ---- embeddings of the prose behave as those of real text do


@cache
def _model() -> Any:

    wordllama = pytest.importorskip("wordllama")
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def von_neumann(prompts: list[str], centre: np.ndarray) -> float:
    """Mean distance of successive sign codes over that of random pairs: 1 without memory."""
    bits = _embed(prompts) - centre > 0
    share = bits.mean(axis=0)
    n = len(bits)
    return float((bits[1:] != bits[:-1]).sum(axis=1).mean() / ((2 * share * (1 - share)).sum() * n / (n - 1)))


def _embed(prompts: Iterable[str]) -> np.ndarray:
    return np.asarray(_model().embed(list(prompts), norm=True, batch_size=512), dtype=np.float32)


def test_people_follow_up_on_themselves_and_extraction_lists_do_not(traffic: Simulation) -> None:
    centre = _embed(event["prompt"] for event in traffic.events[::20]).mean(axis=0)
    people = [von_neumann(p, centre) for p in prompts_of(traffic, "person") if len(p) >= 60]
    lists = [von_neumann(p, centre) for k in ("sweep", "reasoning", "human-hours") for p in prompts_of(traffic, k)]
    assert 0.75 < np.median(people) < 0.93
    assert max(people) < 0.97
    assert min(lists) > 0.97
    assert max(lists) < 1.03
