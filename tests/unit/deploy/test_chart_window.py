"""A replay reads one window, whichever of its pods reads and however often it has to try."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from streams.cli.times import moment
from tests.unit.deploy.manifests import Object, helm, notes, of_kind, one, render, with_kafka

UNTIL = "2026-01-07T00:00:00Z"


def replay(**given: Any) -> dict[str, Any]:
    return {"replay": {"enabled": True, "until": UNTIL} | given, "topics": {"job": "off"}}


def arguments(objects: list[Object]) -> list[str]:
    return list(one(objects, "Job")["spec"]["template"]["spec"]["containers"][0]["args"])


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"since": "2d"}, ("replay.since=2d", "replay.since=$(date -u -d '2 days ago' +%FT%TZ)")),
        ({"since": "1.5h", "pods": 1}, ("replay.since=1.5h",)),
        ({"until": "90m"}, ("replay.until=90m",)),
        ({"until": ""}, ("replay.until is needed", "replay.until=$(date -u +%FT%TZ)")),
        ({"until": "2w"}, ("replay.until=2w is no time", "replay.until=$(date -u")),
        ({"until": "tomorrow"}, ("replay.until=tomorrow is no time",)),
        ({"until": "2026-02-30T00:00:00Z"}, ("replay.until=2026-02-30T00:00:00Z is no time",)),
        ({"until": "2026-01-07T00:00:00"}, ("replay.until=2026-01-07T00:00:00 is no time", "with its zone")),
        ({"until": "1767744000"}, ("replay.until=1767744000 is no time", "13 digits")),
        ({"since": "yesterday"}, ("replay.since=yesterday is no time", "replay.since=$(date -u")),
        ({"until": "2999-01-01T00:00:00Z"}, ("replay.until=2999-01-01T00:00:00Z is still to come",)),
        ({"until": "2999-01-01T00:00Z"}, ("replay.until=2999-01-01T00:00Z is still to come",)),
        ({"until": "2999-01-01T00:00:00+00:00"}, ("replay.until=2999-01-01T00:00:00+00:00 is still to come",)),
        ({"until": "2999-01-01"}, ("replay.until=2999-01-01 is still to come",)),
        ({"until": "9999999999999"}, ("replay.until=9999999999999 is still to come",)),
        ({"since": UNTIL}, (f"replay.since={UNTIL} is not before replay.until={UNTIL}",)),
        ({"since": "2999-01-01"}, ("replay.since=2999-01-01 is not before",)),
    ],
    ids=str,
)
def test_a_window_that_moves_is_refused_with_what_to_give(window: dict[str, Any], words: tuple[str, ...]) -> None:
    refused = helm(values=with_kafka(replay(**window)))
    assert refused.returncode != 0
    for said in words:
        assert said in refused.stderr


def test_without_a_replay_nobody_asks_for_a_window() -> None:
    assert of_kind(render({"replay": {"since": "2d"}, "topics": {"job": "off"}}), "Job") == []


@pytest.mark.parametrize("since", ["", "2026-01-05", "2026-01-05T02:00+02:00", "1767571200000"])
def test_times_reach_the_pods_as_they_are_given(since: str) -> None:
    found = arguments(render(replay(since=since)))
    assert f"--until={UNTIL}" in found
    assert [word for word in found if word.startswith("--since")] == ([f"--since={since}"] if since else [])


TAKEN = ["2026-01-07", "2026-01-07T00:00Z", UNTIL, "2026-01-07T02:00:00.000+02:00", "1767744000000"]


@pytest.mark.parametrize("until", TAKEN)
def test_a_time_that_the_chart_takes_is_the_same_to_the_pods(until: str) -> None:
    assert moment(until, now_ms=0) == moment(UNTIL, now_ms=0)
    assert f"--until={until}" in arguments(render(replay(until=until, since="2026-01-06T23:59:59Z")))
    refused = helm(values=with_kafka(replay(until=until, since=UNTIL)))
    assert f"is not before replay.until={until}" in refused.stderr


def test_a_time_of_another_zone_is_still_to_come_where_its_text_is_not() -> None:
    """In an hour, by a clock that is twelve hours behind."""
    zone = timezone(timedelta(hours=-12))
    until = (datetime.now(zone) + timedelta(hours=1)).isoformat(timespec="seconds")
    refused = helm(values=with_kafka(replay(until=until)))
    assert f"replay.until={until} is still to come" in refused.stderr


def test_what_kubectl_applies_is_not_said_to_be_managed_by_helm() -> None:
    objects = render(replay())
    of_replay = [found for found in objects if "-replay-" in found["metadata"]["name"]]
    assert {found["kind"] for found in of_replay} == {"ConfigMap", "Job"}
    for found in objects:
        manager = "kubectl" if found in of_replay else "Helm"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == manager


def test_a_replay_in_a_release_is_warned_of() -> None:
    assert "replay.enabled is on in a release" in notes(replay())
    assert "WARNING" not in notes({})
