"""One account's whole state as one record, and the step that takes a request through every statistic in order."""

from __future__ import annotations

import numpy as np

from detectors.events import DECLARED, FAILED, NO_CONTENT, UNRELATED
from detectors.kernel import Record, Scalar, Vector, kernel
from detectors.statistics import (
    cadence,
    coverage,
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

EPISODE_DTYPE = np.dtype(
    [
        ("number", "<i8"),  # episodes so far
        ("is_open", "<i8"),
        ("sequence", "<i8"),  # alerts sent within the open episode
        ("opened_time", "<i8"),
        ("opened_requests", "<i8"),
        ("first_seen", "<i8"),
        ("last_seen", "<i8"),
        ("head", "<i8"),  # what kind of extraction it was last reported as
        ("leaked", "<i8"),  # covered requests that belong to it; never falls
        ("counted_requests", "<i8"),  # covered requests of the account when `leaked` was last counted
        ("reported_leaked", "<i8"),
        ("reported_severity", "<i8"),
        ("rise_time", "<i8"),  # when the account last looked organic
        ("rise_requests", "<i8"),
        ("peak", "<f8"),  # largest surprise within the episode; before the first one, of all looks
    ]
)

DTYPE = np.dtype(
    [
        ("header", header.DTYPE),
        ("episode", EPISODE_DTYPE),
        ("identity", identity.DTYPE),
        ("memory", memory.DTYPE),
        ("coverage", coverage.DTYPE),
        ("order", order.DTYPE),
        ("neighbours", neighbours.DTYPE),
        ("recurrence", recurrence.DTYPE),
        ("mixture", mixture.DTYPE),
        ("cadence", cadence.DTYPE),
        ("shape", shape.DTYPE),
        ("users", users.DTYPE),
    ]
)

FEATURES = (
    "n",
    "vn1",
    "vn16",
    "vn_recent",
    "vn_session",
    "nearest_lag",
    "vn_length",
    "vn_long",
    "nearest_lag_long",
    "repeats",
    "hot",
    "run",
    "recent_repeats",
    "near",
    "breadth",
    "novelty",
    "fresh",
    "frame",
    "gap_spread",
    "gap_change",
    "gap_location",
    "occupied",
    "short",
    "users",
    "vn_user",
    "user_pairs",
    "outside_burst",
    "life_ratio",
    "window",
    "window_repeats",
    "window_hot",
)
UNKNOWN_SHARE = -1.0
"""The statistic `short` while no answer's length is known: unknown is not zero."""

F = {name: i for i, name in enumerate(FEATURES)}

FIRST_LOOK = 16
"""Covered requests of an account when it is first judged."""

FENCED, DUPLICATE, ADMITTED = 0, 1, 2
"""What `admit` says of an event: applied before, logged twice, or to be counted."""


@kernel
def admit(row: Record, event: Record) -> Scalar:
    """Say whether an event is to be counted; a duplicate moves the fence, and how far its origin's copies have come."""
    progress = row["header"]
    if event["offset"] <= progress["offset"] and progress["requests"] > 0:
        return FENCED
    held = row["identity"]
    is_copy = event["origin"] != 0
    is_repeated = is_copy and identity.is_repeated(held, event["origin"], event["origin_offset"], event["time"])
    if is_repeated or identity.is_known(held, event["identity"]):
        progress["offset"] = event["offset"]
        if is_copy:
            identity.follow(held, event["origin"], event["origin_offset"], event["time"])
        return DUPLICATE
    return ADMITTED


@kernel
def step(row: Record, event: Record, scratch: Vector) -> Scalar:
    """Take an admitted event through the statistics; whether it covered something.

    `scratch` is int64 of shape `(memory.HELD,)`, for the distances.
    """
    progress = row["header"]
    time = event["time"]
    gap = header.gap(progress, time)
    is_first = progress["requests"] == progress["declared"]
    identity.update(row["identity"], event["identity"], time, event["offset"])
    if event["origin"] != 0:
        identity.follow(row["identity"], event["origin"], event["origin_offset"], time)
    flags = np.int64(event["flags"])
    header.update(progress, time, event["offset"], flags & DECLARED)
    if flags & DECLARED:
        return False
    if is_first:
        cadence.first(row["cadence"], time)
    else:
        cadence.update(row["cadence"], time, gap)
    if flags & FAILED:
        row["cadence"]["failed"] += 1
    if flags & (FAILED | NO_CONTENT):
        return False
    code = event["code"]
    log_length = shape.log_length(np.float64(event["length"]))
    users.update(row["users"], event["end_user"], code)
    memory.recall(row["memory"], code, scratch)
    coverage.update(row["coverage"], code, scratch)
    order.update(row["order"], scratch, gap)
    recurrence.update(row["recurrence"], code, scratch)
    number = progress["covered"]
    mixture.update(row["mixture"], code, log_length, number, neighbours.leaving(row["neighbours"], number))
    neighbours.update(row["neighbours"], scratch, number)
    shape.update(row["shape"], log_length, np.int64(event["output_tokens"]), np.int64(event["endpoint"]))
    memory.remember(row["memory"], code)
    progress["covered"] += 1
    return True


@kernel
def is_look(n: Scalar) -> Scalar:
    """Whether the account is judged at its `n`-th covered request: often at first, then at every thirty-second."""
    if n < FIRST_LOOK:
        return False
    if n < 64:
        return n % 4 == 0
    if n < 256:
        return n % 8 == 0
    if n < 512:
        return n % 16 == 0
    return n % 32 == 0


@kernel
def features(row: Record, out: Vector) -> None:
    """Write the account's statistics, in the order of `FEATURES`, into `out` (float64)."""
    n = np.float64(row["header"]["covered"])
    o = row["order"]
    r = row["recurrence"]
    c = row["coverage"]
    expected = coverage.expected_distance(c)
    out[0] = n
    out[1] = order.ratio(o, 0, expected)
    out[2] = order.ratio(o, 1, expected)
    out[3] = order.recent_ratio(o, expected)
    out[4] = order.session_ratio(o, expected)
    out[5] = neighbours.mean_lag(row["neighbours"])
    out[6] = shape.length_ratio(row["shape"])
    out[7] = mixture.long_ratio(row["mixture"])
    out[8] = mixture.long_lag(row["mixture"], row["neighbours"])
    out[9] = np.float64(r["repeats"])
    out[10] = np.float64(r["hot"])
    out[11] = r["run"]
    out[12] = recurrence.recent_share(r)
    out[13] = recurrence.near_share(r)
    out[14] = expected / UNRELATED
    out[15] = coverage.novelty(c)
    out[16] = c["fresh"] / c["weight"] if c["weight"] > 0.0 else 0.0
    out[17] = shape.frame(c["share"], c["weight"])
    out[18] = cadence.spread(row["cadence"])
    out[19] = cadence.change(row["cadence"])
    out[20] = cadence.location(row["cadence"])
    out[21] = cadence.occupied(row["cadence"])
    out[22] = shape.short_share(row["shape"]) if row["shape"]["answers"] > 0.0 else UNKNOWN_SHARE
    out[23] = users.plausible(row["users"])
    out[24] = users.ratio(row["users"], expected)
    out[25] = row["users"]["pairs"]
    out[26] = np.float64(row["header"]["requests"] - row["header"]["declared"] - row["cadence"]["densest"])
    life = o["successive"] / np.float64(o["successions"]) if o["successions"] > 0 else 0.0
    recent = o["distance"][0] / o["pairs"][0] if o["pairs"][0] > 0.0 else 0.0
    out[27] = recent / life if life > 1.0 else 1.0
    out[28] = 128.0 * r["weight"]
    out[29] = 128.0 * r["recent"]
    out[30] = 128.0 * r["recent_hot"]


@kernel
def trace(row: Record, events: Vector, scratch: Vector, looks: Vector, at: Vector) -> Scalar:
    """Take `events` through `row`; write the features of each look into `looks` and its event's index into `at`.

    Returns the number of looks; stops when `looks` is full.
    """
    k = 0
    for i in range(len(events)):
        if admit(row, events[i]) != ADMITTED:
            continue
        if step(row, events[i], scratch) and is_look(row["header"]["covered"]):
            if k >= len(at):
                break
            features(row, looks[k])
            at[k] = i
            k += 1
    return k
