"""The rivals: every organic explanation of an account's traffic, and the evidence of extraction against each.

Unusual is not malicious. An account is suspected only when no organic explanation holds:

    M = -log sum_k prior_k exp(-LLR_k)        k: a person, a service, a batch job, users who are named

LLR_k is the log-likelihood ratio of extraction against rival k. *Heads* ask the question for three kinds of extraction,
each with and without cadence, so that cadence can add to the evidence but neither convicts nor acquits by itself:

- memoryless: a list in no order, from the start or since a take-over;
- mixture: a list hidden among a person's own requests;
- sorted: a list in some order, whose neighbours are alike but which never comes back.

Against a person and a batch job the ratio is a logistic regression with sign-constrained weights that vary with the
history's length, linearly between knots of log2 n (`detectors.logistic` fits it). Against a service it is generative,
by how many requests of the recent window were asked before *and how often*: a service's users ask popular things again
and again, and rarer ones twice, in proportions that Zipf's law gives. A deduplicated list has neither; one that asks
each prompt twice now and then, to look like a service, has no popular ones. Nothing but popular ones (a few stock
phrases strewn in) is not held against anybody: a coding agent's "continue" looks the same.

Against users who are named it is generative too, by von Neumann's ratio inside each user's stream: a list under
invented names has 1, give or take what the number of pairs allows; users have less, as people do. So a platform
whose users ask nothing twice is acquitted by what they do. Names alone make an alert later: they raise the weight of
the service.

Cost: some 4 microseconds a look, and looks thin out as the history grows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import portable_math
from detectors.account import FEATURES, F
from detectors.kernel import Record, Scalar, Vector, kernel

KNOTS = 6
FIRST_KNOT = 4.0  # log2 of 16 requests; the last knot is 512
LN2 = 0.6931471805599453


class Scale(NamedTuple):
    """How a statistic enters a logistic: clipped to `[low, high]`, then less its value under extraction."""

    low: float
    high: float
    null: float = 0.0


SCALES = {
    "vn1": Scale(0.8, 1.0, 1.0),
    "vn16": Scale(0.6, 1.02, 1.0),
    "vn_session": Scale(0.8, 1.0, 1.0),
    "vn_recent": Scale(0.8, 1.0, 1.0),
    "nearest_lag": Scale(3.0, 7.5, 7.0),
    "vn_length": Scale(0.3, 1.0, 1.0),
    "vn_long": Scale(0.8, 1.0, 1.0),
    "nearest_lag_long": Scale(3.0, 7.5, 7.0),
    "near": Scale(0.0, 0.6),
    "recent_repeats": Scale(0.0, 0.15),
    "gap_spread": Scale(0.0, 3.0),
    "gap_change": Scale(0.0, 3.0),
    "occupied": Scale(0.0, 1.0),
    "short": Scale(0.0, 1.0),
}

ORDER = {"vn_recent": 1, "vn_session": 1, "nearest_lag": 1}
CADENCE = {"gap_spread": -1, "gap_change": -1, "occupied": 1}

SORTED = {"near": 1, "vn16": -1, "vn_length": -1, "recent_repeats": -1}

PAIRS: dict[str, dict[str, int]] = {
    "person/memoryless+cadence": {**ORDER, "vn_length": 1, "vn_long": 1, **CADENCE},
    "person/memoryless": {**ORDER, "vn_length": 1, "vn_long": 1},
    "person/mixture+cadence": {**ORDER, "vn_long": 1, "nearest_lag_long": 1, **CADENCE},
    "person/mixture": {**ORDER, "vn_long": 1, "nearest_lag_long": 1},
    "person/sorted+cadence": {**SORTED, **CADENCE},
    "person/sorted": SORTED,
    "many/sorted": {"vn1": -1, "nearest_lag": -1, "vn16": -1},
    "batch": {"short": -1},
}
"""Each logistic's statistics, with the sign that evidence of extraction must have."""

HEADS = ("memoryless+cadence", "memoryless", "mixture+cadence", "mixture", "sorted+cadence", "sorted")
RIVALS = ("person", "service", "batch", "users")
PRIORS = ((0.8, 0.13, 0.07, 0.0), (0.4, 0.42, 0.07, 0.11))
"""Weight of each rival for an account that names no plausible `end_user`s, and for one that does. Naming users costs
nothing, so it makes a service likelier and never certain: such an account is found later, not never."""

LEAST_REQUESTS = (16, 16, 64, 64, 32, 32)
SILENT = -20.0
"""The score of an account that may not be judged yet."""

ZIPF_TEXTS = (100, 250, 600, 1500, 3000, 6000)
ZIPF_EXPONENTS = (0.6, 0.7, 0.8, 0.9, 1.1)
ZIPF_N = (1, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
SERVICES = len(ZIPF_TEXTS) * len(ZIPF_EXPONENTS) + 1
RARE_SERVICE_PRIOR = 0.03
RARE_SERVICE_BOOST = 8.0

DISPERSION = 6.0
"""Size of the negative binomials of a service's repeats, and of a list's that repeats on purpose: counts scatter by
some 40 % around what the law gives, since no service follows it to the letter."""

ASKED_AGAIN = (0.06, 0.12, 0.22)
"""Shares of its prompts that a list asks a second time."""

ASKED_AGAIN_PRIOR = 0.01  # each; with plausible end users a tenth, since real ones ask things of others again

USER_NOISE = 0.13
"""Standard deviation of one pair's distance over the expected one, where the same user's requests are unrelated: over
the services and resellers of composed traffic the mean of 127 pairs scatters by .011, that of 38 by .02."""

USER_REACH = 0.4
"""Ratios inside real users' streams are likeliest at 1 less this, and less likely in proportion towards 1."""

USER_LISTS = 0.03
"""Share of lists under invented names that are dealt out to them by subject, and look like users' streams."""

UNKNOWN_ANSWERS_RATIO = 2.0
"""Ratio against a batch job while no answer's length is known: most jobs also repeat a frame or themselves, which other
evidence tells, so it is held for less likely, but never for as good as excluded."""

BURST_REQUESTS = 200
OUTSIDE_BURST = 24

QUANTILES = 48
TAIL_DTYPE = np.dtype(
    [
        ("score", "<f8", (QUANTILES,)),  # ascending
        ("beyond", "<f8", (QUANTILES,)),  # share of accounts whose maximum is larger
        ("threshold", "<f8"),  # beyond it the generalised Pareto tail holds
        ("beyond_threshold", "<f8"),
        ("scale", "<f8"),
        ("shape", "<f8"),
    ]
)

DTYPE = np.dtype(
    [
        ("weight", "<f8", (len(PAIRS), KNOTS, 1 + len(FEATURES))),  # bias first
        ("low", "<f8", (len(FEATURES),)),
        ("high", "<f8", (len(FEATURES),)),
        ("null", "<f8", (len(FEATURES),)),
        ("prior", "<f8", (2, len(RIVALS))),  # without and with plausible end users
        ("log_n", "<f8", (len(ZIPF_N),)),
        ("zipf_cold", "<f8", (SERVICES, len(ZIPF_N))),  # expected second and third askings
        ("zipf_hot", "<f8", (SERVICES, len(ZIPF_N))),  # and later ones
        ("zipf_log_prior", "<f8", (SERVICES,)),
        ("tail", TAIL_DTYPE, (len(HEADS),)),
        ("combined", TAIL_DTYPE),
    ]
)
"""Everything a decision needs, as one record of numbers."""

_BATCH = len(PAIRS) - 1
_MANY_SORTED = len(PAIRS) - 2
_FIRST_SORTED = HEADS.index("sorted+cadence")
_N = F["n"]
_REPEATS = F["repeats"]
_WINDOW = F["window"]
_WINDOW_REPEATS = F["window_repeats"]
_WINDOW_HOT = F["window_hot"]
_RUN = F["run"]
_USERS = F["users"]
_VN_USER = F["vn_user"]
_USER_PAIRS = F["user_pairs"]
_SHORT = F["short"]
_OUTSIDE = F["outside_burst"]


def zipf_repeats(texts: int, exponent: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected repeats among n draws of `texts` questions with Zipf popularity, at each of `ZIPF_N`.

    Second and third askings, and later ones (`recurrence.HOT`), with askings as Poisson counts.
    """
    popularity = np.arange(1, texts + 1) ** -exponent
    popularity /= popularity.sum()
    cold, hot = [], []
    for n in ZIPF_N:
        askings = n * popularity
        none = np.exp(-askings)
        repeats = float((askings - 1.0 + none).sum())
        # E[(X - 3)+] of a Poisson count: what lies beyond the third asking.
        later = float((askings - 3.0 + none * (3.0 + 2.0 * askings + askings**2 / 2.0)).sum())
        hot.append(max(later, 0.0))
        cold.append(max(repeats - hot[-1], 0.0))
    return np.array(cold), np.array(hot)


def blank_model() -> NDArray[Any]:
    """A model of shape `(1,)` with its constants filled in: no weights and no tails yet."""
    model = np.zeros(1, DTYPE)
    for name, scale in SCALES.items():
        for field, value in zip(("low", "high", "null"), scale, strict=True):
            model[field][0, F[name]] = value
    model["prior"][0] = PRIORS
    model["log_n"][0] = [portable_math.log(float(n)) for n in ZIPF_N]
    grid = [(texts, exponent) for texts in ZIPF_TEXTS for exponent in ZIPF_EXPONENTS] + [(10_000, 0.2)]
    for k, (texts, exponent) in enumerate(grid):
        model["zipf_cold"][0, k], model["zipf_hot"][0, k] = zipf_repeats(texts, exponent)
    model["zipf_log_prior"][0, :-1] = portable_math.log(1.0 / (SERVICES - 1))
    model["zipf_log_prior"][0, -1] = portable_math.log(RARE_SERVICE_PRIOR)
    return model


@kernel
def logistic(model: Record, pair: Scalar, x: Vector) -> Scalar:
    """Log-likelihood ratio of extraction against the rival of `PAIRS[pair]`, for statistics `x`."""
    position: Scalar = portable_math.log(max(x[_N], 1.0)) / LN2 - FIRST_KNOT
    position = min(max(position, 0.0), KNOTS - 1.0)
    left: Scalar = min(np.int64(position), KNOTS - 2)
    part = position - left
    a = model["weight"][pair, left]
    b = model["weight"][pair, left + 1]
    total = a[0] * (1.0 - part) + b[0] * part
    for j in range(len(FEATURES)):
        w = a[j + 1] * (1.0 - part) + b[j + 1] * part
        if w != 0.0:
            total += w * (min(max(x[j], model["low"][j]), model["high"][j]) - model["null"][j])
    return total


@kernel
def _orderings(count: Scalar, size: Scalar) -> Scalar:
    """The part of a negative binomial's log-probability that its mean does not enter, less the count's factorial."""
    return portable_math.log_gamma(count + size) - portable_math.log_gamma(size)


@kernel
def _at_mean(count: Scalar, mean: Scalar, size: Scalar) -> Scalar:
    """The part of a negative binomial's log-probability that its mean enters."""
    mean = max(mean, 1e-3)
    return size * portable_math.log(size / (size + mean)) + count * portable_math.log(mean / (size + mean))


@kernel
def _negative_binomial(count: Scalar, mean: Scalar, size: Scalar) -> Scalar:
    """Log-probability of `count` under a negative binomial of that mean and dispersion, less its factorial."""
    return _orderings(count, size) + _at_mean(count, mean, size)


@kernel
def _knot(knots: Vector, log_n: Scalar) -> tuple[Scalar, Scalar]:
    """The knot before `log_n`, and how far it lies towards the next, 0 to 1."""
    k = 0
    while k < len(ZIPF_N) - 2 and log_n > knots[k + 1]:
        k += 1
    return k, min(max((log_n - knots[k]) / (knots[k + 1] - knots[k]), 0.0), 1.0)


@kernel
def _between(values: Vector, k: Scalar, part: Scalar) -> Scalar:
    return values[k] * (1.0 - part) + values[k + 1] * part


@kernel
def _as_service(model: Record, x: Vector, cold: Scalar, hot: Scalar) -> Scalar:
    """Log-likelihood of the window's repeats under the grid of services."""
    n = max(x[_N], 1.0)
    seen_share = min(1.0, 256.0 / max(n - x[_REPEATS], 1.0))
    now, now_part = _knot(model["log_n"], portable_math.log(n))
    before, before_part = _knot(model["log_n"], portable_math.log(max(n - x[_WINDOW], 1.0)))
    total = -1e9
    for k in range(SERVICES):
        colds, hots = model["zipf_cold"][k], model["zipf_hot"][k]
        cold_mean = (_between(colds, now, now_part) - _between(colds, before, before_part)) * seen_share
        hot_mean = (_between(hots, now, now_part) - _between(hots, before, before_part)) * seen_share
        log_prior = model["zipf_log_prior"][k]
        if k == SERVICES - 1 and x[_USERS] > 0.0:
            log_prior += portable_math.log(RARE_SERVICE_BOOST)
        likelihood = _at_mean(cold, cold_mean, DISPERSION) + _at_mean(hot, hot_mean, DISPERSION)
        total = portable_math.log_add(total, log_prior + likelihood)
    return total + _orderings(cold, DISPERSION) + _orderings(hot, DISPERSION)


@kernel
def _as_list(x: Vector, cold: Scalar, hot: Scalar) -> Scalar:
    """Log-likelihood of the window's repeats under a list: without any, or with those that are meant to look honest."""
    window = x[_WINDOW]
    again_prior = 0.1 * ASKED_AGAIN_PRIOR if x[_USERS] > 0.0 else ASKED_AGAIN_PRIOR
    total = portable_math.log(1.0 - len(ASKED_AGAIN) * again_prior)
    total += _negative_binomial(cold, 0.012 * window, 0.5) + _negative_binomial(hot, 0.002 * window, 0.5)
    for share in ASKED_AGAIN:
        likelihood = _negative_binomial(cold, share * window, DISPERSION)
        likelihood += _negative_binomial(hot, 0.1 + 0.01 * window, 0.5)
        total = portable_math.log_add(total, portable_math.log(again_prior) + likelihood)
    return total


@kernel
def recurrence(model: Record, x: Vector) -> Scalar:
    """Log-likelihood ratio of a list against a service whose users ask popular things again."""
    hot = x[_WINDOW_HOT]
    cold = max(x[_WINDOW_REPEATS] - hot, 0.0)
    again = 20.0 * min(max(x[_RUN] - 0.5, 0.0), 1.0)
    ratio = _as_list(x, cold, hot) - max(_as_service(model, x, cold, hot), -60.0) - again
    return min(max(ratio, -20.0), 25.0)


@kernel
def _as_users(below: Scalar, noise: Scalar) -> Scalar:
    """Density of real users' mean ratio at 1 - `below`, when it scatters by `noise`.

    Rises linearly from 1 downwards to 1 - `USER_REACH`, and stays there; the foot is blurred by the noise, with the
    logistic distribution in place of the normal one (they differ by less than .01).
    """
    steepness = 1.702 / noise
    blurred = max(below, 0.0) + portable_math.log(1.0 + portable_math.exp(-steepness * abs(below))) / steepness
    return 2.0 * min(blurred, USER_REACH) / (USER_REACH * USER_REACH)


@kernel
def users_ratio(x: Vector) -> Scalar:
    """Log-likelihood ratio of a list under invented names against real users; 0 before one of them came twice."""
    if x[_USER_PAIRS] < 1.0:
        return 0.0
    noise = USER_NOISE / math.sqrt(x[_USER_PAIRS])
    below = 1.0 - x[_VN_USER]
    users = max(_as_users(below, noise), 1e-12)
    deviation = below / noise
    listed = 0.39894228 / noise * portable_math.exp(-0.5 * min(deviation * deviation, 200.0))
    return portable_math.log((1.0 - USER_LISTS) * listed + USER_LISTS * users) - portable_math.log(users)


@kernel
def judge(model: Record, x: Vector, ratios: Vector, scores: Vector) -> None:
    """Write each head's log-likelihood ratios against the rivals, and its score.

    `ratios` has shape `(heads, rivals)`, `scores` `(heads,)`. A score is `SILENT` where the head may not speak yet: too
    few requests, or nothing outside one burst (the first night of an evaluation).
    """
    service = recurrence(model, x)
    batch = logistic(model, _BATCH, x) if x[_SHORT] >= 0.0 else UNKNOWN_ANSWERS_RATIO
    named = users_ratio(x) if x[_USERS] > 0.0 else 0.0
    prior = model["prior"][1 if x[_USERS] > 0.0 else 0]
    may_speak = x[_N] >= BURST_REQUESTS or x[_OUTSIDE] >= OUTSIDE_BURST
    for head in range(len(HEADS)):
        ratios[head, 0] = logistic(model, head, x)
        ratios[head, 1] = service
        ratios[head, 2] = batch
        ratios[head, 3] = named
        if head >= _FIRST_SORTED:
            ratios[head, 1] = logistic(model, _MANY_SORTED, x) + min(max(service, -20.0), 10.0)
        total = -1e9
        for k in range(len(RIVALS)):
            if prior[k] > 0.0:
                total = portable_math.log_add(total, portable_math.log(prior[k]) - ratios[head, k])
        scores[head] = -total if may_speak and x[_N] >= LEAST_REQUESTS[head] else SILENT


@kernel
def judge_all(model: Record, looks: Vector, scores: Vector) -> None:
    """Scores of many looks: `looks` has shape `(n, features)`, `scores` `(n, heads)`."""
    ratios = np.zeros((len(HEADS), len(RIVALS)))
    for i in range(len(looks)):
        judge(model, looks[i], ratios, scores[i])


@kernel
def strongest_rival(model: Record, x: Vector, ratios: Vector) -> Scalar:
    """Index of the organic explanation that is hardest to reject, from statistics and one head's ratios."""
    prior = model["prior"][1 if x[_USERS] > 0.0 else 0]
    best = 0
    for k in range(1, len(RIVALS)):
        if prior[k] <= 0.0:
            continue
        if portable_math.log(prior[k]) - ratios[k] > portable_math.log(prior[best]) - ratios[best]:
            best = k
    return best
