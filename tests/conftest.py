"""What every test can use: markers from folders, and the composed traffic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from detectors.baseline import Baseline
    from detectors.embedding import WordLlamaEmbedder

# The first call of a compiled function takes seconds, so a limit on each example would fail at random. In CI the
# examples are the same every time: a change is not refused for a fault that another one brought.
settings.register_profile("stillwatch", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("stillwatch")

TESTS = Path(__file__).parent

# Folders whose tests are marked as a whole, so that `-m "not integration"` works from anywhere.
MARKED_FOLDERS = ("integration", "e2e", "cluster")


NO_CORPORA = "needs composed traffic: set STILLWATCH_SHARED to the folder that holds traffic/ and corpora/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a marked folder; skip those on composed traffic where there is none."""
    for item in items:
        if item.get_closest_marker("corpora") and not os.environ.get("STILLWATCH_SHARED"):
            item.add_marker(pytest.mark.skip(reason=NO_CORPORA))
        if item.path.is_relative_to(TESTS):
            folder = item.path.relative_to(TESTS).parts[0]
            if folder in MARKED_FOLDERS:
                item.add_marker(folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the traffic composer and its corpora, which are not part of this repository.

    Tests on composed traffic are skipped, visibly, on a machine without it.
    """
    named = os.environ.get("STILLWATCH_SHARED")
    if not named:
        pytest.skip(NO_CORPORA)
    folder = Path(named)
    if not (folder / "traffic").is_dir():
        pytest.fail(f"STILLWATCH_SHARED is {folder}, which holds no traffic/", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbedder:
    """The text model that ships."""
    from detectors.embedding import load_wordllama  # here: it takes a second to load, which not every test needs

    return load_wordllama()


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    """The baseline that ships. Tests of the detectors have one that is set by hand."""
    from detectors.baseline import load_default

    return load_default()
