"""The baseline: everything that was learnt, as an explicit file of numbers for one embedding model.

JSON, so that a person can read it and a diff shows what changed. It has two parts with a hash each: the *encoder*
(mean, rotation, model name; a state made with another one starts cold) and the *decision* (weights, priors, tails; may
change at any time and is named in each finding). Nothing in it is code and no text of any request is in it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import rivals
from detectors.account import FEATURES
from detectors.encoder import Encoder

FORMAT = 3
MAX_BYTES = 8 << 20
DEFAULT_RESOURCE = "default_baseline.json"


class BaselineError(ValueError):
    """The baseline cannot be used; the message says what is wrong with it."""


class EncoderPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder in the file: `signs` are bits, base64, row after row."""

    model: str
    mean: list[float]
    signs: str


class TailPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tail of `calibration`."""

    score: list[float]
    beyond: list[float]
    threshold: float
    beyond_threshold: float
    scale: float
    shape: float


class DecisionPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights by pair, knot and statistic; the rivals' priors; the tails; quantiles of people's accounts.

    `service_cold` and `service_hot` are the expected repeats of each Zipf service at `rivals.ZIPF_N`: numbers rather
    than a formula, since powers and exponentials differ from one CPU to the next.
    """

    weights: dict[str, list[dict[str, float]]]
    priors: dict[str, dict[str, float]]
    service_cold: list[list[float]]
    service_hot: list[list[float]]
    tails: dict[str, TailPart]
    days_per_account: float
    accounts: int
    groups: int
    quantiles: dict[str, list[list[float]]]


class Provenance(msgspec.Struct, frozen=True):
    """How the baseline was made."""

    command: str = ""
    made_at: str = ""
    events_sha256: list[str] = []
    events: int = 0
    accounts: int = 0
    account_days: int = 0
    kinds: dict[str, int] = {}
    note: str = ""


class BaselineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as a whole."""

    format: int
    encoder: EncoderPart
    decision: DecisionPart
    encoder_hash: str
    decision_hash: str
    provenance: Provenance


PRIORS_FOR = ("no_users", "users")
QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILE_LOOKS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Baseline:
    """What the engine judges by.

    Attributes
    ----------
    encoder
        Turns embeddings into codes.
    model
        Record of `rivals.DTYPE`, shape `(1,)`.
    days_per_account
        Mean number of UTC days on which an account of the history sent something.
    accounts, groups
        Organic accounts behind the tails, and how many of them are distinct (accounts that share their texts count
        once): an account share below 1 / groups is extrapolated.
    quantiles
        Statistic to an array of shape `(len(QUANTILE_LOOKS), len(QUANTILE_LEVELS))` over people's accounts.
    """

    encoder: Encoder
    model: NDArray[Any]
    days_per_account: float
    accounts: int
    groups: int
    quantiles: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        return f"<Baseline {self.hash} for {self.encoder.model}>"

    @property
    def hash(self) -> str:
        """Hash of the decision part, hex."""
        return _digest(self._decision())

    def quantiles_at(self, name: str, requests: float) -> NDArray[np.float64]:
        """Quantiles of a statistic over organic accounts with about that many covered requests."""
        nearest = int(np.argmin(np.abs(np.log2(QUANTILE_LOOKS) - np.log2(max(requests, 1.0)))))
        result: NDArray[np.float64] = self.quantiles[name][nearest]
        return result

    def _decision(self) -> DecisionPart:
        model = self.model
        weights = {
            pair: [
                {
                    name: float(w)
                    for name, w in zip(("bias", *FEATURES), model["weight"][0, k, knot], strict=True)
                    if w != 0.0
                }
                for knot in range(rivals.KNOTS)
            ]
            for k, pair in enumerate(rivals.PAIRS)
        }
        tails = {head: _tail_part(model["tail"][0, k]) for k, head in enumerate(rivals.HEADS)}
        tails["combined"] = _tail_part(model["combined"][0])
        return DecisionPart(
            weights=weights,
            priors={
                who: {name: float(p) for name, p in zip(rivals.RIVALS, row, strict=True)}
                for who, row in zip(PRIORS_FOR, model["prior"][0], strict=True)
            },
            service_cold=model["zipf_cold"][0].tolist(),
            service_hot=model["zipf_hot"][0].tolist(),
            tails=tails,
            days_per_account=self.days_per_account,
            accounts=self.accounts,
            groups=self.groups,
            quantiles={name: table.tolist() for name, table in sorted(self.quantiles.items())},
        )

    def to_bytes(self) -> bytes:
        """The file's bytes: the same baseline gives the same bytes."""
        signs = np.packbits(self.encoder.signs.ravel() > 0).tobytes()
        decision = self._decision()
        part = EncoderPart(
            model=self.encoder.model,
            mean=[float(x) for x in self.encoder.mean],
            signs=base64.b64encode(signs).decode(),
        )
        whole = BaselineFile(
            format=FORMAT,
            encoder=part,
            decision=decision,
            encoder_hash=self.encoder.hash,
            decision_hash=_digest(decision),
            provenance=self.provenance,
        )
        return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"

    @staticmethod
    def from_bytes(data: bytes) -> Baseline:
        """Read a baseline.

        Raises
        ------
        BaselineError
            It is no baseline, of another format, was changed by hand, or holds numbers that make no sense.
        """
        if len(data) > MAX_BYTES:
            raise BaselineError(f"a baseline has at most {MAX_BYTES} bytes, not {len(data)}")
        try:
            whole = msgspec.json.decode(data, type=BaselineFile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BaselineError(f"not a baseline file: {error}") from error
        if whole.format != FORMAT:
            raise BaselineError(f"baseline format {whole.format}, this version reads {FORMAT}: run `stillwatch fit`")
        try:
            encoder = _read_encoder(whole.encoder)
            model = _read_model(whole.decision)
            quantiles = _read_quantiles(whole.decision.quantiles)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BaselineError(f"the baseline's numbers make no sense: {error}") from error
        if encoder.hash != whole.encoder_hash or _digest(whole.decision) != whole.decision_hash:
            raise BaselineError("the baseline's hash does not fit its numbers: it was changed or cut; fit it again")
        return Baseline(
            encoder,
            model,
            whole.decision.days_per_account,
            whole.decision.accounts,
            whole.decision.groups,
            quantiles,
            whole.provenance,
        )


def load_default() -> Baseline:
    """The baseline that ships in the package, for the embedded text model."""
    return Baseline.from_bytes(importlib.resources.files("detectors").joinpath(DEFAULT_RESOURCE).read_bytes())


def _digest(part: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(part, order="deterministic")).hexdigest()[:16]


def _tail_part(tail: Any) -> TailPart:
    return TailPart(
        score=[float(x) for x in tail["score"]],
        beyond=[float(x) for x in tail["beyond"]],
        threshold=float(tail["threshold"]),
        beyond_threshold=float(tail["beyond_threshold"]),
        scale=float(tail["scale"]),
        shape=float(tail["shape"]),
    )


def _read_encoder(part: EncoderPart) -> Encoder:
    mean = np.array(part.mean, np.float32)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(part.signs, validate=True), np.uint8))
    return Encoder(mean, (bits.astype(np.int8) * 2 - 1).reshape(3, -1), part.model)


def _read_quantiles(tables: dict[str, list[list[float]]]) -> dict[str, NDArray[np.float64]]:
    quantiles = {name: np.asarray(table, np.float64) for name, table in tables.items()}
    shape = (len(QUANTILE_LOOKS), len(QUANTILE_LEVELS))
    if set(quantiles) != set(FEATURES) or any(q.shape != shape or not np.isfinite(q).all() for q in quantiles.values()):
        raise ValueError(f"every statistic needs quantiles, finite and of shape {shape}")
    return quantiles


def _read_tail(into: Any, part: TailPart) -> None:
    if not len(part.score) == len(part.beyond) == rivals.QUANTILES:
        raise ValueError(f"a tail needs {rivals.QUANTILES} scores and shares")
    into["score"] = part.score
    into["beyond"] = part.beyond
    for name in ("threshold", "beyond_threshold", "scale", "shape"):
        into[name] = getattr(part, name)
    if not (part.scale > 0.0 and 0.0 < part.beyond_threshold <= 1.0 and 0.0 <= part.shape < 1.0):
        raise ValueError("a tail needs scale > 0, 0 < beyond_threshold <= 1 and 0 <= shape < 1")
    if not (np.isfinite([*part.score, part.threshold, part.scale]).all() and (np.diff(part.score) >= 0.0).all()):
        raise ValueError("a tail's scores must be finite and ascending")
    if not ((np.diff(part.beyond) <= 0.0).all() and 0.0 <= part.beyond[-1] <= part.beyond[0] <= 1.0):
        raise ValueError("a tail's shares must lie between 0 and 1 and descend")


def _read_model(part: DecisionPart) -> NDArray[Any]:
    model = rivals.blank_model()
    columns = {name: i for i, name in enumerate(("bias", *FEATURES))}
    if set(part.weights) != set(rivals.PAIRS) or set(part.tails) != {*rivals.HEADS, "combined"}:
        raise ValueError("weights and tails must be those of this version's pairs and heads")
    if any(len(knots) != rivals.KNOTS for knots in part.weights.values()):
        raise ValueError(f"a pair needs weights at {rivals.KNOTS} knots")
    for k, pair in enumerate(rivals.PAIRS):
        for knot, weights in enumerate(part.weights[pair]):
            for name, weight in weights.items():
                model["weight"][0, k, knot, columns[name]] = weight
    model["prior"][0] = [[part.priors[who][name] for name in rivals.RIVALS] for who in PRIORS_FOR]
    for name, table in (("zipf_cold", part.service_cold), ("zipf_hot", part.service_hot)):
        repeats = np.array(table, np.float64)
        if repeats.shape != model[name][0].shape or not (np.isfinite(repeats) & (repeats >= 0.0)).all():
            raise ValueError(f"a service's repeats must be finite, not negative, shape {model[name][0].shape}")
        model[name][0] = repeats
    priors = model["prior"][0]
    if not ((priors >= 0.0).all() and (abs(priors.sum(axis=1) - 1.0) < 1e-9).all()):
        raise ValueError("the rivals' priors must not be negative and must add up to 1")
    for k, head in enumerate(rivals.HEADS):
        _read_tail(model["tail"][0, k], part.tails[head])
    _read_tail(model["combined"][0], part.tails["combined"])
    if not part.days_per_account > 0.0 or part.accounts < 1 or part.groups < 1:
        raise ValueError("days_per_account, accounts and groups must be above 0")
    for name in ("weight", "prior"):
        if not np.isfinite(model[name]).all():
            raise ValueError(f"{name} must be finite")
    return model
