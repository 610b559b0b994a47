"""``tunery limits``: what keys, users, models and projects may use, and how much of it they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.changes import changed
from tunery.cli.output import answer, answer_table, moment, table
from tunery.cli.parameters import Json, Limit
from tunery.cli.session import open_workspace
from tunery.core.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from tunery.core.limits import LimitRule, Limits, Scope
    from tunery.store.workspace import Workspace
    from tunery.traffic.limits.standing import Standing

app = typer.Typer(no_args_is_help=True, help="Limits and budgets of keys, users, models and projects.")
_EACH = "'*' for each one's own count."
OfProject = Annotated[str | None, typer.Option("--project", help=f"Calls of this project; {_EACH}")]
OfKey = Annotated[str | None, typer.Option("--key", help=f"Calls with this key, its id or name; {_EACH}")]
OfUser = Annotated[
    str | None, typer.Option("--user", help=f"Calls for this user, as clients name it; {_EACH}")
]
OfModel = Annotated[
    str | None, typer.Option("--model", help=f"Calls to this model, all its versions; {_EACH}")
]
DEFAULT = "default"
_VALUE = "a number, 'unlimited', or 'default' for what the server's settings say"


def _limit(name: str, what: str) -> Any:
    return typer.Option(f"--{name.replace('_', '-')}", metavar="N", help=what)


@app.command("set")
def set_limits(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    *,
    project: OfProject = None,
    key: OfKey = None,
    user: OfUser = None,
    model: OfModel = None,
    requests_per_minute: Annotated[str | None, _limit("requests_per_minute", f"Requests: {_VALUE}.")] = None,
    tokens_per_minute: Annotated[str | None, _limit("tokens_per_minute", "Tokens.")] = None,
    parallel_requests: Annotated[
        str | None, _limit("parallel_requests", "Requests at the same time.")
    ] = None,
    tokens_per_day: Annotated[str | None, _limit("tokens_per_day", "Tokens.")] = None,
    tokens_per_month: Annotated[str | None, _limit("tokens_per_month", "Tokens.")] = None,
    usd_per_day: Annotated[str | None, _limit("usd_per_day", "US dollars.")] = None,
    usd_per_month: Annotated[str | None, _limit("usd_per_month", "US dollars.")] = None,
    as_json: Json = False,
) -> None:
    """Bound what calls may use together: those with all of a key, user, model and project that are given.

    What is left out stays as it is. Running servers follow within two seconds.
    """
    from tunery.core.limits import LIMIT_NAMES

    given = {name: ctx.params[name] for name in LIMIT_NAMES if ctx.params[name] is not None}
    if not given:
        raise ConfigError("no limit is given", hint="tunery limits set --key NAME --requests-per-minute 60")
    limits, cleared = _limits(given)
    with open_workspace(ctx) as workspace:
        scope = _scope(workspace, (project, key, user, model))
        changed(ctx, scope.text)
        rule = workspace.limits.set(scope, limits, cleared=cleared)
    answer(_plain(rule), lambda: [f"{rule.id}: {_words(rule)}"], as_json=as_json)


@app.command("ls")
def list_limits(ctx: typer.Context, *, limit: Limit = 100, as_json: Json = False) -> None:
    """List what is set; what the server's settings say besides holds for all others."""
    with open_workspace(ctx) as workspace:
        found = workspace.limits.list(limit=limit)
    rows = [(rule.id, _words(rule), rule.changed_at) for rule in found]
    answer_table([_plain(rule) for rule in found], ["scope", "limits", "changed"], rows, as_json=as_json)


@app.command("show")
def show_limits(
    ctx: typer.Context,
    *,
    project: OfProject = None,
    key: OfKey = None,
    user: OfUser = None,
    model: OfModel = None,
    as_json: Json = False,
) -> None:
    """Show what a scope has used of its limits, what is left, and when all of it is there again."""
    from tunery.traffic.limits.account import Claim
    from tunery.traffic.limits.open import open_ledger
    from tunery.traffic.limits.standing import standings

    with open_workspace(ctx) as workspace:
        scope = _scope(workspace, (project, key, user, model))
        rule = workspace.limits.find(scope.text)
        if rule is None:
            known = [known.id for known in workspace.limits.every()]
            raise NotFoundError.of("limit", scope.text, known, hint="tunery limits ls")
        claim = Claim(scope.account, dict(rule.limits.bounds()))
        ledger = open_ledger(workspace)
        try:
            account = ledger.look([claim]).get(claim.account)
        finally:
            ledger.close()
        now = workspace.clock.now().timestamp()
        found = list(standings(claim, account, now))
    answer([s.fields() for s in found], lambda: [_drawn(found)], as_json=as_json)


@app.command("rm")
def remove_limits(
    ctx: typer.Context,
    *,
    project: OfProject = None,
    key: OfKey = None,
    user: OfUser = None,
    model: OfModel = None,
    as_json: Json = False,
) -> None:
    """Remove the limits of a scope; the server's settings hold again."""
    with open_workspace(ctx) as workspace:
        scope = _scope(workspace, (project, key, user, model))
        changed(ctx, scope.text)
        removed = workspace.limits.remove(scope)
    answer(_plain(removed), lambda: [f"{removed.id} has no limits of its own any more"], as_json=as_json)


def _limits(given: Mapping[str, str]) -> tuple[Limits, tuple[str, ...]]:
    """Return what is set, and the names of what is set no more."""
    from tunery.core.config import parse_settings
    from tunery.core.limits import UNLIMITED, Limits

    cleared = tuple(name for name, text in given.items() if text == DEFAULT)
    values: dict[str, object] = {}
    for name, text in given.items():
        if text not in (DEFAULT, UNLIMITED):
            values[name] = _number(name, text)
        elif text == UNLIMITED:
            values[name] = text
    return parse_settings(Limits, values, where="limits"), cleared


def _number(name: str, text: str) -> float:
    try:
        number = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        number = float("nan")
    if not 0 <= number < 1e15:
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(f"{option} is {text!r:.40}: give {_VALUE}", hint=f"{option} 60", param=name)
    return number


def _scope(workspace: Workspace, parts: tuple[str | None, ...]) -> Scope:
    """Return the scope that is meant, its key by id.

    Raises:
        NotFoundError: There is no such project or key.
        ConfigError: Two keys have that name.
    """
    from tunery.core.limits import EACH, Scope

    project, key, user, model = parts
    if project not in (None, EACH):
        project = workspace.projects.require(str(project))
    if key is not None and key != EACH and workspace.keys.find(key) is None:
        key = _key_named(workspace, key)
    return Scope(project, key, user, model.partition("@")[0] if model else None)


def _key_named(workspace: Workspace, name: str) -> str:
    working = [key for key in workspace.keys.every() if key.revoked_at is None]
    named = [key.id for key in working if key.name == name]
    if not named:
        raise NotFoundError.of("key", name, {key.name for key in working}, hint="tunery keys ls")
    if len(named) > 1:
        raise ConfigError(
            f"{len(named)} keys are named {name!r}: {', '.join(named[:5])}", hint=f"--key {named[0]}"
        )
    return named[0]


def _words(rule: LimitRule) -> str:
    fields = {name: value for name, value in rule.limits if value is not None}
    return ", ".join(
        f"{name.replace('_', ' ')}: {value if isinstance(value, str) else format(value, ',')}"
        for name, value in fields.items()
    )


def _plain(rule: LimitRule) -> dict[str, Any]:
    return {
        "scope": rule.id,
        **rule.scope._asdict(),
        "limits": {name: value for name, value in rule.limits if value is not None},
        "changed_at": rule.changed_at,
    }


def _drawn(found: list[Standing]) -> Any:
    return table(["limit", ">may", ">used", ">reserved", ">left", "all there again"], [*_rows(found)])


def _rows(found: list[Standing]) -> Iterator[tuple[str, ...]]:
    for standing in found:
        fields = standing.fields()
        amounts = [f"{fields[name]:,}" for name in ("bound", "used", "reserved", "left")]
        yield (standing.limit.replace("_", " "), *amounts, moment(standing.resets_at))
