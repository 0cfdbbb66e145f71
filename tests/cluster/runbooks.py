"""Runbooks of deploy/README.md as they stand there: their commands, against a cluster and a Kafka of this machine."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.cluster.cluster import Cluster, Output, run
from tests.cluster.release import ROOT
from tests.integration.broker import KAFKA_SCRIPT

PAGE = ROOT / "deploy" / "README.md"
HEAD = "Running stillwatch"
"""Section whose block gives all others their variables and `sw`."""

KAFKA_TOOLS = ("kafka-topics", "kafka-consumer-groups", "kafka-configs")
RUN_SECONDS = 600

NOTHING: Mapping[str, str] = MappingProxyType({})


def blocks_of(section: str) -> list[str]:
    """The shell blocks of a section of the page, in order."""
    return [text for heading, text in _blocks(PAGE.read_text()) if heading == section]


def _blocks(page: str) -> Iterator[tuple[str, str]]:
    """Each shell block with the heading above it."""
    heading, kept = "", list[str]()
    inside = ""
    for line in page.splitlines():
        if inside:
            if line == "```":
                if inside == "```sh":
                    yield heading, "\n".join(kept) + "\n"
                inside, kept = "", []
            else:
                kept.append(line)
        elif line.startswith("```"):
            inside = line
        elif found := re.match(r"#+ (.*)", line):
            heading = found[1]


def commands_of(block: str) -> list[str]:
    """The commands of a block, one a line in it; lines that a backslash or an open pipe continues are one."""
    return re.split(r"(?<![\\|])\n", block.strip())


class Runbooks:
    """Runs blocks of the page with bash, in a folder of its own, for a release called stillwatch in a namespace.

    `kubectl`, `helm`, `stillwatch` and Kafka's tools are on its path; `files` lie in the folder by their names.

    Parameters
    ----------
    brokers
        Where the blocks reach Kafka. Without, nodes are fake and there is none: what is done inside of pods is passed
        over, and Kafka's tools are not there.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, folder: Path, brokers: str = "", files: Mapping[str, str] = NOTHING
    ) -> None:
        self._cluster, self.folder = cluster, folder
        self._head = [*blocks_of(HEAD), f"export NAMESPACE={namespace} BROKERS={brokers}"]
        if not brokers:
            self._head.append("sw() { :; }")
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        for name, text in files.items():
            (folder / name).write_text(text)
        _write_program(programs / "stillwatch", sys.executable, "-m", "streams.cli")
        for name in KAFKA_TOOLS if brokers else ():
            _write_program(programs / name, KAFKA_SCRIPT, "tool", name)
        path = f"{programs}:{cluster.tools.helm.parent}:{os.environ['PATH']}"
        self._environment = cluster.environment | {"PYTHONPATH": str(ROOT), "PATH": path}

    def run(
        self,
        section: str,
        *,
        block: int = 0,
        only: str = "",
        without: Sequence[str] = (),
        instead: Mapping[str, str] = NOTHING,
        text: str = "",
        **variables: str,
    ) -> Output:
        """Run a block of a section to its end; the first command that fails ends it. Raises `CommandError`.

        Parameters
        ----------
        only, without
            Run only the commands with these words, or those without any of these. There must be such, and others.
        instead
            What a reader has to put in the place of words of the page, which must be there.
        text
            What whoever runs it types.
        variables
            What whoever runs it has set.
        """
        script = blocks_of(section)[block]
        for words, others in instead.items():
            assert words in script, f"{section} has no {words!r} any more"
            script = script.replace(words, others)
        commands = commands_of(script)
        for words in filter(None, (only, *without)):
            named = [command for command in commands if words in command]
            assert 0 < len(named) < len(commands), f"{section} has no command with {words!r} beside others"
            commands = named if words == only else [command for command in commands if command not in named]
        given = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        program = "\n".join(["set -euo pipefail", *self._head, *given, "set -x", *commands])
        return run(
            "bash", "-c", program, text=text, environment=self._environment, folder=self.folder, seconds=RUN_SECONDS
        )


def _write_program(path: Path, *command: str | Path) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
    path.chmod(0o755)
