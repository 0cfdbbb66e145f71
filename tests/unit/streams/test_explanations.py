"""What an alert says is true, and can be looked up: for every finding of simulated and of composed traffic.

An analyst who has only the alert learns what the account did, compared with whom, since when, and what would have made
it innocent; the numbers are those of `stillwatch explain`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from detectors import finding, innocence, rivals
from detectors.account import FEATURES, F
from detectors.baseline import Baseline
from detectors.report import NAMES, six_digits
from schemas.alert import Activity, Alert
from streams.cli import app
from streams.detection import make_engine, make_ingest
from streams.replay import file_batches
from streams.settings import Settings
from streams.simulation import simulate


class Case(NamedTuple):
    """Some traffic in a file, and what was alerted of it."""

    file: Path
    alerts: list[Alert]


def alerted(file: Path, baseline: Baseline) -> Case:
    """Alerts on a file's requests, by the service's own path, findings closed at its end."""
    ingest = make_ingest(Settings(), baseline)
    engine = make_engine(Settings(), baseline, lambda partition, account: None)
    alerts: list[Alert] = []
    with file.open("rb") as source:
        for records in file_batches(source, max_record_bytes=1 << 20):
            alerts += engine.apply(0, ingest(records).batch)
    return Case(file, [*alerts, *engine.close_all()])


@pytest.fixture(
    scope="module", params=["simulated", pytest.param("composed", marks=pytest.mark.corpora)], ids=lambda name: name
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, baseline: Baseline) -> Case:
    """Findings of every kind of extraction that is simulated, or composed."""
    folder = tmp_path_factory.mktemp("explanations")
    if request.param == "simulated":
        events = simulate(seed=5, days=3, organic=4, planted=6).events
        (folder / "events.jsonl").write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    else:
        shared: Path = request.getfixturevalue("shared")
        composer, corpora = shared / "traffic/compose.py", shared / "corpora"
        arguments = ["--corpora", corpora, "--out", folder, "--seed", 31, "--days", 14, "--scale", 0.15]
        subprocess.run([sys.executable, composer, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return alerted(folder / "events.jsonl", baseline)


@pytest.fixture(scope="module")
def explained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, float]]]:
    """What `stillwatch explain --json` says of each account that was alerted, look by look."""
    own: dict[str, list[bytes]] = defaultdict(list)
    for line in case.file.read_bytes().splitlines(keepends=True):
        own[orjson.loads(line)["account"]].append(line)
    file = tmp_path_factory.mktemp("explained") / "events.jsonl"
    looks = {}
    for account in sorted({alert.account for alert in case.alerts}):
        file.write_bytes(b"".join(own[account]))
        result = CliRunner().invoke(app, ["explain", account, str(file), "--json"])
        assert result.exit_code == 0, result.output
        looks[account] = [orjson.loads(line) for line in result.stdout.splitlines()]
    return looks


def steps(case: Case) -> Iterator[tuple[Alert, dict[str, Any]]]:
    """Every alert but the closings, with its evidence."""
    for alert in case.alerts:
        if alert.activity_id is not Activity.CLOSE:
            yield alert, dict(alert.evidences[0].data)


def statistics_of(evidence: dict[str, Any]) -> np.ndarray:
    """The statistics that an alert quotes, as a rival's judge takes them."""
    quoted = evidence["statistics"]
    return np.array([-1.0 if quoted[name] is None else quoted[name] for name in FEATURES])


def test_there_are_findings_of_several_accounts_and_all_are_closed(case: Case) -> None:
    by_activity = defaultdict(set)
    for alert in case.alerts:
        by_activity[alert.activity_id].add(alert.account)
    assert len(by_activity[Activity.CREATE]) >= 5
    assert by_activity[Activity.UPDATE]
    assert by_activity[Activity.CLOSE] == by_activity[Activity.CREATE]


def test_the_numbers_are_those_of_explain(case: Case, explained: dict[str, list[dict[str, float]]]) -> None:
    for alert, evidence in steps(case):
        quoted = evidence["statistics"]
        (look,) = [k for k in explained[alert.account] if (k["n"], k["time"]) == (quoted["n"], alert.time)]
        for name in FEATURES:
            shown = None if name == "short" and look[name] < 0.0 else six_digits(look[name])
            assert shown == quoted[name], name
        for head, score in evidence["scores"].items():
            assert score == six_digits(look[f"score/{head}"])
        for rival, ratio in evidence["log_likelihood_ratios"].items():
            assert ratio == six_digits(look[f"ratio/{evidence['head']}/{rival}"])
        assert evidence["surprise"] == six_digits(look["surprise"])
        assert evidence["threshold"] == six_digits(look["threshold"])


def test_a_finding_opens_at_the_first_look_that_explain_shows_beyond_the_threshold(
    case: Case, explained: dict[str, list[dict[str, float]]]
) -> None:
    first: dict[str, Alert] = {}
    for alert in case.alerts:
        first.setdefault(alert.account, alert)
    for account, alert in first.items():
        passed = next(look for look in explained[account] if look["surprise"] >= look["threshold"])
        assert alert.activity_id is Activity.CREATE
        assert alert.time == passed["time"]


def test_the_rival_that_is_named_is_the_one_that_holds_the_score_down_most(case: Case, baseline: Baseline) -> None:
    for _, evidence in steps(case):
        x, head = statistics_of(evidence), rivals.HEADS.index(evidence["head"])
        without = {}
        named = int(x[F["users"]] > 0.0)
        for k, rival in enumerate(rivals.RIVALS):
            if baseline.model["prior"][0, named, k] <= 0.0:
                continue
            model = baseline.model.copy()
            model["prior"][0, :, k] = 1e-300
            ratios, scores = np.zeros((len(rivals.HEADS), len(rivals.RIVALS))), np.zeros(len(rivals.HEADS))
            rivals.judge(model[0], x, ratios, scores)
            without[rival] = scores[head]
        assert max(without, key=lambda rival: without[rival]) == evidence["strongest_rival"]
        assert set(evidence["log_likelihood_ratios"]) == set(without)


def test_the_text_says_what_compared_with_whom_since_when_and_what_would_be_innocent(case: Case) -> None:
    for alert, evidence in steps(case):
        text = alert.finding_info.desc
        seen = datetime.fromtimestamp(alert.start_time / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert text.startswith(f"Since {seen} the account sent {alert.count} requests that look like a list")
        rejected = {
            "person": "not a person (",
            "service": "not a service (",
            "batch": "a batch job (",
            "users": "not users",
        }
        for rival in (rejected[name] for name in evidence["log_likelihood_ratios"]):
            assert rival in text
            assert rival in alert.message
        strongest = evidence["strongest_rival"]
        ratio = evidence["log_likelihood_ratios"][strongest]
        assert f"hardest to reject is {NAMES[strongest]}: the traffic is e^{ratio:.1f} times likelier" in text
        assert re.search(r"It would look ordinary had .+\.", text), text
        assert f"the knob allows {100.0 * np.exp(-evidence['threshold']):.2g} %" in text
        assert alert.start_time <= alert.time


def test_what_would_have_made_it_innocent_would_have(case: Case, baseline: Baseline) -> None:
    for alert, evidence in steps(case):
        x = statistics_of(evidence)
        excuses = innocence.excuses(baseline, x, evidence["threshold"])
        assert evidence["strongest_rival"] in excuses
        text = alert.finding_info.desc
        for rival, changed in excuses.items():
            assert innocence.surprise_of(baseline, changed) < evidence["threshold"]
            assert innocence.surprise_of(baseline, x) == pytest.approx(evidence["surprise"], abs=1e-3)
            moved = {name for name in FEATURES if changed[F[name]] != x[F[name]]}
            assert (
                moved
                <= {
                    "person": {*innocence.ORDERLY, *rivals.CADENCE},
                    "service": {"repeats", "hot", "window_repeats", "window_hot", "recent_repeats"},
                    "batch": {"short"},
                    "users": {"vn_user"},
                }[rival]
            )
        if (person := excuses.get("person")) is not None:
            assert ("at a person's pace" in text) == (person[F["gap_spread"]] != x[F["gap_spread"]])
        if (service := excuses.get("service")) is not None:
            window = f"of the last {service[F['window']]:.0f} been asked before"
            assert f"{service[F['window_repeats']]:.0f} {window}" in text
        if (batch := excuses.get("batch")) is not None:
            assert f"{100.0 * batch[F['short']]:.0f} % of the answers been short" in text


def test_severity_is_the_volume_and_confidence_how_far_beyond_the_threshold(case: Case) -> None:
    furthest: dict[str, float] = defaultdict(float)
    for alert, evidence in steps(case):
        leaked = evidence["account"]["leaked"]
        assert leaked == alert.count
        assert alert.severity_id == (5 if leaked >= 2000 else 4 if leaked >= 500 else 3)
        uid = alert.finding_info.uid
        furthest[uid] = max(furthest[uid], evidence["surprise"] - evidence["threshold"])
        # The furthest of all looks counts, also of those that raised no alert.
        least = 3 if furthest[uid] >= np.log(20.0) else 2 if furthest[uid] >= np.log(3.0) else 1
        assert least <= alert.confidence_id <= 3


def test_confidence_is_that_of_the_furthest_look(case: Case, explained: dict[str, list[dict[str, float]]]) -> None:
    for alert, evidence in steps(case):
        if alert.metadata.sequence != 1:
            continue
        margin = evidence["surprise"] - evidence["threshold"]
        assert alert.confidence_id == finding.confidence_of(evidence["surprise"], evidence["threshold"])
        assert (margin >= np.log(20.0)) == (alert.confidence_id == 3)


def test_the_readme_documents_severity_and_confidence_as_they_are() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert (finding.MEDIUM, finding.HIGH, finding.CRITICAL) == (3, 4, 5)
    assert f"4 high from {finding.HIGH_REQUESTS} requests on, 5 critical from {finding.CRITICAL_REQUESTS:,}" in readme
    factors = round(np.exp(finding.MEDIUM_CONFIDENCE)), round(np.exp(finding.HIGH_CONFIDENCE))
    assert "2 medium from a factor of {} in the organic share on, 3 high from a factor of {}".format(*factors) in readme
