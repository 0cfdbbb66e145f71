"""How the compiled loops are compiled.

Never `fastmath` or `parallel`: a replay must give the bits that the live run gave. Kernels keep to + - * / and square
roots, cast float32 to float64 before arithmetic (so that `NUMBA_DISABLE_JIT=1` gives the same bytes), and guard every
divisor.

numba stamps a cached kernel with the hash of its own file only, so a change in a callee's file would keep old code. A
kernel is therefore cached only where `NUMBA_CACHE_DIR` is set; `streams` sets it to a folder that is named by the
digest of all kernel files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

config: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])

Record = Any
"""A numpy record (a row of a structured array), in compiled code or, with the JIT off, an `np.void`."""

Code = Any
"""A request's code: uint64, shape `(events.WORDS,)`."""

Vector = Any
"""A one-dimensional array whose dtype and shape the docstring names."""

Scalar = Any
"""A number that is a machine integer or float in compiled code, and a numpy or Python one with the JIT off."""


def kernel(function: Function) -> Function:
    """Compile `function` with numba, releasing the GIL."""
    compile_it: Any = numba.njit(nogil=True, error_model="numpy", cache=bool(config.CACHE_DIR))
    return cast(Function, compile_it(function))


def inlined(function: Function) -> Function:
    """Compile `function` into its callers: for the few instructions that everything calls."""
    compile_it: Any = numba.njit(nogil=True, error_model="numpy", inline="always")
    return cast(Function, compile_it(function))
