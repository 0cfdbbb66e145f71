"""Whether the population is still the one that the baseline was fitted on: says "refit" when the knob no longer holds.

The knob counts on accounts that are exchangeable with those of the baseline. When they are not (another kind of
customer, other habits), the largest surprises of accounts no longer have the tail that the baseline promises: more of
them come past any level. So accounts are counted at the first look at which their surprise reaches a level, for each
account-day, against what the baseline promises there:

- *findings* opened, against the knob itself;
- *near misses*: accounts that came past the level at which the knob would stand at 30 or 10 and have no finding. There
  are far more of them than of findings, so a change of the whole population shows in them first. An account that comes
  past and then gets its finding is taken back, so a wave of attack, which does not stay near, hardly moves them.

Each count is watched by Page's test, the sequentially optimal one for a change of a rate (Page 1954, Moustakides 1986),
by River's `PageHinkley`. River's takes the mean of the stream so far for the reference, which would make its peace with
a population that was wrong from the start; here the reference is the promise and never moves.

Which statistics left the range of people's accounts is counted beside it, at an account's 16th, 32nd, 64th, ... request
with content: an account passes each of them once.

No finding depends on anything here, so live and replay agree whatever the batches. A watch has a fixed size, belongs
to a worker and sees the accounts of that one; a restart forgets its counts (which accounts came past a level is in
their records, so nobody is counted twice).

References
----------
[^1]: Page, E. S. (1954). Continuous inspection schemes. Biometrika 41(1/2).
[^2]: Moustakides, G. V. (1986). Optimal stopping times for detecting changes in distributions. Annals of Statistics
      14(4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import drift

from detectors import calibration, portable_math
from detectors.account import FEATURES
from detectors.baseline import QUANTILE_LOOKS, Baseline
from detectors.kernel import Record, Scalar, Vector, kernel

NEAR_KNOBS = (30.0, 10.0)
"""Settings of the knob at whose levels near misses are counted."""

LEVELS = len(NEAR_KNOBS)

# Marks of an event. Bit k says that its account came past near-miss level k, bit LEVELS + k that this is taken back.
NEW_DAY = 1 << (2 * LEVELS)
"""Mark of an account's first event on a UTC day."""
OPENED = 2 << (2 * LEVELS)
"""Mark of an event that opened a finding."""

WATCHED_FROM_THE_FIRST = 1e-9
"""The least peak of an account that was watched at its first look."""

BLOCK = 10
"""Account-days that make one observation: cut by the events' order, never by batches."""

AS_USUAL, OFF = 2.0, 4.0
"""Page's test is for a rate of `OFF` times the promise against one of `AS_USUAL` times. Accounts that the history has
not seen come past a level up to twice as often as its own (`tests/bench/DETECTION.md`)."""

REFERENCE = (OFF - AS_USUAL) / 0.6931471805599453  # over log(OFF / AS_USUAL)
"""Times the promise above which a rate counts as evidence: 2.9."""

LEAST_EXCESS_FINDINGS = 5.0
LEAST_EXCESS_NEAR = 10.0
"""More for near misses, which come in a crowd when a stream begins: a first crossing is mostly early in a life."""

EXCESS_BY_LOG = 2.0
"""The watch speaks at an excess over `REFERENCE` times the promise of so many accounts, and `EXCESS_BY_LOG` times
log(1 + promised so far) more. That grows with what was promised, so that the chance of ever speaking falsely is bounded
for a platform of any size: at `AS_USUAL` times the promise an excess of h has the odds exp(-0.69 h), and n to the power
of -1.39 has a finite sum."""

MEMORY_DAYS = 1000.0
"""Account-days over which the rates that are shown are averaged."""

USUALLY_BEYOND = 0.1
"""Share of people's accounts outside the range that is 5 % to 95 %."""

LEAST_LOOKS = 30
NAMED = 3

TALLY_DTYPE = np.dtype(
    [
        ("level", "<f8", (LEVELS,)),
        ("low", "<f8", (len(QUANTILE_LOOKS), len(FEATURES))),
        ("high", "<f8", (len(QUANTILE_LOOKS), len(FEATURES))),
        ("looks", "<f8"),
        ("beyond", "<f8", (len(FEATURES),)),
    ]
)
"""What the compiled loop marks and counts by: levels, people's range by requests, and the counts since last asked."""


@kernel
def marks_of(tally: Record, peak: Scalar, surprise: Scalar, threshold: Scalar) -> Scalar:
    """Marks of a look, given the account's largest surprise before it (`WATCHED_FROM_THE_FIRST` or more).

    A peak of 0 is that of a record of an older version, which kept none: when it came past a level is not known.
    """
    marks = 0
    if peak == 0.0:
        return marks
    for k in range(LEVELS):
        if surprise < threshold:
            if peak < tally["level"][k] <= surprise:
                marks |= 1 << k
        elif tally["level"][k] <= peak < threshold:
            marks |= 1 << (LEVELS + k)
    return marks


@kernel
def is_milestone(n: Scalar) -> Scalar:
    """Whether the range of people's accounts is looked at: at 16 requests, 32, 64 and so on."""
    return n >= 16 and (n & (n - 1)) == 0


@kernel
def count_beyond(tally: Record, n: Scalar, x: Vector) -> None:
    """Count the statistics of an account at a milestone that lie outside the range of people's accounts."""
    row = 0
    while row < len(QUANTILE_LOOKS) - 1 and n >= QUANTILE_LOOKS[row + 1]:
        row += 1
    tally["looks"] += 1.0
    for j in range(len(FEATURES)):
        if not tally["low"][row][j] <= x[j] <= tally["high"][row][j]:
            tally["beyond"][j] += 1.0


class AgainstPromise(drift.PageHinkley):
    """Page's test for a count whose mean is promised, rather than taken from the stream.

    Parameters
    ----------
    promised
        Mean of an observation.
    least_excess
        Accounts beyond `REFERENCE` times the promise at which it speaks, at first.

    Examples
    --------
    >>> test = AgainstPromise(promised=0.3, least_excess=5.0)
    >>> def first(counts):
    ...     return next((i for i, count in enumerate(counts) if test.update(count) or test.drift_detected), None)
    >>> first([0, 1, 0] * 300), first([3] * 9)
    (None, 7)
    """

    WEIGHT = 1e15
    """Of the promise, in observations: nothing that is seen moves it."""

    def __init__(self, promised: float, least_excess: float) -> None:
        self.promised, self.least_excess = promised, least_excess
        super().__init__(
            min_instances=0, delta=(REFERENCE - 1.0) * promised, threshold=least_excess, alpha=1.0, mode="up"
        )
        self.promised_so_far = 0.0

    def update(self, x: float) -> None:
        """Take in an observation."""
        self.promised_so_far += self.promised
        self.threshold = self.least_excess + EXCESS_BY_LOG * math.log1p(self.promised_so_far)
        super().update(x)  # type: ignore[no-untyped-call]

    def _reset(self) -> None:
        """Begin anew, with the promise for the mean."""
        super()._reset()  # type: ignore[no-untyped-call]
        self._min_increase = 0.0  # River begins at infinity, and so forgets the first observation
        self._x_mean.update(self.promised, self.WEIGHT)


@dataclass(frozen=True)
class Rate:
    """A count of accounts, seen and promised, over about the last `MEMORY_DAYS` account-days."""

    seen: float
    promised: float

    @property
    def ratio(self) -> float:
        """Seen over promised; 0 while nothing is promised yet."""
        return self.seen / self.promised if self.promised > 0.0 else 0.0


class PopulationWatch:
    """Counts marks, and says "refit" in a line when there are too many.

    Parameters
    ----------
    baseline
        Whose promises are watched.
    threshold
        The surprise at which a finding opens.

    Attributes
    ----------
    tally
        Record of `TALLY_DTYPE`, shape `(1,)`, for the compiled loop.
    account_days
        Account-days seen.
    calls
        How often each count was called off, by `names`.
    """

    def __init__(self, baseline: Baseline, threshold: float) -> None:
        days = baseline.days_per_account
        self.tally = np.zeros(1, TALLY_DTYPE)
        for row, requests in enumerate(QUANTILE_LOOKS):
            for j, name in enumerate(FEATURES):
                quantiles = baseline.quantiles_at(name, requests)
                self.tally["low"][0, row, j], self.tally["high"][0, row, j] = quantiles[0], quantiles[-1]
        found = portable_math.exp(-threshold)
        promised = {}
        for k, knob in enumerate(NEAR_KNOBS):
            level = -portable_math.log(calibration.allowed_share(knob, days))
            self.tally["level"][0, k] = level if level < threshold else np.inf
            if level < threshold:
                promised[f"near_{knob:g}"] = (portable_math.exp(-level) - found) / days
        promised["findings"] = found / days
        self._bits = {f"near_{knob:g}": (1 << k, 1 << (LEVELS + k)) for k, knob in enumerate(NEAR_KNOBS)}
        self._bits["findings"] = (OPENED, 0)
        self._promised = promised
        least = {name: LEAST_EXCESS_FINDINGS if name == "findings" else LEAST_EXCESS_NEAR for name in promised}
        self._tests = {name: AgainstPromise(BLOCK * rate, least[name]) for name, rate in promised.items()}
        self._carried = dict.fromkeys(promised, 0)
        self._recent = dict.fromkeys(promised, 0.0)
        self._recent_days = 0.0
        self._open_days = 0
        self._looks = 0.0
        self._beyond = np.zeros(len(FEATURES))
        others = sum(count for kind, count in baseline.provenance.kinds.items() if kind != "person")
        everybody = max(1, sum(baseline.provenance.kinds.values()))
        self._usually_beyond = USUALLY_BEYOND + (1.0 - USUALLY_BEYOND) * others / everybody
        self._told: set[str] = set()
        self.account_days = 0
        self.calls = dict.fromkeys(promised, 0)

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(self._promised)

    @property
    def is_off(self) -> bool:
        """Whether any count was ever called off."""
        return any(self.calls.values())

    def rate(self, name: str) -> Rate:
        """A count of late."""
        return Rate(self._recent[name], self._promised[name] * self._recent_days)

    def beyond(self) -> dict[str, float]:
        """Share of accounts whose statistic lies outside the range of people's accounts, of late."""
        return {name: float(b) / max(self._looks, 1.0) for name, b in zip(FEATURES, self._beyond, strict=True)}

    def take(self, marks: NDArray[Any]) -> None:
        """Take in the marks of consecutive events."""
        self._fold()
        marks = marks[np.flatnonzero(marks)]  # a few per cent of the events
        if len(marks) == 0:
            return
        is_new_day = (marks & NEW_DAY) != 0
        block = (self._open_days + np.cumsum(is_new_day) - is_new_day) // BLOCK
        self.account_days += int(is_new_day.sum())
        full, self._open_days = divmod(self._open_days + int(is_new_day.sum()), BLOCK)
        counts = {}
        for name in self._promised:
            came, left = self._bits[name]
            net = ((marks & came) != 0).astype(np.int64) - ((marks & left) != 0)
            counts[name] = np.bincount(block, net, full + 1)
            counts[name][0] += self._carried[name]
            self._carried[name] = int(counts[name][full])
        kept = (1.0 - BLOCK / MEMORY_DAYS) ** np.arange(full, -1.0, -1.0)
        self._recent_days = kept[0] * self._recent_days + BLOCK * kept[1:].sum()
        for name, count in counts.items():
            self._recent[name] = kept[0] * self._recent[name] + float(kept[1:] @ count[:full])
            test = self._tests[name]
            for seen in count[:full].tolist():
                test.update(seen)
                self.calls[name] += test.drift_detected

    def _fold(self) -> None:
        """Take what the compiled loop has counted of the statistics."""
        new = float(self.tally["looks"][0])
        if new:
            kept = max(0.0, 1.0 - new / MEMORY_DAYS)
            self._looks = kept * self._looks + new
            self._beyond = kept * self._beyond + self.tally["beyond"][0]
            self.tally["looks"] = self.tally["beyond"] = 0.0

    def lines(self) -> list[str]:
        """What is off, in a line each, with the counts of now."""
        return [self.line(name) for name, calls in self.calls.items() if calls]

    def news(self) -> list[str]:
        """The lines of what was called off for the first time since this was last asked."""
        new = [name for name, calls in self.calls.items() if calls and name not in self._told]
        self._told.update(new)
        return [self.line(name) for name in new]

    def line(self, name: str) -> str:
        """A count that is off, in words."""
        rate = self.rate(name)
        counted = f"{rate.seen:.0f} in the last {self._recent_days:.0f} account-days, promised {rate.promised:.1f}"
        if name == "findings":
            return (
                f"findings come {rate.ratio:.1f} times as often as the knob allows ({counted}): an attack, or "
                f"customers that the baseline does not know. Judge them: if they are honest, refit{self._named()}"
            )
        knob = name.removeprefix("near_")
        return (
            f"refit: {rate.ratio:.1f} times as many accounts as the baseline promises come near a finding (as far as "
            f"the knob at {knob}; {counted}), so the knob no longer holds{self._named()}"
        )

    def _named(self) -> str:
        """The statistics that left the range of people's accounts furthest."""
        if self._looks < LEAST_LOOKS:
            return ""
        share = self.beyond()
        out = sorted((name for name in share if share[name] > 2.0 * self._usually_beyond), key=lambda n: -share[n])
        told = ", ".join(f"{name} of {100.0 * share[name]:.0f} %" for name in out[:NAMED])
        return f"; outside the range of people's accounts: {told}" if told else ""
