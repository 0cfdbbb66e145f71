"""The same bytes on any machine: compiled or not, with bounds checked, for other CPUs, with other hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.detectors.scored_stream import digest

ROOT = Path(__file__).parents[3]
REQUESTS = 120


def run(requests: int, **environment: str) -> str:
    """The digest by a process of its own, which compiles everything anew: a cache is blind to these switches."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.unit.detectors.scored_stream", str(requests)],
        cwd=ROOT,
        env=own | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout.strip()


@pytest.fixture(scope="module")
def expected() -> str:
    found = digest(REQUESTS)
    alerts, evictions, _ = found.split()
    assert int(alerts) >= 2
    assert int(evictions) >= 1
    return found


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"NUMBA_DISABLE_JIT": "1", "PYTHONHASHSEED": "7"}, id="not compiled"),
        pytest.param(
            {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONHASHSEED": "8"},
            id="for any x86, bounds checked",
        ),
    ],
)
def test_the_same_records_give_the_same_bytes(environment: dict[str, str], expected: str) -> None:
    assert run(REQUESTS, **environment) == expected


def test_rivers_checks_pass_uncompiled() -> None:
    code = (
        "import river.checks\n"
        "from detectors.account_model import AccountModel\n"
        "from detectors.statistics import VonNeumannRatio\n"
        "from tests.made_up import plain_baseline\n"
        "from tests.unit.detectors.test_estimators import feature_stream\n"
        "for model, n in ((VonNeumannRatio(), 60), (AccountModel(plain_baseline()), 12)):\n"
        "    river.checks._yield_datasets = lambda model, scale=1: iter([feature_stream(n)])\n"
        "    river.checks.check_estimator(model)\n"
        "print('passed')"
    )
    own = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True, timeout=240)
    assert ran.stdout.strip() == "passed", ran.stderr
