"""Exit codes of the command `stillwatch`, the same for every subcommand."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    """It did what was asked."""

    UNKEPT = 1
    """It ran, but what it promises did not come true: the demo missed an account, a check found a fault."""

    USAGE = 2
    """Bad arguments or configuration."""

    INPUT = 3
    """An input file, or a worker's store of states, that cannot be read or used."""

    BROKER = 4
    """Brokers that cannot be reached, or that refused."""

    FAULT = 70
    """A fault of stillwatch, worth a report (`EX_SOFTWARE`)."""

    TEMPORARY = 75
    """A worker that ended itself since it got nowhere, did not stop in time, has a full disk, or was given new
    credentials; nothing is lost by it, and it is to be started again (`EX_TEMPFAIL`)."""

    INTERRUPTED = 130
    """Ctrl-C."""


MEANINGS = {
    ExitCode.OK: "fine",
    ExitCode.UNKEPT: "what the command promises did not come true",
    ExitCode.USAGE: "bad arguments or configuration",
    ExitCode.INPUT: "an input file, or a worker's store of states, cannot be read or used",
    ExitCode.BROKER: "brokers cannot be reached, or refused",
    ExitCode.FAULT: "a fault of stillwatch, worth a report",
    ExitCode.TEMPORARY: "a worker that got nowhere, stopped late, has a full disk or new credentials: start it again",
    ExitCode.INTERRUPTED: "interrupted",
}
"""One line each, as `--help` and the README show them."""
