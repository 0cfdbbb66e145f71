"""Opening what commands read and write; `-` is standard input or output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from streams.cli.failures import InputError

STANDARD = Path("-")

_STDIN, _STDOUT = 0, 1


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


def keep_apart(*, inputs: Iterable[Path | None], outputs: Iterable[Path | None]) -> None:
    """Check, before anything is opened, that a command's files are different ones, by whatever name or link.

    Raises
    ------
    InputError
        An input would be overwritten, or two outputs would go to one file.
    """
    read = [(path, _STDIN) for path in inputs if path is not None]
    written: list[tuple[Path, int]] = []
    for path in outputs:
        if path is None:
            continue
        output = (path, _STDOUT)
        if any(_is_one(output, other) for other in read):
            raise InputError(f"{path} is an input and would be overwritten")
        if any(_is_one(output, other) for other in written):
            raise InputError(f"{path} is named for two outputs: give each a file of its own")
        written.append(output)


def _is_one(one: tuple[Path, int], two: tuple[Path, int]) -> bool:
    """Whether two paths lead to one file; beside each stands the descriptor that `-` would mean."""
    if one == two and one[0] == STANDARD:
        return True
    first, second = _status(*one), _status(*two)
    if first is None or second is None:  # not there yet: only the names can be compared
        return STANDARD not in (one[0], two[0]) and one[0].resolve() == two[0].resolve()
    # Writing twice to a terminal or /dev/null harms nothing.
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def _status(path: Path, descriptor: int) -> os.stat_result | None:
    try:
        return os.fstat(descriptor) if path == STANDARD else path.stat()
    except OSError:
        return None


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; flushed at the end. What else the command opens is checked by `keep_apart`, before.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        target = path.open("wb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with target:
        yield target
