"""Brokers that serve a whole session of tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.integration.broker import BrokerError

Started = TypeVar("Started")


def started_for_the_session(start: Callable[[Path], Started], folder: Path) -> Started:
    """What `start` starts in a folder. When it does not, every test that wants it fails with the broker's words."""
    try:
        return start(folder)
    except BrokerError as error:
        pytest.fail(f"no Kafka to test on. {error}", pytrace=False)
