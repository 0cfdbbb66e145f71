"""Findings: one an account and episode, opened, updated rather than repeated, closed after quiet.

All of it is a function of the account's own records, in their order: never of batches, the clock or partitioning. A
finding opens at the look whose surprise passes the knob's threshold; it is updated when it gets worse (its severity
rises) or when twice as much has leaked as was reported; it closes when its account has not looked like extraction for
`quiet` (decided at the account's next record, dated last seen + quiet). What leaked is counted from where the account
last looked organic, stretch by stretch, so it never falls and an honest stretch in between is left out.

Severity is the volume that leaked: medium, high from 500 requests on, critical from
2,000. Confidence is how far the surprise lies beyond the threshold: low, medium from a factor of 3 in the organic share
on, high from a factor of 20.
"""

from __future__ import annotations

import numpy as np

from detectors import account, calibration, drift, rivals
from detectors.account import ADMITTED, FEATURES
from detectors.events import DECLARED
from detectors.kernel import Record, Scalar, Vector, kernel
from schemas.durations import DAY_MS

CREATE, UPDATE, CLOSE = 1, 2, 3

MEDIUM, HIGH, CRITICAL = 3, 4, 5
HIGH_REQUESTS = 500
CRITICAL_REQUESTS = 2000
MEDIUM_CONFIDENCE = 1.0986122886681098  # log 3
HIGH_CONFIDENCE = 2.995732273553991  # log 20
CONTRARY = -1.0
"""While every head's score is below it, organic explanations are e times likelier or more: extraction has not begun."""

POLICY_DTYPE = np.dtype([("threshold", "<f8"), ("quiet_ms", "<i8"), ("expiry_ms", "<i8")])

CHANGE_DTYPE = np.dtype(
    [
        ("kind", "<i8"),
        ("event", "<i8"),  # index of the event in the batch that decided it
        ("time", "<i8"),
        ("severity", "<i8"),
        ("confidence", "<i8"),
        ("head", "<i8"),
        ("rival", "<i8"),  # the organic explanation hardest to reject
        ("surprise", "<f8"),
        ("features", "<f8", (len(FEATURES),)),
        ("scores", "<f8", (len(rivals.HEADS),)),
        ("ratios", "<f8", (len(rivals.HEADS), len(rivals.RIVALS))),
        ("row", account.DTYPE),
    ]
)
"""One step of a finding, with the account's record as it was then."""

EXPIRED = 3
"""Index, after those that `account.admit` gives, of the count of accounts that started anew."""

LATE = 4
NOT_JUDGED = 5
LOOKS = 6
"""Index of the first of the counts of looks by surprise over threshold, one for each bucket of `SURPRISE_EDGES`."""

SURPRISE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0)
"""Upper bounds of the buckets; one more lies beyond the last."""

SURPRISE_MILLIS = LOOKS + len(SURPRISE_EDGES) + 1
"""Index of the sum of surprise over threshold, in thousandths."""

COUNTS = SURPRISE_MILLIS + 1


@kernel
def severity_of(requests: Scalar) -> Scalar:
    """Severity of that many leaked requests."""
    if requests >= CRITICAL_REQUESTS:
        return CRITICAL
    return HIGH if requests >= HIGH_REQUESTS else MEDIUM


@kernel
def confidence_of(surprise: Scalar, threshold: Scalar) -> Scalar:
    """Confidence of a surprise beyond the threshold: 1 low, 2 medium, 3 high."""
    margin = surprise - threshold
    if margin >= HIGH_CONFIDENCE:
        return 3
    return 2 if margin >= MEDIUM_CONFIDENCE else 1


@kernel
def _assess(row: Record, model: Record, change: Record) -> None:
    """Fill in the statistics, scores and surprise of `change` from the account's record."""
    account.features(row, change["features"])
    rivals.judge(model, change["features"], change["ratios"], change["scores"])
    change["surprise"] = calibration.surprise(model, change["scores"])


@kernel
def _write(
    row: Record, model: Record, policy: Record, change: Record, kind: Scalar, event: Scalar, time: Scalar
) -> None:
    """Fill in the rest of `change` and count it in the episode."""
    episode = row["episode"]
    episode["sequence"] += 1
    change["kind"] = kind
    change["event"] = event
    change["time"] = time
    change["severity"] = episode["reported_severity"]
    change["confidence"] = confidence_of(episode["peak"], policy["threshold"])
    if kind != CLOSE:
        episode["head"] = calibration.leading_head(model, change["scores"])
    change["head"] = episode["head"]
    change["rival"] = rivals.strongest_rival(model, change["features"], change["ratios"][change["head"]])


@kernel
def _is_contrary(scores: Vector) -> Scalar:
    """Whether every head that may speak holds the traffic for organic."""
    largest = rivals.SILENT
    for head in range(len(scores)):
        largest = max(largest, scores[head])
    return rivals.SILENT < largest < CONTRARY


@kernel
def close_if_due(
    slab: Vector, slot: Scalar, model: Record, policy: Record, now: Scalar, event: Scalar, changes: Vector, k: Scalar
) -> Scalar:
    """Close the account's finding if it has been quiet until `now`; returns the number of changes written."""
    row = slab[slot]
    episode = row["episode"]
    due = episode["last_seen"] + policy["quiet_ms"]
    if episode["is_open"] == 0 or now <= due:
        return 0
    change = changes[k]
    _assess(row, model, change)
    episode["is_open"] = 0
    _write(row, model, policy, change, CLOSE, event, due)
    changes["row"][k] = slab[slot]
    return 1


@kernel
def look(
    slab: Vector,
    slot: Scalar,
    model: Record,
    policy: Record,
    time: Scalar,
    event: Scalar,
    changes: Vector,
    k: Scalar,
    tally: Record,
    marks: Vector,
) -> Scalar:
    """Judge the account and move its episode; returns the number of changes written."""
    row = slab[slot]
    episode = row["episode"]
    change = changes[k]
    _assess(row, model, change)
    surprise = change["surprise"]
    covered = row["header"]["covered"]
    if covered == account.FIRST_LOOK:
        episode["peak"] = max(episode["peak"], drift.WATCHED_FROM_THE_FIRST)
    marks[event] |= drift.marks_of(tally, episode["peak"], surprise, policy["threshold"])
    if drift.is_milestone(covered):
        drift.count_beyond(tally, covered, change["features"])
    if episode["number"] == 0:
        episode["peak"] = max(episode["peak"], surprise)
    if _is_contrary(change["scores"]):
        episode["rise_time"] = time
        episode["rise_requests"] = covered
    if surprise < policy["threshold"]:
        return 0
    kind = UPDATE
    if episode["is_open"] == 0:
        kind = CREATE
        marks[event] |= drift.OPENED
        episode["is_open"] = 1
        episode["number"] += 1
        episode["sequence"] = 0
        episode["opened_time"] = time
        episode["opened_requests"] = covered
        episode["first_seen"] = episode["rise_time"] if episode["rise_requests"] > 0 else row["header"]["first_time"]
        episode["peak"] = surprise
        episode["leaked"] = 0
        episode["counted_requests"] = 0
        episode["reported_leaked"] = 0
        episode["reported_severity"] = MEDIUM
    episode["leaked"] += covered - max(episode["rise_requests"], episode["counted_requests"])
    episode["counted_requests"] = covered
    episode["last_seen"] = max(episode["last_seen"], time) if kind == UPDATE else time
    episode["peak"] = max(episode["peak"], surprise)
    severity = severity_of(episode["leaked"])
    doubled = episode["leaked"] >= 2 * episode["reported_leaked"]
    if kind == UPDATE and severity <= episode["reported_severity"] and not doubled:
        return 0
    episode["reported_severity"] = max(severity, episode["reported_severity"])
    episode["reported_leaked"] = episode["leaked"]
    _write(row, model, policy, change, kind, event, time)
    changes["row"][k] = slab[slot]
    return 1


@kernel
def count_look(counts: Vector, ratio: Scalar) -> None:
    """Count a look at which the surprise was so many times the threshold."""
    bucket = 0
    while bucket < len(SURPRISE_EDGES) and ratio > SURPRISE_EDGES[bucket]:
        bucket += 1
    counts[LOOKS + bucket] += 1
    counts[SURPRISE_MILLIS] += np.int64(1000.0 * ratio)


@kernel
def start_anew(slab: Vector, slot: Scalar, blank: Vector) -> None:
    """Forget an account that was long silent: it goes on as if its state had been deleted, so deletion changes nothing.

    Findings of before and after are told apart by their opening request. Nothing of before can be logged a second time
    at this event or later, since it would bear its own, older time. What stays is the number of the log.
    """
    log = slab[slot]["header"]["log"]
    slab[slot] = blank[0]
    slab[slot]["header"]["log"] = log


@kernel
def run(
    slab: Vector,
    slots: Vector,
    events: Vector,
    begin: Scalar,
    model: Record,
    policy: Record,
    changes: Vector,
    counts: Vector,
    scratch: Vector,
    blank: Vector,
    tally: Record,
    marks: Vector,
) -> tuple[Scalar, Scalar]:
    """Take events from `begin` on through their accounts' records, in order.

    Returns the index of the first event not taken (the end, or where `changes` was full) and the number of changes.
    `tally` and `marks` (uint8, zeros, as long as `events`) are for `detectors.drift`; no finding depends on them.
    """
    k = 0
    for i in range(begin, len(events)):
        if k + 2 > len(changes):
            return i, k
        slot = slots[i]
        event = events[i]
        row = slab[slot]
        admission = account.admit(row, event)
        counts[admission] += 1
        if admission != ADMITTED:
            continue
        time = event["time"]
        if np.int64(event["flags"]) & DECLARED:
            counts[NOT_JUDGED] += 1
        if row["header"]["requests"] == 0 or time // DAY_MS > row["header"]["last_time"] // DAY_MS:
            marks[i] |= drift.NEW_DAY
        if row["header"]["requests"] > 0:
            k += close_if_due(slab, slot, model, policy, time, i, changes, k)
            if time < row["header"]["last_time"]:
                counts[LATE] += 1
            if time > row["header"]["last_time"] + policy["expiry_ms"]:
                start_anew(slab, slot, blank)
                counts[EXPIRED] += 1
        if account.step(row, event, scratch) and account.is_look(row["header"]["covered"]):
            written = look(slab, slot, model, policy, time, i, changes, k, tally, marks)
            count_look(counts, changes[k]["surprise"] / policy["threshold"])
            k += written
    return len(events), k
