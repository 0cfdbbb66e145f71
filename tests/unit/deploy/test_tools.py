"""deploy/tools.sh: what could not be had is an error, since tests that are skipped for it look as if they passed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.manifests import ROOT

OF_THE_SYSTEM = (
    *("bash", "cat", "chmod", "cksum", "cp", "cut", "dirname", "env", "id", "ln", "mkdir", "mktemp", "rm", "sed"),
    *("sha512sum", "tar", "touch"),
)
NEEDED = ("go", "mvn", "npm", "promtool")


def prepare(folder: Path, present: set[str]) -> subprocess.CompletedProcess[str]:
    """`tools.sh prepare` where there are only these of its programs, which do nothing."""
    programs = folder / "bin"
    programs.mkdir()
    for name in OF_THE_SYSTEM:
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    for name in present:
        (programs / name).touch(mode=0o755)
    return subprocess.run(
        [programs / "bash", ROOT / "deploy" / "tools.sh", "prepare"],
        env={"PATH": str(programs), "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("missing", NEEDED)
def test_without_one_of_its_programs_it_fails_and_says_which(missing: str, tmp_path: Path) -> None:
    done = prepare(tmp_path, {*NEEDED} - {missing})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"tools: needs {missing}: install" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_step_that_fails_ends_it_before_anything_is_called_complete(tmp_path: Path) -> None:
    """Here the first one, for want of a Python."""
    done = prepare(tmp_path, set(NEEDED))
    assert done.returncode != 0
    assert (done.stdout, list(tmp_path.rglob("complete"))) == ("", [])
    assert "could not get" not in done.stderr, "it went on"
