"""The benchmark of speed runs, and its parts add up to the whole."""

from __future__ import annotations

import pytest

from tests.bench import speed


def test_stages_add_up_to_the_whole_on_every_stream() -> None:
    found = speed.measure(requests=400, accounts=12, runs=2, seed=1)
    assert list(found) == ["embeddings", "short prompts", "long prompts"]
    for stream in found.values():
        assert list(stream["stages"]) == list(speed.STAGES)
        assert sum(stage["share"]["median"] for stage in stream["stages"].values()) == pytest.approx(1.0, abs=0.2)
        assert 0 < stream["state_bytes"]["median"] <= stream["state_bytes"]["max"] <= 4096
    assert found["embeddings"]["words"] == 0
    assert found["long prompts"]["words"] >= 600


def test_more_requests_than_the_accounts_send_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 accounts send"):
        speed.measure(requests=10**6, accounts=2, runs=1, seed=1)
