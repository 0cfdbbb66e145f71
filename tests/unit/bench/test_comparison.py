"""The comparison treats all methods alike, and judges nobody by a fit that has seen their pool."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bench import comparison
from tests.bench.accounts import Account, Floats
from tests.bench.comparison import Case, Outcome, Series
from tests.bench.detection import load_scorer
from tests.bench.peers.protocol import SILENT, Training

MakeAccount = Callable[..., Account]


@pytest.mark.parametrize(("rate", "limit"), [(0.0, 9.0), (0.09, 9.0), (0.1, 8.0), (0.3, 6.0), (1.0, 0.0)])
def test_the_threshold_is_exceeded_by_at_most_the_share(rate: float, limit: float) -> None:
    maxima = np.arange(10.0)
    assert comparison.threshold(maxima, rate) == limit
    assert (maxima > limit).mean() <= rate


def test_ties_do_not_exceed_the_threshold() -> None:
    assert comparison.threshold(np.array([1.0, 1.0, 1.0, 0.0]), 0.25) == 1.0


def test_accounts_without_people_go_to_the_parts_in_turn(make_account: MakeAccount) -> None:
    accounts = [make_account(n=1, pool=pool) for pool in ("", "chat", "", "", "irc", "unheard of")]
    assert comparison.parts_of(accounts, ["chat", "irc"]) == ["chat", "chat", "irc", "chat", "irc", "irc"]


def test_one_pool_alone_cannot_be_left_out(make_account: MakeAccount) -> None:
    with pytest.raises(ValueError, match="one pool only"):
        comparison.case_of([make_account(n=1, pool="chat")], [])


def test_nobody_is_judged_by_a_fit_that_has_seen_them_or_their_pool(make_account: MakeAccount) -> None:
    fitted = [
        make_account(n=1, name=f"{pool or 'job'}{i}", pool=pool) for i, pool in enumerate(["chat", "irc", ""] * 3)
    ]
    scored = [make_account(n=1, name=f"new{pool}", pool=pool) for pool in ("chat", "irc", "")]
    judged: list[str] = []

    class Nosy:
        def fit(self, training: Training) -> None:
            self.names = {a.name for a in training.accounts}
            self.pools = {a.pool for a in training.accounts} - {""}

        def scores(self, account: Account) -> Floats:
            assert account.name not in self.names
            assert account.pool not in self.pools
            judged.append(account.name)
            return np.array([float(len(judged))])

    case = comparison.case_of(fitted, scored)
    series = comparison.series_of(Nosy, case, comparison.trainings(case), with_fitted=True)
    assert sorted(judged) == sorted(a.name for a in (*fitted, *scored))
    assert all(len(scores) == 1 for scores in (*series.fitted, *series.scored))


def test_accounts_of_the_fit_streams_are_scored_only_if_asked(make_account: MakeAccount) -> None:
    fitted = [make_account(n=1, name=f"{pool}{i}", pool=pool) for i in range(3) for pool in ("chat", "irc")]
    scored = [make_account(n=1, name=f"new {pool}", pool=pool) for pool in ("chat", "irc")]
    judged: list[str] = []

    class Peer:
        def fit(self, training: Training) -> None:
            pass

        def scores(self, account: Account) -> Floats:
            judged.append(account.name)
            return np.zeros(1)

    case = comparison.case_of(fitted, scored)
    assert comparison.series_of(Peer, case, comparison.trainings(case)).fitted == []
    assert sorted(judged) == ["new chat", "new irc"]


def test_an_attack_counts_from_when_it_begins(make_account: MakeAccount) -> None:
    account = make_account(n=10, label="extraction", archetype="takeover", starts=4)
    scores = np.zeros(10)
    scores[[2, 6, 8]] = 1.0
    assert comparison.outcome_of(account, scores, 0.5) == Outcome("extraction", "takeover", True, 3, True)
    scores[6:] = 0.0
    assert comparison.outcome_of(account, scores, 0.5) == Outcome("extraction", "takeover", False, 0, True)
    organic = make_account(n=10)
    assert comparison.outcome_of(organic, scores, 0.5).alerted
    assert not comparison.outcome_of(organic, np.full(10, SILENT), 0.5).alerted


def made_case(make_account: MakeAccount) -> tuple[Case, Series]:
    """Attacks at 50 and 200, organic accounts at 150 and 10."""
    fitted = [make_account(n=1, pool=pool) for pool in ("chat", "irc") for _ in range(100)]
    scored = [
        make_account(n=5, label="extraction", archetype="sweep", name="low"),
        make_account(n=5, label="extraction", archetype="sweep", name="high"),
        make_account(n=5, name="loud", pool="chat"),
        make_account(n=5, name="still", pool="irc"),
    ]
    series = Series(
        [np.array([float(i % 100)]) for i in range(200)],
        [np.array([0.0, top, 0.0, top, 0.0]) for top in (50.0, 200.0, 150.0, 10.0)],
    )
    return comparison.case_of(fitted, scored), series


def test_recall_and_alerts_are_counted_at_the_same_false_rate(make_account: MakeAccount) -> None:
    case, series = made_case(make_account)
    results = comparison.outcomes(case, series, 0.01)
    assert comparison.count(results, "extraction", ("sweep",)) == (1, 2)
    assert comparison.count(results, "organic") == (0, 2)
    assert comparison.delays(results) == (2.0, 2.0)
    results = comparison.outcomes(case, series, 0.6)
    assert comparison.count(results, "extraction") == (2, 2)
    assert comparison.count(results, "organic") == (1, 2)


@pytest.mark.corpora
@pytest.mark.skipif("STILLWATCH_SHARED" not in os.environ, reason="needs the scorer of composed traffic")
def test_counts_are_those_of_the_scorer(make_account: MakeAccount) -> None:
    account = make_account(n=10, label="extraction", archetype="takeover", starts=4, name="acct")
    scores = np.zeros(10)
    scores[[2, 6, 8]] = 1.0
    outcome = comparison.outcome_of(account, scores, 0.5)
    events = [json.dumps({"account": "acct", "time": int(t)}) for t in account.events["time"]]
    alerts = [json.dumps({"time": int(account.events["time"][i]), "uid": "f", "account": "acct"}) for i in (2, 6, 8)]
    labels = {"acct": {"label": "extraction", "archetype": "takeover", "campaign": None, "starts": 4}}
    scored = load_scorer(Path(os.environ["STILLWATCH_SHARED"])).score(labels, events, alerts)
    assert scored["recall"]["takeover"] == outcome.alerted
    assert scored["delay"]["median"] == outcome.delay
    assert scored["early"] == outcome.early


def test_the_curve_never_loses_recall_where_more_is_alerted(make_account: MakeAccount) -> None:
    tops = [("extraction", "sweep", 4.0 * k) for k in range(1, 11)] + [
        ("organic", "person", 3.0 * k) for k in range(20)
    ]
    scored = [make_account(n=3, label=label, archetype=kind) for label, kind, _ in tops]
    case = comparison.case_of([make_account(n=1, pool=pool) for pool in ("chat", "irc")], scored)
    points = comparison.curve(case, Series([], [np.array([0.0, top, 0.0]) for *_, top in tops]))
    assert points == sorted(points)
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (0.3, 0.1)  # six of twenty lie beyond 39, and the list at 40


def test_tables_and_files_hold_every_method(make_account: MakeAccount, tmp_path: Path) -> None:
    case, series = made_case(make_account)
    options = argparse.Namespace(
        false_rates=[0.01], seeds=[1], fit_seeds=[11], days=2,
        json=tmp_path / "a.json", markdown=tmp_path / "a.md", plot=None,
    )  # fmt: skip
    comparison.report(options, case, {"ours": series, "PRADA": series}, {"ours": 1.0, "PRADA": 2.0})
    table = (tmp_path / "a.md").read_text()
    assert "| ours | 0.500 (1/2, 0.095–0.905) | none | none | none | none | 0.000 (0/2, 0.000–0.658) | 2 / 2 |" in table
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["false_rates"]["0.01"]["PRADA"]["accounts"] == {"extraction/sweep": [1, 2], "organic/person": [0, 2]}
    assert set(written["curves"]) == {"ours", "PRADA"}


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_are_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curves.{suffix}"
    comparison.plot({"ours": [(0.0, 0.9), (0.1, 1.0)], "PRADA": [(0.0, 0.0), (0.1, 0.1)]}, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" if suffix == "png" else "PRADA" in path.read_text()
