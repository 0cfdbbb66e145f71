"""What each part of the detector is worth: the same streams with one part switched off at a time, fitted anew.

    python -m tests.bench.ablation --shared DIR [--seeds 1 2 3] [--fit-seeds 11 12 13] [--days 14]
        [--variants all "without order" ...] [--false-rates 0.005 0.01] [--json FILE] [--markdown FILE] [--plot FILE]

Streams, pools left out, thresholds and counting are those of `tests.bench.comparison`. A part is switched off by
setting its statistics, at every look, to the value that says nothing; then the weights are fitted again and the
thresholds set again, so that the other parts may make up for it.

- *order, mixture, cadence, shape*: their statistics at their value under extraction, where a logistic's term is zero.
- *recurrence*: no repeats in a window of no requests, of which the ratio against a service is nearly zero: a service
  can be neither excluded nor believed more than its prior.
- *coverage*: its own statistics, and its use as the yardstick of order: distances are measured against those of any two
  requests of the population rather than of the account.
- *users*: as if no request named an end user.
- *gate*: an account may be judged inside its first burst.
- *person, service, batch* (rivals): that organic explanation is not held possible.

Which rival an organic account is given to in the fit is decided with all statistics: what is measured is the evidence,
not the sorting. The heads' tails come from the fit streams, each account scored by the fit without its part (in
`detectors.fit` halves are scored by each other's fits, within each fit, which takes far longer); "all" is measured in
the same way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from detectors import rivals
from detectors.account import FEATURES, UNKNOWN_SHARE, F
from detectors.calibration import calibrate
from detectors.fit import Organic, fit_model, head_scores, kind_of
from tests.bench.accounts import Account, Floats
from tests.bench.comparison import Case, Series, parser_of, read_case, report, series_of, trainings
from tests.bench.peers.protocol import Training
from tests.bench.peers.stillwatch import surprises

PARTS: dict[str, tuple[str, ...]] = {
    "order": ("vn1", "vn16", "vn_recent", "vn_session", "nearest_lag", "life_ratio"),
    "coverage": ("breadth", "novelty", "fresh"),
    "recurrence": ("repeats", "hot", "run", "recent_repeats", "near", "window", "window_repeats", "window_hot"),
    "mixture": ("vn_long", "nearest_lag_long"),
    "cadence": ("gap_spread", "gap_change", "gap_location", "occupied"),
    "shape": ("vn_length", "short", "frame"),
    "users": ("users", "vn_user", "user_pairs"),
    "gate": ("outside_burst",),
}
"""The statistics of each part, by name. Names that `detectors.account` does not have (any more) do no harm."""

SAYS_NOTHING = {"short": UNKNOWN_SHARE, "outside_burst": 1e9}
"""Values that say nothing, where it is neither the value under extraction nor zero."""

NORMALISED = ("vn1", "vn16", "vn_recent", "vn_session")
"""Statistics of order that are divided by the account's own expected distance."""

NOT_POSSIBLE = 1e-12
"""Prior of a rival that is switched off; a logarithm is taken of it."""

RIVAL = "rival "

VARIANTS = ("all", *(f"without {part}" for part in (*PARTS, *(RIVAL + name for name in rivals.RIVALS))))


def left_over() -> list[str]:
    """Statistics that no part switches off, besides the length of the history."""
    named = {name for names in PARTS.values() for name in names}
    return [name for name in FEATURES if name not in named and name != "n"]


def neutralised(looks: Floats, part: str) -> Floats:
    """Looks with a part's statistics at the values that say nothing."""
    result = looks.copy()
    if part == "coverage" and "breadth" in F:
        for name in NORMALISED:
            if name in F:
                result[:, F[name]] *= looks[:, F["breadth"]]
    for name in PARTS.get(part, ()):
        if name in F:
            null = rivals.SCALES[name].null if name in rivals.SCALES else 0.0
            result[:, F[name]] = SAYS_NOTHING.get(name, null)
    return result


class Variant:
    """The detector without a part or a rival: scores of the heads, whose tails are not known yet.

    Parameters
    ----------
    name
        One of `VARIANTS`.
    """

    def __init__(self, name: str) -> None:
        self.without = name.removeprefix("without ")
        self.model = rivals.blank_model()

    def fit(self, training: Training) -> None:
        """Fit the weights."""
        organic = [Organic(kind_of(a.looks), neutralised(a.looks, self.without)) for a in training.accounts]
        extraction = [(stream, neutralised(looks, self.without)) for stream, looks in training.extraction]
        self.model = fit_model(organic, extraction)
        if self.without.startswith(RIVAL):
            self.model["prior"][0, :, rivals.RIVALS.index(self.without.removeprefix(RIVAL))] = NOT_POSSIBLE

    def scores(self, account: Account) -> Floats:
        """Scores of the heads at each look, shape `(looks, heads)`."""
        return head_scores(self.model, neutralised(account.looks, self.without))


def with_tails(case: Case, heads: Series) -> Series:
    """Surprises from the heads' scores; the tails of each part come from the fit's accounts outside its pool."""
    maxima = np.array([scores.max(axis=0) for scores in heads.fitted])
    models = {part: tails(maxima[[a.pool != part for a in case.fitted]]) for part in case.parts}
    return Series(
        [surprises(models[part], s) for part, s in zip(case.part_of_fitted, heads.fitted, strict=True)],
        [surprises(models[part], s) for part, s in zip(case.part_of_scored, heads.scored, strict=True)],
    )


def tails(maxima: Floats) -> NDArray[Any]:
    """A model that holds nothing but tails."""
    model = rivals.blank_model()
    calibrate(model, maxima)
    return model


def measured(
    names: Sequence[str], case: Case, training: Mapping[str, Training], advance: Callable[[str], None]
) -> tuple[dict[str, Series], dict[str, float]]:
    """Surprises and seconds of each variant."""
    all_series, seconds = {}, {}
    for name in names:
        began = time.monotonic()
        make, each = partial(Variant, name), partial(advance, name)
        heads = series_of(make, case, training, each, with_fitted=True)
        all_series[name] = with_tails(case, heads)
        seconds[name] = time.monotonic() - began
    return all_series, seconds


def main() -> int:
    """Compose, fit each variant, score, print."""
    parser = parser_of(__doc__, VARIANTS, "variants")
    options = parser.parse_args()
    chosen = options.chosen or list(VARIANTS)
    with Progress(console=Console(stderr=True)) as progress:
        case = read_case(options, progress)
        task = progress.add_task("variants", total=len(chosen) * len(case.parts))
        all_series, seconds = measured(
            chosen, case, trainings(case), lambda name: progress.update(task, advance=1, description=name)
        )
    report(options, case, all_series, seconds)
    if left_over():
        print(f"switched off by no part: {', '.join(left_over())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
