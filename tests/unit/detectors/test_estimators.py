"""Every statistic as a River estimator: River's own checks, records that are shared, and what River restates."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river.checks
from river import anomaly, compose, preprocessing, stats

import detectors.statistics
from detectors import account
from detectors.account_model import AccountModel
from detectors.baseline import Baseline, load_default
from detectors.events import BITS
from detectors.statistics import (
    Breadth,
    Cadence,
    NearestLag,
    VonNeumannRatio,
    cadence,
    coverage,
    estimator,
    header,
    identity,
    memory,
    mixture,
    neighbours,
    order,
    recurrence,
    shape,
    users,
)
from detectors.statistics.estimator import RecordEstimator, event_of
from tests.made_up import START, generator, listed, near, person, random_codes

ESTIMATORS: list[type[RecordEstimator]] = [
    *(getattr(detectors.statistics, name) for name in detectors.statistics.__all__),
    AccountModel,
]
RECORDS = (header, memory, coverage, order, recurrence, mixture, neighbours, cadence, shape, users, identity)


def feature_stream(n: int = 320) -> list[tuple[dict[str, Any], bool]]:
    """An account as dicts of features: a person who asks some things again, and from half-way on a list; labelled."""
    rng = generator(3)
    time, stream = START, []
    for i in range(n):
        is_listed = i >= n // 2
        if i % 12 == 0:
            topic, length = rng.normal(size=8), rng.uniform(20.0, 400.0)
        features = rng.normal(size=8) if is_listed else topic + 0.5 * rng.normal(size=8)
        if i % 6 != 5 or is_listed:
            asked = features
        time += int(rng.integers(1_000, 600_000))
        x: dict[str, Any] = {f"feature {j}": float(value) for j, value in enumerate(asked)}
        x["time"] = time
        x["length"] = float(rng.uniform(20.0, 500.0) if is_listed else length * rng.uniform(0.8, 1.2))
        x["output_tokens"] = int(rng.integers(1, 900))
        x["end_user"] = int(rng.integers(1, 9))
        stream.append((x, is_listed))
    return stream


def coded_stream(n: int = 200) -> list[tuple[dict[str, Any], bool]]:
    """The same kind of account as dicts that hold the columns of an event."""
    events = np.concatenate([person(n // 2, 5, stay=20), listed(n // 2, 6, start=START + 10**9)])
    events["code"][5 : n // 2 : 6] = events["code"][4 : n // 2 - 1 : 6]
    stream = []
    for number, event in enumerate(events):
        x = {name: event[name].item() for name in ("time", "length", "output_tokens")}
        x |= {"offset": number, "identity": number + 1, "code": tuple(map(int, event["code"]))}
        stream.append((x, number >= n // 2))
    return stream


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_it_passes_rivers_checks(cls: type[RecordEstimator], monkeypatch: pytest.MonkeyPatch) -> None:
    # River would download its own stream for anomaly detectors.
    def ours(model: Any, scale: int = 1) -> Iterator[list[tuple[dict[str, Any], bool]]]:
        yield feature_stream()
        if cls in (AccountModel, VonNeumannRatio):
            yield coded_stream()

    monkeypatch.setattr(river.checks, "_yield_datasets", ours)
    river.checks.check_estimator(cls())


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_its_bytes_are_its_whole_state(cls: type[RecordEstimator]) -> None:
    model = cls()
    for event in person(60, 1):
        model.learn_one(event)
    again = cls.from_bytes(model.to_bytes())
    event = person(61, 1)[60]
    for m in (model, again):
        m.learn_one(event)
    assert again.to_bytes() == model.to_bytes()
    assert len(model.to_bytes()) == cls.dtype().itemsize
    assert len(pickle.dumps(model)) < cls.dtype().itemsize + 500


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_bytes_of_another_size_are_refused(cls: type[RecordEstimator]) -> None:
    with pytest.raises(ValueError, match="bytes, not 3"):
        cls.from_bytes(b"abc")


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_a_view_shares_its_row_with_the_slab(cls: type[RecordEstimator]) -> None:
    slab = np.zeros(3, account.DTYPE)
    view, own = cls.view(slab[1:2]), cls()
    for event in person(40, 2):
        view.learn_one(event)
        own.learn_one(event)
    assert view.to_bytes() == own.to_bytes()
    assert all((slab[1:2][name] == own._state[name]).all() for name in cls.PARTS)
    assert slab[[0, 2]].tobytes() == bytes(2 * account.DTYPE.itemsize)
    untouched = [name for name in account.DTYPE.names or () if name not in cls.PARTS]
    assert all(slab[1][name].tobytes() == bytes(account.DTYPE[name].itemsize) for name in untouched)


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_a_copy_of_a_view_is_its_own(cls: type[RecordEstimator]) -> None:
    slab = np.zeros(1, account.DTYPE)
    copied = copy.deepcopy(cls.view(slab))
    for event in person(20, 2):
        copied.learn_one(event)
    assert slab.tobytes() == bytes(account.DTYPE.itemsize)


@pytest.mark.parametrize("row", [np.zeros(2, account.DTYPE), np.zeros(1, header.DTYPE), np.zeros(1)])
def test_a_view_of_something_else_is_refused(row: np.ndarray) -> None:
    with pytest.raises(TypeError, match="VonNeumannRatio needs an array of shape"):
        VonNeumannRatio.view(row)


@pytest.mark.parametrize("module", RECORDS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_its_documentation_tells_its_bytes(module: Any) -> None:
    (documented,) = re.findall(r"Bytes: ([\d,]+)\.", module.__doc__)
    assert int(documented.replace(",", "")) == module.DTYPE.itemsize
    assert "Cost: " in module.__doc__


def test_every_file_with_a_record_has_a_public_estimator() -> None:
    files = {module.__name__ for module in RECORDS} - {header.__name__}
    assert {cls.__module__ for cls in ESTIMATORS} - {AccountModel.__module__} == files
    folder = Path(detectors.statistics.__file__).parent
    without_record = {"__init__", "bits", "estimator"}
    assert {path.stem for path in folder.glob("*.py")} - without_record == {
        module.__name__.rpartition(".")[2] for module in RECORDS
    }


@pytest.mark.parametrize("dtype", [account.DTYPE, *(module.DTYPE for module in RECORDS)])
def test_records_have_no_padding(dtype: np.dtype[Any]) -> None:
    assert sum(dtype[name].itemsize for name in dtype.names or ()) == dtype.itemsize
    assert account.DTYPE.itemsize <= 4096


# --- what a request is


def test_a_row_and_its_dict_are_the_same_request() -> None:
    row = listed(3, 1)[2]
    x = {name: row[name] for name in row.dtype.names or ()}
    assert event_of(row).tobytes() == event_of(x).tobytes() == row.tobytes()
    assert event_of(listed(3, 1)[2:3]).tobytes() == row.tobytes()


@pytest.mark.parametrize("x", [3, "row", listed(2, 1), np.zeros(1)])
def test_anything_else_is_no_request(x: Any) -> None:
    with pytest.raises(TypeError, match="a request must be"):
        event_of(x)


def test_features_in_any_order_give_the_same_code() -> None:
    features = {f"feature {k}": float(value) for k, value in enumerate(generator(1).normal(size=30))}
    shuffled = dict(reversed(features.items()))
    assert event_of(features).tobytes() == event_of(shuffled).tobytes()


def test_the_angle_between_features_is_kept_in_the_codes() -> None:
    rng = generator(2)
    a = rng.normal(size=40)
    for angle in (0.3, 0.8, 1.4):
        b = rng.normal(size=40)
        b -= a * (a @ b) / (a @ a)
        b = np.cos(angle) * a / np.linalg.norm(a) + np.sin(angle) * b / np.linalg.norm(b)
        codes = [event_of({f"f{k}": float(v) for k, v in enumerate(vector)})["code"] for vector in (a, b)]
        assert np.bitwise_count(codes[0] ^ codes[1]).sum() == pytest.approx(BITS * angle / np.pi, abs=20)


@pytest.mark.parametrize("useless", [{}, {"text": "hello"}, {"x": float("nan")}, {"x": None, "time": START}])
def test_without_numbers_a_request_has_no_content(useless: dict[str, Any]) -> None:
    model = Breadth()
    model.learn_one(useless)
    assert model._state["coverage"]["requests"][0] == 0


def test_absurd_values_are_kept_within_the_columns() -> None:
    event = event_of({"time": 10**30, "output_tokens": -(10**30), "length": -5.0, "end_user": 2**70, "flags": -1})
    assert event["time"] == np.iinfo(np.int64).max
    assert event["output_tokens"] == np.iinfo(np.int32).min
    assert (event["length"], event["end_user"], event["flags"] & 1) == (0.0, 2**64 - 1, 0)


def test_lags_that_are_not_measured_are_refused() -> None:
    with pytest.raises(ValueError, match="lag must be one of"):
        VonNeumannRatio(lag=3)
    with pytest.raises(ValueError, match="lag must be one of"):
        VonNeumannRatio(lag=2, within_sessions=True)


def test_a_request_without_a_time_comes_with_the_one_before() -> None:
    clock = Cadence()
    clock.learn_one({"time": START})
    clock.learn_one({})
    clock.learn_one({"time": START + 2000})
    assert clock._state["header"]["last_time"][0] == START + 2000
    assert clock._state["cadence"]["late"][0] == 0


# --- in River


def test_statistics_work_in_a_pipeline() -> None:
    pipeline = compose.Discard("time") | preprocessing.StandardScaler() | NearestLag()
    for x, _ in feature_stream(60):
        assert 0.0 <= pipeline.score_one(x) <= 8.0
        pipeline.learn_one(x)
    union = Cadence() + compose.Select("length")
    for x, _ in feature_stream(20):
        union.learn_one(x)
    assert {"gap_spread", "hours_occupied", "length"} <= set(union.transform_one({"length": 3.0}))


def test_a_filter_of_river_decides_by_an_account(baseline: Baseline) -> None:
    decided = anomaly.ThresholdFilter(AccountModel(baseline), threshold=5.0)
    for event in listed(100, 1):
        decided.learn_one(event)
    assert decided.classify(decided.score_one(listed(101, 1)[100]))


def test_decayed_mean_and_variance_are_rivers() -> None:
    # River starts from the first value, ours from nothing; the ratio to the decayed weight makes up for it in time.
    mean, variance = stats.EWMean(coverage.RATE), stats.EWVar(coverage.RATE)
    held = np.zeros(1, cadence.DTYPE)
    time = START
    cadence.first(held[0], time)
    for gap in np.asarray(generator(4).lognormal(8.0, 1.5, 4000), np.int64):
        time += int(gap)
        cadence.update(held[0], time, int(gap))
        log_gap = float(np.log(gap / 1000.0 + 0.5))
        mean.update(log_gap)
        variance.update(log_gap)
    assert cadence.location(held[0]) == pytest.approx(mean.get(), rel=1e-9)
    assert cadence.spread(held[0]) ** 2 == pytest.approx(variance.get(), rel=1e-9)


def test_decayed_shares_of_bits_are_rivers_decayed_means() -> None:
    codes = near(np.repeat(random_codes(1, generator(5)), 2000, axis=0), 20, generator(6))
    held = np.zeros(1, coverage.DTYPE)
    means = [stats.EWMean(coverage.RATE) for _ in range(8)]
    nothing = np.full(memory.HELD, memory.ABSENT, np.int64)
    for code in codes:
        coverage.update(held[0], code, nothing)
        for bit, mean in enumerate(means):
            mean.update(float(int(code[0]) >> bit & 1))
    shares = held["share"][0, :8] / (coverage.FULL * held["weight"][0])
    # Kept in 16 bits, rounded at each step: within half a step of 1/512 at the decay of 1/128.
    assert shares == pytest.approx([mean.get() for mean in means], abs=2e-3)


# --- the whole account


def test_the_account_model_is_the_engines_record(baseline: Baseline) -> None:
    events = np.concatenate([person(150, 1), listed(50, 2, start=START + 10**10, first_offset=150)])
    events["identity"] = np.arange(1, 201)
    row, scratch = np.zeros(1, account.DTYPE), np.zeros(memory.HELD, np.int64)
    model = AccountModel(baseline)
    for event in events:
        assert account.admit(row[0], event) == account.ADMITTED
        account.step(row[0], event, scratch)
        model.learn_one(event)
    assert model.to_bytes() == row.tobytes()


def test_a_list_surprises_and_a_person_does_not(baseline: Baseline) -> None:
    suspect, honest = AccountModel(baseline), AccountModel(baseline)
    for event, other in zip(listed(120, 1), person(120, 1), strict=True):
        suspect.learn_one(event)
        honest.learn_one(other)
    assert suspect.get() > 8.0
    assert honest.get() < 1.0
    assert suspect.scores()["memoryless"] > 1.0 > honest.scores()["memoryless"]
    assert suspect.statistics()["n"] == 120.0


def test_an_account_scores_as_if_it_had_learnt(baseline: Baseline) -> None:
    model = AccountModel(baseline)
    for event in listed(80, 1):
        scored = model.score_one(event)
        before = model.to_bytes()
        model.learn_one(event)
        assert model.get() == scored
        assert model.to_bytes() != before


def test_a_request_logged_twice_counts_once(baseline: Baseline) -> None:
    model = AccountModel(baseline)
    for x in ({"identity": 7, "e": 1.0}, {"identity": 7, "e": 1.0}, {"e": 1.0}, {"e": 1.0}):
        model.learn_one(x)
    assert model.statistics()["n"] == 3.0


def test_without_a_baseline_it_judges_by_the_one_that_ships() -> None:
    default, named = AccountModel(), AccountModel(load_default())
    for event in listed(60, 1):
        default.learn_one(event)
        named.learn_one(event)
    assert default.get() == named.get()
    assert pickle.loads(pickle.dumps(default)).get() == named.get()  # noqa: S301


def test_a_clone_of_a_model_with_a_baseline_reads_alike(baseline: Baseline) -> None:
    model = AccountModel(baseline)
    assert repr(model.clone()) == repr(model)
    assert baseline.hash in repr(model)


def test_absent_columns_have_no_column_of_their_own() -> None:
    assert estimator.ABSENT_OFFSET < 0
    assert estimator.ABSENT_TIME < 0
