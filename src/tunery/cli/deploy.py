"""``tunery deploy``: a version on live traffic, watched; and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, answer_table, facts, table
from tunery.cli.parameters import By, Json, Limit, Name, OverrideGate, Reference, WhyOverride
from tunery.cli.registry import promote_version, rollback_champion
from tunery.cli.session import ACTOR, open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.registry import ModelVersion
    from tunery.core.rollout import Rollout
    from tunery.deploy.canary import CanaryStatus
    from tunery.deploy.config import CanaryConfig

app = typer.Typer(
    no_args_is_help=True, help="Traffic: canary, status, promote, roll back; folders for other machines."
)
app.command("promote")(promote_version)
app.command("rollback")(rollback_champion)


@app.command("canary")
def deploy_canary(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    ref: Reference,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the canary, such as horizon_requests=1000."),
    ] = None,
    *,
    percent: Annotated[
        float | None, typer.Option("--percent", help="Share of users that the version answers [%].")
    ] = None,
    override_gate: OverrideGate = False,
    by: By = None,
    reason: WhyOverride = None,
    as_json: Json = False,
) -> None:
    """Let a version answer some users, watched: it is rolled back or promoted by what its numbers show.

    The rule is deploy.canary of the version's recipe, as changed here; a running 'tunery serve' applies it.
    """
    from tunery.deploy.canary import start
    from tunery.pipeline.stages.register import override_refusal
    from tunery.registry.versions import resolve

    with open_workspace(ctx) as workspace:
        if override_gate:
            override_refusal(workspace, ref, by=by, reason=reason)
        version = resolve(workspace, ref)
        rollout = start(
            workspace,
            ref,
            actor=ACTOR,
            config=_rule_of(version, overrides or ()),
            percent=percent,
        )
    answer(rollout, lambda: rollout_text(rollout), as_json=as_json)


@app.command("status")
def deploy_status(ctx: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Show the running canary of a model, else its last one, and what its numbers say now."""
    from tunery.deploy.canary import status

    with open_workspace(ctx) as workspace:
        found = status(workspace, name)
        tallies = workspace.requests.tallies(found.rollout.id)
    value = {"rollout": found.rollout, "judgement": found.judgement, "tallies": tallies}
    answer(value, lambda: _status_text(found, tallies), as_json=as_json)


@app.command("cancel")
def deploy_cancel(
    ctx: typer.Context,
    name: Name,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded.")] = "cancelled by hand",
    as_json: Json = False,
) -> None:
    """End the running canary of a model; the champion answers everybody again."""
    from tunery.deploy.canary import cancel

    with open_workspace(ctx) as workspace:
        ended = cancel(workspace, name, actor=ACTOR, reason=reason)
    answer(ended, lambda: rollout_text(ended), as_json=as_json)


@app.command("ls")
def list_rollouts(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only rollouts of this model.")] = None,
    *,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List rollouts, newest first."""
    with open_workspace(ctx) as workspace:
        found = workspace.rollouts.list(limit, name=name)
    rows = [
        (
            r.id,
            f"{r.name}@{r.challenger}",
            r.challenged,
            f"{r.traffic_percent:g} %",
            r.status,
            r.reason,
        )
        for r in found
    ]
    columns = ["rollout", "challenger", "champion", ">users", "status", "reason"]
    answer_table(found, columns, rows, as_json=as_json)


def rollout_text(rollout: Rollout) -> Iterable[Part]:
    """Return a rollout as a person reads it."""
    yield facts(
        [
            ("rollout", rollout.id),
            ("challenger", f"{rollout.name}@{rollout.challenger}, {rollout.traffic_percent:g} % of users"),
            ("champion", rollout.challenged),
            ("status", rollout.status.replace("_", " ")),
            ("reason", rollout.reason),
            ("started", rollout.created_at),
            ("ended", rollout.ended_at),
            ("by", rollout.actor),
        ]
    )


@app.command("export")
def export_deployment(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    ref: Annotated[
        str | None,
        typer.Argument(metavar="NAME@N", help="The version, where the target serves one."),
    ] = None,
    *,
    target: Annotated[str, typer.Option("--target", help="Where to; a wrong one lists all.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Folder to make.")],
    machine: Annotated[
        str | None, typer.Option("--machine", help="By the target's own names; else its first.")
    ] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=1000, help="Copies that run at once.")
    ] = 1,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the deployment; else the version's.")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Measure merged weights on the version's test rows before they are kept.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Write a folder that deploys a version, or the whole platform, elsewhere; nothing is started.

    modal, hf-endpoint and sagemaker serve one version's merged weights, measured first as by `tunery registry
    export --merged`; kubernetes and ray-serve run the platform. Says what an hour costs.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.deployment import planned_deployment, write_deployment
    from tunery.pipeline.stages.parity import parity_of_folder

    with open_workspace(ctx) as workspace:
        planned = planned_deployment(workspace, target, ref, machine=machine, replicas=replicas, name=name)

        def measured(partial: Path) -> None:
            parity_of_folder(workspace, str(planned.ref), partial, progress=terminal_progress()).require()

        written = write_deployment(workspace, target, to, planned, check=measured if check else None)
    price = written.price
    value = {
        "target": target,
        "folder": written.folder,
        "name": written.deployment.name,
        "model_version": written.deployment.ref,
        "machine": written.deployment.machine,
        "replicas": written.deployment.replicas,
        "usd_per_hour": price.usd_per_hour * replicas if price else None,
        "price_as_of": price.read_on.isoformat() if price else None,
        "price_source": price.source if price else None,
        "next_step": written.next_step,
    }
    lines = [f"{written.folder} is written", written.cost, f"next, there: {written.next_step}"]
    answer(value, lambda: lines, as_json=as_json)


def _rule_of(version: ModelVersion, overrides: Iterable[str]) -> CanaryConfig:
    """Return the canary settings that were written into the version's recipe, as changed."""
    from tunery.core.config import apply_overrides, parse_settings
    from tunery.deploy.config import CanaryConfig

    written = (version.config.get("deploy") or {}).get("canary") or {}
    return parse_settings(CanaryConfig, apply_overrides(written, list(overrides)), where="canary")


def _status_text(found: CanaryStatus, tallies: Any) -> Iterable[Part]:
    yield from rollout_text(found.rollout)
    rows = [
        (
            arm,
            f"{tally.requests:,}",
            _share(tally.errors, tally.requests),
            _share(tally.format_checked - tally.format_valid, tally.format_checked),
            _share(tally.rated - tally.liked, tally.rated),
            _ms(tally.latency_ms_p50),
            _ms(tally.latency_ms_p95),
        )
        for arm, tally in tallies.items()
    ]
    columns = ["arm", ">requests", ">errors", ">bad format", ">disliked", ">p50", ">p95"]
    yield table(columns, rows)
    if found.rollout.status == "running":
        yield f"\nnow: {found.judgement.action}. {found.judgement.reason}"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" if whole else ""


def _ms(value: float | None) -> str:
    from tunery.core.figures import milliseconds

    return "" if value is None else milliseconds(value)
