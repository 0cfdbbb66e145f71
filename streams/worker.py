"""The worker process: checks before it joins, a stop that ends in time, a watchdog for one that is stuck."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any, NoReturn

import faust

from streams import logs
from streams.app import build
from streams.connection import check_connection
from streams.exit_codes import ExitCode
from streams.metrics import serve
from streams.service import Service
from streams.settings import Settings, SettingsError, load_settings
from streams.topics import TopicsError, check_topics

log = logging.getLogger(__name__)

DISK_TRY_BYTES = 1024 * 1024
"""What RocksDB writes for a partition before the first state goes in, and some."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk that has no room, or no more of it for us: the one fault of `data_dir` that can pass by itself."""

TRACES_SECONDS = 3.0
"""What the last spans may take on their way to the collector, after all else is done; less when the grace is short."""

WATCHDOG_LOOKS = 10
"""How often within its time the watchdog looks."""


class Worker(faust.Worker):
    """Runs the application in this process. `faust worker` makes one as well as `run`."""

    app: Service
    logger = logs.FAUST

    def __init__(self, app: Service, *services: Any, **kwargs: Any) -> None:
        # Why: logs are ours (structured, without content), and a spinner or banner is none.
        super().__init__(app, *services, **{**kwargs, "quiet": True, "override_logging": False})
        self.redirect_stdouts = False
        self.spinner = None
        self._hard_exit: threading.Timer | None = None
        self._hard_exit_at = float("inf")
        self._interrupted = False
        app.stop_worker = self._stop_from_within

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped. Raises `SystemExit` with one of the documented codes."""
        settings = self.app.settings
        logs.configure(settings)
        prepared = self.loop.run_until_complete(prepare(settings))
        if prepared is not ExitCode.OK:
            raise SystemExit(int(prepared))
        self.app.warm_up()
        try:
            server = self._serve_metrics()
        except OSError as error:
            log.error("metrics_host:metrics_port %s:%d: %s", settings.metrics_host, settings.metrics_port, error)
            raise SystemExit(int(ExitCode.USAGE)) from None
        watchdog = Watchdog(settings.watchdog_seconds, self.app.progress_at, self._stuck)
        watchdog.start()
        code = 0
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            code = int(self.app.exit_code or (ExitCode.INTERRUPTED if self._interrupted else end.code) or 0)
        finally:
            watchdog.stop()
            if server is not None:
                server.shutdown()
            self.app.traces.close(min(TRACES_SECONDS, self._seconds_left() / 2))
            if self._hard_exit is not None:
                self._hard_exit.cancel()
        log.info("ended", extra={"exit_code": code})
        raise SystemExit(code)

    def _serve_metrics(self) -> Any:
        settings = self.app.settings
        if not settings.metrics_port:
            return None
        return serve(self.app.metrics, self.app.is_ready, self._is_live, settings.metrics_host, settings.metrics_port)

    def _is_live(self) -> bool:
        """Whether there was progress within the watchdog's time; for whoever would end a worker from outside."""
        seconds = self.app.settings.watchdog_seconds
        return not seconds or monotonic() - self.app.progress_at() <= seconds

    # --- the end

    def _on_sigint(self) -> None:
        self._interrupted = True
        super()._on_sigint()

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        """Why overridden: with the brokers away, Faust's stop did not end in 130 s."""
        log.info("stopping", extra={"signal": signal.name})
        self._end_hard_after(self.app.settings.shutdown_grace_seconds)
        super()._schedule_shutdown(signal)

    def _crash(self, reason: BaseException) -> None:
        """Why overridden: a crash inside Faust can hang for long in stopping what still waits for the rest."""
        log.critical("crashed: %s", type(reason).__name__, exc_info=reason)
        self._end_hard_after(self.app.settings.shutdown_grace_seconds)
        super()._crash(reason)

    def _stop_from_within(self) -> None:
        self.loop.call_soon_threadsafe(self._schedule_shutdown, signal.SIGTERM)

    def _stuck(self, seconds: float) -> None:
        """Called by the watchdog, from its thread: the event loop may be what is stuck."""
        log.critical("%s", stuck_line(seconds, self.app.checkpoint.failure))
        self.app.exit_code = ExitCode.TEMPORARY
        self._end_hard_after(self.app.settings.shutdown_grace_seconds)
        self._stop_from_within()

    def _end_hard_after(self, seconds: float) -> None:
        """End the process if it is still there by then. Safe: nothing counts that is not saved."""
        if self._hard_exit is None:
            self._hard_exit_at = monotonic() + seconds
            self._hard_exit = threading.Timer(seconds, _end_hard)
            self._hard_exit.daemon = True
            self._hard_exit.start()

    def _seconds_left(self) -> float:
        """Until the hard exit."""
        return max(0.0, self._hard_exit_at - monotonic())


def stuck_line(seconds: float, failure: str) -> str:
    """What a worker ends with that got nowhere for so long; `failure` is why its last checkpoint failed, if it did.

    >>> stuck_line(300, "DeliveryError: TopicAuthorizationFailedError: stillwatch.alerts")[50:]
    'ending; the last checkpoint failed: DeliveryError: TopicAuthorizationFailedError: stillwatch.alerts'
    """
    line = f"no progress for {seconds:.0f} s though partitions are ours: ending"
    return f"{line}; the last checkpoint failed: {failure}" if failure else line


class Watchdog(threading.Thread):
    """Calls `on_stuck` once when there was no progress for so many seconds (0: never).

    `progress_at` is monotonic time of the last progress. Runs in a thread of its own.
    """

    def __init__(self, seconds: float, progress_at: Callable[[], float], on_stuck: Callable[[float], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._seconds = seconds
        self._progress_at = progress_at
        self._on_stuck = on_stuck
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look now and then until stopped."""
        while self._seconds and not self._stopped.wait(self._seconds / WATCHDOG_LOOKS):
            without = monotonic() - self._progress_at()
            if without > self._seconds:
                self._on_stuck(without)
                return

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()


async def prepare(settings: Settings) -> ExitCode:
    """What must hold before a worker may join its group; logs what does not, in a line."""
    try:
        if settings.check_topics:
            await check_topics(settings)
        elif (failure := await check_connection(settings)) is not None:
            log.error("brokers %s: %s", settings.brokers, failure)
            return ExitCode.BROKER
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if settings.store == "rocksdict":
            _try_disk(settings.data_dir)
    except TopicsError as error:
        log.error("%s", error)
        return ExitCode.BROKER
    except OSError as error:
        log.error("data_dir %s: %s", settings.data_dir, error)
        return ExitCode.TEMPORARY if error.errno in FULL else ExitCode.USAGE
    return ExitCode.OK


def _try_disk(folder: Path) -> None:
    """Raise `OSError` when a database could not even be opened in a folder: RocksDB says so in many words."""
    with TemporaryFile(dir=folder) as file:
        file.write(bytes(DISK_TRY_BYTES))
        file.flush()


def run(settings: Settings) -> int:
    """Run a worker in this process until it is stopped; its exit code."""
    logs.configure(settings)
    try:
        app = build(settings)
    except SettingsError as error:
        log.error("%s", error)
        return int(ExitCode.USAGE)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        app.Worker(loop=loop).execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)


def _end_hard() -> None:
    log.critical("not stopped in time: ending hard, what is not saved will be read again")
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(int(ExitCode.TEMPORARY))


def main() -> None:
    """Run a worker with settings from the environment."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"stillwatch: {error}\n")
        raise SystemExit(int(ExitCode.USAGE)) from None
    raise SystemExit(run(settings))


if __name__ == "__main__":
    main()
