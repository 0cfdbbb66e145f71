"""Calls made side by side in other processes or threads, their results in order, no more of them waiting than bounded.

`Executor.map` of the standard library takes in all its arguments at once; over a file of any length that is the file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What `map` is: makes calls, gives their results in order."""

AHEAD = 2
"""Calls that wait for each process: it never runs dry, and hardly any results pile up behind a slow one."""


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(
    executor: Executor, waiting: int, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """`map` by an executor; of the items only so many are taken before their results are asked for."""
    calls: deque[Future[Result]] = deque()
    try:
        for item in items:
            calls.append(executor.submit(function, item))
            if len(calls) >= waiting:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        for call in calls:
            call.cancel()


@contextmanager
def processes(count: int) -> Iterator[Run]:
    """A `map` over so many processes, which end with the context; one process is this one.

    Processes start afresh rather than as copies of this one, whose threads (a progress bar, a store) could hold a lock
    in the copy for ever. What they are given and give back has to be picklable.
    """
    if count == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_leave_interrupts_to_the_parent) as pool:
        yield partial(ordered, pool, AHEAD * count)


def _leave_interrupts_to_the_parent() -> None:
    """A terminal interrupts all processes at once; this one ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
