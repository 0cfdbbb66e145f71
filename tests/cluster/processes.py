"""Programs that run in the background until a block ends."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

WAIT_SECONDS = 180
"""What takes so long on two cores with other work has gone wrong; alone, nothing takes 20 s."""

STOP_SECONDS = 20
POLL_SECONDS = 0.1
WORDS = 3000
"""Characters of a log that a failure quotes."""


class Processes:
    """Starts programs, each with a log of its own in `folder`; the end of the block stops them, last started first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            name, process = self._running.pop()
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop within %d s: killed", name, STOP_SECONDS)
                process.kill()
                process.wait()

    def start(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a program."""
        log.info("starting %s", name)
        with (self.folder / f"{name}.log").open("wb") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._running.append((name, process))

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until something holds. Raises `AssertionError` with the logs when it does not, or a program ended."""
        began = time.monotonic()
        while not condition():
            ended = [name for name, process in self._running if process.poll() is not None]
            if ended or time.monotonic() - began > seconds:
                why = f"{', '.join(ended)} ended" if ended else f"not within {seconds:.0f} s"
                names = ended or [name for name, _ in self._running]
                raise AssertionError("\n".join([f"{what}: {why}", *map(self._end_of_log, names)]))
            time.sleep(POLL_SECONDS)
        log.info("%s after %.1f s", what, time.monotonic() - began)

    def _end_of_log(self, name: str) -> str:
        return f"--- {name}\n{(self.folder / f'{name}.log').read_text(errors='replace')[-WORDS:]}"
