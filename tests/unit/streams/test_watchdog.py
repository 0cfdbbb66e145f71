"""The watchdog: speaks once when there is no progress, and not while there is."""

from __future__ import annotations

import threading
from time import monotonic

from streams.worker import Watchdog, stuck_line


def test_no_progress_is_noticed_once() -> None:
    noticed = threading.Event()
    watchdog = Watchdog(0.05, lambda: monotonic() - 1.0, lambda seconds: noticed.set())
    watchdog.start()
    assert noticed.wait(10)
    watchdog.join(10)
    assert not watchdog.is_alive()


def test_progress_keeps_it_quiet_and_it_stops() -> None:
    noticed: list[float] = []
    looked = threading.Event()

    def progress() -> float:
        looked.set()
        return monotonic()

    watchdog = Watchdog(0.05, progress, noticed.append)
    watchdog.start()
    assert looked.wait(10)
    watchdog.stop()
    watchdog.join(10)
    assert noticed == []


def test_its_line_names_what_the_last_checkpoint_failed_of() -> None:
    failure = "DeliveryError: TopicAuthorizationFailedError: alerts"
    assert stuck_line(301.2, failure).startswith("no progress for 301 s ")
    assert stuck_line(301.2, failure).endswith(f": ending; the last checkpoint failed: {failure}")
    assert stuck_line(301.2, "").endswith(": ending")
