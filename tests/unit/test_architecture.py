"""What the code keeps to as a whole: imports run one way, and the detectors depend on their input only."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each package and the ones of ours that it may import: streams → detectors → schemas.
MAY_IMPORT = {
    "schemas": {"schemas"},
    "detectors": {"detectors", "schemas"},
    "streams": {"streams", "detectors", "schemas"},
}

# The same records must give the same findings live, replayed and after a crash. So nothing here may see the broker, the
# clock, the machine, another thread or chance; and nothing may load state that could run code.
IMPURE_MODULES = {
    "aiohttp", "aiokafka", "asyncio", "concurrent", "confluent_kafka", "dbm", "dill", "faust", "joblib", "logging",
    "marshal", "mode", "multiprocessing", "os", "pickle", "prometheus_client", "pydantic_settings", "random",
    "requests", "rocksdict", "secrets", "shelve", "shutil", "socket", "sqlite3", "structlog", "subprocess", "sys",
    "tempfile", "threading", "time", "typer", "urllib", "uuid", "zoneinfo",
}  # fmt: skip

# Calls that read the clock, open files or draw from a generator nobody handed in, however they were imported.
IMPURE_CALLS = {
    "open", "eval", "exec", "input", "print", "__import__",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "np.load", "np.save", "np.savez", "np.fromfile", "np.memmap", "np.random.seed", "np.random.rand", "np.random.randn",
    "np.random.random", "np.random.normal", "np.random.shuffle", "np.random.permutation", "np.random.choice",
}  # fmt: skip

# Where a model ships its weights is the library's own affair: this file reads them, once, from an installed package.
MAY_READ_WEIGHTS = "detectors/embedding.py"


def sources(package: str) -> list[Path]:
    """Every module of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    """The path as a reader of a failure knows it."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that a file imports, wherever in the file."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), name(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield node.lineno, ".".join((*base, *filter(None, [node.module])))


def called(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each plain call in a file, without the leading modules of datetime."""
    for node in ast.walk(ast.parse(path.read_text(), name(path))):
        if isinstance(node, ast.Call):
            dotted = ast.unparse(node.func)
            yield node.lineno, dotted.removeprefix("datetime.") if dotted.count(".") > 1 else dotted


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package: str) -> None:
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in sources(package)
        for line, module in imported(path)
        if (top := module.partition(".")[0]) in {*MAY_IMPORT, "tests"} and top not in MAY_IMPORT[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["schemas", "detectors"])
def test_pure_packages_import_nothing_that_reaches_outside(package: str) -> None:
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in sources(package)
        if name(path) != MAY_READ_WEIGHTS and path.name != "__main__.py"
        for line, module in imported(path)
        if module.partition(".")[0] in IMPURE_MODULES
    ]
    assert wrong == []


def test_detectors_call_nothing_that_reaches_outside() -> None:
    wrong = [
        f"{name(path)}:{line} calls {function}"
        for path in sources("detectors")
        if name(path) != MAY_READ_WEIGHTS
        for line, function in called(path)
        if function in IMPURE_CALLS
    ]
    assert wrong == []


def test_detectors_rebind_no_global() -> None:
    wrong = [
        f"{name(path)}:{node.lineno} global {', '.join(node.names)}"
        for path in sources("detectors")
        for node in ast.walk(ast.parse(path.read_text(), name(path)))
        if isinstance(node, ast.Global)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_nothing_is_pickled(package: str) -> None:
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in sources(package)
        for line, module in imported(path)
        if module.partition(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_what_is_imported_is_declared(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    declared = {re.split(r"[\[<>=]", requirement)[0] for requirement in [*project["dependencies"], *extras]}
    module_of = {"faust-streaming": "faust", "mode-streaming": "mode", "opentelemetry-sdk": "opentelemetry"}
    provided = {module_of.get(distribution, distribution.replace("-", "_")) for distribution in declared}
    provided.add("pydantic_core")  # pydantic pins it to the release, and gives out its types as its own
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in sources(package)
        for line, module in imported(path)
        if module.partition(".")[0] not in provided | set(MAY_IMPORT) | sys.stdlib_module_names
    ]
    assert wrong == []


def test_the_checks_see_what_they_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "detectors" / "statistics" / "bad.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import time\nfrom os import path\nfrom ..account import Account\n"
        "def f():\n    import asyncio.events\n    return open('x'), datetime.datetime.now(), np.load('y')\n"
    )
    assert [found for _, found in imported(module)] == ["time", "os", "detectors.account", "asyncio.events"]
    assert {found for _, found in called(module)} == {"open", "datetime.now", "np.load"}
