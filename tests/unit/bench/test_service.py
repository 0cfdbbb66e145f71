"""The benchmarks on a real Kafka: their traffic, the growth test of the soak, and the tables they write."""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson
import pytest

from schemas.request import RequestLimits, decode_request
from tests.bench import service_report, soak
from tests.bench.service_traffic import Mould, Relay, Sendings, cast, copies, of_accounts

NOW = 1_790_000_000_000
MOULDS = [Mould(1_000 * i, f"a{i % 3}", b'"model":"m","embedding":"AAAA"}') for i in range(12)]


def test_a_record_is_a_request_event_of_its_account() -> None:
    record = cast(MOULDS[4], b"relay-7-1", NOW, 12)
    event = decode_request(record.value, RequestLimits(), NOW)
    assert (event.account, event.time, event.id, event.model) == ("relay-7-1", NOW, "12", "m")
    assert record.key == b"relay-7-1"
    assert event.links == {"payment": "payment-relay-7-1", "ip": "ip-relay-7-1"}


def test_copies_send_the_same_side_by_side_under_names_of_their_own() -> None:
    records = list(copies(MOULDS, accounts=6))
    assert len(records) == 24
    assert len({record.key for record in records}) == 6
    assert [record.time for record in records[:4]] == [0, 0, 1_000, 1_000]


def test_each_account_sends_one_request_and_times_grow() -> None:
    records = list(of_accounts(MOULDS, [5, 3, 8], start=100))
    assert [record.key for record in records] == [b"rare-5", b"rare-3", b"rare-8"]
    assert [record.time for record in records] == [100, 101, 102]


def test_in_a_relay_times_grow_and_each_account_sends_all_that_it_has_before_another_takes_its_place() -> None:
    relay = Relay(MOULDS, copies=3, start=NOW)
    assert (relay.accounts, relay.period) == (9, 36)
    records = list(islice(relay, 5 * 36))
    times = [record.time for record in records]
    assert times == sorted(times)
    assert times[0] >= NOW
    of_account: dict[bytes, list[Any]] = {}
    for record in records:
        of_account.setdefault(record.key, []).append(int(orjson.loads(record.value)["id"]))
    whole = [ids for key, ids in of_account.items() if key.endswith((b"-1", b"-2"))]
    assert len(whole) == 18
    assert sorted(whole) == sorted([[i for i in range(12) if i % 3 == account] for account in range(3)] * 6)


def test_when_a_request_was_sent_is_found_by_the_time_in_it() -> None:
    sendings = Sendings(most=2)
    assert sendings.moment(5) is None
    for first in (10, 20, 30):
        sendings.note(first)
    moments = [sendings.moment(time) for time in (10, 19, 20, 35)]
    assert moments[0] == moments[1]
    assert None not in moments
    assert moments == sorted(moments, key=lambda moment: moment or 0.0)
    sendings.note(40)
    sendings.note(50)
    assert sendings.moment(25) is None, "only the latest are kept"


@pytest.mark.parametrize(
    ("megabytes", "grows"),
    [
        (lambda i: 300 + i % 7, False),
        (lambda i: 300 + i % 7 + 0.001 * i, False),
        (lambda i: 300 + i % 7 + 0.05 * i, True),
        (lambda i: 300 + i % 7 - 0.05 * i, False),
        (lambda i: 300 + (500 if i == 100 else 0), False),
    ],
)
def test_memory_grows_when_it_rises_by_more_than_two_percent_in_half_an_hour(megabytes: Any, grows: bool) -> None:
    series = next(one for one in soak.SERIES if one.name == "memory")
    found = soak.growth(series, [{"seconds": 5.0 * i, "memory": 1e6 * megabytes(i)} for i in range(240)])
    assert found is not None
    assert found.grows is grows


def test_a_short_run_says_nothing_of_memory_and_still_sees_handles_leak() -> None:
    samples = [{"seconds": 3.0 * i, "memory": 1e8 + 1e7 * i, "handles": 30 + i} for i in range(30)]
    found = {series.name: soak.growth(series, samples) for series in soak.SERIES if series.name in samples[0]}
    memory, handles = found["memory"], found["handles"]
    assert memory is not None
    assert handles is not None
    assert (memory.grows, handles.grows) == (False, True)


def test_too_few_samples_are_not_tested() -> None:
    assert soak.growth(soak.SERIES[0], [{"seconds": 1.0, "memory": 1.0}] * 5) is None


def test_ratios_are_taken_within_a_pass_and_held_against_the_aim() -> None:
    def rates(*microseconds: float) -> dict[str, Any]:
        return {
            str(n): {"microseconds": us, "requests_a_second": 1e6 / us, "requests": 1}
            for n, us in enumerate(microseconds)
        }

    found = {
        "rates": {service_report.STOCK: rates(60, 80, 70), "whole path, 10,000 accounts": rates(15, 16, 14)},
        "circumstances": dict.fromkeys(
            (
                "at",
                "commit",
                "python",
                "numba",
                "numpy",
                "faust-streaming",
                "aiokafka",
                "rocksdict",
                "cores",
                "processor",
            ),
            "",
        )
        | {"seconds": 600},
        "given": {"passes": 3, "requests": 1, "accounts": 1_000_000},
        "memory": {"rocksdict": [{"now": 9e8, "most": 1.2e9, "data_dir": 4e8}]},
        "starts": {"start with nothing to restore": [3.0, 4.0, 6.0]},
        "waits": [[100.0] * 99 + [700.0], [100.0] * 100],
        "latency_rate": 5_000,
        "loads": [2.0, 2.04, 9.0],
        "failures": ["pass 2: starts: RuntimeError: it ended\nits log"],
    }
    text = service_report.as_markdown(found)
    assert (
        "| whole path, 10,000 accounts | 15.0 (14.0 to 16.0) | 66,667 (62,500 to 71,429) "
        "| 5.00 (4.00 to 5.00) | 4.0: met |" in text
    )
    assert "| 1,000,000 accounts, rocksdict | 0.90 | 1.20 | 0.40 | 1: **missed** |" in text
    assert "| start with nothing to restore | 4.0 (3.0 to 6.0) | 5: met |" in text
    assert "| all | 200 | 100 | 100 | 700 | 500: met |" in text
    assert "load averages after each pass were 2.0, 2.0, 9.0." in text
    assert "- **failed**: pass 2: starts: RuntimeError: it ended" in text
