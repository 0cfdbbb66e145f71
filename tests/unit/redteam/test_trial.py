"""What the red team's table counts is what happened."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from detectors.baseline import load_default
from detectors.engine import EngineOptions
from tests.redteam import __main__ as command
from tests.redteam.attacks import ATTACKS, ids_of
from tests.redteam.customers import CUSTOMERS
from tests.redteam.report import ATTACK_COLUMNS, CUSTOMER_COLUMNS, attack_cells, customer_cells, totals
from tests.redteam.sources import MADE, renamed
from tests.redteam.traffic import Events, is_answered
from tests.redteam.trial import Trial, Verdict, ingested


def verdict(delay: int | None, *, leaked: float = 1.0, rival: str = "person") -> Verdict:
    return Verdict(100, 2.0, delay, leaked, 1.5, -1.0, rival, "memoryless", "" if delay is None else "why", 0)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return Trial(load_default(), EngineOptions())


def test_a_list_is_found_and_what_leaked_before_is_counted(trial: Trial) -> None:
    events = MADE.sweep("list", Random(1))
    found = trial(events, ids_of(events))
    assert found.alerted
    assert found.peak > 0
    assert found.requests == len(events)
    before = events[: (found.delay or 0) - 1]
    answered = sum(map(is_answered, events))
    assert found.leaked == pytest.approx(sum(map(is_answered, before)) / answered)
    assert found.price == pytest.approx(len(events) / answered)
    assert "not a person" in found.message


def test_an_alert_before_the_list_begins_does_not_count_as_found(trial: Trial) -> None:
    events = MADE.sweep("list", Random(1))
    late = trial(events[:300], {events[299]["id"]})
    assert late.delay is None or late.delay == 1
    assert trial(events[:300], set()).delay is not None, "the same events have an alert"


def test_a_heartbeat_is_silent_and_a_few_requests_are_too_early(trial: Trial) -> None:
    beats = trial(CUSTOMERS["heartbeat"]("beat", Random(1)), set())
    assert not beats.alerted
    assert beats.peak < 0
    assert beats.leaked == 0
    few = trial(MADE.sweep("list", Random(1))[:10], set())
    assert few.rival == "too early"
    assert few.peak < 0


@pytest.mark.parametrize("name", CUSTOMERS)
def test_customers_give_readable_events_in_order_from_their_seed(name: str) -> None:
    events = CUSTOMERS[name]("one", Random("a"))
    check(events)
    assert len(events) >= 20
    assert events == CUSTOMERS[name]("one", Random("a"))
    assert events != CUSTOMERS[name]("one", Random("b"))


@pytest.mark.parametrize("name", [n for n in ATTACKS if "10,000" not in n])
def test_attacks_give_readable_events_in_order_from_their_seed(name: str) -> None:
    events, listed = ATTACKS[name](MADE, "one", Random("a"))
    check(events)
    assert listed & {event["id"] for event in events}
    assert ATTACKS[name](MADE, "one", Random("a")) == (events, listed)


def check(events: Events) -> None:
    assert {event["account"] for event in events} == {"one"}
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert len({event["id"] for event in events}) == len(events)
    parts = ingested(events)
    assert sum(len(part.batch) for part in parts) == len(events)
    assert not any(part.dead or part.misplaced for part in parts)


def test_one_template_is_filled_ten_thousand_times_and_never_the_same() -> None:
    events = MADE.one_template("one", Random(1))
    assert len({event["prompt"] for event in events}) == 10_000


def test_fresh_users_are_fresh_on_each_call() -> None:
    events = CUSTOMERS["coding agent, fresh user each call"]("one", Random(1))
    assert len({event["end_user"] for event in events}) == len(events)


def test_an_account_comes_back_after_a_year() -> None:
    times = [event["time"] for event in CUSTOMERS["back after a year"]("one", Random(1))]
    assert max(b - a for a, b in pairwise(times)) > 300 * 86_400_000


def test_cells_count_up() -> None:
    verdicts = [verdict(10, leaked=0.1), verdict(30, leaked=0.3), verdict(None, rival="service")]
    cells = dict(zip(ATTACK_COLUMNS, attack_cells("x", verdicts), strict=True))
    assert cells["found"] == "2/3"
    assert cells["recall, 95 % interval"].startswith("0.67  0.21-0.94")
    assert cells["delay median / 90th"] == "10 / 30"
    assert cells["leaked"] == "0.47"
    assert cells["what held or came closest"] == "person 2, service 1"
    row = dict(zip(CUSTOMER_COLUMNS, customer_cells("x", verdicts), strict=True))
    assert (row["alerted"], row["an alert"], row["after requests"]) == ("2/3", "why", "20")
    assert totals({"x": verdicts, "y": verdicts}) == "4/6 accounts alerted (0.67  0.30-0.90), 600 requests, 0 refused"


def test_the_command_writes_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table.md"
    assert command.main(["--accounts", "1", "--only", "heartbeat", "60 prompts", "--out", str(out)]) == 0
    written = out.read_text()
    assert "| 60 prompts only | 0/1 |" in written
    assert "| heartbeat | 0/1 |" in written
    assert "0 refused" in capsys.readouterr().out


def test_only_chooses_by_a_word_and_nonsense_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = command.buying(lambda account, rng: [])
    assert set(command.chosen({"a b": nothing, "c": nothing}, ["b"])) == {"a b"}
    monkeypatch.delenv("STILLWATCH_SHARED", raising=False)
    for arguments, why in ((["--accounts", "0"], "at least 1"), (["--composed", "1"], "STILLWATCH_SHARED")):
        with pytest.raises(SystemExit):
            command.parse(arguments)
        assert why in capsys.readouterr().err


def test_renamed_accounts_have_ids_of_their_own() -> None:
    events = MADE.sweep("old", Random(1))[:5]
    new = renamed(events, "new")
    assert {event["account"] for event in new} == {"new"}
    assert not ids_of(new) & ids_of(events)
    assert [event["prompt"] for event in new] == [event["prompt"] for event in events]
