"""Publishing writes what the code makes, and takes away what it no longer makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import publish


def test_the_folder_holds_what_is_made_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "published"
    monkeypatch.setattr(publish, "FOLDER", folder)
    publish.write()
    (folder / "verdict.schema.json").write_text("of an older version")
    (folder / "request.schema.json").write_text("changed by hand")
    publish.write()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == publish.published()
