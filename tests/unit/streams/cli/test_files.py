"""No command writes over what it reads, or twice to one file; what made a baseline is told without folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.version import VERSION
from streams.cli.failures import InputError
from streams.cli.files import STANDARD, keep_apart, open_output
from streams.cli.fit import DEFAULT_SEED, _command
from streams.cli.options import files_named
from streams.settings import Settings


@pytest.fixture
def history(tmp_path: Path) -> Path:
    file = tmp_path / "history.jsonl"
    file.write_text("{}\n")
    return file


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_an_input_is_known_behind_a_link(link: type, history: Path, tmp_path: Path) -> None:
    link(history, tmp_path / "other")
    with pytest.raises(InputError, match="is an input and would be overwritten"):
        keep_apart(inputs=[None, history], outputs=[tmp_path / "new", tmp_path / "other"])


def test_two_outputs_are_one_file_also_before_it_is_there(history: Path, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    for outputs in (["new", "dangling"], ["new", "../" + tmp_path.name + "/new"], ["history.jsonl", "history.jsonl"]):
        with pytest.raises(InputError, match="named for two outputs"):
            keep_apart(inputs=[], outputs=[tmp_path / name for name in outputs])
    with pytest.raises(InputError, match="named for two outputs"):
        keep_apart(inputs=[], outputs=[STANDARD, STANDARD])


def test_files_of_their_own_and_the_null_device_are_fine(history: Path, tmp_path: Path) -> None:
    null = Path(os.devnull)
    keep_apart(inputs=[history, STANDARD], outputs=[tmp_path / "new", STANDARD, None])
    keep_apart(inputs=[null], outputs=[null, null])


def test_a_file_that_settings_name_is_an_input(history: Path, tmp_path: Path) -> None:
    settings = Settings(baseline_file=history, data_dir=tmp_path)
    assert files_named(settings) == [history]


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*: Is a directory"), open_output(tmp_path):
        pass


def test_the_command_of_a_baseline_holds_what_was_given_and_no_folders() -> None:
    files = [Path("/secret/place/a.jsonl"), Path("b c.jsonl")]
    plain = _command(files, Settings(), None, DEFAULT_SEED)
    assert plain == f"stillwatch {VERSION} fit a.jsonl 'b c.jsonl'"
    assert _command(files, Settings(embedding_model="m"), 8, 7) == f"{plain} --embedding-model m --dimension 8 --seed 7"
