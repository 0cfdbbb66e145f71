"""The promise to analysts: a replay of the records gives the findings that the live service gave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.alert import decode_alert
from streams.settings import load_settings
from streams.simulation import simulate
from streams.topics import TopicNames
from tests.integration.streams.expected import Finding, finding, findings_on
from tests.integration.streams.running import ROOT, Worker, read, wait_done

SHORT_REQUESTS = 400


def stillwatch(*arguments: object, **environment: str) -> None:
    """Run a command of stillwatch; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def replayed(events: Path, out: Path, *flags: object, **environment: str) -> set[Finding]:
    """Findings of `stillwatch replay`, without the closings that only the end of a file decides."""
    stillwatch("replay", events, "--out", out, "--no-close", *flags, **environment)
    return {finding(decode_alert(line)) for line in out.read_bytes().splitlines()}


@pytest.fixture(scope="module", params=["simulated", pytest.param("composed", marks=pytest.mark.corpora)])
def events(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of requests: simulated, or a small composed development stream."""
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "events.jsonl"
    if request.param == "simulated":
        with file.open("wb") as out:
            out.writelines(
                orjson.dumps(event) + b"\n" for event in simulate(seed=11, days=3, organic=30, planted=4).events
            )
    else:
        shared = request.getfixturevalue("shared")
        command = [sys.executable, shared / "traffic/compose.py", "--corpora", shared / "corpora", "--out", folder]
        subprocess.run([*command, "--seed", "7", "--days", "6", "--scale", "0.2"], check=True, capture_output=True)
    return file


@pytest.fixture
def workers(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[list[Worker]]:
    """Two workers of one group, one of which scores record by record, the other up to 5,000 at once."""
    settings: dict[str, Any] = {"brokers": kafka, "topic_prefix": topic_prefix, "group_id": topic_prefix}
    batches = {"a": 1, "b": 5000}
    stillwatch("topics", "create", "--brokers", kafka, "--topic-prefix", topic_prefix)
    started = [
        Worker(tmp_path, settings | {"instance_id": name, "data_dir": tmp_path / name, "max_batch_records": size})
        for name, size in batches.items()
    ]
    yield started
    for worker in started:
        worker.kill()


async def test_two_workers_find_what_a_replay_of_the_file_finds(
    kafka: str, topic_prefix: str, workers: list[Worker], events: Path, tmp_path: Path
) -> None:
    topics = TopicNames.of(load_settings(brokers=kafka, topic_prefix=topic_prefix))
    for worker in workers:
        worker.wait_ready()
    stillwatch("produce", events, "--brokers", kafka, "--topic-prefix", topic_prefix)
    await wait_done(kafka, topic_prefix, topics.requests, 120, *workers)
    live = findings_on(await read(kafka, topics.alerts))
    assert len(live) >= 3
    assert replayed(events, tmp_path / "file.jsonl") == live
    from_topic = tmp_path / "topic.jsonl"
    stillwatch("replay", "--topic", topics.requests, "--brokers", kafka, "--out", from_topic, "--no-close")
    assert {finding(decode_alert(line)) for line in from_topic.read_bytes().splitlines()} == live
    shares = [tmp_path / f"share-{share}.jsonl" for share in range(3)]
    for share, out in enumerate(shares):
        choice = ("--partitions", f"{share}/{len(shares)}")
        stillwatch("replay", "--topic", topics.requests, "--brokers", kafka, "--out", out, "--no-close", *choice)
    lines = [line for out in shares for line in out.read_bytes().splitlines()]
    assert sorted(lines) == sorted(from_topic.read_bytes().splitlines())


def test_the_size_of_batches_changes_no_byte(events: Path, tmp_path: Path) -> None:
    out = {size: tmp_path / f"{size}.jsonl" for size in (1, 5000)}
    for size, file in out.items():
        stillwatch("replay", events, "--out", file, "--batch", size)
    assert out[1].read_bytes() == out[5000].read_bytes()
    assert out[1].stat().st_size > 0


def test_without_compilation_no_byte_changes(events: Path, tmp_path: Path) -> None:
    """On one account that is found: a request takes milliseconds when nothing is compiled."""
    short = tmp_path / "short.jsonl"
    stillwatch("replay", events, "--out", tmp_path / "all.jsonl")
    account = decode_alert((tmp_path / "all.jsonl").read_bytes().splitlines()[0]).account
    lines = events.read_bytes().splitlines(keepends=True)
    own = [line for line in lines if orjson.loads(line)["account"] == account]
    short.write_bytes(b"".join(own[:SHORT_REQUESTS]))
    compiled = tmp_path / "compiled.jsonl"
    interpreted = tmp_path / "interpreted.jsonl"
    stillwatch("replay", short, "--out", compiled)
    stillwatch("replay", short, "--out", interpreted, NUMBA_DISABLE_JIT="1", PYTHONWARNINGS="ignore")
    assert compiled.read_bytes() == interpreted.read_bytes()
    assert compiled.stat().st_size > 0
