"""Images of one layer, written without an image builder."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path


def write_image(archive: Path, name: str, files: Mapping[str, Path], command: Sequence[str]) -> Path:
    """Write an archive as `docker save` does; `files` of the machine by their path in the image. The archive."""
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, file in files.items():
            tar.add(file, path)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {"config.json": json.dumps(config).encode(), "layer.tar": layer.getvalue()}
    with tarfile.open(archive, "w") as tar:
        for path, content in {**parts, "manifest.json": json.dumps(manifest).encode()}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return archive
