"""What a worker looks at before it joins its group: a full disk is no wrong setting."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from streams import worker
from streams.exit_codes import ExitCode
from streams.settings import Settings, load_settings


async def reachable(settings: Settings) -> None:
    """Brokers answer."""


@pytest.mark.parametrize(
    ("fault", "code"),
    [(errno.ENOSPC, ExitCode.TEMPORARY), (errno.EDQUOT, ExitCode.TEMPORARY), (errno.EROFS, ExitCode.USAGE)],
)
async def test_a_start_on_a_full_disk_is_worth_another_try_and_one_on_a_wrong_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: int, code: ExitCode
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(fault, "the disk refuses")

    monkeypatch.setattr(worker, "check_connection", reachable)
    monkeypatch.setattr(worker, "_try_disk", refuse)
    settings = load_settings(store="rocksdict", check_topics=False, data_dir=tmp_path / "data")
    assert await worker.prepare(settings) is code
    assert f"data_dir {tmp_path / 'data'}: " in caplog.text
