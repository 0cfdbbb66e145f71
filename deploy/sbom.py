"""Prints the parts of the image that this runs in as CycloneDX 1.6: Python, its packages, Debian's packages.

Run by deploy/Dockerfile with the image's own interpreter; needs nothing but that.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG_STATUS = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")

Component = dict[str, Any]


def component(kind: str, name: str, version: str, purl: str, licence: str | None = None) -> Component:
    """One part. A licence is what the package says of itself, an SPDX expression or free text."""
    made: Component = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence:
        made["licenses"] = [{"license": {"name": licence}}]
    return made


def python_packages() -> Iterator[Component]:
    """Every distribution of this environment."""
    for found in sorted(distributions(), key=lambda found: found.name.lower()):
        name = found.name.lower().replace("_", "-")
        yield component("library", name, found.version, f"pkg:pypi/{name}@{found.version}", licence_of(found))


def licence_of(found: Distribution) -> str | None:
    """A licence in a line; some packages put its whole text there, of which the first line is the name."""
    said = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0][:120] if lines else None


def debian_packages(status: str, codename: str) -> Iterator[Component]:
    """Every installed package, from dpkg's own list."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = (fields[key] for key in ("Package", "Version", "Architecture"))
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}&distro={codename}"
            yield component("library", name, version, purl)


def bill() -> dict[str, Any]:
    """The whole list."""
    release = dict(
        line.replace('"', "").split("=", 1) for line in OS_RELEASE.read_text().splitlines() if line.count("=") == 1
    )
    codename = release.get("VERSION_CODENAME", "")
    python = platform.python_version()
    parts = [
        component("operating-system", release["ID"], release["VERSION_ID"], f"pkg:generic/{release['ID']}@{codename}"),
        component("platform", "cpython", python, f"pkg:generic/cpython@{python}", "PSF-2.0"),
        *python_packages(),
        *debian_packages(DPKG_STATUS.read_text(), codename),
    ]
    (own,) = [part for part in parts if part["name"] == "stillwatch"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own | {"type": "container", "bom-ref": "image"}},
        "components": parts,
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
