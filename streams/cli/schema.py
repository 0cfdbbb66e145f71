"""`stillwatch schema`: the JSON Schemas of what goes in and comes out."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated

import typer

from streams.cli.terminal import OUT, plain

_SUFFIX = ".schema.json"


def schema(
    name: Annotated[str | None, typer.Argument(help="Which one; without it, their names are listed.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print an example instead of the schema.")] = False,
) -> None:
    """Print the JSON Schema of requests, alerts or dead letters.

    Example: [bold]stillwatch schema request[/bold]
    """
    published = _published()
    if name is None and example:
        raise typer.BadParameter(f"--example goes with a name: {', '.join(sorted(published))}")
    if name is None:
        for known in sorted(published):
            OUT.print(plain(known))
        return
    if name not in published:
        raise typer.BadParameter(f"there is no schema {name!r}; there are {', '.join(sorted(published))}")
    wanted = f"{name}.example.json" if example else f"{name}{_SUFFIX}"
    typer.echo(_folder().joinpath(wanted).read_text(encoding="utf-8"), nl=False)


def _folder() -> Traversable:
    return resources.files("schemas").joinpath("published")


def _published() -> set[str]:
    return {entry.name.removesuffix(_SUFFIX) for entry in _folder().iterdir() if entry.name.endswith(_SUFFIX)}
