"""``tunery usage``: tokens and money, by key, model, project and day."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from tunery.cli.output import answer_table
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace
from tunery.core.errors import ConfigError, did_you_mean

_PARTS = ("day", "project", "key", "model")


def usage(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", metavar="PART", help="Tell apart day, project, key or model; may be given again [key]."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="YYYY-MM-DD", help="First day, in UTC [this month's].")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="YYYY-MM-DD", help="Last day, in UTC [today].")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Of this project only.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="ID", help="Of this key only.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of this model only.")] = None,
    as_json: Json = False,
) -> None:
    """Sum up what served calls used: requests, tokens, and US dollars by the prices that held then."""
    from tunery.core.limits import row_of

    parts = list(dict.fromkeys(by or ["key"]))
    for part in parts:
        if part not in _PARTS:
            raise ConfigError(
                f"--by is {part!r:.40}{did_you_mean(part, _PARTS)}", hint=f"--by {' --by '.join(_PARTS)}"
            )
    with open_workspace(ctx) as workspace:
        today = workspace.clock.now().date()
        first = _day("--since", since) or today.replace(day=1)
        last = _day("--until", until) or today
        found = workspace.usage.by(parts, {"project": project, "key": key, "model": model}, first, last)
        names = {k.id: k.name for k in workspace.keys.every()} if "key" in parts else {}
    objects = [{**labels, **_named(labels, names), **row_of(used)} for labels, used in found]
    rows = [
        (
            *(names.get(value, value) if part == "key" else value for part, value in labels.items()),
            *(f"{n:,}" for n in used[:3]),
            f"{used.usd:,.6f}",
        )
        for labels, used in found
    ]
    columns = [*parts, ">requests", ">prompt tokens", ">completion tokens", ">US dollars"]
    answer_table(objects, columns, rows, as_json=as_json)


def _named(labels: dict[str, str], names: dict[str, str]) -> dict[str, str | None]:
    return {"key_name": names.get(labels["key"])} if "key" in labels else {}


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} is {text!r:.40}: no day", hint=f"{option} 2026-11-27") from None
