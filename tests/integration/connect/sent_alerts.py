"""Findings for sinks to carry, and the files of deploy/connect for a test's topic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from schemas.alert import Alert, account_observable, cloudevents_headers, decode_alert, encode_alert
from tests.integration.connect.connect_worker import ROOT
from tests.integration.streams.running import Request

FILES = sorted((ROOT / "deploy" / "connect").glob("*.json"))
EXAMPLE = decode_alert((ROOT / "schemas" / "published" / "alert.example.json").read_bytes())


def finding(number: int) -> Alert:
    """A finding on an account of its own."""
    metadata = msgspec.structs.replace(EXAMPLE.metadata, uid=f"{number:016x}-1", correlation_uid=f"{number:016x}")
    info = msgspec.structs.replace(EXAMPLE.finding_info, uid=f"{number:016x}")
    observables = (account_observable(f"acct_{number}"),)
    return msgspec.structs.replace(EXAMPLE, metadata=metadata, finding_info=info, observables=observables)


def record(alert: Alert) -> Request:
    """The record of an alert as a worker writes it."""
    return Request(alert.account.encode(), encode_alert(alert), headers=cloudevents_headers(alert))


def document(alert: Alert) -> Any:
    """The alert as whoever reads JSON sees it."""
    return json.loads(encode_alert(alert))


def connector(file: Path, topic: str, address: str) -> dict[str, Any]:
    """A file as it stands, for a topic and an address; all else is what a user posts."""
    text = re.sub(r"https://\w+\.example(:\d+)?", address, file.read_text())
    assert text != file.read_text(), "no address was set"
    return dict(json.loads(text.replace('"stillwatch.alerts"', json.dumps(topic))))


def secrets() -> dict[str, str]:
    """A made-up value for every secret that the files read from the environment."""
    names = {name for file in FILES for name in re.findall(r"\$\{env:(\w+)\}", file.read_text())}
    return {name: f"value-of-{name.lower()}" for name in names}
