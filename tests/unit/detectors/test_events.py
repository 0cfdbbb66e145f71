"""A batch of events is of one type and one length, or it is none."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.events import EVENT_DTYPE, EventBatch


def test_columns_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        EventBatch(["a"], [""], np.zeros(1, np.float64))


@pytest.mark.parametrize(("accounts", "ids", "rows"), [(2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_an_event_without_its_account_or_id_is_refused(accounts: int, ids: int, rows: int) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        EventBatch(["a"] * accounts, [""] * ids, np.zeros(rows, EVENT_DTYPE))


def test_a_batch_is_as_long_as_its_events() -> None:
    assert len(EventBatch(["a", "b"], ["", ""], np.zeros(2, EVENT_DTYPE))) == 2
