"""A worker with a fault: its engine cannot take a request whose id is `boom`."""

from __future__ import annotations

from typing import Any

from streams.worker import main  # first: it names the folder where the engine's kernels stay compiled

from detectors.engine import Engine  # isort: skip

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
