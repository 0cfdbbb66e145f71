"""What a text model gives is looked at as closely as what comes from outside."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import embedding
from detectors.embedding import Supplied, check_vectors, load_wordllama


def test_a_models_vectors_are_judged_one_by_one() -> None:
    vectors = np.array([[1.0, 2.0], [0.0, -0.0], [np.nan, 1.0], [np.inf, 1.0], [1e-20, 0.0]], np.float32)
    verdicts = [Supplied.GOOD, Supplied.ZERO, Supplied.NOT_FINITE, Supplied.NOT_FINITE, Supplied.ZERO]
    assert check_vectors(vectors).tolist() == verdicts


def test_a_missing_text_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install wordllama"):
        load_wordllama()
