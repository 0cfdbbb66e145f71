"""Compiled kernels kept on disk: the first start compiles for some seconds, the next ones do not."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"

PREBUILT = Path(sys.prefix) / "share" / "stillwatch" / "kernels"
"""Kernels that an installation brings along, as the container image does. Nobody but its maker may write there."""


def keep_compiled_kernels() -> None:
    """Point numba at a folder that is named by the digest of all kernel files, unless `NUMBA_CACHE_DIR` is set.

    numba takes a cached kernel for good as long as its own file is the same, whatever became of those it calls; with
    the digest in the name, any change starts an empty folder. What lies there is loaded as code, so it is the user's
    own, never a folder that others can write to. Without such a folder nothing is kept. It begins as a copy of what the
    installation brings for the same digest: numba wants to write where it reads. Has to run before numba is imported.
    """
    if os.environ.get(VARIABLE) or "numba" in sys.modules:
        return
    folder = _cache_home() / "stillwatch" / "kernels" / _digest()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.exists():
            _begin(folder)
        ours = folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    except OSError:
        return
    if ours:
        os.environ[VARIABLE] = str(folder)


def _begin(folder: Path) -> None:
    """Make the folder from what the installation brings, empty if that is nothing. Moved into place as a whole."""
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        if (PREBUILT / folder.name).is_dir():
            shutil.copytree(PREBUILT / folder.name, unfinished, copy_function=shutil.copyfile, dirs_exist_ok=True)
            unfinished.chmod(0o700)  # copytree gave it the mode of what it copied
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)  # another process was quicker, or the disk is full


def _cache_home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else Path(os.path.expanduser("~")) / ".cache"


def _digest() -> str:
    spec = importlib.util.find_spec("detectors")
    digest = hashlib.sha256()
    for location in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(location).rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
