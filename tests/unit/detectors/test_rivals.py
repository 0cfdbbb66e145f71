"""The rivals: an account is suspected only when no organic explanation holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import rivals
from detectors.account import FEATURES, F
from detectors.baseline import Baseline
from detectors.fit import looks_of
from tests.made_up import generator, listed, person, random_codes, service


def judged(model: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ratios = np.zeros((len(rivals.HEADS), len(rivals.RIVALS)))
    scores = np.zeros(len(rivals.HEADS))
    rivals.judge(model[0], x, ratios, scores)
    return ratios, scores


def look(n: float = 128.0, **values: float) -> np.ndarray:
    x = np.zeros(len(FEATURES))
    x[F["n"]] = n
    x[F["outside_burst"]] = n
    x[F["window"]] = min(n, 100.0)
    for name, value in values.items():
        x[F[name]] = value
    return x


def test_every_head_is_a_pair_and_every_statistic_has_a_scale() -> None:
    assert [f"person/{head}" for head in rivals.HEADS] == list(rivals.PAIRS)[: len(rivals.HEADS)]
    assert [sum(priors) for priors in rivals.PRIORS] == pytest.approx([1.0, 1.0])
    for signs in rivals.PAIRS.values():
        assert set(signs) <= set(rivals.SCALES) <= set(FEATURES)
        assert set(signs.values()) <= {-1, 1}


def test_a_score_is_the_odds_against_the_best_organic_explanation(baseline: Baseline) -> None:
    ratios, scores = judged(baseline.model, look(vn_recent=1.0, vn_session=1.0, nearest_lag=7.0))
    for head in range(len(rivals.HEADS)):
        expected = -np.log(sum(p * np.exp(-r) for p, r in zip(rivals.PRIORS[0], ratios[head], strict=True)))
        assert scores[head] == pytest.approx(expected, rel=1e-9)
        # A mean of exponentials with weights that sum to one lies between its least and its largest term.
        assert ratios[head].min() - 1e-9 <= scores[head] <= ratios[head].max() + 1e-9


@given(st.sampled_from(["person/memoryless", "batch"]), st.floats(0.5, 30.0))
def test_one_organic_explanation_is_enough(pair: str, likelier: float) -> None:
    model = rivals.blank_model()
    for name in ("person/memoryless", "batch"):
        model["weight"][0, list(rivals.PAIRS).index(name), :, 0] = -likelier if name == pair else 8.0
    scores = judged(model, look())[1]
    assert -likelier - 0.1 < scores[rivals.HEADS.index("memoryless")] < -likelier + 3.0


@pytest.mark.parametrize("n", [48, 128, 512, 1024])
def test_repeats_speak_for_a_service_and_none_against_it(baseline: Baseline, n: int) -> None:
    listing, popular = (looks_of(events)[-1] for events in (listed(n, 1), service(n, 1)))
    assert rivals.recurrence(baseline.model[0], listing) > 0.0
    assert rivals.recurrence(baseline.model[0], popular) < (0.0 if n < 128 else -2.0)


def test_users_who_come_back_make_a_service_likelier(baseline: Baseline) -> None:
    model = baseline.model[0]
    assert rivals.recurrence(model, look(users=1.0)) < rivals.recurrence(model, look())


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(FEATURES), max_size=len(FEATURES)))
def test_scores_are_finite_whatever_the_statistics(values: list[float]) -> None:
    model = rivals.blank_model()
    model["weight"] = generator(1).normal(size=model["weight"].shape)
    x = np.array(values)
    for name in ("n", "window", "window_repeats", "window_hot", "repeats"):
        x[F[name]] = abs(x[F[name]])
    ratios, scores = judged(model, x)
    assert np.isfinite(ratios).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("x", "silent"),
    [
        (look(16, outside_burst=24.0), [False, False, True, True, True]),
        (look(32), [False, False, True, True, False]),
        (look(15), [True] * 5),
        (look(64, outside_burst=23.0), [True] * 5),
        (look(64, outside_burst=24.0), [False] * 5),
        (look(200, outside_burst=0.0), [False] * 5),
    ],
)
def test_heads_are_silent_before_they_can_tell(baseline: Baseline, x: np.ndarray, silent: list[bool]) -> None:
    assert list(judged(baseline.model, x)[1] == rivals.SILENT) == silent


def test_names_are_held_against_a_list_and_for_users_by_what_each_of_them_does() -> None:
    def ratio(vn_user: float, pairs: float) -> float:
        return float(rivals.users_ratio(look(users=1.0, vn_user=vn_user, user_pairs=pairs)))

    assert ratio(1.0, 120.0) > ratio(1.0, 20.0) > 2.0, "no memory inside users, the surer the more pairs"
    assert ratio(0.9, 120.0) < -3.0
    assert ratio(0.9, 120.0) == pytest.approx(np.log(rivals.USER_LISTS), abs=0.01), "never out of the question"
    assert ratio(1.0, 0.0) == 0.0, "nothing can be told before a user came twice"
    assert all(np.isfinite([ratio(v, p) for v in (0.0, 0.3, 1.0, 1.5, 2.0) for p in (0.0, 1.0, 128.0)]))


def test_users_who_are_named_are_a_rival_only_where_they_are_plausible(baseline: Baseline) -> None:
    alike = {"vn_recent": 1.0, "vn_session": 1.0, "nearest_lag": 7.0, "vn_user": 0.85, "user_pairs": 100.0}
    without, named = judged(baseline.model, look(**alike))[1], judged(baseline.model, look(users=1.0, **alike))[1]
    assert (named[:2] < 0.0).all(), "the users follow up on themselves"
    assert (without[:2] > named[:2]).all()


def test_the_strongest_rival_is_the_one_hardest_to_reject(baseline: Baseline) -> None:
    model = baseline.model[0]
    x = look()
    assert rivals.strongest_rival(model, x, np.array([5.0, 5.0, 5.0, 0.0])) == rivals.RIVALS.index("person")
    assert rivals.strongest_rival(model, x, np.array([9.0, -1.0, 5.0, 0.0])) == rivals.RIVALS.index("service")
    assert rivals.strongest_rival(model, x, np.array([9.0, 9.0, 0.0, 0.0])) == rivals.RIVALS.index("batch")


def test_plausible_users_make_a_service_likelier_and_never_certain(baseline: Baseline) -> None:
    model = baseline.model[0]
    ratios = np.array([5.0, 4.0, 9.0, 9.0])
    assert rivals.strongest_rival(model, look(), ratios) == rivals.RIVALS.index("person")
    assert rivals.strongest_rival(model, look(users=1.0), ratios) == rivals.RIVALS.index("service")
    for n in (100, 400, 2000):
        x = {"vn_recent": 1.0, "vn_session": 1.0, "nearest_lag": 7.0, "vn_length": 1.0, "vn_long": 1.0}
        x |= {"vn_user": 1.0, "user_pairs": 0.8 * n}
        without, named = (judged(baseline.model, look(n, **x, users=users))[1] for users in (0.0, 1.0))
        memoryless = rivals.HEADS.index("memoryless")
        assert 0.1 < without[memoryless] - named[memoryless] < 3.0


def test_many_looks_are_judged_as_each(baseline: Baseline) -> None:
    looks = np.concatenate([looks_of(events) for events in (listed(100, 1), person(100, 1), service(100, 1))])
    scores = np.zeros((len(looks), len(rivals.HEADS)))
    rivals.judge_all(baseline.model[0], looks, scores)
    assert all((judged(baseline.model, x)[1] == row).all() for x, row in zip(looks, scores, strict=True))


def test_zipf_repeats_are_those_of_a_draw() -> None:
    rng = generator(3)
    popularity = np.arange(1, 251) ** -0.9
    popularity /= popularity.sum()
    cold, hot = rivals.zipf_repeats(250, 0.9)
    for n in (64, 512):
        askings = np.array([np.bincount(rng.choice(250, n, p=popularity), minlength=250) for _ in range(200)])
        later = np.maximum(askings - 3, 0).sum(axis=1).mean()
        repeats = np.maximum(askings - 1, 0).sum(axis=1).mean()
        assert hot[rivals.ZIPF_N.index(n)] == pytest.approx(later, rel=0.05, abs=0.2)
        assert cold[rivals.ZIPF_N.index(n)] == pytest.approx(repeats - later, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_list_that_asks_again_on_purpose_is_no_service(baseline: Baseline, seed: int) -> None:
    rng = generator(seed)
    again = listed(400, seed + 50)
    for k in np.flatnonzero(rng.random(400) < 0.12):
        again["code"][k] = again["code"][rng.integers(0, k + 1)]
    popular = service(600, seed, questions=400)
    ratios = [[rivals.recurrence(baseline.model[0], x) for x in looks_of(events)] for events in (again, popular)]
    # A list is found at its best look; past 256 different texts the table forgets, so later ones say less.
    assert max(ratios[0]) > 0.0
    assert np.median(ratios[1]) < -1.0
    assert ratios[1][-1] < -2.0


def test_stock_phrases_are_not_held_against_anybody(baseline: Baseline) -> None:
    rng = generator(1)
    agent, phrases = listed(300, 1), random_codes(3, rng)
    strewn = rng.random(300) < 0.15
    agent["code"][strewn] = phrases[rng.integers(0, 3, int(strewn.sum()))]
    assert rivals.recurrence(baseline.model[0], looks_of(agent)[-1]) < 0.0
