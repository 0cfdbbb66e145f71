"""A worker with a fault: its engine cannot take a request whose id is `boom`."""

from __future__ import annotations

from typing import Any

from detectors.engine import Engine
from streams.worker import main

sound = Engine.apply


def apply(engine: Engine, partition: int, batch: Any) -> Any:
    alerts = sound(engine, partition, batch)
    for account, identifier in zip(batch.accounts, batch.ids, strict=True):
        if identifier == "boom":
            raise RuntimeError(f"a fault that quotes {account}")
    return alerts


if __name__ == "__main__":
    Engine.apply = apply  # type: ignore[method-assign]
    main()
