"""The container image: what is in it, and a worker of it that scores a stream under a cluster's restrictions."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from schemas.alert import decode_alert
from streams.settings import load_settings
from streams.topics import TopicNames
from tests.integration.broker import free_port
from tests.integration.deploy.container import Engine, Running
from tests.integration.streams.expected import finding, findings_on
from tests.integration.streams.running import ROOT, read, wait_done, wait_until

# The first build fetches a base system and all packages.
pytestmark = pytest.mark.timeout(1800)

BUILD_ONLY = {"hatchling", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}

LOOK = """
import importlib.metadata, importlib.util, json, os, shutil
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
def writable(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privileges": status["NoNewPrivs"],
    "programs": [p for p in ("gcc", "cc", "ld", "make", "pip", "pip3", "curl", "wget", "git", "go") if shutil.which(p)],
    "modules": [m for m in ("pip", "setuptools", "hatchling", "ensurepip") if importlib.util.find_spec(m)],
    "packages": sorted(d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()),
    "writable": [p for p in ("/x", "/opt/stillwatch/x", "/etc/x", "/usr/x", "/tmp/x") if writable(p)],
}))
"""

HEALTH = """
import subprocess
for more in ([], ["--ready"]):
    print(subprocess.check_output(["stillwatch", "health", *more], text=True), end="")
"""

KERNELS = """
import hashlib, json, pathlib, sys
made = {}
for place in ("/opt/stillwatch/share/stillwatch/kernels", "/tmp/cache/stillwatch/kernels"):
    files = [p for p in pathlib.Path(place).rglob("*") if p.is_file()]
    made[place] = {str(p.relative_to(place)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
print(json.dumps(list(made.values())))
"""


@pytest.fixture
def inside(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.python(image, LOOK))
    return found


def locked() -> set[str]:
    """Names in the runtime's lock file that are for the image, without those that only build the wheel."""
    lines = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; ([^\\\n]+))?", (ROOT / "requirements.lock").read_text(), re.M)
    image = {"python_full_version": "3.13.0", "python_version": "3.13"}
    return {name for name, _, marker in lines if not marker or Marker(marker.strip()).evaluate(image)} - BUILD_ONLY


def test_it_runs_without_rights_and_holds_nothing_that_builds(inside: dict[str, Any]) -> None:
    assert inside["user"] == [10001, 10001]
    assert inside["capabilities"] == [0, 0, 0]
    assert inside["no_new_privileges"] == "1"
    assert inside["programs"] == []
    assert inside["modules"] == []
    assert inside["writable"] == ["/tmp/x"]  # noqa: S108


def test_it_holds_the_packages_of_the_lock_file(inside: dict[str, Any]) -> None:
    assert set(inside["packages"]) == locked() | {"stillwatch"}


def test_its_parts_are_listed(engine: Engine, image: str, inside: dict[str, Any]) -> None:
    listed = json.loads((ROOT / "build" / "sbom.cdx.json").read_text())
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    by_kind: dict[str, set[str]] = {}
    for part in listed["components"]:
        by_kind.setdefault(part["purl"].split("/")[0], set()).add(part["name"])
        assert part["version"]
    assert by_kind["pkg:pypi"] == set(inside["packages"])
    assert {"libc6", "base-files", "ca-certificates"} <= by_kind["pkg:deb"]
    assert by_kind["pkg:generic"] == {"debian", "cpython"}
    # The package URL specification wants versions percent-encoded: Debian's have colons, plus signs and tildes.
    assert all(re.fullmatch(r"pkg:[\w./%~-]+@[\w.%~-]+(\?[\w=&.-]+)?", part["purl"]) for part in listed["components"])


def test_a_wrong_setting_ends_it_with_one_line(engine: Engine, image: str) -> None:
    done = engine.run(image, options=("--env", "STILLWATCH_SLAB_ROWS=1"), check=False)
    assert done.returncode == 2
    assert "slab_rows=1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_heeds_the_end_before_it_serves(engine: Engine, image: str, tmp_path: Path) -> None:
    """The first process of a container gets no signal that it has no handler for."""
    settings = {"brokers": "127.0.0.1:1", "metrics_port": 0, "request_timeout_seconds": 600, "check_topics": False}
    data = owned(tmp_path)
    running = Running(engine, image, settings, data)
    try:
        assert running.stop(seconds=60) in (4, 143)
    finally:
        running.remove()


def owned(folder: Path) -> Path:
    """A folder of the image's user, as a volume with `fsGroup` is."""
    made = folder / "volume"
    made.mkdir()
    os.chown(made, 10001, 10001)
    return made


async def test_a_worker_scores_a_stream_and_ends_when_told(
    engine: Engine, image: str, kafka: str, topic_prefix: str, events: Path, tmp_path: Path
) -> None:
    connection = ("--env", f"STILLWATCH_BROKERS={kafka}", "--env", f"STILLWATCH_TOPIC_PREFIX={topic_prefix}")
    engine.run(image, "topics", "create", "--partitions", 2, options=connection)
    mounted = ("--volume", f"{events}:/events.jsonl:ro")
    sent = engine.run(image, "produce", "/events.jsonl", options=(*connection, *mounted))
    assert " requests sent" in sent.stderr
    port = free_port()
    settings = {
        "brokers": kafka, "topic_prefix": topic_prefix, "group_id": topic_prefix, "instance_id": "worker-0",
        "metrics_host": "127.0.0.1", "metrics_port": port,
    }  # fmt: skip
    topics = TopicNames.of(load_settings(topic_prefix=topic_prefix))
    running = Running(engine, image, settings, owned(tmp_path))
    try:
        wait_until(lambda: status(port, "/ready") == 200, 120)
        assert status(port, "/live") == 200
        assert running.execute(HEALTH) == "live\nready\n"
        await wait_done(kafka, topic_prefix, topics.requests, 120)
        brought, used = json.loads(running.execute(KERNELS))
        assert len(brought) > 100
        assert used == brought, "something was compiled"
        assert running.stop(seconds=60) == 0
        log = running.log
    finally:
        running.remove()
    assert '"exit_code": 0' in log.splitlines()[-1]
    assert "CRITICAL" not in log
    assert "Traceback" not in log
    live = findings_on(await read(kafka, topics.alerts))
    assert len(live) >= 2
    replayed = engine.run(image, "replay", "/events.jsonl", "--no-close", options=mounted)
    assert {finding(decode_alert(line.encode())) for line in replayed.stdout.splitlines()} == live


def status(port: int, path: str) -> int:
    """Status of a page of the worker's port, 0 without an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except OSError as error:
        return int(getattr(error, "code", 0))
