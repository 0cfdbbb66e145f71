"""The pages of deploy/ name only what there is: commands and flags, values, settings, metrics, files, sections."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest
import typer
import yaml

from streams.cli import app
from streams.metrics import METRICS
from streams.settings import Settings
from tests.unit.deploy.manifests import CHART, KAFKA, ROOT, pod_specs, tools, with_kafka
from tests.unit.deploy.test_monitoring import samples

PAGES = [ROOT / "deploy" / "README.md", ROOT / "deploy" / "SUBSCRIBING.md", ROOT / "deploy" / "chart" / "README.md"]
COMMANDS: Any = typer.main.get_command(app)


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each command in a page's shell blocks and inline code."""
    text = page.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        yield from pieces(re.sub(r"\\\n", " ", block))
    for inline in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if inline.split()[0] in ("stillwatch", "sw", "helm", "kubectl") and "…" not in inline:
            yield from pieces(inline.replace("\n", " "))


def pieces(script: str) -> Iterator[list[str]]:
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("|") if "|" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def head_of_values() -> Iterator[list[str]]:
    """Words of the commands in the comment at the head of the values, where they stand further in than the text."""
    head = itertools.takewhile(lambda line: line.startswith("#"), (CHART / "values.yaml").read_text().splitlines())
    block = "\n".join(line.removeprefix("#") for line in head if line.startswith("#   "))
    yield from pieces(re.sub(r"\\\n", " ", block))


def ours() -> list[list[str]]:
    return [words for page in PAGES for words in commands(page) if words and words[0] in ("stillwatch", "sw")]


def by_helm() -> list[list[str]]:
    found = itertools.chain(head_of_values(), *map(commands, PAGES))
    return [words for words in found if words[:1] == ["helm"]]


def test_the_pages_have_commands() -> None:
    assert len(ours()) > 10
    assert len(by_helm()) > 4
    assert [words[:2] for words in head_of_values()] == [["helm", "install"]]


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_our_commands_and_their_flags_exist(words: list[str]) -> None:
    command, rest = COMMANDS, words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands
        command, rest = command.commands[rest[0]], rest[1:]
    known = {flag for parameter in command.params for flag in parameter.opts + parameter.secondary_opts} | {"--help"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize("words", by_helm(), ids=" ".join)
def test_values_and_files_given_to_helm_exist(words: list[str]) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for flag, given in itertools.pairwise(words):
        if flag in ("--set", "--set-file", "--set-json"):
            for assignment in given.split(","):
                path = assignment.partition("=")[0].split(".")
                inner: Any = values
                for step in path[: 1 if path[0] == "settings" else None]:
                    if inner == {}:
                        break  # holds names of one's own, such as labels
                    assert step in inner, assignment
                    inner = inner[step]
                assert path[0] != "settings" or path[1] in Settings.model_fields
        elif flag == "-f" and given not in ("my-values.yaml", "-"):
            assert (ROOT / given).is_file()
        elif flag == "--show-only":
            assert (CHART / given).is_file()


TEMPLATED = [words for words in by_helm() if words[1] in ("install", "upgrade", "template") and len(words) > 2]
NOT_OF_TEMPLATE = {"--create-namespace", "--reset-then-reuse-values"}
SHELL = {"NAMESPACE": "detection", "BROKERS": KAFKA, "CANARY_PREFIX": "canary-7e2a9b-"}


def filled_in(word: str) -> str:
    """As a shell hands it over: with variables, and times that `date` tells."""

    def told(found: re.Match[str]) -> str:
        return subprocess.run(shlex.split(found[1]), capture_output=True, text=True, check=True).stdout.strip()

    return Template(re.sub(r"\$\((date [^)]*)\)", told, word)).safe_substitute(SHELL)


def test_the_pages_install_upgrade_and_render() -> None:
    assert {words[1] for words in TEMPLATED} == {"install", "upgrade", "template"}
    assert not any("--reuse-values" in words for words in by_helm())  # it leaves out what is new in a chart


@pytest.mark.parametrize("words", TEMPLATED, ids=" ".join)
def test_the_chart_takes_what_a_page_gives_helm(words: list[str], tmp_path: Path) -> None:
    """Rendered for real; an upgrade takes up the values that the release has."""
    release = yaml.safe_dump(with_kafka())
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "my-values.yaml").write_text(release)
    (tmp_path / "baseline.json").write_text("{}")
    given = [filled_in(word) for word in words[2:]]
    given = [word for word in given if word not in NOT_OF_TEMPLATE and not word.startswith(">")]
    if words[1] == "upgrade":
        given[2:2] = ["-f", "-"]
    command = [tools() / "bin" / "helm", "template", *given]
    done = subprocess.run(command, cwd=tmp_path, input=release, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(pod_specs([found for found in yaml.safe_load_all(done.stdout) if found]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sections_metrics_settings_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, flags=re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings
    named = set(re.findall(r"`(stillwatch_\w+)", text))
    assert named <= {name for metric in METRICS.values() for name in {*samples(metric), metric.name}}
    assert set(re.findall(r"`settings\.(\w+)", text)) <= set(Settings.model_fields)
    for file in re.findall(r"`(?:promtool check rules )?(deploy/[\w./-]+)`", text):
        assert (ROOT / file).exists(), file


def test_every_runbook_names_tests_that_exist() -> None:
    text = PAGES[0].read_text()
    runbooks = [heading.lower() for heading in re.findall(r"^## (.*)$", text, flags=re.M)]
    runbooks = runbooks[: runbooks.index("what shows that it works")]
    table = text.partition("## What shows that it works")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([\w ]+) \| (.*test.*) \|.*\|$", table, flags=re.M))
    assert list(rows) == runbooks
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", table):
        assert f"def {name}(" in tests, name


def test_a_worker_is_called_as_the_chart_calls_it() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["name"] == "stillwatch"  # the release and all that it makes, when it is called so
    assert "name: data\n" in (CHART / "templates" / "workload.yaml").read_text()  # data-stillwatch-0
