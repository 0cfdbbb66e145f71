"""A part that is switched off says nothing, and the other parts are left as they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detectors import calibration, rivals
from detectors.account import FEATURES, UNKNOWN_SHARE, F
from detectors.baseline import load_default
from detectors.fit import head_scores
from tests.bench import ablation
from tests.bench.accounts import Account, looks_of
from tests.bench.comparison import Series, case_of
from tests.bench.peers.protocol import Training
from tests.made_up import listed, person, population, service

MakeAccount = Callable[..., Account]
LOOKS = np.concatenate([looks_of(person(300, 1))[0], looks_of(service(300, 2))[0], looks_of(listed(300, 3))[0]])


def test_no_statistic_belongs_to_two_parts() -> None:
    names = [name for part in ablation.PARTS.values() for name in part]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("part", ["order", "mixture", "cadence", "shape"])
def test_a_part_that_is_off_changes_no_logistic(part: str) -> None:
    model = load_default().model.copy()
    off = ablation.neutralised(LOOKS, part)
    silent = model.copy()
    for name in ablation.PARTS[part]:
        if name in F:
            silent["weight"][0, :, :, 1 + F[name]] = 0.0
    for pair, signs in enumerate(rivals.PAIRS.values()):
        if "short" in signs:  # not asked while answers are unknown
            continue
        for x in off[::7]:
            assert rivals.logistic(model[0], pair, x) == pytest.approx(rivals.logistic(silent[0], pair, x))


@pytest.mark.parametrize("part", [*ablation.PARTS])
def test_other_statistics_stay(part: str) -> None:
    off = ablation.neutralised(LOOKS, part)
    touched = {*ablation.PARTS[part], *(ablation.NORMALISED if part == "coverage" else ())}
    kept = [F[name] for name in FEATURES if name not in touched]
    assert np.array_equal(off[:, kept], LOOKS[:, kept])


def test_without_recurrence_a_service_is_neither_excluded_nor_believed() -> None:
    model = load_default().model
    assert max(abs(rivals.recurrence(model[0], x)) for x in LOOKS) > 5.0
    assert max(abs(rivals.recurrence(model[0], x)) for x in ablation.neutralised(LOOKS, "recurrence")) < 0.1


def test_without_coverage_distances_are_measured_against_any_two_requests() -> None:
    off = ablation.neutralised(LOOKS, "coverage")
    assert off[:, F["vn1"]] == pytest.approx(LOOKS[:, F["vn1"]] * LOOKS[:, F["breadth"]])
    assert (off[:, F["breadth"]] == 0.0).all()


def test_without_the_gate_a_burst_is_judged() -> None:
    burst = listed(100, 4)
    burst["time"] = burst["time"][0] + np.arange(100)
    looks = looks_of(burst)[0]
    model = load_default().model
    assert (head_scores(model, looks) == rivals.SILENT).all()
    assert (head_scores(model, ablation.neutralised(looks, "gate"))[:, 0] > rivals.SILENT).all()


def test_without_shape_answers_are_unknown() -> None:
    assert (ablation.neutralised(LOOKS, "shape")[:, F["short"]] == UNKNOWN_SHARE).all()


def test_a_rival_that_is_not_possible_excuses_nobody(make_account: MakeAccount) -> None:
    accounts = [make_account(events=events) for events in population(40, 4, 4)]
    training = Training(accounts)
    training.extraction = []
    every, without = ablation.Variant("all"), ablation.Variant("without rival service")
    every.fit(training)
    without.fit(training)
    served = make_account(events=service(300, 50))
    assert without.scores(served)[-1, 1] > every.scores(served)[-1, 1]


def test_variants_name_every_part_and_rival() -> None:
    assert ablation.VARIANTS[0] == "all"
    named = [name.removeprefix("without ") for name in ablation.VARIANTS[1:]]
    assert named == [*ablation.PARTS, *(f"rival {rival}" for rival in rivals.RIVALS)]
    assert ablation.left_over() == []


def test_tails_come_from_accounts_outside_the_pool(make_account: MakeAccount) -> None:
    heads = len(rivals.HEADS)
    rng = np.random.default_rng(5)
    fitted = [make_account(n=1, pool=pool) for pool in ("chat", "irc") for _ in range(50)]
    scores = [rng.normal(10.0 * (a.pool == "chat"), 1.0, (1, heads)) for a in fitted]
    case = case_of(fitted, [make_account(n=1, pool=pool) for pool in ("chat", "irc")])
    high = np.full((1, heads), 8.0)
    result = ablation.with_tails(case, Series(scores, [high, high]))
    of_chat, of_irc = result.scored[0][0], result.scored[1][0]
    assert of_chat > of_irc  # eight is far out beside irc's people, who judge chat's
    model = ablation.tails(np.concatenate(scores)[50:])
    assert of_chat == calibration.surprise(model[0], high[0])
