"""Kernels that an installation brings along are the beginning of the folder that numba works in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from streams import kernel_cache

SHOW = "import streams, os; print(os.environ['NUMBA_CACHE_DIR'])"


@pytest.fixture
def prebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A read-only folder of made-up kernels for today's digest, and no numba loaded yet."""
    folder = tmp_path / "prebuilt" / kernel_cache._digest() / "detectors_1"
    folder.mkdir(parents=True)
    (folder / "step.nbi").write_bytes(b"kernel")
    for path in (folder / "step.nbi", folder, folder.parent):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(kernel_cache, "PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(kernel_cache.VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    return tmp_path / "prebuilt"


def test_a_new_folder_begins_with_what_the_installation_brings(prebuilt: Path) -> None:
    kernel_cache.keep_compiled_kernels()
    folder = Path(os.environ[kernel_cache.VARIABLE])
    kernel = folder / "detectors_1" / "step.nbi"
    assert kernel.read_bytes() == b"kernel"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.access(kernel, os.W_OK)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_is_there_is_left_as_it_is(prebuilt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "stillwatch" / "kernels" / kernel_cache._digest()
    folder.mkdir(parents=True)
    kernel_cache.keep_compiled_kernels()
    assert os.environ[kernel_cache.VARIABLE] == str(folder)
    assert list(folder.iterdir()) == []


def test_kernels_of_other_code_are_passed_over(prebuilt: Path) -> None:
    (prebuilt / kernel_cache._digest()).rename(prebuilt / "0123456789abcdef")
    kernel_cache.keep_compiled_kernels()
    assert list(Path(os.environ[kernel_cache.VARIABLE]).iterdir()) == []


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {name: value for name, value in os.environ.items() if name != kernel_cache.VARIABLE}
    ran = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=environment | {"XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KeyError" in ran.stderr
