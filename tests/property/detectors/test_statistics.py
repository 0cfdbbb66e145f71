"""Each statistic against its definition, on streams that are drawn at random."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.events import BITS, WORDS
from detectors.statistics import (
    Breadth,
    DistinctUsers,
    Duplicates,
    LongestQuarterRatio,
    NearestLag,
    UserRatio,
    VonNeumannRatio,
    cadence,
    coverage,
    identity,
    memory,
    mixture,
    neighbours,
    order,
    recurrence,
    shape,
    users,
)
from tests.made_up import HOUR, START, generator, listed, near, person, random_codes

seeds = st.integers(0, 2**32 - 1)

NO_CODE = np.zeros(WORDS, np.uint64)
NOTHING = np.full(memory.HELD, memory.ABSENT, np.int64)


def covered(codes: np.ndarray) -> np.ndarray:
    held = np.zeros(1, coverage.DTYPE)
    for code in codes:
        coverage.update(held[0], code, NOTHING)
    return held


# --- coverage


def test_expected_distance_is_the_sum_of_2_p_1_minus_p() -> None:
    rng = generator(1)
    p = rng.uniform(0.05, 0.95, BITS)
    expected = (2.0 * p * (1.0 - p)).sum()
    measured = [
        coverage.expected_distance(
            covered(np.packbits(rng.random((400, BITS)) < p, axis=1, bitorder="little").view(np.uint64))[0]
        )
        for _ in range(12)
    ]
    assert np.mean(measured) == pytest.approx(expected, rel=0.01)


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_a_short_history_is_not_biased(n: int, seed: int) -> None:
    # Two requests of a stream of two differ by their distance, whatever the weights.
    codes = random_codes(n, generator(seed))
    value = coverage.expected_distance(covered(codes)[0])
    weights = (127.0 / 128.0) ** np.arange(n)[::-1]
    pairs = np.outer(weights, weights)
    distance = np.array([[np.bitwise_count(a ^ b).sum() for b in codes] for a in codes], float)
    assert value == pytest.approx((pairs * distance).sum() / (pairs.sum() - (weights**2).sum()), rel=0.02)


@given(st.integers(1, 2000), st.integers(0, 2**32))
@settings(max_examples=20)
def test_sums_of_bits_stay_in_a_byte_and_keep_their_shares(n: int, seed: int) -> None:
    rng = generator(seed)
    p = rng.uniform(0.0, 1.0, BITS)
    p[:2] = 0.0, 1.0
    held = covered(np.packbits(rng.random((n, BITS)) < p, axis=1, bitorder="little").view(np.uint64))[0]
    assert held["requests"] == n
    assert held["total"] < coverage.MAX_TOTAL
    assert (held["ones"] <= held["total"]).all()
    assert held["stride"] & (held["stride"] - 1) == 0
    assert held["total"] * held["stride"] == pytest.approx(n, abs=2.0 * held["stride"])
    assert held["ones"][0] == 0
    assert held["ones"][1] >= held["total"] - math.log2(max(n, 2))
    if held["total"] > 60:
        error = np.abs(held["ones"] / held["total"] - p)
        assert error.mean() < 0.08


def test_cells_are_fresh_once() -> None:
    codes = random_codes(50, generator(2))
    codes[:, 0] = np.arange(50) % 5
    held = covered(codes)[0]
    assert sum(int(word).bit_count() for word in held["cells"]) == 5
    assert 0.0 < held["fresh"] < 5.0 / 128.0


def merged(*accounts: np.ndarray) -> np.ndarray:
    held = np.zeros(1, coverage.DTYPE)
    for other in accounts:
        coverage.merge(held[0], other[0])
    return held


SUMS = ["requests", "stride", "total", "ones", "cells"]


@given(st.integers(0, coverage.MAX_TOTAL - 1), st.integers(0, coverage.MAX_TOTAL - 1))
@settings(max_examples=30)
def test_merged_sums_of_few_requests_are_those_of_all(requests: int, cut: int) -> None:
    codes = random_codes(requests, generator(7))
    halves = merged(covered(codes[:cut]), covered(codes[cut:]))
    whole = covered(codes)
    assert [halves[name].tolist() for name in SUMS] == [whole[name].tolist() for name in SUMS]


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_merged_sums_tell_what_the_sums_of_all_requests_tell(one: int, other: int, seed: int) -> None:
    rng = generator(seed)
    bits = (rng.random((one + other, BITS)) < rng.uniform(0.0, 1.0, BITS)) & (np.arange(BITS) > 0)
    bits[:, -1] = True
    codes = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    halves, whole = merged(covered(codes[:one]), covered(codes[one:])), covered(codes)
    requests, stride, total = (int(halves[name][0]) for name in ("requests", "stride", "total"))
    assert requests == whole["requests"][0] == one + other
    assert (halves["cells"] == whole["cells"]).all()
    assert total < coverage.MAX_TOTAL
    assert 0 <= requests - total * stride < 2 * max(stride, 1)
    assert halves["ones"][0, 0] == 0
    assert halves["ones"][0, -1] == total
    if total and whole["total"][0] >= 100:
        gaps = halves["ones"][0] / total - whole["ones"][0] / whole["total"][0]
        assert np.abs(gaps).mean() < 0.1


def test_an_accounts_sums_go_on_after_a_merge() -> None:
    codes = random_codes(900, generator(8))
    held = merged(covered(codes[:700]), covered(codes[700:710]))
    for code in codes[710:]:
        coverage.update(held[0], code, NOTHING)
    assert held["requests"][0] == 900
    assert 0 <= 900 - held["total"][0] * held["stride"][0] < 3 * held["stride"][0]


# --- order


def test_ratios_are_one_for_any_exchangeable_stream() -> None:
    ratios, recent = [], []
    for seed in range(40):
        rng = generator(seed)
        topics = random_codes(int(rng.integers(2, 30)), rng)
        codes = near(topics[rng.integers(0, len(topics), 300)], 20, rng)
        ratio = VonNeumannRatio()
        for code in codes:
            ratio.learn_one({"code": code})
        ratios.append(ratio.get())
        record = ratio._state[0]
        recent.append(order.recent_ratio(record["order"], coverage.expected_distance(record["coverage"])))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.015)
    assert np.mean(recent) == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize("lag", order.LAGS)
def test_a_person_is_below_one_at_every_lag_within_a_topic(lag: int) -> None:
    ratio = VonNeumannRatio(lag)
    for event in person(400, 3, topics=10, stay=40):
        ratio.learn_one(event)
    assert ratio.get() < 0.85


def test_within_sessions_only_close_pairs_count() -> None:
    ratio = VonNeumannRatio(within_sessions=True)
    rng = generator(4)
    for visit in range(60):
        topic = random_codes(1, rng)
        for k in range(5):
            time = START + visit * 2 * HOUR + k * 60_000
            ratio.learn_one({"code": near(topic, 15, rng)[0], "time": time})
    assert ratio._state["order"]["session_pairs"][0] < ratio._state["order"]["pairs"][0, 0]
    assert ratio.get() < 0.6


def test_successive_distances_add_over_accounts() -> None:
    codes = random_codes(30, generator(5))
    parts = []
    for stream in (codes[:10], codes[10:]):
        ratio = VonNeumannRatio()
        for code in stream:
            ratio.learn_one({"code": code})
        parts.append(ratio._state["order"])
    order.merge(parts[0][0], parts[1][0])
    pairs = [(a, b) for stream in (codes[:10], codes[10:]) for a, b in itertools.pairwise(stream)]
    assert parts[0]["successions"][0] == 28
    assert parts[0]["successive"][0] == sum(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs)


# --- recurrence


def recurred(which: list[int]) -> np.ndarray:
    codes = random_codes(max(which, default=0) + 1, generator(6))
    held = np.zeros(1, recurrence.DTYPE)
    for k in which:
        recurrence.update(held[0], codes[k], NOTHING)
    return held[0]


@given(st.lists(st.integers(0, 60), max_size=300))
def test_counts_are_exact_while_the_table_holds_everything(which: list[int]) -> None:
    held = recurred(which)
    asked: dict[int, int] = {}
    repeats = hot = 0
    for k in which:
        asked[k] = asked.get(k, 0) + 1
        repeats += asked[k] > 1
        hot += asked[k] >= recurrence.HOT
    assert held["requests"] == len(which)
    assert held["distinct"] == len(asked)
    assert held["repeats"] == repeats
    assert held["hot"] == hot


@given(st.lists(st.integers(0, 600), max_size=900))
@settings(max_examples=40)
def test_no_count_runs_over_into_its_neighbours(which: list[int]) -> None:
    held = recurred(which)
    codes = random_codes(max(which, default=0) + 1, generator(6))
    mark = {k: int(recurrence.fingerprint_of(codes[k])) for k in set(which)}
    asked: dict[int, int] = {}
    for k in which:
        asked[mark[k]] = asked.get(mark[k], 0) + 1
    for slot in range(min(int(held["distinct"]), recurrence.TABLE)):
        times = (int(held["times"][slot // 4]) >> (2 * (slot % 4))) & 3
        assert times <= min(3, asked[int(held["fingerprint"][slot])] - 1)


@given(st.integers(0, 3), st.integers(1, 9))
def test_a_count_saturates_alone(slot: int, times: int) -> None:
    held = recurred([0, 1, 2, 3] + [slot] * times)
    packed = [(int(held["times"][0]) >> (2 * k)) & 3 for k in range(4)]
    assert packed == [min(times, 3) if k == slot else 0 for k in range(4)]


def test_a_deduplicated_list_has_almost_no_repeats_beyond_the_table() -> None:
    held = np.zeros(1, recurrence.DTYPE)
    for code in random_codes(3000, generator(7)):
        recurrence.update(held[0], code, NOTHING)
    # 256 fingerprints among 65,535: one collision in 256 requests.
    assert held["repeats"][0] < 3000 * 2 / 256


@given(st.lists(st.integers(0, 30), max_size=150), st.lists(st.integers(31, 60), max_size=150))
def test_repeats_add_over_accounts_that_ask_different_things(one: list[int], other: list[int]) -> None:
    codes = random_codes(61, generator(6))
    held = []
    for which in (one, other, one + other):
        account = np.zeros(1, recurrence.DTYPE)
        for k in which:
            recurrence.update(account[0], codes[k], NOTHING)
        held.append(account)
    recurrence.merge(held[0][0], held[1][0])
    for name in ("requests", "repeats", "hot"):
        assert held[0][name] == held[2][name]


def test_what_two_accounts_have_asked_both_is_no_repeat() -> None:
    one, other = recurred([1, 2, 2]).copy(), recurred([1, 2, 3])
    recurrence.merge(one, other)
    assert (one["requests"], one["repeats"], one["hot"]) == (6, 1, 0)


# --- mixture


@given(st.floats(2.0, 6.0), st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_threshold_finds_the_upper_quartile_of_the_lengths(middle: float, seed: int) -> None:
    rng = generator(seed)
    held = np.zeros(1, mixture.DTYPE)
    lengths = np.abs(rng.normal(middle, 1.0, 800))
    tail = []
    for k, length in enumerate(lengths):
        mixture.update(held[0], np.zeros(WORDS, np.uint64), length, 0, 0.0)
        if k >= 300:
            tail.append(float(held["threshold"][0]))
    assert np.mean(tail) == pytest.approx(np.quantile(lengths, 0.75), abs=0.25)


def test_a_list_among_a_persons_long_requests_has_no_order_there() -> None:
    rng = generator(8)
    honest, mixed = LongestQuarterRatio(), LongestQuarterRatio()
    events = person(600, 9, topics=8, stay=40)
    events["length"] = np.where(np.arange(600) % 4 == 3, 500, 50)
    for k, event in enumerate(events):
        honest.learn_one(event)
        if k % 4 == 3:
            event = event.copy()
            event["code"] = random_codes(1, rng)[0]
        mixed.learn_one(event)
    assert honest.get() < 0.85
    assert mixed.get() > 0.95


def test_unknown_lengths_are_left_out() -> None:
    held = np.zeros(1, mixture.DTYPE)
    mixture.update(held[0], random_codes(1, generator(1))[0], -1.0, 0, 1.0)
    assert held["seen"][0] == 0


# --- cadence


def timed(times: list[int]) -> np.ndarray:
    held = np.zeros(1, cadence.DTYPE)
    cadence.first(held[0], times[0])
    last = times[0]
    for time in times[1:]:
        cadence.update(held[0], time, time - last)
        last = max(last, time)
    return held[0]


@given(st.integers(1, 10**7), st.integers(3, 200))
def test_a_clock_has_neither_spread_nor_change(step_ms: int, n: int) -> None:
    held = timed([START + k * step_ms for k in range(n)])
    assert cadence.spread(held) == pytest.approx(0.0, abs=1e-6)
    assert cadence.change(held) == 0.0
    assert cadence.location(held) == pytest.approx(math.log(step_ms / 1000.0 + 0.5), rel=1e-9, abs=1e-9)


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=200))
def test_a_late_request_is_counted_and_moves_nothing_else(steps: list[int]) -> None:
    times = list(np.cumsum([START, *steps]))
    punctual, latest = [times[0]], times[0]
    for time in times[1:]:
        if time >= latest:
            punctual.append(time)
            latest = time
    whole, without = timed(times), timed(punctual)
    assert whole["late"] == len(times) - len(punctual)
    assert without["late"] == 0
    assert all(whole[name] == without[name] for name in cadence.DTYPE.names or () if name != "late")


def test_the_densest_quarter_of_an_hour_is_over_two_adjacent_bins() -> None:
    burst = [START + k * 1000 for k in range(100)]
    later = [START + 5 * HOUR + k * 600_000 for k in range(20)]
    assert timed(burst + later)["densest"] == 100
    assert timed(later)["densest"] <= 4


def test_hours_occupied_tells_an_always_on_program_from_a_sleeper() -> None:
    always = timed([START + k * HOUR // 2 for k in range(400)])
    nightly = timed([START + day * 24 * HOUR + k * 60_000 for day in range(20) for k in range(20)])
    assert cadence.occupied(always) > 0.95
    assert cadence.occupied(nightly) < 0.12


# --- shape, users, identity


def test_answers_of_unknown_length_are_neither_short_nor_long() -> None:
    held = np.zeros(1, shape.DTYPE)
    for tokens in (-1, 3, -1, -1, 400, -1):
        shape.update(held[0], 4.0, tokens, 0)
    assert shape.short_share(held[0]) == pytest.approx(0.5, abs=0.01)


@given(st.floats(0.0, 12.0), st.integers(1, 100))
def test_lengths_all_alike_say_nothing(length: float, n: int) -> None:
    held = np.zeros(1, shape.DTYPE)
    for _ in range(n):
        shape.update(held[0], length, 10, 0)
    assert shape.length_ratio(held[0]) == 1.0


def test_a_frame_is_what_nearly_all_requests_have_alike() -> None:
    rng = generator(10)
    codes = random_codes(300, rng)
    codes[:, 0] = codes[0, 0]
    held = covered(codes)[0]
    assert shape.frame(held["share"], held["weight"]) == pytest.approx(0.5, abs=0.02)


@given(st.integers(1, 250), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=30)
def test_users_are_counted_within_their_standard_error(n: int, calls: int, seed: int) -> None:
    names = generator(seed).integers(1, 2**63, n)
    held = np.zeros(1, users.DTYPE)
    for name in np.repeat(names, calls):
        users.update(held[0], np.uint64(name), NO_CODE)
    load = n / 256.0
    error = math.sqrt(256.0 * (math.exp(load) - load - 1.0))
    assert users.distinct(held[0]) == pytest.approx(n, abs=4.5 * error + 1.0)
    assert held["named"][0] == n * calls


def plausible_users(names: Iterable[int]) -> float:
    users = DistinctUsers()
    for k, name in enumerate(names):
        users.learn_one({"end_user": name, f"word {k}": 1.0})
    return users.get()["plausible"]


def zipf_names(count: int, n: int, seed: int) -> list[int]:
    rng = generator(seed)
    return [1 + int((rng.pareto(0.8) + 1.0) % count) for _ in range(n)]


@given(st.integers(20, 300), seeds)
def test_users_of_whom_some_come_often_are_plausible(count: int, seed: int) -> None:
    assert plausible_users(zipf_names(count, 400, seed)) == 1.0
    sittings = generator(seed).integers(1, count + 1, 40)
    assert plausible_users(int(name) for name in np.repeat(sittings, 10)) == 1.0


@given(st.integers(20, 300), seeds)
def test_invented_users_are_not_plausible(count: int, seed: int) -> None:
    rng = generator(seed)
    assert plausible_users(int(name) for name in rng.integers(1, count + 1, 400)) == 0.0, "dealt out evenly"
    assert plausible_users(1 + k % count for k in range(400)) == 0.0, "dealt out in turn"
    assert plausible_users(range(1, 401)) == 0.0, "a new one each time"
    some = zipf_names(count, 400, seed)
    assert plausible_users(name if k % 3 == 0 else 0 for k, name in enumerate(some)) == 0.0, "on few requests"


@given(st.integers(20, 300), seeds)
def test_users_of_the_past_say_nothing_of_what_comes_now(count: int, seed: int) -> None:
    past = zipf_names(count, 1000, seed)
    assert plausible_users(past) == 1.0
    assert plausible_users([*past, *[0] * 100]) == 0.0, "nobody is named any more"
    assert plausible_users([*past, *range(1000, 1100)]) == 0.0, "a new one each time"


@given(st.integers(1, 12), seeds)
def test_what_few_users_do_does_not_speak_for_the_rest(count: int, seed: int) -> None:
    few = zipf_names(count, 1000, seed)
    assert plausible_users(name if k % 5 < 2 else 1000 + k for k, name in enumerate(few)) == 0.0


def user_ratio(names: Sequence[int], codes: np.ndarray) -> float:
    ratio = UserRatio()
    for name, code in zip(names, codes, strict=True):
        ratio.learn_one({"end_user": name, "code": code})
    return ratio.get()


@given(seeds)
def test_a_list_has_no_memory_inside_users_however_their_names_are_dealt_out(seed: int) -> None:
    codes = random_codes(400, generator(seed))
    for names in (zipf_names(50, 400, seed), [1 + k // 8 for k in range(400)], [1 + k % 5 for k in range(400)]):
        assert user_ratio(names, codes) == pytest.approx(1.0, abs=0.05)


@given(seeds)
def test_users_who_follow_up_on_themselves_have_memory_though_their_requests_interleave(seed: int) -> None:
    rng = generator(seed)
    subject = random_codes(40, rng)
    names = rng.integers(0, 40, 400)
    assert user_ratio([1 + int(name) for name in names], near(subject[names], BITS // 4, rng)) < 0.85


@given(st.lists(st.integers(1, 2**63), max_size=60), st.lists(st.integers(1, 2**63), max_size=60))
def test_merged_users_are_those_of_both(a: list[int], b: list[int]) -> None:
    held = []
    for names in (a, b, a + b):
        one = np.zeros(1, users.DTYPE)
        for name in names:
            users.update(one[0], np.uint64(name), NO_CODE)
        held.append(one)
    users.merge(held[0][0], held[1][0])
    for counted in ("named", "bitmap"):
        assert (held[0][counted] == held[2][counted]).all(), counted


@given(st.lists(st.integers(1, 40), max_size=120))
def test_a_request_is_known_while_it_is_among_the_last_eight_different_ones(identities: list[int]) -> None:
    duplicates = Duplicates()
    ring: list[int] = []
    for k in identities:
        assert duplicates.score_one({"identity": k}) == float(k in ring)
        duplicates.learn_one({"identity": k, "time": START, "offset": k})
        if k not in ring:
            ring = [*ring, k][-identity.RING :]
    held = duplicates._state[0]["identity"]
    assert sorted(int(x) for x in held["identity"] if x) == sorted(ring)


Copy = tuple[int, int, int]
"""Origin, offset there and time."""


def deliveries_of(log: dict[int, list[Copy]], rng: random.Random) -> list[list[Copy]]:
    """Deliveries of all copies, by origin, that each repeat some: a partition's in order, those of several mixed."""
    done = dict.fromkeys(log, 0)
    deliveries = []
    while any(done[origin] < len(copies) for origin, copies in log.items()):
        rest = {}
        for origin, copies in log.items():
            begin, end = rng.randint(0, done[origin]), min(done[origin] + rng.randint(0, 20), len(copies))
            rest[origin], done[origin] = copies[begin:end], end
        order = [origin for origin, copies in rest.items() for _ in copies]
        rng.shuffle(order)
        deliveries.append([rest[origin].pop(0) for origin in order])
    return deliveries


@given(st.integers(1, identity.ORIGINS), st.integers(0, 2**32))
def test_copies_of_four_partitions_count_once_however_often_they_come(origins: int, seed: int) -> None:
    rng = random.Random(seed)
    log = {
        origin: [(origin, 3 * n, START + rng.randint(-9, 9)) for n in range(rng.randint(1, 30))]
        for origin in range(1, 1 + origins)
    }
    duplicates = Duplicates()
    counted = []
    for origin, offset, time in [copy for delivery in deliveries_of(log, rng) for copy in delivery]:
        x = {"identity": 1 + 1_000 * origin + offset, "origin": origin, "origin_offset": offset, "time": time}
        if not duplicates.score_one(x):
            counted.append((origin, offset, time))
        duplicates.learn_one(x)
    assert sorted(counted) == sorted(copy for copies in log.values() for copy in copies)
    assert duplicates.get() == len(counted)


def test_a_forged_offset_voids_no_copy_with_a_later_time() -> None:
    duplicates = Duplicates()
    duplicates.learn_one({"identity": 1, "origin": 7, "origin_offset": 2**47, "time": START})
    assert duplicates.score_one({"identity": 2, "origin": 7, "origin_offset": 5, "time": START + 1}) == 0.0
    assert duplicates.score_one({"identity": 2, "origin": 7, "origin_offset": 5, "time": START}) == 1.0
    assert duplicates.score_one({"identity": 2, "origin": 8, "origin_offset": 5, "time": START}) == 0.0


def test_of_five_partitions_the_one_longest_unused_is_forgotten() -> None:
    duplicates = Duplicates()
    for at, origin in enumerate([1, 2, 3, 4, 1, 5]):
        duplicates.learn_one({"identity": 100 + at, "origin": origin, "origin_offset": at, "time": START})
    again = {o: {"identity": 999, "origin": o, "origin_offset": 0, "time": START} for o in range(1, 6)}
    assert [duplicates.score_one(x) for x in again.values()] == [1.0, 0.0, 1.0, 1.0, 1.0]


def test_a_list_spreads_wider_than_a_person_and_a_heartbeat_not_at_all() -> None:
    wide, narrow, none = Breadth(), Breadth(), Breadth()
    for event, other in zip(listed(200, 1), person(200, 1), strict=True):
        wide.learn_one(event)
        narrow.learn_one(other)
        none.learn_one({"subject": 1.0})
    assert wide.get() == pytest.approx(1.0, abs=0.02)
    assert 0.3 < narrow.get() < 0.95
    assert none.get() == 0.0


# --- neighbours


def lags_by_definition(codes: np.ndarray) -> list[int]:
    """Each request's lag to its nearest of the 16 before and up to 15 after, the nearer in time of two as near."""
    lags = []
    for i, code in enumerate(codes):
        distance, far = neighbours.NOTHING, neighbours.FAR
        around = [*range(i - 1, i - 1 - memory.RING, -1), *range(i + 1, i + memory.RING)]
        for j in around:
            if 0 <= j < len(codes):
                d = int(np.bitwise_count(code ^ codes[j]).sum())
                if d < distance:
                    distance, far = d, min(abs(i - j), neighbours.FAR)
        lags.append(far)
    return lags


@given(st.integers(1, memory.RING), st.integers(0, 2**32))
@settings(max_examples=30)
def test_lags_are_those_of_the_nearest_on_both_sides(n: int, seed: int) -> None:
    codes = random_codes(n, generator(seed))
    model = NearestLag()
    for code in codes:
        model.learn_one({"code": code})
    assert model.get() == pytest.approx(np.mean(lags_by_definition(codes)))


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_what_leaves_the_ring_has_been_held_against_sixteen_before_and_fifteen_after(seed: int) -> None:
    codes = random_codes(2 * memory.RING + 1, generator(seed))
    model = NearestLag()
    for number, code in enumerate(codes):
        left = number - memory.RING  # up to here no request met a sample
        if left >= 0:
            lag = neighbours.leaving(model._state[0]["neighbours"], number)
            assert lag == lags_by_definition(codes[:number])[left]
        model.learn_one({"code": code})


def test_who_follows_up_has_near_neighbours_and_a_list_has_none() -> None:
    follows, listing = NearestLag(), NearestLag()
    for event in person(300, 3, stay=10):
        follows.learn_one(event)
    for event in listed(300, 4):
        listing.learn_one(event)
    assert follows.get() < 5.5
    assert listing.get() > 6.5


def test_the_lag_of_a_list_is_what_chance_says() -> None:
    # 16 before, 15 after and 32 sampled: 14 of 63 are less than 8 away, 4 on average.
    found = []
    for seed in range(20):
        model = NearestLag()
        for code in random_codes(400, generator(seed)):
            model.learn_one({"code": code})
        found.append(model.get())
    expected = (14 * 4.0 + 49 * neighbours.FAR) / 63
    assert np.mean(found) == pytest.approx(expected, abs=0.15)
