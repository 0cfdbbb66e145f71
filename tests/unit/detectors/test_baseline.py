"""The baseline's file: the same numbers come back, and nothing else is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import baseline as baseline_file
from detectors import rivals
from detectors.baseline import MAX_BYTES, Baseline, BaselineError, load_default
from detectors.encoder import Encoder, rotation_signs
from tests.made_up import plain_baseline

DATA = plain_baseline().to_bytes()


def changed(change: Callable[[Any], None]) -> bytes:
    whole = json.loads(DATA)
    change(whole)
    return json.dumps(whole).encode()


def test_a_baseline_comes_back_as_it_was(baseline: Baseline) -> None:
    again = Baseline.from_bytes(baseline.to_bytes())
    assert again.model.tobytes() == baseline.model.tobytes()
    assert again.encoder.hash == baseline.encoder.hash
    assert (again.encoder.signs == baseline.encoder.signs).all()
    assert again.hash == baseline.hash
    assert again.provenance.note == "set by hand"
    assert again.to_bytes() == baseline.to_bytes()


def test_it_is_text_that_a_person_can_read(baseline: Baseline) -> None:
    whole = json.loads(baseline.to_bytes())
    assert whole["decision"]["weights"]["batch"][0] == {"bias": 6.0, "short": -12.0}
    assert whole["decision"]["priors"]["users"]["person"] == rivals.PRIORS[1][0]


def test_a_number_changed_by_hand_is_noticed() -> None:
    def lenient(whole: Any) -> None:
        whole["decision"]["weights"]["batch"][0]["bias"] = 5.0

    with pytest.raises(BaselineError, match="hash does not fit"):
        Baseline.from_bytes(changed(lenient))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w["encoder"]["mean"].__setitem__(0, 0.5),
        lambda w: w["encoder"].__setitem__("model", "another"),
        lambda w: w["decision"]["tails"]["combined"].__setitem__("threshold", -3.0),
        lambda w: w["decision"]["quantiles"]["vn1"][0].__setitem__(0, 9.0),
        lambda w: w["decision"].__setitem__("days_per_account", 1.0),
        lambda w: w.__setitem__("decision_hash", "0" * 16),
        lambda w: w["decision"]["priors"]["users"].__setitem__("person", 0.0),
        lambda w: w["decision"]["priors"]["no_users"].pop("service"),
        lambda w: w["decision"]["weights"].pop("batch"),
        lambda w: w["decision"]["weights"]["batch"].pop(),
        lambda w: w["decision"]["weights"]["batch"].extend([{"bias": 1.0}]),
        lambda w: w["decision"]["weights"]["batch"][0].__setitem__("colour", 1.0),
        lambda w: w["decision"]["tails"]["combined"].__setitem__("scale", 0.0),
        lambda w: w["decision"]["tails"]["combined"].__setitem__("score", [1.0]),
        lambda w: w["decision"]["tails"]["combined"].__setitem__("beyond_threshold", -1.0),
        lambda w: w["decision"].__setitem__("accounts", 0),
        lambda w: w["encoder"].__setitem__("mean", []),
        lambda w: w["encoder"].__setitem__("mean", [0.0] * 10_000),
        lambda w: w["encoder"].__setitem__("signs", "AAAA"),
        lambda w: w["encoder"].__setitem__("signs", "!"),
        lambda w: w["decision"].__setitem__("quantiles", {}),
        lambda w: w["decision"]["quantiles"].__setitem__("vn1", [[0.0]]),
        lambda w: w["decision"]["quantiles"].__setitem__("vn1", [[0.0], [0.0, 1.0]]),
        lambda w: w.__setitem__("format", 1),
        lambda w: w.__setitem__("code", "import os"),
        lambda w: w.pop("encoder"),
    ],
)
def test_anything_that_is_not_as_it_was_written_is_refused(change: Callable[[Any], None]) -> None:
    with pytest.raises(BaselineError):
        Baseline.from_bytes(changed(change))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 100_000, b"\xff\xfe", DATA[:-20], DATA[1:], b"null", b" " * (MAX_BYTES + 1), b'"\\ud800"'],
)
def test_what_is_no_baseline_is_refused(data: bytes) -> None:
    with pytest.raises(BaselineError):
        Baseline.from_bytes(data)


@given(st.integers(0, len(DATA) - 1), st.sampled_from(list(b'0123456789-.e,:[]{}" x')))
def test_a_byte_changed_anywhere_gives_the_same_decisions_or_an_error(place: int, byte: int) -> None:
    data = bytearray(DATA)
    data[place] = byte
    try:
        read = Baseline.from_bytes(bytes(data))
    except BaselineError:
        return
    assert read.hash == plain_baseline().hash
    assert read.encoder.hash == plain_baseline().encoder.hash


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["quantiles"].__setitem__("vn1", [[0.0]]),
        lambda d: d["quantiles"].__setitem__("vn1", [[0.0], [0.0, 1.0]]),
        lambda d: d["quantiles"].pop("vn1"),
        lambda d: d["quantiles"].__setitem__("colour", d["quantiles"]["vn1"]),
        lambda d: d["tails"]["combined"].__setitem__("score", [1.0]),
        lambda d: d["tails"]["combined"]["score"].reverse(),
        lambda d: d["tails"]["combined"]["beyond"].__setitem__(0, 7.0),
        lambda d: d["tails"].__setitem__("more", d["tails"]["combined"]),
        lambda d: d["weights"]["batch"].pop(),
        lambda d: d["weights"].__setitem__("more", []),
        lambda d: d["priors"]["no_users"].__setitem__("person", -1.0),
        lambda d: d.__setitem__("days_per_account", 0.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused_whatever_the_hash_says(change: Callable[[Any], None]) -> None:
    whole = json.loads(DATA)
    change(whole["decision"])
    whole["decision_hash"] = baseline_file._digest(msgspec.convert(whole["decision"], baseline_file.DecisionPart))
    with pytest.raises(BaselineError, match="make no sense"):
        Baseline.from_bytes(msgspec.json.encode(whole))


def test_numbers_of_another_encoder_give_another_encoder_hash(baseline: Baseline) -> None:
    other = Encoder(np.full(8, 0.25, np.float32), rotation_signs(8), "made up")
    again = plain_baseline(other)
    assert again.encoder.hash != baseline.encoder.hash
    assert again.hash == baseline.hash


def test_the_one_that_ships_can_be_read_and_is_for_the_text_model() -> None:
    default = load_default()
    assert default.accounts >= 100
    assert default.encoder.dimension == 256
    assert default.to_bytes() == Baseline.from_bytes(default.to_bytes()).to_bytes()


def test_quantiles_are_those_of_the_nearest_length(baseline: Baseline) -> None:
    assert baseline.quantiles_at("vn1", 0.0).shape == (5,)
    assert (baseline.quantiles_at("vn1", 1e9) == baseline.quantiles["vn1"][-1]).all()
