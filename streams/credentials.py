"""Credentials that lie in files, and notice of their change: what is rotated is taken up by a start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


class CredentialFiles:
    """Tells when files hold something else than when this was made.

    Clients read credentials once, when they are made, so a worker whose credentials have changed has to start again.

    Parameters
    ----------
    files
        Their paths; what cannot be read counts as unchanged.

    Examples
    --------
    >>> CredentialFiles([]).changed()
    False
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._known = self._seen = self._digest()

    def changed(self) -> bool:
        """Whether they did, and held still since the last call: key and certificate are not replaced at once."""
        before, self._seen = self._seen, self._digest()
        return self._seen is not None and self._seen != self._known and self._seen == before

    def _digest(self) -> bytes | None:
        """Of all contents; None when a file cannot be read, as in the middle of being replaced."""
        digest = hashlib.sha256()
        try:
            for file in self._files:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError:
            return None
        return digest.digest()
