"""Opening what commands read and write; `-` is standard input or output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer

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
    """Check, before anything is opened, that a command's files are different ones.

    Raises
    ------
    InputError
        An input would be overwritten, or two outputs would go to one file.
    """
    read = {path.resolve() for path in inputs if path is not None and path != STANDARD}
    written: set[Path] = set()
    for path in outputs:
        if path is None or path == STANDARD:
            continue
        if path.resolve() in read:
            raise InputError(f"{path} is the input and would be overwritten")
        if path.resolve() in written:
            raise InputError(f"{path} is named for two outputs: give each a file of its own")
        written.add(path.resolve())


@contextmanager
def open_output(path: Path, *, not_over: Iterable[Path] = (), beside: Iterable[Path] = ()) -> Iterator[BinaryIO]:
    """A file to write to; flushed at the end.

    Parameters
    ----------
    path
        The file.
    not_over, beside
        See `refuse_overwriting`, which is asked first.

    Raises
    ------
    InputError
        The file cannot be written, or is an input.
    typer.BadParameter
        The file is another output too.
    """
    refuse_overwriting(path, not_over=not_over, beside=beside)
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


def refuse_overwriting(path: Path, *, not_over: Iterable[Path] = (), beside: Iterable[Path] = ()) -> None:
    """Refuse an output that is an input or another output, by whatever name, link or redirection.

    Parameters
    ----------
    path
        The output.
    not_over
        Everything that the command reads.
    beside
        The other files that it writes.

    Raises
    ------
    InputError
        The output is an input.
    typer.BadParameter
        The output is another output too.
    """
    if any(_is_one(path, _STDOUT, read, _STDIN) for read in not_over):
        raise InputError(f"{path} is an input and would be overwritten")
    if any(_is_one(path, _STDOUT, written, _STDOUT) for written in beside):
        raise typer.BadParameter(f"{path} is named for two outputs, which would overwrite each other")


def _is_one(path: Path, descriptor: int, other: Path, other_descriptor: int) -> bool:
    """Whether two paths lead to one file; the descriptors are what `-` stands for."""
    if path == other == STANDARD and descriptor == other_descriptor:
        return True
    one, two = _status(path, descriptor), _status(other, other_descriptor)
    if one is None or two is None:  # not there yet: only the names can be compared
        return STANDARD not in (path, other) and path.resolve() == other.resolve()
    # Writing twice to a terminal or /dev/null harms nothing.
    return stat.S_ISREG(one.st_mode) and os.path.samestat(one, two)


def _status(path: Path, descriptor: int) -> os.stat_result | None:
    try:
        return os.fstat(descriptor) if path == STANDARD else path.stat()
    except OSError:
        return None
