"""``tunery rescue serve`` and ``status``: who answers under the old name, and what is safe by now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunery.cli.output import answer, moment, styled, table
from tunery.cli.parameters import Json
from tunery.cli.rescue_folder import OldModel, RescueName, model_of, open_rescue, scope_of, shutdown_of
from tunery.cli.session import ACTOR, open_workspace
from tunery.core.errors import ConfigError, GateFailed
from tunery.rescue.commands import DEFAULT_NAME, command

if TYPE_CHECKING:
    from pathlib import Path

    from tunery.cli.output import Part
    from tunery.core.forwarding import ForwardedName
    from tunery.pipeline.rescue.status import Status
    from tunery.rescue.folder import RescueFolder
    from tunery.rescue.records import Scope
    from tunery.serve.engines.hosted import HostedSettings

_WINDOW = 128_000
"""Tokens that a conversation has with an old model of which nothing else is said [count]."""


def serve_name(  # noqa: PLR0913 - typer makes each parameter an option
    ctx: typer.Context,
    model: OldModel = "",
    *,
    name: RescueName = DEFAULT_NAME,
    to: Annotated[
        Literal["forward", "canary", "ours", "alone"], typer.Option("--to", help="Who answers from now on.")
    ] = "forward",
    version: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="NAME@N", help="Ours; by default that of the step before, or the run's."
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", min=0.1, max=99.9, help="Percent of users that a canary answers.")
    ] = 10.0,
    alias: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Name that clients write; by default the old one."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            min=1,
            help="Tokens that a conversation has with the old model; by default 128,000, or as before.",
        ),
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment",
            metavar="NAME",
            help="At Azure: what answers as the old model; kept from then on.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded with the step.")] = "",
    as_json: Json = False,
) -> None:
    """Answer under the old name here, a step at a time.

    Forwarded first, then by ours for a share of the users, by ours, by ours alone. Each step can be taken
    back. Clients change nothing but their base URL and key. `tunery serve` answers, and needs the source's
    key only while the old model may answer.
    """
    from tunery.deploy import forwarding
    from tunery.deploy.config import CanaryConfig
    from tunery.serve.engines import base_behind

    folder = open_rescue(ctx, name)
    named = model_of(folder, model)
    rule = CanaryConfig(percent=share)
    with open_workspace(ctx) as workspace:
        there = forwarding.named(workspace, alias or named)
        before = there.old if there and there.is_of(named) else None
        asked = deployment or (before.name if before else named)
        room = window or ((before and before.hosted) or {}).get("context_window", _WINDOW)
        old = base_behind(_endpoint(scope_of(folder, named), asked, room))
        ours = version or (there and there.version) or _made(folder, named, needed=to != "forward")
        step = forwarding.move(
            workspace,
            alias or named,
            to,
            old=old,
            listed_as=named,
            shutdown=shutdown_of(folder, named),
            version=ours,
            rule=rule,
            actor=ACTOR,
            reason=reason,
        )
    answer(step, lambda: _step_text(step, share), as_json=as_json)


def rescue_status(ctx: typer.Context, *, name: RescueName = DEFAULT_NAME, as_json: Json = False) -> None:
    """Say what is safe by now, and what would be lost today.

    And how many days are left, on one page, with the command that saves what is not safe.
    """
    from tunery.pipeline.rescue.status import status_of, status_page

    folder = open_rescue(ctx, name)
    with open_workspace(ctx) as workspace:
        found = status_of(folder, workspace, datetime.now(UTC).date())
    page = folder.write_text("status.md", status_page(found))
    answer({"status": found, "page": page}, lambda: _status_text(found, page), as_json=as_json)


def _endpoint(scope: Scope, model: str, window: int) -> HostedSettings:
    from tunery.core.config import parse_settings
    from tunery.serve.engines.hosted import HostedSettings

    values = {**scope.of_model(model), "context_window": window}
    return parse_settings(HostedSettings, values, where="the old model's endpoint")


def _made(folder: RescueFolder, model: str, *, needed: bool) -> str | None:
    """Return the version that the newest run registered, None where none did and none is needed."""
    from tunery.pipeline.rescue.proof import proven

    found = proven(folder.of_model(model))
    if not needed or (found and found.version):
        return found.version if found else None
    if found is None:
        raise ConfigError(
            f"there is no version of ours that could answer for {model} yet",
            hint=f"{command(folder.name, 'recipe', model)}, then {command(folder.name, 'run', model)}; "
            "or one that there is: --with NAME@N",
        )
    raise GateFailed(
        f"the gate refused what {found.run} trained, so it gets no traffic",
        hint=f"tunery registry register {found.run} --override --by NAME --reason TEXT, then --with NAME@1",
    )


def _step_text(step: ForwardedName, share: float) -> Iterable[Part]:
    who = {
        "forward": f"the old model, at {(step.old.hosted or {}).get('base_url')}",
        "canary": f"{step.version} for {share:g} % of users, the old model for the others",
        "ours": f"{step.version}; the old model where it fails",
        "alone": f"{step.version}",
    }
    yield f"{step.name} is answered by {who[step.stage]}"
    rows = [(moment(each.at), each.stage, each.version or "", each.actor, each.reason) for each in step.moves]
    yield table(["at", "stage", "ours", "by", "reason"], rows)


def _status_text(found: Status, page: Path) -> Iterable[Part]:
    from tunery.pipeline.rescue.status import COLUMNS, cells, grouped_losses, summary

    if found.models:
        yield table(COLUMNS, [cells(each) for each in found.models])
    yield " ".join(summary(found))
    for loss in grouped_losses(found):
        yield styled(loss, "yellow")
    yield f"written to {page}"
