"""A baseline from unlabelled history: what it finds, whom it spares, and what it refuses to be made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from detectors import fit as fitting
from detectors import rivals
from detectors.account import FEATURES, F
from detectors.baseline import Baseline
from detectors.calibration import LEAST_ACCOUNTS
from detectors.engine import Engine, EngineOptions
from detectors.fit import FitError, FitReport, fit, halves, kind_of, looks_of, population_mean
from tests.made_up import (
    ENCODER,
    batch_job,
    generator,
    listed,
    near,
    person,
    plain_baseline,
    population,
    random_codes,
    service,
    stream_of,
)

HISTORY = population(64, 8, 8, requests=120)

FIT_MODEL = fitting.fit_model


@pytest.fixture(scope="module")
def fitted() -> FitReport:
    """A small fit: fewer made-up extraction streams than the default baseline has, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
        return fit(HISTORY, ENCODER)


def test_it_finds_lists_it_never_saw_and_spares_new_organic_accounts(fitted: FitReport) -> None:
    accounts = {f"list {k}": listed(160, 9000 + k, account=f"list {k}") for k in range(5)}
    accounts |= {
        f"person {k}": person(120, 5000 + k, stay=6 + k % 12, topics=4 + k % 16, account=f"person {k}")
        for k in range(30)
    }
    accounts |= {f"service {k}": service(160, 7000 + k, account=f"service {k}") for k in range(4)}
    accounts |= {f"job {k}": batch_job(160, 8000 + k, account=f"job {k}") for k in range(4)}
    found = {alert.account for alert in Engine(fitted.baseline).apply(0, stream_of(accounts))}
    assert {f"list {k}" for k in range(5)} <= found
    assert len(found) <= 6


def test_the_knob_holds_on_its_own_history(fitted: FitReport) -> None:
    log = stream_of({f"{k}": events for k, events in enumerate(HISTORY)})
    assert len({alert.account for alert in Engine(fitted.baseline).apply(0, log)}) <= 2


def test_every_account_is_given_to_one_rival(fitted: FitReport) -> None:
    assert sum(fitted.kinds.values()) == fitted.baseline.accounts == len(HISTORY)
    assert fitted.kinds["batch"] == 8
    assert set(fitted.kinds) == {"person", "service", "batch"}
    assert fitted.short == 0


def test_signs_hold_in_every_pair(fitted: FitReport) -> None:
    for pair, signs in rivals.PAIRS.items():
        weights = fitted.baseline.model["weight"][0, list(rivals.PAIRS).index(pair)]
        assert all((sign * weights[:, 1 + F[name]] >= 0.0).all() for name, sign in signs.items())
        others = [1 + F[name] for name in FEATURES if name not in signs]
        assert not weights[:, others].any()


def test_its_file_gives_the_same_baseline(fitted: FitReport) -> None:
    data = fitted.baseline.to_bytes()
    assert Baseline.from_bytes(data).to_bytes() == data


def test_quantiles_ascend(fitted: FitReport) -> None:
    assert set(fitted.baseline.quantiles) == set(FEATURES)
    assert all((np.diff(table, axis=1) >= 0.0).all() for table in fitted.baseline.quantiles.values())


def test_the_resolution_is_one_account_of_the_history(fitted: FitReport) -> None:
    baseline = fitted.baseline
    assert fitted.resolution == pytest.approx(1000.0 / baseline.groups / baseline.days_per_account)
    assert baseline.groups <= baseline.accounts


def test_too_small_a_history_is_refused() -> None:
    with pytest.raises(FitError, match="needs 60 accounts with 16 requests or more, this history has 10"):
        fit(HISTORY[:10], ENCODER)
    with pytest.raises(FitError, match="this history has 0"):
        fit([events[:12] for events in HISTORY], ENCODER)
    assert fitting.LEAST_ACCOUNTS >= LEAST_ACCOUNTS


def test_a_history_without_people_is_refused() -> None:
    jobs = [batch_job(40, k) for k in range(70)]
    with pytest.raises(FitError, match="only 0 accounts of this history follow up"):
        fit(jobs, ENCODER)


# --- its parts


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (person(200, 1, stay=8), "person"),
        (service(400, 1, questions=60), "service"),
        (service(400, 1, end_user=1 + np.arange(400) % 20), "service"),
        (batch_job(100, 1), "batch"),
    ],
)
def test_kinds_are_told_by_what_is_plain_to_see(events: np.ndarray, kind: str) -> None:
    assert kind_of(looks_of(events)) == kind


def test_accounts_that_share_their_texts_stay_in_one_half() -> None:
    accounts = [person(60, k) for k in range(24)]
    for k in (5, 11, 17):
        accounts[k]["code"][:30] = accounts[2]["code"][:30]
    cut = halves(accounts)
    assert len({cut.half[:, k].tobytes() for k in (2, 5, 11, 17)}) == 1
    assert cut.groups == 21


def test_halves_are_even_and_every_cut_is_another() -> None:
    cut = halves([person(60, k) for k in range(64)]).half
    assert cut.shape == (4, 64)
    assert (cut.sum(axis=1) == 32).all()
    agree = [(a == b).mean() for k, a in enumerate(cut) for b in cut[k + 1 :]]
    assert 0.2 < min(agree) <= max(agree) < 0.8


def test_alike_accounts_share_a_half() -> None:
    rng = generator(1)
    middles = random_codes(2, rng)
    accounts = [listed(60, k) for k in range(40)]
    for k, events in enumerate(accounts):
        events["code"] = near(np.repeat(middles[k % 2 : k % 2 + 1], 60, axis=0), 30, rng)
    first = halves(accounts).half[0]
    assert (first == first[0]).tolist() == [k % 2 == 0 for k in range(40)]


def test_a_short_text_that_many_send_joins_nobody() -> None:
    accounts = [person(60, k) for k in range(16)]
    for events in accounts:
        events["code"][:40] = 7
        events["length"][:40] = 5
    assert halves(accounts).groups == 16


def test_looks_are_those_of_the_engine() -> None:
    events = person(100, 3)
    looks = looks_of(events)
    assert looks[:, F["n"]].tolist() == [float(n) for n in range(16, 64, 4)] + [64.0, 72.0, 80.0, 88.0, 96.0]


def test_the_mean_lies_on_a_grid() -> None:
    mean = population_mean(np.array([1.0, -2.0, 1e-9]), 3.0)
    assert mean.dtype == np.float32
    assert (mean * 2.0**20 == np.round(mean * 2.0**20)).all()
    assert mean == pytest.approx([1 / 3, -2 / 3, 0.0], abs=2.0**-20)


def test_extraction_in_the_history_is_left_out_and_changes_little(fitted: FitReport) -> None:
    lists = [listed(200, 5000 + k) for k in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
        report = fit([*HISTORY, *lists], ENCODER)
    assert set(report.suspects) == set(range(len(HISTORY), len(HISTORY) + 4))
    assert fitted.suspects == ()
    new = {f"list {k}": listed(160, 9000 + k, account=f"list {k}") for k in range(5)}
    assert {alert.account for alert in Engine(report.baseline).apply(0, stream_of(new))} == set(new)


def test_it_does_not_depend_on_how_many_are_fitted_at_once(fitted: FitReport) -> None:
    progress: list[tuple[str, float]] = []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as threads:
        patch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
        again = fit(HISTORY, ENCODER, run=threads.map, progress=lambda *step: progress.append(step))
    assert again.baseline.to_bytes() == fitted.baseline.to_bytes()
    stages = list(dict.fromkeys(stage for stage, _ in progress))
    assert stages == ["statistics", "extraction streams", "suspects", "halves"]
    for stage in stages:
        shares = [share for named, share in progress if named == stage]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_with_nobody_suspect_the_model_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    monkeypatch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
    monkeypatch.setattr(
        fitting, "fit_model", lambda organic, *more: fits.append(len(organic)) or FIT_MODEL(organic, *more)
    )
    fit(HISTORY, ENCODER)
    assert fits == [len(HISTORY)]


def test_the_days_of_an_account_can_be_told(fitted: FitReport) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
        told = fit(HISTORY, ENCODER, days_per_account=2.0 * fitted.baseline.days_per_account).baseline
    assert told.days_per_account == 2.0 * fitted.baseline.days_per_account
    assert told.model.tobytes() == fitted.baseline.model.tobytes()


def test_another_baseline_judges_the_same_history(fitted: FitReport) -> None:
    jumpy = plain_baseline()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SYNTHETIC_STREAMS", 120)
        before = fit(HISTORY, ENCODER, against=jumpy).before
    assert fitted.before is None
    assert before is not None
    log = stream_of({f"{k}": events for k, events in enumerate(HISTORY)})
    for knob in (100.0, 1.0):
        engine = Engine(jumpy, EngineOptions(false_findings_per_1000_account_days=knob))
        assert before.alerted(knob) == len({alert.account for alert in engine.apply(0, log)})
    assert len(before.highest) == len(HISTORY)


def test_a_stricter_knob_finds_fewer_made_up_lists_and_later(fitted: FitReport) -> None:
    found = [fitted.judged.found(knob) for knob in (30.0, 1.0, 0.01)]
    shares, requests = zip(*found, strict=True)
    assert sorted(shares, reverse=True) == list(shares)
    assert shares[0] > 0.9
    assert requests[0] <= requests[1]
    assert fitted.judged.found(1e-300)[0] == 0.0
