"""A replay gives the same alerts for the same records, whatever batches they come in, and counts what it refuses."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable

import orjson
import pytest

from detectors.baseline import load_default
from schemas.alert import encode_alert
from schemas.dead_letter import DeadLetterReason
from schemas.order import forget_headers
from schemas.origin import Origin, origin_headers
from streams.detection import make_engine, make_ingest
from streams.ingest import DeadLetter
from streams.replay import FILE_PARTITION, FileRecord, Replay, Summary, file_batches
from streams.settings import Settings, load_settings
from streams.simulation import Simulation, simulate
from streams.transport.partitioner import positive_murmur2

PARTITIONS = 4


@pytest.fixture(scope="module")
def traffic() -> Simulation:
    return simulate(seed=11, organic=12, planted=3)


@pytest.fixture(scope="module")
def lines(traffic: Simulation) -> list[bytes]:
    return [orjson.dumps(event) for event in traffic.events]


def run(
    batches: Iterable[tuple[int, list[FileRecord]]],
    settings: Settings | None = None,
    *,
    keyed: bool = False,
    close: bool = True,
) -> tuple[list[bytes], Summary, list[DeadLetter]]:
    settings, baseline = settings or load_settings(), load_default()
    expected = (lambda key: positive_murmur2(key) % PARTITIONS) if keyed else None
    alerts: list[bytes] = []
    dead: list[DeadLetter] = []
    replay = Replay(
        make_ingest(settings, baseline, expected),
        make_engine(settings, baseline, lambda partition, account: None),
        max_accounts=settings.max_accounts,
        on_alert=lambda alert: alerts.append(encode_alert(alert)),
        on_dead_letter=dead.append,
        close=close,
    )
    for partition, records in batches:
        replay.feed(partition, records)
    return alerts, replay.finish(), dead


def replayed(
    content: bytes, size: int = 2000, settings: Settings | None = None
) -> tuple[list[bytes], Summary, list[DeadLetter]]:
    batches = file_batches(io.BytesIO(content), max_record_bytes=1 << 20, batch_records=size)
    return run(((FILE_PARTITION, batch) for batch in batches), settings)


def test_planted_accounts_are_found_and_organic_ones_are_not(lines: list[bytes], traffic: Simulation) -> None:
    alerts, summary, _ = replayed(b"\n".join(lines))
    named = {orjson.loads(alert)["observables"][0]["value"] for alert in alerts}
    assert named == set(traffic.planted)
    assert summary.records == summary.events == len(lines)
    assert summary.alerts == len(alerts)


def test_a_replay_ends_with_what_the_population_watch_said(lines: list[bytes]) -> None:
    assert replayed(b"\n".join(lines))[1].drift == []
    wave = simulate(seed=12, organic=4, planted=12)
    (line,) = replayed(b"\n".join(orjson.dumps(event) for event in wave.events))[1].drift
    assert "times as often as the knob allows" in line
    assert "if they are honest, refit" in line


def test_batches_of_1_and_of_5000_give_equal_bytes(lines: list[bytes]) -> None:
    content = b"\n".join(lines[:6000])
    one_by_one, *_ = replayed(content, 1)
    assert one_by_one
    assert one_by_one == replayed(content, 5000)[0]


def test_a_small_slab_changes_nothing(lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    assert replayed(content, settings=load_settings(slab_rows=16))[0] == replayed(content)[0]


def test_beyond_max_accounts_states_are_forgotten_and_counted(lines: list[bytes]) -> None:
    few = load_settings(slab_rows=16, max_accounts=1)
    many = [orjson.dumps({"time": 1_767_571_200_000 + i, "account": f"a{i}", "prompt": "hello"}) for i in range(200)]
    _, summary, _ = replayed(b"\n".join(many), 50, settings=few)
    assert 100 < summary.forgotten <= 184
    assert replayed(b"\n".join(lines))[1].forgotten == 0


def test_refused_records_are_counted_by_reason_and_handed_on(lines: list[bytes]) -> None:
    bad = [b"no JSON", b'{"time": 1, "account": "a"}', b'{"time": 1767571200000}', b'{"time": 1, "account": "a"}']
    _, summary, dead = replayed(b"\n".join([*bad, *lines[:10]]))
    assert summary.dead == {DeadLetterReason.NOT_JSON: 1, DeadLetterReason.CLOCK: 2, DeadLetterReason.ACCOUNT: 1}
    assert [letter.record.offset for letter in dead] == [1, 2, 3, 4]
    assert summary.events == 10


def by_partition(lines: list[bytes], wrong: frozenset[int] = frozenset()) -> list[tuple[int, list[FileRecord]]]:
    """The lines as a topic holds them; those numbered in `wrong` lie on a partition that is not their account's."""
    topic: dict[int, list[FileRecord]] = {partition: [] for partition in range(PARTITIONS)}
    for number, line in enumerate(lines):
        key = orjson.loads(line)["account"].encode()
        partition = (positive_murmur2(key) + (number in wrong)) % PARTITIONS
        topic[partition].append(FileRecord("requests", partition, number, -1, key, line, ()))
    return list(topic.items())


def findings(alerts: list[bytes]) -> list[tuple[str, int, int]]:
    read = map(orjson.loads, alerts)
    return sorted((a["finding_info"]["uid"], a["metadata"]["sequence"], a["time"]) for a in read)


def test_a_topic_gives_the_findings_of_the_file(lines: list[bytes]) -> None:
    from_topic, summary, _ = run(by_partition(lines), keyed=True)
    assert summary.misplaced == 0
    assert findings(from_topic) == findings(replayed(b"\n".join(lines))[0])


def test_copies_that_a_crash_has_sent_twice_count_once(lines: list[bytes]) -> None:
    topic: dict[int, list[FileRecord]] = {partition: [] for partition in range(PARTITIONS)}
    for begin in range(0, len(lines), 500):
        for number in 2 * list(range(begin, min(begin + 500, len(lines)))):
            key = orjson.loads(lines[number])["account"].encode()
            home = positive_murmur2(key) % PARTITIONS
            origin = tuple(origin_headers(Origin("requests", zlib.crc32(key) % 2, number)))
            topic[home].append(FileRecord("requests", home, len(topic[home]), -1, key, lines[number], origin))
    from_topic, summary, _ = run(topic.items(), keyed=True)
    assert (summary.misplaced, summary.records) == (0, 2 * len(lines))
    assert findings(from_topic) == findings(replayed(b"\n".join(lines))[0])


def test_misplaced_records_are_passed_over_and_counted(lines: list[bytes]) -> None:
    _, summary, _ = run(by_partition(lines[:200], wrong=frozenset({3, 5, 8})), keyed=True)
    assert summary.misplaced == 3
    assert summary.events == 197


def test_at_the_end_every_open_finding_is_closed(lines: list[bytes], traffic: Simulation) -> None:
    last = traffic.events[-1]
    later = orjson.dumps({**last, "id": "later", "account": "other", "time": last["time"] + 30 * 86_400_000})
    alerts = [orjson.loads(alert) for alert in replayed(b"\n".join([*lines, later]))[0]]
    closed = [alert for alert in alerts if alert["activity_name"] == "Close"]
    assert {alert["observables"][0]["value"] for alert in closed} == set(traffic.planted)
    assert all(alert["time"] == alert["finding_info"]["last_seen_time"] + 72 * 3_600_000 for alert in closed)


@pytest.mark.parametrize("size", [1, 7, 2000])
def test_an_order_to_forget_is_carried_out_at_its_place(lines: list[bytes], traffic: Simulation, size: int) -> None:
    name = max(traffic.planted, key=lambda planted: traffic.planted[planted].requests)
    key, partition = name.encode(), positive_murmur2(name.encode()) % PARTITIONS
    own = [line for line, event in zip(lines, traffic.events, strict=True) if event["account"] == name]
    half = len(own) // 2
    # An order takes the offset between the halves.
    records = [FileRecord("requests", partition, at + (at >= half), -1, key, line, ()) for at, line in enumerate(own)]
    order = FileRecord("requests", partition, half, -1, key, None, tuple(forget_headers()))
    astray = order._replace(partition=(partition + 1) % PARTITIONS)
    log = [*records[:half], order, *records[half:]]

    def alerts_of(log: list[FileRecord]) -> list[bytes]:
        return run([(partition, log[at : at + size]) for at in range(0, len(log), size)], keyed=True, close=False)[0]

    assert alerts_of(log) == alerts_of(records[:half]) + alerts_of(records[half:])
    assert alerts_of(log) != alerts_of(records)
    _, summary, dead = run([(partition, log), (astray.partition, [astray])], keyed=True)
    assert (summary.erased, summary.misplaced, dead) == (1, 1, [])
