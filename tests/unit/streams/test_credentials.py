"""Credentials in files: a change is noticed once it has settled, and what cannot be read is none."""

from __future__ import annotations

from pathlib import Path

from streams.credentials import CredentialFiles


def test_a_change_counts_when_it_has_held_still(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    key.write_text("old")
    certificate.write_text("old")
    files = CredentialFiles([key, certificate])
    assert not files.changed()
    key.write_text("new")
    assert not files.changed()
    certificate.write_text("new")
    assert not files.changed()
    assert files.changed()


def test_what_comes_back_or_cannot_be_read_is_no_change(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("old")
    files = CredentialFiles([password])
    password.unlink()
    assert not any(files.changed() for _ in range(3))
    password.write_text("old")
    assert not any(files.changed() for _ in range(3))


def test_contents_that_move_from_one_file_to_another_are_a_change(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("ab")
    other.write_text("c")
    files = CredentialFiles([one, other])
    one.write_text("a")
    other.write_text("bc")
    files.changed()
    assert files.changed()
