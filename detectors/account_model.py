"""The whole account as one River anomaly detector: the same record and the same steps as in the engine."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from river import base

from detectors import account, calibration, rivals
from detectors.account import FEATURES
from detectors.baseline import Baseline, load_default
from detectors.kernel import Record
from detectors.statistics import memory
from detectors.statistics.bits import mix
from detectors.statistics.estimator import ABSENT_OFFSET, ABSENT_TIME, Parts, RecordEstimator, Request, event_of


def _parts() -> Parts:
    return {name: account.DTYPE[name] for name in account.DTYPE.names or ()}


class AccountModel(RecordEstimator, base.AnomalyDetector):
    """How surprising an organic account would be that looked as this one does.

    The score is the surprise: minus the log of the share of organic accounts whose traffic ever looks as much like
    extraction, by the baseline. 0 says "any account may look so", 7 one account in 1,100. Up to the sixteenth request
    with content it says nothing. Findings, with their episodes and their knob, are the engine's; this is for studies
    and pipelines.

    A request's time, offset and identity are those of its row or dict. Without an offset it is the next one; without
    an identity it is no duplicate; without a time it came with the request before.

    Parameters
    ----------
    baseline
        What to judge by; None takes the one that ships in the package.

    Examples
    --------
    >>> from detectors.account_model import AccountModel
    >>> model = AccountModel()
    >>> for i in range(10):
    ...     model.learn_one({"time": 1_700_000_000_000 + i * 60_000, "subject": 1.0})
    >>> model.statistics()["n"], round(model.statistics()["vn1"], 2)
    (10.0, 1.0)
    """

    PARTS: ClassVar[Parts] = _parts()

    def __init__(self, baseline: Baseline | None = None) -> None:
        super().__init__()
        self.baseline = baseline
        self._loaded: Baseline | None = None

    def score_one(self, x: Request) -> float:
        """The account's surprise once `x` has been taken in; nothing is learnt."""
        trial = self._copy()
        self._take(trial[0], event_of(x))
        return self._surprise(trial[0])

    def get(self) -> float:
        """The account's surprise, of all that was learnt."""
        return self._surprise(self._state[0])

    def statistics(self) -> dict[str, float]:
        """The account's statistics by name (`account.FEATURES`)."""
        return dict(zip(FEATURES, map(float, _features(self._state[0])), strict=True))

    def scores(self) -> dict[str, float]:
        """The score of each head of `rivals.HEADS`: log-odds of extraction against every organic explanation."""
        return dict(zip(rivals.HEADS, map(float, self._heads(self._state[0])), strict=True))

    def _take(self, record: Record, event: np.void) -> None:
        progress = record["header"]
        if event["time"] == ABSENT_TIME:
            event["time"] = progress["last_time"]
        if event["offset"] == ABSENT_OFFSET:
            event["offset"] = progress["offset"] + 1
        if event["identity"] == 0:
            event["identity"] = mix(np.uint64(progress["requests"] + 1))
        if account.admit(record, event) == account.ADMITTED:
            account.step(record, event, np.zeros(memory.HELD, np.int64))

    def _heads(self, record: Record) -> NDArray[np.float64]:
        scores = np.zeros(len(rivals.HEADS))
        ratios = np.zeros((len(rivals.HEADS), len(rivals.RIVALS)))
        rivals.judge(self._judge().model[0], _features(record), ratios, scores)
        return scores

    def _surprise(self, record: Record) -> float:
        return float(calibration.surprise(self._judge().model[0], self._heads(record)))

    def _judge(self) -> Baseline:
        if self.baseline is not None:
            return self.baseline
        if self._loaded is None:
            self._loaded = load_default()
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_loaded": None}


def _features(record: Record) -> NDArray[np.float64]:
    out = np.zeros(len(FEATURES))
    account.features(record, out)
    return out
