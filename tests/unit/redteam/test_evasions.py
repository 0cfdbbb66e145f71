"""Each evasion does what it says, and loses nothing of the list unless it says so."""

from __future__ import annotations

import base64
from collections import Counter
from functools import partial
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from detectors.embedding import MAX_CHARACTERS, clip, load_wordllama
from detectors.events import FAILED
from schemas.request import RequestLimits, decode_request, user_text
from streams.simulation.prose import ANAPHORS
from tests.redteam import evasions
from tests.redteam.cadence import DAY, MINUTE
from tests.redteam.sources import MADE
from tests.redteam.traffic import Evasion, Events, chained, is_answered, span, texts
from tests.redteam.trial import ingested

EMBEDDER = load_wordllama()
ORGANIC = MADE.person("organic", Random("organic"))

COMPLETE: dict[str, Evasion] = {
    "copied gaps": partial(evasions.copied_gaps, organic=ORGANIC),
    "bursts": partial(evasions.bursts, size=140),
    "hugging": evasions.hugging_the_limit,
    "ramp": evasions.slow_ramp,
    "alphabet": evasions.by_first_words,
    "tour": partial(evasions.tour, embedder=EMBEDDER),
    "runs": partial(evasions.topical_runs, embedder=EMBEDDER),
    "follow-ups": evasions.follow_ups,
    "one word": evasions.one_word_questions,
    "again": partial(evasions.asked_again, share=0.1),
    "favourites": partial(evasions.favourites, share=0.2),
    "after organic": partial(evasions.after_organic, organic=ORGANIC),
    "ramp under cover": partial(evasions.ramp_under_cover, cover=ORGANIC),
    "paraphrase": evasions.paraphrase_padding,
    "carried over": evasions.carried_over,
    "prefix": evasions.common_prefix,
    "buried": evasions.buried,
    "system": evasions.shared_system_prompt,
    "tool result": partial(evasions.outside_user_turn, role="tool"),
    "tools": evasions.tool_calls,
    "embeddings": partial(evasions.embeddings_only, embedder=EMBEDDER),
    "uniform": evasions.uniform_users,
    "zipf": evasions.zipf_users,
    "fresh": evasions.fresh_users,
    "sessions": evasions.users_of_runs,
    "by subject": partial(evasions.users_by_subject, embedder=EMBEDDER),
}
"""Evasions that send the whole list."""

PARTIAL: dict[str, Evasion] = {
    "first only": partial(evasions.first_only, count=60),
    "one burst": partial(evasions.one_burst, size=190),
    "cover": partial(evasions.under_cover, cover=ORGANIC, share=0.9),
    "packed": evasions.packed,
}


def a_list(seed: int = 1) -> Events:
    return MADE.sweep("list", Random(seed))


def gaps(events: Events) -> list[int]:
    return [later["time"] - earlier["time"] for earlier, later in pairwise(events)]


def successive_distance(events: Events) -> float:
    """Mean of 1 - cosine over successive prompts."""
    vectors = EMBEDDER.embed(texts(events)).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.mean(1 - np.sum(vectors[1:] * vectors[:-1], axis=1)))


@pytest.mark.parametrize("name", [*COMPLETE, *PARTIAL])
def test_every_evasion_is_pure_and_gives_readable_events_in_order_with_ids_of_their_own(name: str) -> None:
    evasion = (COMPLETE | PARTIAL)[name]
    base = a_list()
    before = [dict(event) for event in base]
    found = evasion(base, Random(2))
    assert base == before
    assert found == evasion(a_list(), Random(2)), "the same seed gives the same events"
    assert all(gap >= 0 for gap in gaps(found))
    assert len({event["id"] for event in found}) == len(found)
    assert {event["account"] for event in found} == {"list"}
    parts = ingested(found)
    assert not [letter for part in parts for letter in part.dead]
    listed = {event["id"] for event in base}
    kept = {event["id"] for event in found if is_answered(event)} & listed
    answered = {event["id"] for event in base if is_answered(event)}
    assert kept == answered if name in COMPLETE else 0 < len(kept) < len(answered)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("name", [*COMPLETE, *PARTIAL])
def test_short_lists_are_hidden_too(name: str, length: int) -> None:
    assert (COMPLETE | PARTIAL)[name](a_list()[:length], Random(1))


def test_copied_gaps_are_those_of_the_organic_account() -> None:
    found = evasions.copied_gaps(a_list(), Random(1), organic=ORGANIC)
    own = gaps(ORGANIC)[: len(found) - 1]
    assert len(ORGANIC) >= len(found)
    assert Counter(gaps(found)) == Counter(own)
    again = evasions.copied_gaps(a_list(), Random(1), organic=ORGANIC[:11])
    assert Counter(gaps(again)).keys() == Counter(gaps(ORGANIC[:11])).keys()


def test_bursts_leave_most_of_each_day_silent() -> None:
    found = evasions.bursts(a_list(), Random(1), size=140)
    assert span(found) > 2 * DAY
    assert sum(gap > 20 * 60 * MINUTE for gap in gaps(found)) == (len(found) - 1) // 140
    assert len(evasions.one_burst(a_list(), Random(1), size=190)) == 190
    assert span(evasions.one_burst(a_list(), Random(1), size=190)) <= 12 * MINUTE


def test_refused_requests_count_as_failed_and_come_again_with_the_same_prompt() -> None:
    base = a_list()
    found = evasions.hugging_the_limit(base, Random(1), refused=0.3)
    new = [event for event in found if event["id"] not in {e["id"] for e in base}]
    assert {event["status"] for event in new} == {429}
    assert len(new) / len(found) == pytest.approx(0.3, abs=0.05)
    flags = np.concatenate([part.batch.columns["flags"] for part in ingested(found)])
    assert int(np.sum(flags & FAILED > 0)) == sum(not is_answered(event) for event in found)
    asked = {event["prompt"]: event["time"] for event in found if event not in new}
    assert all(event["time"] <= asked[event["prompt"]] for event in new)


def test_a_slow_ramp_sends_more_each_day() -> None:
    found = evasions.slow_ramp(a_list(), Random(1))
    days = Counter((event["time"] - found[0]["time"]) // DAY for event in found)
    assert days[0] <= 4
    assert max(days.values()) > 60


def test_tours_and_runs_shorten_distances_and_keep_times() -> None:
    base = a_list()
    tour = evasions.tour(base, Random(1), embedder=EMBEDDER)
    runs = evasions.topical_runs(base, Random(1), embedder=EMBEDDER)
    assert successive_distance(tour) < successive_distance(runs) < 0.9 * successive_distance(base)
    for found in (tour, runs):
        assert [e["time"] for e in found] == [e["time"] for e in base]
        assert Counter(texts(found)) == Counter(texts(base))


def test_runs_have_three_to_six_prompts() -> None:
    base = a_list()
    runs = evasions.topical_runs(base, Random(1), embedder=EMBEDDER)
    vectors = EMBEDDER.embed(texts(runs)).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = [float(np.mean(1 - np.sum(vectors[k:] * vectors[:-k], axis=1))) for k in (1, 2, 8)]
    assert near[0] < near[1] < near[2]


def test_shares_of_what_is_mixed_in_are_as_asked_for() -> None:
    base = a_list()
    mixed = evasions.follow_ups(base, Random(1), share=0.4)
    assert sum(event["prompt"] in ANAPHORS for event in mixed) / len(mixed) == pytest.approx(0.4, abs=0.02)
    for share in (0.05, 0.2):
        again = evasions.asked_again(base, Random(1), share=share)
        assert 1 - len(set(texts(again))) / len(again) == pytest.approx(share, abs=0.02)
    short = evasions.one_word_questions(base, Random(1), share=0.6)
    assert sum(event["output_tokens"] <= 4 for event in short) / len(short) == pytest.approx(0.6, abs=0.03)


def test_favourites_come_back_many_times_and_nothing_is_asked_before_its_turn() -> None:
    found = evasions.favourites(a_list(), Random(1), share=0.2)
    most = Counter(texts(found)).most_common(3)
    assert min(count for _, count in most) >= 4
    first = {event["prompt"]: event["time"] for event in reversed(found)}
    listed = {event["prompt"]: event["time"] for event in a_list()}
    assert first == listed


@pytest.mark.parametrize("share", [0.75, 0.9, 0.95])
def test_cover_makes_up_its_share(share: float) -> None:
    base = a_list()
    found = evasions.under_cover(base, Random(1), cover=ORGANIC, share=share)
    listed = {event["id"] for event in base}
    assert sum(event["id"] not in listed for event in found) / len(found) == pytest.approx(share, abs=0.01)
    assert Counter(texts(e for e in found if e["id"] not in listed)) == Counter(texts(ORGANIC))


def test_organic_weeks_come_first_and_a_ramp_ends_in_nothing_but_the_list() -> None:
    base = a_list()
    listed = {event["id"] for event in base}
    found = evasions.after_organic(base, Random(1), organic=ORGANIC)
    assert [event["id"] in listed for event in found] == [False] * len(ORGANIC) + [True] * len(base)
    ramp = evasions.ramp_under_cover(base, Random(1), cover=ORGANIC)
    planted = [event["id"] in listed for event in ramp]
    tenth = len(ramp) // 10
    assert sum(planted[:tenth]) < 0.25 * tenth
    assert sum(planted[-tenth:]) > 0.85 * tenth


def test_padding_keeps_the_prompt_and_makes_it_longer() -> None:
    base = a_list()
    for padded in (
        evasions.paraphrase_padding(base, Random(1)),
        evasions.carried_over(base, Random(1)),
        evasions.common_prefix(base, Random(1)),
    ):
        assert all(event["prompt"] in new["prompt"] for event, new in zip(base, padded, strict=True))
        assert sum(new["input_tokens"] for new in padded) > 1.2 * sum(event["input_tokens"] for event in base)


def test_quoting_the_prompt_before_shortens_distances() -> None:
    assert successive_distance(evasions.carried_over(a_list(), Random(1))) < 0.8 * successive_distance(a_list())


def test_packed_requests_hold_ten_prompts_each() -> None:
    base = a_list()
    found = evasions.packed(base, Random(1))
    assert len(found) == -(-len(base) // 10)
    assert all(event["prompt"] in found[k // 10]["prompt"] for k, event in enumerate(base))


def test_what_is_buried_is_not_read() -> None:
    found = evasions.buried(a_list()[:20], Random(1))
    assert all(len(event["prompt"]) > MAX_CHARACTERS for event in found)
    assert len({clip(event["prompt"]) for event in found}) == 1


@pytest.mark.parametrize(("evasion", "seen"), [("shared_system_prompt", True), ("outside_user_turn", False)])
def test_only_the_last_user_turn_is_read(evasion: str, seen: bool) -> None:
    options = {} if seen else {"role": "tool"}
    base = a_list()[:30]
    found = getattr(evasions, evasion)(base, Random(1), **options)
    read = [user_text(decode_request(line, RequestLimits())) for line in map(evasions_json, found)]
    assert (read == texts(base)) is seen
    assert seen or set(read) == {"Go on."}


def evasions_json(event: dict[str, object]) -> bytes:
    import orjson

    return orjson.dumps(event)


def test_tool_calls_repeat_the_user_turn() -> None:
    base = a_list()[:50]
    found = evasions.tool_calls(base, Random(1))
    read = [user_text(decode_request(evasions_json(event), RequestLimits())) for event in found]
    counts = Counter(read)
    assert set(counts) == set(texts(base))
    assert all(3 <= count <= 7 for count in counts.values())


def test_embeddings_without_noise_give_the_codes_of_the_texts() -> None:
    base = a_list()[:40]
    own = ingested(base)[0].batch.columns
    found = evasions.embeddings_only(base, Random(1), embedder=EMBEDDER)
    assert not any("prompt" in event for event in found)
    np.testing.assert_array_equal(ingested(found)[0].batch.columns["code"], own["code"])
    noisy = evasions.embeddings_only(base, Random(1), embedder=EMBEDDER, noise=0.3)
    plain = np.frombuffer(base64.b64decode(found[0]["embedding"]), "<f4")
    other = np.frombuffer(base64.b64decode(noisy[0]["embedding"]), "<f4")
    assert np.linalg.norm(other - plain) / np.linalg.norm(plain) == pytest.approx(0.3, abs=0.06)


def test_fake_users_are_as_many_and_as_uneven_as_said() -> None:
    base = a_list()
    uniform = Counter(e["end_user"] for e in evasions.uniform_users(base, Random(1), count=60))
    zipf = Counter(e["end_user"] for e in evasions.zipf_users(base, Random(1), count=400))
    assert 55 <= len(uniform) <= 60
    assert max(uniform.values()) < 0.06 * len(base)
    assert max(zipf.values()) > 0.2 * len(base)
    assert len({e["end_user"] for e in evasions.fresh_users(base, Random(1))}) == len(base)
    sessions = [e["end_user"] for e in evasions.users_of_runs(base, Random(1))]
    assert sum(a == b for a, b in pairwise(sessions)) > 0.6 * len(base)


def test_evasions_go_one_after_the_other() -> None:
    both = chained(partial(evasions.asked_again, share=0.1), evasions.fresh_users)(a_list(), Random(1))
    assert len({event["end_user"] for event in both}) == len(both) > len(a_list())
