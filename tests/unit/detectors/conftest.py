"""What tests of the detectors share."""

from __future__ import annotations

import pytest

from detectors.baseline import Baseline
from tests.made_up import plain_baseline


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    """A baseline set by hand."""
    return plain_baseline()
