"""Opening what commands read and write; `-` is standard input or output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from streams.cli.failures import InputError

STANDARD = Path("-")


@contextmanager
def open_input(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """(file, its length in bytes or None when that is unknown).

    Raises
    ------
    InputError
        The file cannot be opened.
    """
    if path == STANDARD:
        yield sys.stdin.buffer, None
        return
    try:
        source = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    with source:
        status = os.fstat(source.fileno())
        yield source, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def open_output(path: Path, *, not_over: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write to; flushed at the end.

    Parameters
    ----------
    not_over
        The command's input, which must not be overwritten.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not_over is not None and path.exists() and not_over.exists() and path.samefile(not_over):
        raise InputError(f"{path} is the input and would be overwritten")
    try:
        target = path.open("wb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with target:
        yield target
