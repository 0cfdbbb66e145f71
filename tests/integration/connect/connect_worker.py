"""A Kafka Connect worker as its own process, set up as deploy/SUBSCRIBING.md says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.broker import KAFKA_SCRIPT, free_port

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "deploy" / "SUBSCRIBING.md").read_text()

# 8 s on a loaded machine; a minute where it looks through the folders of many connectors.
START_SECONDS = 240


def settings_of_the_page() -> dict[str, str]:
    """What the page tells to set on a worker."""
    return dict(re.findall(r"`((?:config\.providers|connector\.client)[\w.]*)=([^`]+)`", PAGE))


class ConnectWorker:
    """A standalone worker; its log and what its sinks print go to files.

    `plugins` is a folder of connectors. `environment` is set for the process, for secrets.
    """

    def __init__(self, kafka: str, folder: Path, plugins: Path | None, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = f"http://127.0.0.1:{free_port()}"
        self.log_file, self._printed = folder / "connect.log", folder / "printed"
        properties = settings_of_the_page() | {
            "bootstrap.servers": kafka,
            "listeners": self.address,
            "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "offset.storage.file.filename": str(folder / "offsets"),
            # So that what is committed shows within a second (default a minute).
            "offset.flush.interval.ms": "1000",
            "plugin.discovery": "hybrid_warn" if plugins else "service_load",
        }
        if plugins:
            properties["plugin.path"] = str(plugins)
        settings = folder / "worker.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        with self.log_file.open("wb") as log, self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [KAFKA_SCRIPT, "connect", settings],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
                env=os.environ | environment,
            )

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text(errors="replace")

    @property
    def printed(self) -> list[str]:
        """Whole lines that it has written to standard output."""
        return self._printed.read_text(errors="replace").rpartition("\n")[0].splitlines()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of its REST interface; status 0 while it does not answer."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(  # noqa: S310
            self.address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=90) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            # While it starts, its web server answers with pages of its own.
            told = error.read().decode()
            return error.code, json.loads(told) if told.startswith("{") else told
        except OSError:
            return 0, None

    def wait_ready(self) -> None:
        """Wait until its interface answers."""
        self.wait_until(lambda: self.ask("GET", "/connectors")[0] == 200, START_SECONDS)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds; fails with the log's end, at once when the worker has ended."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the Connect worker ended:\n{self.log[-5000:]}"
            assert time.monotonic() < end, f"did not happen within {seconds} s\n{self.log[-5000:]}"
            time.sleep(0.2)

    @contextmanager
    def running(self, connector: Mapping[str, Any]) -> Iterator[None]:
        """Post a connector as it stands in its file; it is gone afterwards."""
        status, answer = self.ask("POST", "/connectors", connector)
        assert status == 201, answer
        try:
            yield
        finally:
            self.ask("DELETE", f"/connectors/{connector['name']}")

    def errors_and_unknown(self, connector: Mapping[str, Any]) -> tuple[dict[str, list[str]], set[str]]:
        """What the worker and the connector find wrong with a configuration, and options that neither knows."""
        config = connector["config"] | {"name": connector["name"]}
        status, answer = self.ask("PUT", f"/connector-plugins/{config['connector.class']}/config/validate", config)
        assert status == 200, answer
        values = [each["value"] for each in answer["configs"]]
        known = {each["definition"]["name"] for each in answer["configs"] if each["definition"]}
        return {value["name"]: value["errors"] for value in values if value["errors"]}, set(config) - known

    def states(self, name: str) -> list[str]:
        """States of a connector and of its tasks."""
        status, answer = self.ask("GET", f"/connectors/{name}/status")
        return [answer["connector"]["state"], *(task["state"] for task in answer["tasks"])] if status == 200 else []

    def kill(self) -> None:
        """End it at once, and wait for the end."""
        self.process.kill()
        self.process.wait()
