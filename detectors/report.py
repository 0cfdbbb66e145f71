"""From a step of a finding to the alert that an analyst reads.

The text says what the account did, compared with whom, since when, and what would have made it innocent; the numbers
behind each sentence stand in the evidence, beside the quantiles of people's accounts with about as long a history. No
prompt comes near this module: all it knows are the record's numbers.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from detectors import finding, innocence, portable_math, rivals
from detectors.account import FEATURES, F
from detectors.baseline import QUANTILE_LEVELS, Baseline
from detectors.statistics import identity, users
from schemas import alert as ocsf
from schemas.durations import DAY_MS
from schemas.version import VERSION


class Meaning(NamedTuple):
    """A statistic in OCSF's terms and an analyst's words."""

    kind: str
    words: str


SEQUENCE, FREQUENCY, TIMING, CONTENT = (
    "Sequence Analysis",
    "Frequency Analysis",
    "Time-based Analysis",
    "Distribution Analysis",
)

MEANINGS = {
    "vn1": Meaning(SEQUENCE, "distance of successive requests over that of any two: 1 has no memory"),
    "vn16": Meaning(SEQUENCE, "the same sixteen requests apart"),
    "vn_session": Meaning(SEQUENCE, "the same within sessions (less than ten minutes apart)"),
    "vn_recent": Meaning(SEQUENCE, "the same over the last sixteen requests at once, nearer ones weighing more"),
    "nearest_lag": Meaning(SEQUENCE, "how many requests away the nearest one lies, 8 being 8 or more"),
    "vn_length": Meaning(SEQUENCE, "von Neumann's ratio of the prompts' log length: 1 has no memory"),
    "vn_long": Meaning(SEQUENCE, "von Neumann's ratio among the account's longest quarter of prompts"),
    "nearest_lag_long": Meaning(SEQUENCE, "the same for the account's longest quarter of prompts"),
    "vn_user": Meaning(SEQUENCE, "von Neumann's ratio inside each named user's stream: invented names have 1"),
    "near": Meaning(FREQUENCY, "share of requests almost like an earlier one"),
    "window_repeats": Meaning(FREQUENCY, "requests asked before, in the recent window"),
    "window_hot": Meaning(FREQUENCY, "of them, those asked for the fourth time or more"),
    "recent_repeats": Meaning(FREQUENCY, "share of recent requests asked before"),
    "gap_spread": Meaning(TIMING, "spread of the log-gap between requests: a clock has 0"),
    "gap_change": Meaning(TIMING, "mean change from one log-gap to the next"),
    "occupied": Meaning(TIMING, "share of the hours passed in which something was sent"),
    "short": Meaning(CONTENT, "share of answers of at most 8 tokens"),
    "breadth": Meaning(CONTENT, "spread over the embedding space: 1 is as wide as can be"),
    "novelty": Meaning(CONTENT, "distance to the nearest old request, 1 being unrelated"),
    "fresh": Meaning(CONTENT, "share of recent requests in a region of the space never entered before"),
}

HEAD_TITLES = {
    "memoryless": "requests form a list without memory",
    "mixture": "a list without memory runs among an account's own requests",
    "sorted": "requests walk through a sorted list and never come back",
}

QUOTED_OF_USERS = ("vn_user",)
"""Beside them, for an account that names plausible users."""

ALWAYS_QUOTED = ("window_repeats", "window_hot", "short", "breadth", "novelty", "fresh")

INNOCENT = {
    "person": "A person would follow up on earlier requests and come back to old topics.",
    "service": "A service would see its popular questions again.",
    "batch": "A batch job would get short answers.",
    "users": "Real users would each follow up on their own requests.",
}

NAMES = {
    "person": "a person",
    "service": "a service with many users",
    "batch": "a batch job",
    "users": "a platform whose users are named",
}


def utc(milliseconds: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def six_digits(value: float) -> float:
    """`value` to six significant digits, so that JSON shows what was measured and no more."""
    return float(f"{value:.6g}")


class Reporter:
    """Builds alerts for one baseline and one setting of the knob.

    Parameters
    ----------
    baseline
        Its quantiles are quoted.
    options_hash
        Hash of the engine's options.
    allowed_share
        Share of organic accounts that may be found wrongly.
    threshold
        The surprise at which a finding opens.
    canary_prefix
        How names of accounts begin whose alerts are tests; empty for none.
    """

    def __init__(
        self, baseline: Baseline, options_hash: str, allowed_share: float, threshold: float, canary_prefix: str = ""
    ) -> None:
        self._baseline = baseline
        self._options_hash = options_hash
        self._allowed_share = allowed_share
        self._threshold = threshold
        self._canary_prefix = canary_prefix
        self._decision_hash = baseline.hash
        self._analytic = ocsf.Analytic(
            name="Model extraction from coverage and order of requests", uid="stillwatch.account", version=VERSION
        )

    def __call__(self, change: Any, name: str, request_id: str, partition: int) -> ocsf.Alert:
        """The alert for a change (a record of `finding.CHANGE_DTYPE`) of the account `name`.

        `request_id` is the own id of the request that decided it, quoted except for a closing, which no request causes.
        """
        alert = self._alert(change, name, request_id, partition)
        return ocsf.as_test(alert) if self._canary_prefix and name.startswith(self._canary_prefix) else alert

    def _alert(self, change: Any, name: str, request_id: str, partition: int) -> ocsf.Alert:
        row, x = change["row"], change["features"]
        episode = row["episode"]
        head = rivals.HEADS[int(change["head"])]
        activity = ocsf.Activity(int(change["kind"]))
        uid = finding_uid(name, int(episode["number"]), int(episode["opened_time"]), int(episode["opened_requests"]))
        sequence = int(episode["sequence"])
        leaked = int(episode["leaked"])
        first, last = int(episode["first_seen"]), int(episode["last_seen"])
        title = f"Possible model extraction: {HEAD_TITLES[head.split('+')[0]]}"
        return ocsf.Alert(
            activity_id=activity,
            time=int(change["time"]),
            severity_id=ocsf.Severity(int(change["severity"])),
            confidence_id=ocsf.Confidence(int(change["confidence"])),
            message=self._message(change, leaked),
            count=leaked,
            start_time=first,
            end_time=last,
            finding_info=ocsf.FindingInfo(
                uid=uid,
                title=title,
                desc=self._describe(change, leaked),
                analytic=self._analytic,
                first_seen_time=first,
                last_seen_time=last,
                created_time=int(episode["opened_time"]),
                modified_time=int(change["time"]),
                types=(head,),
            ),
            anomaly_analyses=(self._analysis(name, head, x),),
            evidences=(ocsf.Evidence(name="account", data=self._evidence(change, request_id, leaked)),),
            observables=(ocsf.account_observable(name),),
            metadata=ocsf.Metadata(
                product=ocsf.Product(version=VERSION),
                uid=f"{uid}-{sequence}",
                sequence=sequence,
                correlation_uid=uid,
            ),
            unmapped={
                "stillwatch": {
                    "baseline": self._decision_hash,
                    "encoder": self._baseline.encoder.hash,
                    "options": self._options_hash,
                    "source": {"partition": partition, "offsets": _ring(row, "offset")},
                }
            },
        )

    def _message(self, change: Any, leaked: int) -> str:
        """The alert in a line."""
        episode = change["row"]["episode"]
        first = utc(int(episode["first_seen"]))
        if change["kind"] == finding.CLOSE:
            return f"closed: {leaked} requests from {first} to {utc(int(episode['last_seen']))}, quiet since"
        return f"{leaked} requests since {first}: {self._why(change)}"

    def _why(self, change: Any) -> str:
        """One clause a rejected rival."""
        x = change["features"]
        words = {
            "person": (
                f"not a person (order {x[F['vn_recent']]:.2f} of chance, nearest request "
                f"{x[F['nearest_lag']]:.1f} requests away)"
            ),
            "service": _service_words(x),
            "batch": _batch_words(x[F["short"]]),
            "users": f"not users who are named (order {x[F['vn_user']]:.2f} of chance inside each user's requests)",
        }
        if rivals.HEADS[int(change["head"])].startswith("sorted"):
            words["person"] = (
                f"not a person (neighbours alike, {x[F['vn1']]:.2f} of chance, and their lengths in order, "
                f"{x[F['vn_length']]:.2f})"
            )
        return ", ".join(words[rival] for rival in _rivals_of(x))

    def _describe(self, change: Any, leaked: int) -> str:
        x, row = change["features"], change["row"]
        header, episode = row["header"], row["episode"]
        if change["kind"] == finding.CLOSE:
            return (
                f"The account sent {leaked} requests that looked like a list being worked off, from "
                f"{utc(int(episode['first_seen']))} to {utc(int(episode['last_seen']))}. It has not looked so since; "
                "the statistics are those of its latest requests."
            )
        rival = rivals.RIVALS[int(change["rival"])]
        ratio = float(change["ratios"][int(change["head"])][int(change["rival"])])
        requests = float(x[F["n"]])
        order = self._baseline.quantiles_at("vn_recent", requests)
        share = portable_math.exp(-float(change["surprise"]))
        requests_in_all = int(header["requests"]) - int(header["declared"])
        sentences = [
            f"Since {utc(int(episode['first_seen']))} the account sent {leaked} requests that look like a list being "
            f"worked off ({requests_in_all} requests in all since {utc(int(header['first_time']))}"
            f"{_declared_words(int(header['declared']))}).",
            f"Compared with every organic explanation: {self._why(change)}.",
            f"People's accounts of this length have an order of {order[0]:.2f} to {order[4]:.2f} of chance "
            "(5 % to 95 %).",
            f"The organic explanation hardest to reject is {NAMES[rival]}: the traffic is e^{ratio:.1f} times likelier "
            f"under extraction. {INNOCENT[rival]}",
            *self._excuses(x, rivals.HEADS[int(change["head"])]),
            f"Of organic accounts, {100.0 * share:.2g} % ever look so much like extraction; the knob allows "
            f"{100.0 * self._allowed_share:.2g} %{', by extrapolation' if self._extrapolated else ''}.",
        ]
        return " ".join(sentences)

    def _excuses(self, x: Any, head: str) -> list[str]:
        """What would have made the account innocent, all else being as it is."""
        found = innocence.excuses(self._baseline, x, self._threshold)
        words = []
        if (person := found.get("person")) is not None:
            pace = "" if person[F["gap_spread"]] == x[F["gap_spread"]] else ", at a person's pace"
            words.append(f"{_person_words(person, head)}{pace}")
        if (service := found.get("service")) is not None:
            hot = f", {service[F['window_hot']]:.0f} of them often" if service[F["window_hot"]] >= 0.5 else ""
            words.append(
                f"{service[F['window_repeats']]:.0f} of the last {service[F['window']]:.0f} been asked before{hot}"
            )
        if (batch := found.get("batch")) is not None:
            words.append(f"{100.0 * batch[F['short']]:.0f} % of the answers been short")
        if (named := found.get("users")) is not None:
            words.append(f"the order inside each user's requests been {named[F['vn_user']]:.2f} of chance")
        return [f"It would look ordinary had {', or '.join(words)}."] if words else []

    @property
    def _extrapolated(self) -> bool:
        """Whether the knob lies below what the baseline's accounts can resolve."""
        return self._allowed_share < 1.0 / self._baseline.groups

    def _analysis(self, name: str, head: str, x: Any) -> ocsf.AnomalyAnalysis:
        quoted = [*rivals.PAIRS[f"person/{head}"], *ALWAYS_QUOTED]
        if x[F["users"]] > 0.0:
            quoted += QUOTED_OF_USERS
        if head.startswith("sorted"):
            quoted += rivals.PAIRS["many/sorted"]
        quoted = [name for name in dict.fromkeys(quoted) if name != "short" or x[F["short"]] >= 0.0]
        observed, usual = [], []
        for statistic in quoted:
            meaning = MEANINGS[statistic]
            value = ocsf.number(float(x[F[statistic]]))
            quantiles = self._baseline.quantiles_at(statistic, float(x[F["n"]]))
            observed.append(
                ocsf.Anomaly(
                    observation_parameter=statistic,
                    observation_type=meaning.kind,
                    observations=(ocsf.Observation(value=value),),
                    observed_pattern=meaning.words,
                )
            )
            usual.append(
                ocsf.Anomaly(
                    observation_parameter=statistic,
                    observation_type=meaning.kind,
                    observations=tuple(ocsf.Observation(value=ocsf.number(float(q))) for q in quantiles),
                    observed_pattern="quantiles "
                    + ", ".join(f"{100 * level:g} %" for level in QUANTILE_LEVELS)
                    + " of people's accounts with about as long a history",
                )
            )
        return ocsf.AnomalyAnalysis(
            analysis_targets=(ocsf.AnalysisTarget(name=name),), anomalies=tuple(observed), baselines=tuple(usual)
        )

    def _evidence(self, change: Any, request_id: str, leaked: int) -> dict[str, Any]:
        row = change["row"]
        header, cadence = row["header"], row["cadence"]
        ratios = change["ratios"][int(change["head"])]
        days = max(1.0, (int(header["last_time"]) - int(header["first_time"])) / DAY_MS)
        decided_by = {"time": int(change["time"])}
        if change["kind"] != finding.CLOSE and request_id:
            decided_by["id"] = request_id  # type: ignore[assignment]
        return {
            "head": rivals.HEADS[int(change["head"])],
            "strongest_rival": rivals.RIVALS[int(change["rival"])],
            "log_likelihood_ratios": {
                rival: six_digits(float(ratios[rivals.RIVALS.index(rival)])) for rival in _rivals_of(change["features"])
            },
            "scores": {head: six_digits(float(s)) for head, s in zip(rivals.HEADS, change["scores"], strict=True)},
            "surprise": six_digits(float(change["surprise"])),
            "threshold": six_digits(self._threshold),
            "knob_is_extrapolated": self._extrapolated,
            "statistics": {
                feature: None if feature == "short" and v < 0.0 else six_digits(float(v))
                for feature, v in zip(FEATURES, change["features"], strict=True)
            },
            "account": {
                "requests": int(header["requests"]),
                "covered": int(header["covered"]),
                "leaked": leaked,
                "declared": int(header["declared"]),
                "failed": int(cadence["failed"]),
                "late": int(cadence["late"]),
                "parallel": int(cadence["parallel"]),
                "first_time": int(header["first_time"]),
                "last_time": int(header["last_time"]),
                "requests_a_day": six_digits((int(header["requests"]) - int(header["declared"])) / days),
                "end_users": six_digits(float(users.distinct(row["users"]))),
            },
            "decided_by": decided_by,
            "latest_requests": _ring(row, "time"),
        }


def _rivals_of(x: Any) -> list[str]:
    """The organic explanations that an account with these statistics is judged against."""
    priors = rivals.PRIORS[int(x[F["users"]] > 0.0)]
    return [rival for rival, prior in zip(rivals.RIVALS, priors, strict=True) if prior > 0.0]


def _person_words(x: Any, head: str) -> str:
    """What order an account with these statistics has had."""
    if head.startswith("sorted"):
        return f"its neighbours been {x[F['vn1']]:.2f} of chance apart and their lengths {x[F['vn_length']]:.2f}"
    return (
        f"its order been {x[F['vn_recent']]:.2f} of chance with the nearest request {x[F['nearest_lag']]:.1f} requests "
        "away"
    )


def _service_words(x: Any) -> str:
    repeats, hot = round(float(x[F["window_repeats"]])), round(float(x[F["window_hot"]]))
    often = f", {hot} of them often" if hot else ""
    return f"not a service ({repeats} of the last {x[F['window']]:.0f} asked before{often})"


def _batch_words(short: float) -> str:
    if short < 0.0:
        return "hardly a batch job (lengths of answers are unknown)"
    return f"not a batch job ({100.0 * short:.0f} % short answers)"


def _declared_words(declared: int) -> str:
    return f"; {declared} more were declared by the operator and are not judged" if declared else ""


def finding_uid(name: str, episode: int, opened_time: int, opened_requests: int) -> str:
    """The finding's uid: the same account, episode and opening request give the same 32 hex digits."""
    opening = f"{name}\0{episode}\0{opened_time}\0{opened_requests}"
    return hashlib.sha256(opening.encode()).hexdigest()[:32]


def _ring(row: Any, column: str) -> list[int]:
    """The latest requests' times or offsets, oldest first."""
    ring = row["identity"]
    count = int(ring["count"])
    return [int(ring[column][k % identity.RING]) for k in range(max(0, count - identity.RING), count)]
