"""The extraction side of a fit: lists of the history's own prompts, none of them twice, in an order of their own."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.synthetic import LEAST_CHARACTERS, PER_ACCOUNT, Pool, Stream, distances, streams
from tests.made_up import DAY, START, batch_job, generator, listed, person, population, random_codes, with_failures

HISTORY = population(30, 3, 3, requests=150)


@pytest.fixture(scope="module")
def made() -> list[Stream]:
    return streams(HISTORY, 60, 1)


def test_every_kind_is_made(made: list[Stream]) -> None:
    assert {stream.kind for stream in made} == {"shuffled", "sorted", "mixed", "takeover"}


def test_a_list_is_drawn_from_the_history_without_repeats(made: list[Stream]) -> None:
    known = {code.tobytes() for events in HISTORY for code in events["code"]}
    for stream in made:
        codes = [code.tobytes() for code in stream.events["code"]]
        assert set(codes) <= known
        if stream.kind in ("shuffled", "sorted"):
            assert len(set(codes)) == len(codes)


def test_times_ascend_and_every_request_counts_once(made: list[Stream]) -> None:
    for stream in made:
        assert (np.diff(stream.events["time"]) >= 0).all()
        assert (stream.events["offset"] == np.arange(len(stream.events))).all()
        assert len(np.unique(stream.events["identity"])) == len(stream.events)


def test_a_takeover_begins_with_an_account_of_the_history(made: list[Stream]) -> None:
    for stream in made:
        if stream.kind != "takeover":
            assert stream.starts == 0
            continue
        honest = stream.events["code"][: stream.starts].tobytes()
        assert any(honest in events["code"].tobytes() for events in HISTORY)
        assert 40 <= stream.starts < len(stream.events)


def test_neighbours_of_a_sorted_list_are_nearer_than_chance_on_average(made: list[Stream]) -> None:
    def step(stream: Stream) -> float:
        codes = stream.events["code"]
        apart = np.bitwise_count(codes[1:] ^ codes[:-1]).sum(axis=1).mean()
        return float(apart / np.bitwise_count(codes ^ codes[::-1]).sum(axis=1).mean())

    mean = {kind: np.mean([step(stream) for stream in made if stream.kind == kind]) for kind in ("sorted", "shuffled")}
    assert mean["sorted"] < mean["shuffled"] - 0.02


def test_the_same_seed_gives_the_same_streams() -> None:
    twice = [streams(HISTORY, 8, 3) for _ in range(2)]
    assert [s.events.tobytes() for s in twice[0]] == [s.events.tobytes() for s in twice[1]]
    assert streams(HISTORY, 8, 4)[0].events.tobytes() != twice[0][0].events.tobytes()


def test_the_pool_takes_what_covered_something_and_of_nobody_too_much() -> None:
    short = listed(50, 1)
    short["length"] = LEAST_CHARACTERS - 1
    pool = Pool(
        [listed(1000, 2), with_failures(listed(50, 3), 1.1, 1), short, person(40, 4, length=200.0)], generator(1)
    )
    assert np.bincount(pool.source, minlength=4).tolist() == [PER_ACCOUNT, 0, 0, 40]


def test_answers_of_lists_are_long_whatever_the_history_holds() -> None:
    only_short = [batch_job(150, k) for k in range(10)]
    for stream in streams(only_short, 10, 1):
        if stream.kind == "shuffled":
            assert (stream.events["output_tokens"] == -1).all()


def test_times_of_lists_are_within_months(made: list[Stream]) -> None:
    for stream in made:
        assert 0 <= stream.events["time"][-1] - stream.events["time"][0] < 200 * DAY
    assert START > 0


def test_distances_are_in_bits() -> None:
    codes = random_codes(5, generator(1))
    assert distances(codes, codes[0])[0] == 0
    assert distances(codes, codes[0])[1] == np.bitwise_count(codes[0] ^ codes[1]).sum()
