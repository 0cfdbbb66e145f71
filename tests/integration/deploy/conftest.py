"""Fixtures of the tests that run the container image."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from streams.simulation import simulate
from tests.integration.deploy.container import ENGINE_SETTINGS, IMAGE, Engine
from tests.integration.streams.running import ROOT


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Podman, with settings that a machine of few rights needs."""
    missing = [program for program in ("buildah", "podman", "runc", "debootstrap") if shutil.which(program) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root, and {', '.join(missing) or 'nothing else'}: `deploy/image.sh tools` installs them")
    settings = tmp_path_factory.mktemp("engine") / "containers.conf"
    settings.write_text(ENGINE_SETTINGS)
    return Engine(settings)


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image of this checkout. Layers that did not change are taken from the last build."""
    script = ROOT / "deploy" / "image.sh"
    for arguments in (["base"], ["build", IMAGE]):
        done = subprocess.run([script, *arguments], env=engine.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return IMAGE


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Traffic with something to find in it."""
    file = tmp_path / "events.jsonl"
    traffic = simulate(seed=3, days=3, organic=4, planted=2)
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in traffic.events))
    return file
