"""The image run as a cluster runs it: no capabilities, a read-only root, a user without rights."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGE = "localhost/stillwatch:test"

ENGINE_SETTINGS = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""
"""Limits below those that Podman would raise, which not every root may."""

RESTRICTED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "host")


class Engine:
    """Runs containers under the restrictions of a cluster's strictest policy."""

    def __init__(self, settings: Path) -> None:
        self.environment = os.environ | {"CONTAINERS_CONF": str(settings)}

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `podman`."""
        command = ["podman", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(
        self, image: str, *arguments: object, options: tuple[object, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return self("run", "--rm", *RESTRICTED, *options, image, *arguments, check=check)

    def python(self, image: str, code: str) -> str:
        """What some Python prints inside."""
        return self.run(image, "-c", code, options=("--entrypoint", "python3")).stdout


class Running:
    """A container in the background, with settings of stillwatch."""

    def __init__(self, engine: Engine, image: str, settings: Mapping[str, Any], data: Path) -> None:
        self._engine = engine
        variables = [("--env", f"STILLWATCH_{name.upper()}={value}") for name, value in settings.items()]
        mount = ("--volume", f"{data}:/var/lib/stillwatch")
        options = [*RESTRICTED, *(word for pair in variables for word in pair), *mount]
        self.name = engine("run", "--detach", *options, image).stdout.strip()

    @property
    def log(self) -> str:
        """What it has written."""
        done = self._engine("logs", self.name)
        return done.stdout + done.stderr

    def execute(self, code: str) -> str:
        """What some Python prints beside it."""
        return self._engine("exec", self.name, "python3", "-c", code).stdout

    def stop(self, seconds: int) -> int:
        """SIGTERM, and SIGKILL after so long; its exit code."""
        self._engine("stop", "--time", seconds, self.name)
        return int(self._engine("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)

    def remove(self) -> None:
        """End it, and forget it."""
        self._engine("rm", "--force", "--time", 0, self.name, check=False)
