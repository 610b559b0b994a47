"""``tunery import``: a recipe from another tool's configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, facts, styled
from tunery.cli.parameters import Json

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.pipeline.imports.recipe_from import Imported


def import_recipe(
    tool: Annotated[
        str,
        typer.Argument(
            metavar="TOOL", help="axolotl, llama-factory, trl (YAML or JSON) or unsloth (script)."
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its configuration; never run.")],
    *,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="RECIPE", help="Write the recipe here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a recipe from another tool's configuration, and say what of it has no counterpart."""
    from tunery.pipeline.doctor.first_recipe import write_recipe
    from tunery.pipeline.imports.recipe_from import recipe_from

    found = recipe_from(tool, file)
    if write is not None:
        write_recipe(found.text, write)
    answer(found, lambda: _text(found, write), as_json=as_json)


def _text(found: Imported, written: Path | None) -> Iterable[Part]:
    if written is None:
        return [found.text]
    kinds = Counter(one.kind for one in found.left)
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    open_ones = [one for one in found.left if one.kind not in ("off", "not needed")]
    return [
        f"{written} was made from a configuration of {found.tool}; it sets {len(found.taken)} things.",
        *([styled(f"Not in it: {told}; each is named in the recipe.", "dim")] if told else []),
        *([facts((one.key, f"{one.kind}: {one.meaning}") for one in open_ones)] if open_ones else []),
        f"try: tunery plan {written}",
    ]
