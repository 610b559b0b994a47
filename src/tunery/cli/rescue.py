"""``tunery rescue``: fine-tuned models that somebody else will switch off."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, styled, table
from tunery.cli.parameters import Json
from tunery.cli.progress import terminal_progress
from tunery.cli.rescue_folder import RescueName, working_on
from tunery.cli.rescue_record import record_answers
from tunery.cli.rescue_run import run_rescue, write_recipe
from tunery.cli.rescue_serve import rescue_status, serve_name
from tunery.core.errors import ConfigError, ResourceError, did_you_mean, first_of, listed
from tunery.core.figures import counted, size
from tunery.rescue.commands import DEFAULT_NAME

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.rescue.fetch import Fetched
    from tunery.rescue.folder import RescueFolder
    from tunery.rescue.outlook import Outlook
    from tunery.rescue.records import Inventory, Scope

app = typer.Typer(
    no_args_is_help=True,
    help="Fine-tuned models that somebody else will switch off.\n\n"
    "In this order: inventory, fetch, record, recipe, run, serve. Each goes on where it ended; status says "
    "what is safe by now, and what to type next.",
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROBLEMS = 20
"""Of a kind that are printed; the written page has them all [count]."""
_SCOPE_FIELDS = {
    "name": "name",
    "base-url": "base_url",
    "key-env": "api_key_env",
    "key-file": "api_key_file",
    "organization": "organization",
    "project": "project",
    "proxy": "proxy",
    "max-tokens-field": "max_tokens_field",
}


@app.command("inventory")
def inventory(
    ctx: typer.Context,
    *,
    name: RescueName = DEFAULT_NAME,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="FIELD=VALUE,…",
            help="An account to read, once for each: name, base-url, key-env or key-file, organization, "
            "project, proxy, max-tokens-field. Left out, those of the last inventory, else OPENAI_API_KEY's "
            "at OpenAI.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List fine-tuned models and how many days are left.

    Reads jobs with events and checkpoints, files and models of each account; changes nothing there.
    """
    from datetime import UTC, datetime

    from tunery.rescue.inventory import take_inventory
    from tunery.rescue.outlook import outlooks
    from tunery.rescue.page import inventory_page

    with working_on(ctx, name) as folder:
        now = datetime.now(UTC)
        found = asyncio.run(take_inventory(folder, _scopes(scopes, folder), now, terminal_progress()))
        models = outlooks(found, now.date(), name=name)
        page = folder.write_text("inventory.md", inventory_page(name, found, models, now.date()))
    value = {"inventory": found, "outlook": models, "page": page}
    answer(value, lambda: _parts(found, models, now.date(), page), as_json=as_json)


@app.command("fetch")
def fetch_files(
    ctx: typer.Context,
    *,
    name: RescueName = DEFAULT_NAME,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="MODEL", help="Only this model's files; may be given more than once."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring files and job records here, with checksums.

    Training, validation and result files. Exits with 6 while something is still to be fetched.
    """
    from tunery.rescue.fetch import fetch
    from tunery.rescue.page import fetch_page

    with working_on(ctx, name) as folder:
        found = asyncio.run(fetch(folder, terminal_progress(), only=only or ()))
        page = folder.write_text("fetch.md", fetch_page(name, found))
    answer({"fetched": found, "page": page}, lambda: _fetched(found, page), as_json=as_json)
    if found.problems:
        raise typer.Exit(ResourceError.exit_code)


app.command("record")(record_answers)
app.command("recipe")(write_recipe)
app.command("run")(run_rescue)
app.command("serve")(serve_name)
app.command("status")(rescue_status)


def _scopes(written: Sequence[str] | None, folder: RescueFolder) -> tuple[Scope, ...]:
    from tunery.rescue.records import Scope

    if not written:
        return folder.inventory().scopes if folder.is_there else (Scope(),)
    found = tuple(_scope(text) for text in written)
    if len({scope.name for scope in found}) < len(found):
        raise ConfigError("two scopes have the same name", hint="--scope name=one,… --scope name=two,…")
    return found


def _scope(text: str) -> Scope:
    from tunery.core.config import parse_settings
    from tunery.rescue.records import Scope

    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        field, equals, value = part.partition("=")
        if field.strip() not in _SCOPE_FIELDS or not equals:
            meant = did_you_mean(field.strip(), _SCOPE_FIELDS) or f" (known: {', '.join(_SCOPE_FIELDS)})"
            # What stands there may be a key that was pasted; it is not repeated.
            shown = repr(field.strip()[:20]) if equals else "a part without '='"
            raise ConfigError(
                f"--scope: {shown} is no field of it{meant}", hint="--scope key-env=OPENAI_API_KEY"
            )
        if field.strip() == "key-env" and not _VARIABLE.fullmatch(value.strip()):
            raise ConfigError(  # it may be the key itself, so it is not repeated
                "--scope: key-env is the name of an environment variable, not the key",
                hint="export OPENAI_API_KEY=…, then --scope key-env=OPENAI_API_KEY",
            )
        values[_SCOPE_FIELDS[field.strip()]] = value.strip()
    if "api_key_file" in values:
        values["api_key_file"] = str(Path(values["api_key_file"]).expanduser().absolute())
        values.setdefault("api_key_env", None)
    return parse_settings(Scope, values, where="--scope")


def _parts(found: Inventory, models: Sequence[Outlook], today: date, page: Path) -> Iterable[Part]:
    from tunery.rescue.outlook import days_until, ends
    from tunery.rescue.page import COLUMNS, cells, last_jobs

    yield (
        f"{counted(len(found.models), 'fine-tuned model')}, {counted(len(found.jobs), 'job')}, "
        f"{counted(len(found.files), 'file')} ({size(sum(file.bytes for file in found.files))}) in "
        f"{counted(len(found.scopes), 'account')}"
    )
    for end in last_jobs(found):
        yield f"last new fine-tuning job: {days_until(end, today)}"
    yield table(COLUMNS, [cells(each) for each in models])
    yield from sorted({f"{each.base} {ends(each.shutdown, today)}" for each in models if each.shutdown})
    needs: dict[str, list[str]] = {}
    for each in models:
        for need in each.needs:
            needs.setdefault(need.replace(each.model, "MODEL"), []).append(each.model)
    for need, whose in needs.items():
        yield f"{listed(whose, 3)}{'' if len(whose) == 1 else ': each'} needs {need}"
    for problem in first_of(found.problems, _PROBLEMS):
        yield styled(f"not read: {problem}", "yellow")
    yield f"written to {page}"


def _fetched(found: Fetched, page: Path) -> Iterable[Part]:
    from tunery.rescue.page import fetched_line

    yield fetched_line(found)
    yield from first_of(found.gone, _PROBLEMS)
    for problem in first_of(found.problems, _PROBLEMS):
        yield styled(problem, "yellow")
    yield f"written to {page}"
