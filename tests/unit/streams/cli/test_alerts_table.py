"""An alert as people see it."""

from __future__ import annotations

from schemas.alert import (
    Activity,
    Alert,
    Analytic,
    Confidence,
    FindingInfo,
    Metadata,
    Product,
    Severity,
    account_observable,
    as_test,
)
from streams.cli import alerts_table


def alert(account: str = "acct-1", message: str = "88 requests since noon: not a person, not a service") -> Alert:
    info = FindingInfo(
        uid="u",
        title="t",
        desc="d",
        analytic=Analytic(name="a"),
        first_seen_time=1_767_571_200_000,
        last_seen_time=1_767_580_000_000,
        created_time=1_767_580_000_000,
    )
    return Alert(
        activity_id=Activity.CREATE,
        time=1_767_580_000_000,
        severity_id=Severity.HIGH,
        confidence_id=Confidence.HIGH,
        message=message,
        count=88,
        finding_info=info,
        observables=(account_observable(account),),
        metadata=Metadata(product=Product(version="1"), uid="m", sequence=1),
    )


def shown(given: Alert) -> list[str]:
    return [row.plain for row in alerts_table.rows(given)]


def test_a_row_tells_account_severity_requests_since_when_and_why() -> None:
    row, why = shown(alert())
    assert row.split() == ["2026-01-05", "02:26", "acct-1", "High", "opened", "88", "2026-01-05", "00:00"]
    assert why.strip() == "not a person, not a service"


def test_a_test_is_told_from_an_alert() -> None:
    _, why = shown(as_test(alert()))
    assert why.strip() == "test: not a person, not a service"


def test_the_row_stands_under_its_header() -> None:
    header, row = alerts_table.header().plain, shown(alert())[0]
    assert header.index("account") == row.index("acct-1")
    assert header.index("severity") == row.index("High")


def test_an_account_id_cannot_move_the_cursor_or_break_the_table() -> None:
    row = shown(alert(account="a\u202eb\u200b" + "x" * 300))[0]
    assert "\u202e" not in row
    assert row.isprintable()


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    assert "[bold]:smile:" in shown(alert(account="[bold]:smile:"))[0]


def test_a_long_reason_is_wrapped_and_bounded() -> None:
    lines = shown(alert(message="x: " + "word " * 1000))[1:]
    assert all(len(line) <= alerts_table.WHY_WIDTH for line in lines)
    assert len(lines) <= 5
