"""Fit a baseline from unlabelled history.

The extraction side is the history itself, its prompts shuffled across accounts (`synthetic`). The organic accounts are
shared out among the rivals by readable rules. Nobody says which accounts are organic, so those that look throughout as
a made-up list does are left out of everything (`suspects`): a few of them in the tails would set the threshold at what
is to be found. The tails come from fits that have not seen the account, nor any account that shares its texts, nor its
domain: accounts are cut in two halves, each judged by the other's fit, four times along the principal directions of
what they ask about. That leaves out what an operator would call a pool (a company's chat, a product's users) without
being told, and gives what the knob promises on people whom the history has not seen; small folds, whose fits have seen
nearly everything, would promise several times too few false findings.

The logistics are nearly all of the work, and independent of each other: they are fitted by the `run` that the caller
hands in. Each is a function of its looks alone, so the baseline's bytes do not depend on how many are fitted at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import account, rivals
from detectors.account import FEATURES, F
from detectors.baseline import QUANTILE_LEVELS, QUANTILE_LOOKS, Baseline, Provenance
from detectors.calibration import allowed_share, calibrate, surprise
from detectors.encoder import Encoder
from detectors.logistic import RIDGE, fit_logistic
from detectors.statistics import memory
from detectors.synthetic import LEAST_CHARACTERS, Events, Stream, streams
from schemas.durations import DAY_MS

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]
Extraction = Sequence[tuple[Stream, Floats]]

Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Makes independent calls and gives their results in order: `map`, or that of an executor. Threads do: compiled loops
run without the interpreter's lock."""

LOOKS_MAX = 400
LEAST_LOOKS = 1
LEAST_REQUESTS = 16
"""Covered requests of an account up to its first look."""

LEAST_ACCOUNTS = 60
SYNTHETIC_STREAMS = 900
HALVINGS = 4
SHARED_TEXTS = 0.25
POPULAR_TEXT_ACCOUNTS = 60
MAX_TRAINING_REQUESTS = 1000
AFTER_TAKEOVER = 40
SUSPECT_ROUNDS = 3
SUSPECT_QUANTILE = 0.1
SUSPECTS_MAX = 0.1
LEAST_SETTLED_LOOKS = 4


class FitError(ValueError):
    """The history cannot give a baseline; the message says why."""


@dataclass(frozen=True)
class Judged:
    """What a baseline makes of a history.

    Attributes
    ----------
    baseline
        The judge.
    highest
        Largest surprise of each organic account, shape `(accounts,)`.
    lists
        For each made-up list in no order, requests at each look and the surprise there, shape `(looks, 2)`.
    """

    baseline: Baseline
    highest: Floats
    lists: tuple[Floats, ...]

    def alerted(self, knob: float) -> int:
        """Organic accounts that are alerted at this knob."""
        return int((self.highest >= self._threshold(knob)).sum())

    def found(self, knob: float) -> tuple[float, float]:
        """Share of the made-up lists that are found at this knob, and median requests until then (NaN for none)."""
        passed = [looks[looks[:, 1] >= self._threshold(knob)] for looks in self.lists]
        requests = [looks[0, 0] for looks in passed if len(looks)]
        return len(requests) / max(len(self.lists), 1), float(np.median(requests)) if requests else float("nan")

    def _threshold(self, knob: float) -> float:
        return -float(np.log(allowed_share(knob, self.baseline.days_per_account)))


@dataclass(frozen=True)
class FitReport:
    """A baseline, and what was learnt on the way.

    Attributes
    ----------
    kinds
        Accounts by the rival they were given to, without the suspects.
    suspects
        Indexes of the accounts that were left out because they look like extraction throughout: worth a look.
    short
        Accounts with too few requests for a look.
    resolution
        Smallest knob (false findings for each 1,000 account-days) that is not extrapolated.
    judged
        The history by the new baseline. It has seen these accounts: what it finds among them says little.
    before
        The same history by the baseline to compare with, which has not seen them.
    """

    baseline: Baseline
    kinds: dict[str, int]
    suspects: tuple[int, ...]
    short: int
    resolution: float
    judged: Judged
    before: Judged | None


class Organic(NamedTuple):
    """An account of the history: the rival that it is given to, and its statistics at each look."""

    kind: str
    looks: Floats


def fit(
    accounts: Sequence[Events],
    encoder: Encoder,
    *,
    seed: int = 5,
    days_per_account: float | None = None,
    provenance: Provenance | None = None,
    against: Baseline | None = None,
    progress: Progress = lambda stage, share: None,
    run: Run = map,
) -> FitReport:
    """Fit a baseline.

    Parameters
    ----------
    accounts
        One array of `EVENT_DTYPE` an account, in the order of its log, codes made by `encoder`.
    encoder
        The encoder that the baseline will carry.
    seed
        Seed of the made-up extraction streams.
    days_per_account
        Mean number of UTC days on which an account sent something, for histories of which not every request is among
        `accounts`; None counts the days of these.
    provenance
        Written into the baseline.
    against
        Baseline whose verdict on the same history is reported beside.
    progress
        Called with the stage's name and the share of it done.
    run
        Makes the calls that fit the logistics.

    Raises
    ------
    FitError
        Fewer than 60 accounts have 16 covered requests, or no account looks like a person.
    """
    looked = []
    for place, rows in enumerate(accounts):
        looked.append((place, rows, looks_of(rows)))
        progress("statistics", (place + 1) / len(accounts))
    judged = [(place, rows, looks) for place, rows, looks in looked if len(looks) >= LEAST_LOOKS]
    if len(judged) < LEAST_ACCOUNTS:
        raise FitError(
            f"a baseline needs {LEAST_ACCOUNTS} accounts with 16 requests or more, this history has {len(judged)}: "
            "take a longer history"
        )
    places = [place for place, _, _ in judged]
    events = [rows for _, rows, _ in judged]
    organic = [Organic(kind_of(looks), looks) for _, _, looks in judged]
    _check_people(organic)
    made = streams(events, SYNTHETIC_STREAMS, seed, lambda share: progress("extraction streams", share))
    extraction = [(stream, looks) for stream in made if len(looks := looks_of(stream.events))]
    left_out, model = suspects(organic, extraction, run, lambda share: progress("suspects", share))
    kept = [i for i in range(len(organic)) if i not in left_out]
    organic, events = [organic[i] for i in kept], [events[i] for i in kept]
    _check_people(organic)
    kinds = Counter(o.kind for o in organic)
    cut = halves(events)
    maxima = _crossed(cut, organic, extraction, run, lambda share: progress("halves", share))
    calibrate(model, maxima.reshape(-1, len(rivals.HEADS)))
    if days_per_account is None:
        days_per_account = float(np.mean([len(np.unique(e["time"] // DAY_MS)) for e in accounts if len(e)]))
    baseline = Baseline(
        encoder,
        model,
        days_per_account,
        len(events),
        cut.groups,
        _quantiles([o.looks for o in organic if o.kind == "person"]),
        msgspec.structs.replace(provenance or Provenance(), kinds=dict(sorted(kinds.items()))),
    )
    return FitReport(
        baseline,
        dict(kinds),
        tuple(places[i] for i in sorted(left_out)),
        len(accounts) - len(judged),
        1000.0 / (cut.groups * baseline.days_per_account),
        judge(baseline, organic, extraction),
        judge(against, organic, extraction) if against else None,
    )


def judge(baseline: Baseline, organic: Sequence[Organic], extraction: Extraction) -> Judged:
    """What a baseline makes of accounts and of the lists in no order among the made-up streams.

    Statistics are taken as they are: of a baseline with another encoder this is what it would say of the same order,
    repeats and cadence, measured with other codes.
    """
    return Judged(
        baseline,
        np.array([_surprises(baseline.model, o.looks)[:, 1].max() for o in organic]),
        tuple(_surprises(baseline.model, looks) for stream, looks in extraction if stream.kind == "shuffled"),
    )


def _crossed(
    cut: Halves, organic: Sequence[Organic], extraction: Extraction, run: Run, progress: Callable[[float], None]
) -> Floats:
    """Each account's largest score by the other half's fit, shape `(cuts, accounts, heads)`."""
    maxima = np.zeros((len(cut.half), len(organic), len(rivals.HEADS)))
    for k, half in enumerate(cut.half):
        tasks = [_pairs([o for o, h in zip(organic, half, strict=True) if h != side], extraction) for side in (0, 1)]
        weights = list(run(_weights, [pair for pairs in tasks for pair in pairs]))
        for side in (0, 1):
            other = _model(weights[side * len(rivals.PAIRS) : (side + 1) * len(rivals.PAIRS)])
            for i in np.flatnonzero(half == side):
                maxima[k, i] = maximum_scores(other, organic[int(i)].looks)
        progress((k + 1) / len(cut.half))
    return maxima


def _surprises(model: NDArray[Any], looks: Floats) -> Floats:
    """Requests and surprise at each look, shape `(looks, 2)`."""
    scores = head_scores(model, looks)
    return np.array([(x[F["n"]], surprise(model[0], s)) for x, s in zip(looks, scores, strict=True)])


def _check_people(organic: Sequence[Organic]) -> None:
    people = sum(o.kind == "person" for o in organic)
    if people < LEAST_ACCOUNTS // 2:
        raise FitError(f"only {people} accounts of this history follow up on themselves as people do")


def looks_of(events: Events) -> Floats:
    """An account's statistics at each of its looks, shape `(looks, len(FEATURES))`."""
    row = np.zeros(1, account.DTYPE)
    looks = np.zeros((LOOKS_MAX, len(FEATURES)))
    at = np.zeros(LOOKS_MAX, np.int64)
    count = account.trace(row[0], events, np.zeros(memory.HELD, np.int64), looks, at)
    result: Floats = looks[:count].copy()
    return result


def kind_of(looks: Floats) -> str:
    """Which rival an organic account is given to, by what is plain to see.

    - mostly short answers: a batch job;
    - mostly repeats, several users behind it, or no memory of order while things come back: a service;
    - else a person.
    """
    last = looks[-1]
    if np.median(looks[:, F["short"]]) > 0.5:
        return "batch"
    if last[F["repeats"]] > 0.6 * last[F["n"]] or last[F["users"]] > 0.0:
        return "service"
    forgets = last[F["nearest_lag"]] > 6.5 and last[F["vn_recent"]] > 0.985
    if forgets and last[F["n"]] >= 32 and last[F["repeats"]] >= 3:
        return "service"
    return "person"


def suspects(
    organic: Sequence[Organic],
    extraction: Extraction,
    run: Run = map,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[set[int], NDArray[Any]]:
    """Indexes of accounts that look like extraction throughout, and the model that was fitted without them.

    Such is an account whose usual score (`_settled`) is that of the made-up lists, by a fit without those found before;
    at most `SUSPECTS_MAX` of all. An honest account may look so for a while, hardly for all of its later half.
    """
    found: set[int] = set()
    model = fit_model(organic, extraction, run)
    for number in range(SUSPECT_ROUNDS):
        progress((number + 1) / (SUSPECT_ROUNDS + 1))
        lists = [_settled(model, looks) for stream, looks in extraction if stream.kind == "shuffled"]
        level = float(np.quantile(lists, SUSPECT_QUANTILE)) if lists else np.inf
        score = np.array([_settled(model, o.looks) for o in organic])
        most = int(SUSPECTS_MAX * len(organic))
        again = {int(i) for i in np.argsort(-score, kind="stable")[:most] if score[i] > max(level, 0.0)}
        if again == found:
            break
        found = again
        model = fit_model([o for i, o in enumerate(organic) if i not in found], extraction, run)
    progress(1.0)
    return found, model


def _settled(model: NDArray[Any], looks: Floats) -> float:
    """Median of the best head's score over the later half of the looks; `SILENT` while there are few."""
    best = head_scores(model, looks)[len(looks) // 2 :].max(axis=1)
    best = best[best > rivals.SILENT]
    return float(np.median(best)) if len(best) >= LEAST_SETTLED_LOOKS else rivals.SILENT


class Pair(NamedTuple):
    """A logistic to be fitted: its name, and the looks on both sides with their weights, None for no looks."""

    name: str
    positive: tuple[Floats, Floats] | None
    negative: tuple[Floats, Floats] | None


def fit_model(organic: Sequence[Organic], extraction: Extraction, run: Run = map) -> NDArray[Any]:
    """Weights of every pair, no tails yet."""
    return _model(list(run(_weights, _pairs(organic, extraction))))


def _model(weights: Sequence[Floats]) -> NDArray[Any]:
    """A model of these weights, in the order of `rivals.PAIRS`."""
    model = rivals.blank_model()
    model["weight"][0] = weights
    return model


def _pairs(organic: Sequence[Organic], extraction: Extraction) -> list[Pair]:
    """What each logistic is fitted to, in the order of `rivals.PAIRS`."""
    persons = [o.looks for o in organic if o.kind == "person"]
    batch = [o.looks for o in organic if o.kind == "batch"]  # so named by the lengths of answers, which are known
    many = [o.looks for o in organic if o.kind != "person"]

    def made(*kinds: str) -> list[Floats]:
        return [
            looks[looks[:, F["n"]] >= (stream.starts + AFTER_TAKEOVER if stream.starts else 0)]
            for stream, looks in extraction
            if stream.kind in kinds
        ]

    sides = {
        "person/memoryless+cadence": (made("shuffled", "takeover"), persons, 16),
        "person/memoryless": (made("shuffled", "takeover"), persons, 16),
        "person/mixture+cadence": (made("mixed", "takeover"), persons, 64),
        "person/mixture": (made("mixed", "takeover"), persons, 64),
        "person/sorted+cadence": (made("sorted"), persons, 32),
        "person/sorted": (made("sorted"), persons, 32),
        "many/sorted": (made("sorted"), many, 32),
        "batch": ([looks[looks[:, F["short"]] >= 0.0] for looks in made("shuffled", "takeover")], batch, 16),
    }
    return [Pair(name, _training(p, least), _training(n, least)) for name, (p, n, least) in sides.items()]


def _weights(pair: Pair) -> Floats:
    """Weights of one logistic."""
    if pair.positive is None or pair.negative is None:
        return _presumed(pair.name)
    ridge = {"batch": 1e-4, "person/sorted+cadence": 2e-3, "person/sorted": 2e-3}.get(pair.name, RIDGE)
    return fit_logistic(rivals.PAIRS[pair.name], *pair.positive, *pair.negative, ridge)


def _presumed(pair: str) -> Floats:
    """Weights of a pair for which the history has nobody: what short answers say of a batch job, else no opinion."""
    weights = np.zeros((rivals.KNOTS, 1 + len(FEATURES)))
    if pair == "batch":
        weights[:, 0] = 3.0
        weights[:, 1 + F["short"]] = -6.0
    return weights


def _training(accounts: Sequence[Floats], least: int) -> tuple[Floats, Floats] | None:
    """Looks between `least` and 1,000 requests, every account weighing the same; None when there are none."""
    looks, weights = [], []
    for x in accounts:
        kept = x[(x[:, F["n"]] >= least) & (x[:, F["n"]] <= MAX_TRAINING_REQUESTS)]
        kept = kept[::2] if len(kept) > 12 else kept
        if len(kept):
            looks.append(kept)
            weights.append(np.full(len(kept), 1.0 / len(kept)))
    return (np.concatenate(looks), np.concatenate(weights)) if looks else None


def head_scores(model: NDArray[Any], looks: Floats) -> Floats:
    """Score of each head at each look, shape `(looks, heads)`."""
    scores = np.zeros((len(looks), len(rivals.HEADS)))
    rivals.judge_all(model[0], np.ascontiguousarray(looks), scores)
    return scores


def maximum_scores(model: NDArray[Any], looks: Floats) -> Floats:
    """An account's largest score over its looks, for each head."""
    result: Floats = head_scores(model, looks).max(axis=0)
    return result


class Halves(NamedTuple):
    """Each account's half in each cut, shape `(cuts, accounts)`, and how many groups have texts of their own."""

    half: NDArray[np.int64]
    groups: int


def halves(accounts: Sequence[Events]) -> Halves:
    """Cut accounts into two halves of alike domains, up to `HALVINGS` times; who shares texts stays together.

    Each cut is at the median of one of the first principal components of the accounts' mean codes.
    """
    group = _groups(accounts)
    mean = np.array([np.unpackbits(e["code"].view(np.uint8), axis=1).mean(axis=0) for e in accounts])
    names, index = np.unique(group, return_inverse=True)
    centre = np.array([mean[index == k].mean(axis=0) for k in range(len(names))])
    centred = centre - centre.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:HALVINGS]
    projections = components @ centred.T
    half = (projections > np.median(projections, axis=1, keepdims=True)).astype(np.int64)
    return Halves(half[:, index], len(names))


def _groups(accounts: Sequence[Events]) -> NDArray[np.int64]:
    """Label accounts so that those sharing a quarter of their texts, directly or in a chain, have the same label."""
    parent = list(range(len(accounts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    holders: dict[int, list[int]] = {}
    size = []
    for i, events in enumerate(accounts):
        texts = np.unique(events["code"][events["length"] >= LEAST_CHARACTERS][:, 0])[:400]
        size.append(max(len(texts), 1))
        for text in texts:
            holders.setdefault(int(text), []).append(i)
    shared: Counter[tuple[int, int]] = Counter()
    for who in holders.values():
        if len(who) <= POPULAR_TEXT_ACCOUNTS:
            shared.update((a, b) for k, a in enumerate(who) for b in who[k + 1 :])
    for (a, b), count in shared.items():
        if count >= SHARED_TEXTS * min(size[a], size[b]):
            parent[root(a)] = root(b)
    return np.array([root(i) for i in range(len(accounts))])


def _quantiles(persons: Sequence[Floats]) -> dict[str, Floats]:
    """Each statistic's quantiles over people's accounts at each of `QUANTILE_LOOKS` requests.

    Over people alone: services and jobs are as memoryless as a list, and are told from it by other means.
    """
    tables: dict[str, Floats] = {name: np.zeros((len(QUANTILE_LOOKS), len(QUANTILE_LEVELS))) for name in FEATURES}
    filled: Floats | None = None
    for row, requests in enumerate(QUANTILE_LOOKS):
        looks = np.concatenate([own[own[:, F["n"]] == requests] for own in persons])
        if len(looks) >= 10 or filled is None:
            filled = looks if len(looks) else np.concatenate(persons)
        for name in FEATURES:
            tables[name][row] = np.quantile(filled[:, F[name]], QUANTILE_LEVELS)
    return tables


def population_mean(sums: Floats, weights: float) -> NDArray[np.float32]:
    """The population's mean embedding from weighted sums of unit embeddings, rounded to a grid of 2 ** -20."""
    mean = sums / weights
    return (np.round(mean * 2.0**20) / 2.0**20).astype(np.float32)
