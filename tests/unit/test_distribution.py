"""What is shipped and what it is built from: the wheel, and the lock files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")
BUILD_REQUIREMENTS = PROJECT["build-system"]["requires"]


def pinned(lock: str) -> dict[str, str]:
    """Name and version of each package of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), flags=re.MULTILINE))


def normalised(requirement: str) -> str:
    """The name of a requirement as lock files spell it."""
    return re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in the wheel, built as `pip install .` builds it."""
    if missing := [name for name in BUILD_REQUIREMENTS if find_spec(name) is None]:
        pytest.fail(f"{', '.join(missing)} builds the wheel and is not installed: `make dev` does it", pytrace=False)
    folder = tmp_path_factory.mktemp("wheel")
    build = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
    ran = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: list[str]) -> None:
    tops = {path.split("/")[0] for path in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"streams", "detectors", "schemas"}


def test_the_wheel_holds_every_module_and_data_file_that_is_checked_in(wheel: list[str]) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "streams", "detectors", "schemas"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert set(listing.stdout.split()) - set(wheel) == set()


def test_the_wheel_holds_the_licence(wheel: list[str]) -> None:
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in wheel)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    requirements = re.split(r"\n(?=[a-z])", (ROOT / lock).read_text())
    bare = [requirement.split()[0] for requirement in requirements if "--hash=sha256:" not in requirement]
    assert bare == []


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_registry(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_both_locks_agree() -> None:
    runtime, dev = (pinned(lock) for lock in LOCKS)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_all_that_is_declared_is_locked() -> None:
    groups = PROJECT["dependency-groups"]
    runtime = [*PROJECT["project"]["dependencies"], *groups["build"], *PROJECT["build-system"]["requires"]]
    dev = [requirement for requirement in groups["dev"] if isinstance(requirement, str)]
    dev += [requirement for extra in PROJECT["project"]["optional-dependencies"].values() for requirement in extra]
    assert {normalised(requirement) for requirement in runtime} - set(pinned("requirements.lock")) == set()
    assert {normalised(requirement) for requirement in runtime + dev} - set(pinned("requirements-dev.lock")) == set()
