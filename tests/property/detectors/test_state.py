"""Stored states: read back as they were, or refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import account, state
from detectors.rivals import HEADS
from detectors.statistics import memory
from tests.envelopes import head_of, head_with, packed, payload_of, resealed
from tests.made_up import listed, person

ENCODER_HASH = "0123456789abcdef"


def state_after(n: int, seed: int) -> np.ndarray:
    row = np.zeros(1, account.DTYPE)
    for event in person(n, seed) if seed % 2 else listed(n, seed):
        account.step(row[0], event, np.zeros(memory.HELD, np.int64))
    return row


ROW = state_after(70, 1)
ENVELOPE = state.seal(ROW, ENCODER_HASH)


@given(st.integers(0, 120), st.integers(0, 50))
@settings(max_examples=40)
def test_a_state_comes_back_as_it_was(n: int, seed: int) -> None:
    row = state_after(n, seed)
    envelope = state.seal(row, ENCODER_HASH)
    assert len(envelope) <= state.MAX_BYTES <= 4096
    assert state.unseal(envelope, ENCODER_HASH).tobytes() == row.tobytes()
    assert state.fence_of(envelope) == row["header"]["offset"][0]
    assert state.header_of(envelope).offset == row["header"]["offset"][0]


def test_a_state_that_was_read_can_be_written_to() -> None:
    row = state.unseal(ENVELOPE, ENCODER_HASH)
    account.step(row[0], listed(1, 1)[0], np.zeros(memory.HELD, np.int64))
    assert row["header"]["requests"][0] == 71


def test_a_young_accounts_state_is_small() -> None:
    assert len(state.seal(state_after(3, 1), ENCODER_HASH)) < 1200


@given(st.integers(0, 8 * len(ENVELOPE) - 1))
@settings(max_examples=400)
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(ENVELOPE)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(state.StateError):
        state.unseal(bytes(damaged), ENCODER_HASH)


@given(st.integers(0, len(ENVELOPE) - 1))
def test_a_state_cut_short_is_refused(length: int) -> None:
    for read in (lambda data: state.unseal(data, ENCODER_HASH), state.header_of):
        with pytest.raises(state.StateError):
            read(ENVELOPE[:length])


@given(st.binary(max_size=6000))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    for read in (lambda data: state.unseal(data, ENCODER_HASH), state.fence_of):
        with pytest.raises(state.StateError):
            read(data)


def test_a_state_of_another_encoder_is_told_apart() -> None:
    with pytest.raises(state.EncoderChangedError):
        state.unseal(ENVELOPE, "f" * 16)
    assert state.fence_of(ENVELOPE) == 69


def test_a_state_of_another_layout_is_refused() -> None:
    with pytest.raises(state.StateError, match="another layout"):
        state.unseal(resealed(head_with(ENVELOPE, layout=b"no such."), payload_of(ENVELOPE)), ENCODER_HASH)


@pytest.mark.parametrize("raw", [bytes(account.DTYPE.itemsize + 1), bytes(10_000_000)])
def test_a_payload_that_would_grow_larger_than_a_record_is_refused(raw: bytes) -> None:
    with pytest.raises(state.StateError):
        state.unseal(resealed(head_of(ENVELOPE), packed(raw)), ENCODER_HASH)


@pytest.mark.parametrize("size", [0, 1, 8, account.DTYPE.itemsize - 8, account.DTYPE.itemsize - 1])
def test_a_payload_of_less_than_a_record_is_refused_and_not_filled_up(size: int) -> None:
    with pytest.raises(state.StateError, match="wrong size"):
        state.unseal(resealed(head_of(ENVELOPE), packed(ROW.tobytes()[:size])), ENCODER_HASH)


def test_fences_rise_from_log_to_log() -> None:
    row, fences = ROW.copy(), []
    for log, offset in ((0, 7), (0, state.LAST_NUMBER), (1, 0), (1, 5), (state.LAST_LOG, 5), (state.LAST_NUMBER, 6)):
        row["header"]["log"], row["header"]["offset"] = log, offset
        header = state.header_of(state.seal(row, ENCODER_HASH))
        assert header.offset == offset
        fences.append(header.fence)
    assert fences == sorted(fences)


def test_an_account_is_active_until_its_last_request_or_while_older_ones_are_filled_in() -> None:
    row = ROW.copy()
    last = int(row["header"]["last_time"][0])
    sealed = [state.seal(row, ENCODER_HASH, log_time) for log_time in (0, last - 1, last + 1)]
    assert [state.header_of(envelope).active_until for envelope in sealed] == [last, last, last + 1]
    row["episode"]["is_open"] = 1
    assert state.header_of(state.seal(row, ENCODER_HASH)).active_until == state.LAST_NUMBER


@given(st.binary(min_size=1, max_size=3000))
def test_a_payload_that_is_no_lz4_is_refused(payload: bytes) -> None:
    try:
        row = state.unseal(resealed(head_of(ENVELOPE), payload), ENCODER_HASH)
    except state.StateError:
        return
    assert row.shape == (1,)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("recurrence", "distinct", -(10**12)),
        ("recurrence", "distinct", 2**62),
        ("identity", "count", -1),
        ("memory", "count", -(2**40)),
        ("coverage", "stride", -3),
        ("header", "first_time", 2**60),
        ("header", "log", -1),
        ("episode", "opened_time", -1),
        ("episode", "reported_severity", 2),
        ("episode", "head", len(HEADS)),
        ("episode", "peak", float("nan")),
        ("coverage", "weight", float("inf")),
    ],
)
def test_a_state_whose_numbers_no_history_can_lead_to_is_refused(part: str, field: str, value: Any) -> None:
    row = ROW.copy()
    row[part][field] = value
    with pytest.raises(state.StateError, match="no history"):
        state.unseal(state.seal(row, ENCODER_HASH), ENCODER_HASH)


@given(st.binary(min_size=account.DTYPE.itemsize, max_size=account.DTYPE.itemsize))
@settings(max_examples=60)
def test_a_state_that_is_accepted_can_be_used(noise: bytes) -> None:
    # Words of the noise that an honest state could hold stay; the others are made honest.
    row = np.frombuffer(bytearray(noise), account.DTYPE)
    words = row.view("<i8")
    words[state._INTEGERS] = np.abs(words[state._INTEGERS] % state.LAST_NUMBER)
    floats = row.view("<f8")
    floats[state._FLOATS] = np.nan_to_num(floats[state._FLOATS], posinf=1.0, neginf=1.0)
    row["episode"]["reported_severity"] = 3
    row["episode"]["head"] %= len(HEADS)
    read = state.unseal(state.seal(row, ENCODER_HASH), ENCODER_HASH)
    scratch, features = np.zeros(memory.HELD, np.int64), np.zeros(len(account.FEATURES))
    for event in listed(20, 1):
        account.step(read[0], event, scratch)
    account.features(read[0], features)
    assert read["header"]["requests"][0] == row["header"]["requests"][0] + 20
