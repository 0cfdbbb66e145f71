"""A worker that also tells how many asyncio tasks it has, for `tests.bench.soak`."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from prometheus_client import Gauge

from streams import worker
from streams.app import build
from streams.service import Service
from streams.settings import Settings

TASKS = "soak_asyncio_tasks"


def tasks_of(app: Any) -> int:
    """Unfinished tasks of the application's loop and of its consumer's thread; 0 before it has a consumer."""
    if app._consumer is None:
        return 0
    return sum(len(asyncio.all_tasks(loop)) for loop in (app.loop, app.consumer.thread.thread_loop))


def main() -> None:
    """Run a worker with settings from the environment."""

    def counting(settings: Settings) -> Service:
        app = build(settings)
        gauge = Gauge(TASKS, "Unfinished asyncio tasks.", registry=app.metrics.registry)
        gauge.set_function(lambda: tasks_of(app))
        return app

    with patch.object(worker, "build", counting):
        worker.main()


if __name__ == "__main__":
    main()
