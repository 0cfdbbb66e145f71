"""States in an older layout: carried over field by field where that layout was published, and refused as others are."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import account, layouts, state
from detectors.account import F
from detectors.baseline import Baseline, load_default
from detectors.engine import Engine
from detectors.events import EventBatch
from detectors.layouts import Layout, carry_over, digest_of, fields_of
from detectors.statistics import memory
from tests.envelopes import head_with, packed, resealed
from tests.made_up import START, batch_job, listed, part, person, plain_baseline, service, stream_of

ENCODER_HASH = "0123456789abcdef"
NOW = {name: field.type for name, field in fields_of(account.DTYPE).items()}
BASELINE: Baseline = plain_baseline()

Publish = Callable[[dict[str, str]], Layout]


def row_after(n: int) -> np.ndarray:
    row = np.zeros(1, account.DTYPE)
    for event in person(n, 1):
        account.step(row[0], event, np.zeros(memory.HELD, np.int64))
    return row


ROW = row_after(80)


def value(row: np.ndarray, name: str) -> Any:
    """A field of today's record by its dotted name."""
    part, _, field = name.partition(".")
    return row[part][field].tolist()


def blanked(row: np.ndarray, *names: str) -> np.ndarray:
    """The record with some fields zero."""
    row = row.copy()
    for name in names:
        part, _, field = name.partition(".")
        row[part][field] = 0
    return row


def in_layout(envelope: bytes, layout: Layout, raw: bytes) -> bytes:
    """The envelope with another record in it, as a version with that layout sealed it."""
    return resealed(head_with(envelope, layout=digest_of(layout), size=layout.itemsize), packed(raw))


def older(envelope: bytes, layout: Layout, encoder_hash: str = ENCODER_HASH) -> bytes:
    """Today's state as one in an older layout, which lacks what it lacks."""
    raw = carry_over(state.unseal(envelope, encoder_hash).tobytes(), account.DTYPE, layout).tobytes()
    return in_layout(envelope, layout, raw)


ENVELOPE = state.seal(ROW, ENCODER_HASH)


@contextmanager
def published(fields: dict[str, str]) -> Iterator[Layout]:
    """A layout of these fields, which is published meanwhile."""
    layout = np.dtype(list(fields.items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layouts.PUBLISHED, digest_of(layout), layout)
        yield layout


@pytest.fixture
def publish() -> Iterator[Publish]:
    """Publishes layouts for the length of a test."""
    with ExitStack() as stack:
        yield lambda fields: stack.enter_context(published(fields))


def without(*names: str) -> dict[str, str]:
    return {name: kind for name, kind in NOW.items() if name not in names}


# --- the list


def test_todays_layout_is_published() -> None:
    assert state.LAYOUT in layouts.PUBLISHED, (
        "account.DTYPE has changed: run `make layout`, which adds it to detectors/published_layouts.json, so that the "
        "next version can read the states of this one. Read the head of detectors/layouts.py first"
    )


def test_the_list_is_written_as_it_was_read_and_cannot_be_changed_unnoticed() -> None:
    written = layouts.write_list(layouts.PUBLISHED)
    assert list(layouts.read_list(written)) == list(layouts.PUBLISHED)
    with pytest.raises(ValueError, match="was changed"):
        layouts.read_list(written.replace(b"header.covered", b"header.uncovered"))


def test_names_types_and_order_of_fields_all_make_a_layout() -> None:
    renamed = {("order.victories" if name == "order.recent_pairs" else name): kind for name, kind in NOW.items()}
    variants = (NOW, renamed, NOW | {"order.recent_pairs": "<i8"}, dict(reversed(NOW.items())))
    digests = [digest_of(np.dtype(list(fields.items()))) for fields in variants]
    assert len(set(digests)) == len(variants)
    assert digests[0] == state.LAYOUT


# --- carrying over


def test_a_field_that_is_new_begins_at_zero_and_all_others_keep_their_values(publish: Publish) -> None:
    envelope = older(ENVELOPE, publish(without("order.session_pairs", "users.named")))
    row = state.unseal(envelope, ENCODER_HASH)
    assert row.tobytes() == blanked(ROW, "order.session_pairs", "users.named").tobytes()
    assert value(row, "order.recent_pairs") == value(ROW, "order.recent_pairs") != [0.0]


def test_a_statistic_that_is_new_begins_at_zero(publish: Publish) -> None:
    mixture = [name for name in NOW if name.startswith("mixture.")]
    row = state.unseal(older(ENVELOPE, publish(without(*mixture))), ENCODER_HASH)
    assert row.tobytes() == blanked(ROW, *mixture).tobytes()


def test_a_field_that_was_dropped_is_passed_over(publish: Publish) -> None:
    layout = publish({"order.since_dropped": "(3,)<f8", **NOW})
    old = carry_over(ROW.tobytes(), account.DTYPE, layout)
    old["order.since_dropped"] = np.nan
    row = state.unseal(in_layout(ENVELOPE, layout, old.tobytes()), ENCODER_HASH)
    assert row.tobytes() == ROW.tobytes()


def test_fields_in_another_order_find_their_places(publish: Publish) -> None:
    row = state.unseal(older(ENVELOPE, publish(dict(reversed(NOW.items())))), ENCODER_HASH)
    assert row.tobytes() == ROW.tobytes()


@pytest.mark.parametrize(
    ("name", "was"), [("recurrence.fingerprint", "(64,)<u2"), ("cadence.failed", "<f8"), ("memory.ring", "(64,)<u8")]
)
def test_a_field_of_another_shape_or_type_begins_at_zero(publish: Publish, name: str, was: str) -> None:
    layout = publish(NOW | {name: was})
    old = carry_over(ROW.tobytes(), account.DTYPE, layout)
    old[name] = 7
    row = state.unseal(in_layout(ENVELOPE, layout, old.tobytes()), ENCODER_HASH)
    assert row.tobytes() == blanked(ROW, name).tobytes()


@given(st.lists(st.sampled_from(sorted(NOW)), unique=True), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_what_both_layouts_have_is_kept_and_nothing_else_is_touched(gone: list[str], chance: Any) -> None:
    kept = list(without(*gone).items()) or [("nothing.of_it", "<i8")]
    chance.shuffle(kept)
    old = carry_over(ROW.tobytes(), account.DTYPE, np.dtype(kept))
    assert carry_over(old.tobytes(), np.dtype(kept), account.DTYPE).tobytes() == blanked(ROW, *gone).tobytes()


def test_the_engine_goes_on_with_what_was_carried_over_and_counts_it(publish: Publish) -> None:
    layout = publish(without("coverage.cells"))
    log = stream_of({"a": person(210, 1, account="a")})
    engine = Engine(BASELINE)
    engine.apply(0, part(log, 0, 200))
    stored = {key: older(envelope, layout, BASELINE.encoder.hash) for key, envelope in engine.snapshot(0)}
    assert all(state.header_of(envelope).layout != state.LAYOUT for envelope in stored.values())
    later = Engine(BASELINE, lookup=lambda partition, name: stored.get(name))
    later.apply(0, log)
    counters = later.counters
    assert (counters.migrated_states, counters.cold_starts, counters.unreadable_states) == (1, 0, 0)
    assert (counters.fenced, counters.events) == (200, 10)
    ((_, envelope),) = later.snapshot(0)
    assert state.header_of(envelope).layout == state.LAYOUT
    assert state.unseal(envelope, BASELINE.encoder.hash)["header"]["requests"] == 210


# --- what is no better for being old


def test_states_of_layouts_that_were_not_published_are_refused() -> None:
    unknown = np.dtype(list(without("coverage.cells").items()))
    with pytest.raises(state.StateError, match="another layout"):
        state.unseal(older(ENVELOPE, unknown), ENCODER_HASH)


def test_an_account_of_a_newer_layout_starts_anew_and_its_next_state_stands_for_that_one() -> None:
    """So it is after a roll-back, whatever became of the log before: the state with the highest fence wins."""
    newer = np.dtype([*NOW.items(), ("header.since_then", "<i8")])
    log = stream_of({"a": person(210, 1, account="a")})
    row = ROW.copy()
    row["header"]["log"], row["header"]["offset"] = 3, 199
    stored = older(state.seal(row, BASELINE.encoder.hash), newer, BASELINE.encoder.hash)
    later = Engine(BASELINE, lookup=lambda partition, name: stored)
    later.apply(0, part(log, 200, 210))
    counters = later.counters
    assert (counters.unreadable_states, counters.cold_starts, counters.migrated_states) == (1, 1, 0)
    ((_, envelope),) = later.snapshot(0)
    assert state.unseal(envelope, BASELINE.encoder.hash)["header"]["requests"] == 10
    assert state.fence_of(envelope) > state.fence_of(stored)


@given(st.data())
@settings(max_examples=100)
def test_a_flipped_bit_is_noticed_in_an_older_layout_too(data: st.DataObject) -> None:
    with published(without("users.bitmap")) as layout:
        damaged = bytearray(older(ENVELOPE, layout))
        bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(state.StateError):
            state.unseal(bytes(damaged), ENCODER_HASH)


@pytest.mark.parametrize("more", [-3904, -8, -1, 1, 8, 10_000_000])
def test_a_payload_has_the_size_of_its_own_layout(publish: Publish, more: int) -> None:
    layout = publish(without("header.first_time"))
    raw = bytes(max(0, layout.itemsize + more))
    with pytest.raises(state.StateError):
        state.unseal(in_layout(ENVELOPE, layout, raw), ENCODER_HASH)


@pytest.mark.parametrize("size", [account.DTYPE.itemsize, 2**32 - 1, 0])
def test_the_size_in_the_head_is_held_against_the_layout(publish: Publish, size: int) -> None:
    layout = publish(without("header.first_time"))
    head = head_with(ENVELOPE, layout=digest_of(layout), size=size)
    with pytest.raises(state.StateError, match="another length"):
        state.unseal(resealed(head, packed(bytes(account.DTYPE.itemsize))), ENCODER_HASH)


@pytest.mark.parametrize(("name", "bad"), [("recurrence.distinct", -5), ("episode.peak", np.nan), ("episode.head", 9)])
def test_numbers_that_no_history_can_lead_to_are_refused(publish: Publish, name: str, bad: float) -> None:
    layout = publish(without("coverage.cells"))
    old = carry_over(ROW.tobytes(), account.DTYPE, layout)
    old[name] = bad
    with pytest.raises(state.StateError, match="no history"):
        state.unseal(in_layout(ENVELOPE, layout, old.tobytes()), ENCODER_HASH)


# --- every layout that was published


def organic() -> EventBatch:
    accounts = {f"person {k}": person(500, k, account=f"person {k}") for k in range(4)}
    accounts |= {"service": service(800, 1, account="service"), "job": batch_job(800, 1, account="job")}
    return stream_of(accounts)


@pytest.mark.parametrize("digest", [digest.hex() for digest in layouts.PUBLISHED])
def test_honest_accounts_of_a_published_layout_go_on_without_a_finding(digest: str) -> None:
    """Zeros beside what is kept must not make an account look like extraction, nor cost it its place in the log."""
    layout, log = layouts.PUBLISHED[bytes.fromhex(digest)], organic()
    engine = Engine(BASELINE)
    assert engine.apply(0, part(log, 0, len(log) // 2)) == []
    stored = {key: older(envelope, layout, BASELINE.encoder.hash) for key, envelope in engine.snapshot(0)}
    later = Engine(BASELINE, lookup=lambda partition, name: stored.get(name))
    assert later.apply(0, log) == []
    assert (later.counters.unreadable_states, later.counters.cold_starts) == (0, 0)
    assert later.counters.fenced == len(log) // 2
    features = np.zeros(len(account.FEATURES))
    for key, envelope in later.snapshot(0):
        row = state.unseal(envelope, BASELINE.encoder.hash)
        account.features(row[0], features)
        assert np.isfinite(features).all(), key
        assert row["header"]["requests"][0] == log.accounts.count(key.decode())


STATES = orjson.loads(Path(__file__).with_name("states_of_published_layouts.json").read_bytes())
"""States as the version of each layout sealed them, with some of its figures: today's numbers cannot stand in."""


def test_every_published_layout_has_such_states() -> None:
    assert set(STATES) == {digest.hex() for digest in layouts.PUBLISHED}


MORE = {"person": person, "list": listed}


@pytest.mark.parametrize(("digest", "kind"), [(digest, kind) for digest, kinds in STATES.items() for kind in kinds])
def test_states_that_an_older_version_sealed_keep_what_they_knew(digest: str, kind: str) -> None:
    written = STATES[digest][kind]
    row = state.unseal(base64.b64decode(written["envelope"]), load_default().encoder.hash)
    features = np.zeros(len(account.FEATURES))
    account.features(row[0], features)
    assert row["header"]["requests"][0] == written["requests"]
    assert features[F["vn1"]] == written["vn1"]
    assert features[F["repeats"]] == written["repeats"]
    scratch = np.zeros(memory.HELD, np.int64)
    more = MORE[kind](200, 9, first_offset=1000)
    more["time"] += row["header"]["last_time"][0] - START
    more["identity"] = np.arange(10_000, 10_200)
    for event in more:
        assert account.admit(row[0], event) == account.ADMITTED
        account.step(row[0], event, scratch)
    account.features(row[0], features)
    assert bool(features[F["vn_recent"]] > 0.97) == (kind == "list")
