"""The Dockerfile and the scripts around it keep to the usual rules."""

from __future__ import annotations

import subprocess

from tests.unit.deploy.manifests import ROOT, tools


def test_hadolint_finds_nothing() -> None:
    command = [tools() / "bin" / "hadolint", ROOT / "deploy" / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_both_stages_have_one_base_of_a_fixed_version() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert len(bases) == 1
    assert "latest" not in bases.pop()
