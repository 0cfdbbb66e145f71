"""What embedding a text costs, counted rather than timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from detectors.embedding import WordLlamaEmbedder


@dataclass
class Work:
    """Characters that were cut into word pieces, and pieces whose vectors were added up."""

    characters: int = 0
    pieces: int = 0


@contextmanager
def work_of(embedder: WordLlamaEmbedder) -> Iterator[Work]:
    """Counts what an embedder does meanwhile; its memory of words, which would spare it some, is empty at first."""
    work, tokenize, ids = Work(), embedder._tokenize, embedder._ids

    def counted_tokenize(word: str) -> list[int]:
        work.characters += len(word)
        return tokenize(word)

    def counted_ids(text: str) -> list[int]:
        found = ids(text)
        work.pieces += len(found)
        return found

    embedder._pieces.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedder, "_tokenize", counted_tokenize)
        patch.setattr(embedder, "_ids", counted_ids)
        yield work
