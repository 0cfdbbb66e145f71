"""A worker with faults: its engine cannot take a request called `boom`, and is slow with one called `slow`."""

from __future__ import annotations

import time
from typing import Any

from streams.worker import main  # first: it names the folder where the engine's kernels stay compiled

from detectors.engine import Engine  # isort: skip

SLOW_SECONDS = 0.5

sound = Engine.apply


def apply(engine: Engine, partition: int, batch: Any) -> Any:
    alerts = sound(engine, partition, batch)
    for account, identifier in zip(batch.accounts, batch.ids, strict=True):
        if identifier == "boom":
            raise RuntimeError(f"a fault that quotes {account}")
        if identifier == "slow":
            time.sleep(SLOW_SECONDS)
    return alerts


if __name__ == "__main__":
    Engine.apply = apply  # type: ignore[method-assign]
    main()
