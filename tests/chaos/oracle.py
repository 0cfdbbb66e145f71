"""Knows every record that was sent, and what must have come of each once the log is worked off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import orjson
from aiokafka.partitioner import murmur2

from detectors import state
from schemas.dead_letter import OFFSET_HEADER, PARTITION_HEADER
from schemas.origin import read_origin
from streams.simulation import simulate
from streams.topics import TopicNames
from tests.integration.streams.expected import Finding, expected_of, findings_on
from tests.integration.streams.running import ENCODER_HASH, Request, read

PLANTED = 4
"""Extraction accounts in the traffic."""

BAD_SHARE = 0.01
"""Of the traffic: records that are no JSON, and must become dead letters."""

STRAY_RUN_SHARE = 0.003
"""After so many of the simulated requests comes a run of strays: requests that the worker must send back under their
account and on its partition, and count once."""

STRAY_RUN = range(30, 46)
"""Requests of a run: far more than an account remembers one by one, since a crash has a whole run sent back twice."""


class Stray(NamedTuple):
    """An account whose requests are all astray, on one partition; `keyed`: only the partition is wrong."""

    account: str
    keyed: bool
    with_ids: bool


STRAYS = (
    Stray("stray-plain", keyed=False, with_ids=False),
    Stray("stray-plain-ids", keyed=False, with_ids=True),
    Stray("stray-keyed", keyed=True, with_ids=False),
    Stray("stray-keyed-ids", keyed=True, with_ids=True),
)


class Place(NamedTuple):
    """Where a record lies on the requests topic."""

    partition: int
    offset: int


class Sent(NamedTuple):
    """A record of the traffic; `good` ones are requests, the others must become dead letters. Values are unique."""

    request: Request
    account: str
    good: bool

    @property
    def value(self) -> bytes:
        """Its value, which is its name here."""
        assert self.request.value is not None
        return self.request.value

    @property
    def is_stray(self) -> bool:
        """Whether it has to be sent back under its account."""
        return self.good and self.request.partition is not None


class Violation(AssertionError):  # noqa: N818 - what it is, a promise that was broken
    """A promise that did not hold; the message is one line."""


def make_traffic(seed: int, organic: int, partitions: int, *, strays: bool = True) -> list[Sent]:
    """Simulated requests of accounts, extraction accounts among them, with bad and stray records mixed in."""
    rng = Random(seed)
    origins = {stray: _origin(stray, partitions, rng) for stray in STRAYS}
    clocks = dict.fromkeys(STRAYS, 0)
    traffic = []
    for number, event in enumerate(simulate(seed=seed, days=4, organic=organic, planted=PLANTED).events):
        account = event["account"]
        traffic.append(Sent(Request(account.encode(), orjson.dumps(event)), account, True))
        if rng.random() < BAD_SHARE:
            traffic.append(Sent(Request(account.encode(), b"{no JSON %d" % number), account, False))
        if rng.random() < STRAY_RUN_SHARE and strays:
            # Accounts of their own: sent back, a request comes later than what was sent after it.
            stray = rng.choice(STRAYS)
            for _ in range(rng.choice(STRAY_RUN)):
                clocks[stray] = max(clocks[stray] + 1, event["time"])
                traffic.append(_stray(stray, clocks[stray], origins[stray]))
    return traffic


def _origin(stray: Stray, partitions: int, rng: Random) -> int:
    """A partition for all of an account's strays; with a key it must not be the right one."""
    home = (murmur2(stray.account.encode()) & 0x7FFFFFFF) % partitions
    return rng.choice([partition for partition in range(partitions) if partition != home or not stray.keyed])


def _stray(stray: Stray, time_ms: int, partition: int) -> Sent:
    """A request astray. Times of an account are unique, and so are values."""
    event: dict[str, Any] = {"time": time_ms, "account": stray.account}
    if stray.with_ids:
        event["id"] = f"{stray.account}-{time_ms}"
    key = stray.account.encode() if stray.keyed else None
    return Sent(Request(key, orjson.dumps(event), partition), stray.account, True)


class Changelog(NamedTuple):
    """States as the changelog has them, judged without the code of the store.

    Attributes
    ----------
    standing
        The state that has seen most of the log, of each account.
    overwritten
        Accounts whose last record is another one: compaction would keep it, and roll them back.
    late
        States that had seen less than one before them.
    """

    standing: dict[bytes, bytes]
    overwritten: set[bytes]
    late: int


def read_changelog(records: Iterable[Any]) -> Changelog:
    """Judge the records of the changelog. No scenario has states deleted, so that a deletion stands for nothing."""
    standing: dict[bytes, bytes] = {}
    last: dict[bytes, bytes | None] = {}
    late = 0
    for record in records:
        last[record.key] = record.value
        try:
            fence = state.fence_of(record.value or b"")
        except state.StateError:
            continue  # damaged by a scenario: its account starts anew
        if record.key in standing and fence < state.fence_of(standing[record.key]):
            late += 1
        else:
            standing[record.key] = record.value
    return Changelog(standing, {key for key, value in last.items() if value != standing.get(key)}, late)


@dataclass
class Oracle:
    """What was sent and where it lies.

    Attributes
    ----------
    places
        By value, of each record that the brokers confirmed.
    never_seen
        Values of records that no worker could or should count: aborted, or deleted before anybody read them.
    """

    traffic: list[Sent]
    places: dict[bytes, Place] = field(default_factory=dict)
    never_seen: set[bytes] = field(default_factory=set)

    def counting(self) -> list[Sent]:
        """What must have been worked off, in the order in which it was sent."""
        return [sent for sent in self.traffic if sent.value in self.places and sent.value not in self.never_seen]

    def ends(self) -> dict[int, int]:
        """Offset after the last record confirmed, of each partition."""
        ends: dict[int, int] = {}
        for partition, offset in self.places.values():
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        return ends

    def findings_before(self, committed: Mapping[int, int]) -> set[Finding]:
        """Findings of what lies before these offsets; without those of strays, which are scored where they are sent."""
        places = self.places
        done = [s for s in self.counting() if s.good and not s.is_stray]
        done = [s for s in done if places[s.value].offset < committed.get(places[s.value].partition, 0)]
        return expected_of([sent.request for sent in done]).findings

    async def check(self, kafka: str, names: TopicNames) -> dict[str, int]:
        """Figures of the run, whose workers were all stopped in order.

        Raises `Violation` with every promise that did not hold.
        """
        counting = self.counting()
        good = [sent for sent in counting if sent.good]
        expected = expected_of([sent.request for sent in good])
        log = await read(kafka, names.requests)
        changelog = read_changelog(await read(kafka, names.state))
        rows = {account: _numbers(envelope) for account, envelope in changelog.standing.items()}
        alerts, dead = await read(kafka, names.alerts), await read(kafka, names.dead_letters)
        wrong = [
            *self._check_log(log),
            *_differences("requests", {a: n for a, (n, _) in rows.items()}, expected.counts),
            *_differences("last offset", {a: fence for a, (_, fence) in rows.items()}, self._fences(good, log)),
            *_check_overwritten(changelog.overwritten),
            *_check_findings(findings_on(alerts), expected.findings),
            *self._check_dead_letters(dead),
        ]
        if wrong:
            raise Violation("; ".join(wrong))
        return {
            "records": len(counting),
            "accounts": len(rows),
            "strays": sum(sent.is_stray for sent in good),
            "late states": changelog.late,
            "findings": len(expected.findings),
            "repeated alerts": len(alerts) - len(expected.findings),
            "dead letters": len(counting) - len(good),
            "repeated dead letters": len(dead) - (len(counting) - len(good)),
        }

    def _check_log(self, log: Iterable[Any]) -> list[str]:
        """Each record was written once: else it is the harness that is at fault."""
        there = Counter(record.value for record in log if read_origin(record.headers) is None)
        twice = [value for value, times in there.items() if times > 1]
        gone = [sent for sent in self.counting() if sent.value not in there and not self.never_seen]
        return [f"the harness wrote {len(twice)} records twice and lost {len(gone)}"] if twice or gone else []

    def _fences(self, good: Iterable[Sent], log: Iterable[Any]) -> dict[str, int]:
        """Last offset of each account; of a stray, that of its last copy (all but the first are passed over)."""
        fences: dict[str, int] = {}
        for sent in good:
            if not sent.is_stray:
                fences[sent.account] = max(fences.get(sent.account, -1), self.places[sent.value].offset)
        for record in log:
            if read_origin(record.headers) is not None:
                fences[record.key.decode()] = max(fences.get(record.key.decode(), -1), record.offset)
        return fences

    def _check_dead_letters(self, dead: Iterable[Any]) -> list[str]:
        wanted = {self.places[s.value]: s.value for s in self.counting() if not s.good}
        found = {_source(record): record.value for record in dead}
        missing, foreign = wanted.keys() - found.keys(), found.keys() - wanted.keys()
        if missing or foreign:
            return [f"{len(missing)} dead letters missing, {len(foreign)} too many"]
        changed = sum(wanted[place] != found[place] for place in wanted)
        return [f"{changed} dead letters hold another value"] if changed else []


def _numbers(envelope: bytes) -> tuple[int, int]:
    """Requests counted and last offset of a state."""
    header = state.unseal(envelope, ENCODER_HASH)["header"]
    return int(header["requests"][0]), int(header["offset"][0])


def _source(record: Any) -> Place:
    headers = dict(record.headers)
    return Place(int(headers[PARTITION_HEADER]), int(headers[OFFSET_HEADER]))


def _differences(what: str, found: Mapping[Any, int], expected: Mapping[str, int]) -> list[str]:
    found = {account.decode(): number for account, number in found.items()}
    accounts = found.keys() | expected.keys()
    wrong = {a: (found.get(a), expected.get(a)) for a in accounts if found.get(a) != expected.get(a)}
    if not wrong:
        return []
    account, (is_, should_be) = min(wrong.items())
    return [f"{what} of {len(wrong)} accounts differ: {account} has {is_}, not {should_be}"]


def _check_overwritten(accounts: set[bytes]) -> list[str]:
    if not accounts:
        return []
    return [f"the last state of {len(accounts)} accounts is not the one that stands: {min(accounts).decode()}"]


def _check_findings(found: set[Finding], expected: set[Finding]) -> list[str]:
    if found == expected:
        return []
    return [f"{len(expected - found)} findings missing, {len(found - expected)} that should not be there"]
