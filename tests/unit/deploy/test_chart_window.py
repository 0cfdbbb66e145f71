"""A replay reads one window, whichever of its pods reads and however often it has to try."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.deploy.manifests import Object, helm, of_kind, one, render, with_kafka

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
        ({"until": "2999-01-01T00:00:00Z"}, ("replay.until=2999-01-01T00:00:00Z is still to come",)),
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


def test_what_kubectl_applies_is_not_said_to_be_managed_by_helm() -> None:
    objects = render(replay())
    of_replay = [found for found in objects if "-replay-" in found["metadata"]["name"]]
    assert {found["kind"] for found in of_replay} == {"ConfigMap", "Job"}
    for found in objects:
        manager = "kubectl" if found in of_replay else "Helm"
        if found["kind"] != "Pod":
            assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == manager


def test_a_replay_in_a_release_is_warned_of() -> None:
    def notes(values: dict[str, Any]) -> str:
        done = helm(values=with_kafka(values), verb=("install", "--dry-run=client"))
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert "replay.enabled is on in a release" in notes(replay())
    assert "WARNING" not in notes({})
