"""``tunery doctor``: what a file of rows is and what would go wrong, before any recipe exists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, facts, mark, styled
from tunery.cli.parameters import Json
from tunery.cli.session import folder_of, open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.pipeline.doctor.diagnose import Diagnosis


def doctor(  # noqa: PLR0913 - typer makes each parameter an option
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rows: CSV, JSON, JSON Lines, Parquet, Arrow.")
    ],
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME", help="A base, as a recipe names it.")
    ] = "smollm2-135m-instruct",
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", metavar="TEMPLATE", help="chatml, alpaca or a Jinja file, in place of its own."
        ),
    ] = None,
    input_column: Annotated[
        str | None, typer.Option("--input", metavar="COLUMN", help="Column of what is asked.")
    ] = None,
    output_column: Annotated[
        str | None, typer.Option("--output", metavar="COLUMN", help="Column of what is to be answered.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="RECIPE", help="Write the recipe to start with here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a file of rows is, what a base makes of it, and what would go wrong; no recipe is needed.

    Looks at the first rows only, whatever the size of the file. Exits with 2 when something
    would stop training.
    """
    from tunery.data.config import ColumnsConfig
    from tunery.model.bases import check_base_folder, find_base
    from tunery.pipeline.doctor.diagnose import diagnose
    from tunery.pipeline.doctor.first_recipe import write_recipe

    with open_workspace(ctx) as workspace:
        folder, name = find_base(base, workspace.root / "models")
    check_base_folder(folder, name=name, own_template=chat_template is None)
    recipe_dir = folder_of(write or Path("recipe.yaml"))
    found = diagnose(
        file,
        folder,
        base=str(folder) if Path(base).is_dir() else base,
        recipe_dir=recipe_dir,
        chat_template=chat_template,
        columns=ColumnsConfig(input=input_column, output=output_column),
    )
    if write is not None:
        write_recipe(found.recipe, write)
    answer(
        {"passed": not found.problems, **found.model_dump(mode="json")},
        lambda: diagnosis_text(found, write),
        as_json=as_json,
    )
    found.require()


def diagnosis_text(found: Diagnosis, written: Path | None) -> Iterable[Part]:
    """Return a diagnosis as a person reads it: the file, rows as trained, what is wrong, a recipe."""
    from tunery.cli.train import preflight_text
    from tunery.core.figures import listed_counts
    from tunery.pipeline.doctor.diagnose import trained_share

    yield facts(
        [
            ("file", f"{found.file}: {found.format}, rows of the layout {found.layout}"),
            ("columns", ", ".join(f"{part}: {name}" for part, name in found.columns.items()) or None),
            ("rows", f"{'' if found.whole else 'the first '}{found.rows:,}, {found.usable:,} to learn from"),
            ("dropped", listed_counts(found.dropped) or None),
            ("repeats", f"{found.repeats:,}" if found.repeats else None),
            ("classes", found.labels),
            ("languages", listed_counts(found.languages, 5) or None),
            ("masked", listed_counts(found.personal_data) or None),
            ("base", f"{found.base}, for rows of up to {found.window:,} tokens"),
            ("trained", found.preflight and f"{trained_share(found.preflight)} of the tokens"),
        ]
    )
    if found.preflight is not None:
        yield from preflight_text(found.preflight)
        yield ""
    for sentence in found.problems:
        yield styled(f"{mark(False)} {sentence}", "red")
    for sentence in found.warnings:
        yield styled(f"warning: {sentence}", "yellow")
    yield ""
    if written is not None:
        yield f"The recipe to start with is in {written}; next: tunery plan {written}"
        return
    yield styled("The recipe to start with (--write recipe.yaml writes it):", "bold")
    yield found.recipe
