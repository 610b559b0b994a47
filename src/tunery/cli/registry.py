"""``tunery registry``: model versions, their evidence, and the alias that says which one answers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.changes import changed
from tunery.cli.output import answer, answer_table, facts, mark, moment
from tunery.cli.parameters import By, Json, Limit, Name, OverrideGate, Project, Reason, Reference, WhyOverride
from tunery.cli.session import ACTOR, open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.registry import AliasMove, ModelVersion
    from tunery.registry.lineage import Lineage, LineageCheck

SharedWith = Annotated[str, typer.Option("--with", metavar="PROJECT", help="The other project.")]
app = typer.Typer(no_args_is_help=True, help="Model versions: list, trace, export, promote, roll back.")


@app.command("ls")
def list_versions(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only versions of this model.")] = None,
    *,
    base: Annotated[str | None, typer.Option("--base", help="Only versions on this base model.")] = None,
    project: Project = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List model versions with their aliases, newest first."""
    with open_workspace(ctx, project) as workspace:
        listed = workspace.models.list(name, limit=limit)
        found = [v for v in listed if base in (None, v.base.partition("@")[0])]
        aliases = {n: workspace.models.aliases(n) for n in {v.name for v in found}}
    versions = [(v, sorted(a for a, number in aliases[v.name].items() if number == v.version)) for v in found]
    rows = [
        (
            v.ref,
            ", ".join(names),
            v.gate_word,
            _main_metric(v),
            v.base,
            v.created_at,
        )
        for v, names in versions
    ]
    objects = [{**v.model_dump(mode="json"), "ref": v.ref, "aliases": names} for v, names in versions]
    columns = ["version", "alias", "gate", "reaches", "base", "registered"]
    answer_table(objects, columns, rows, as_json=as_json)


@app.command("show")
def show_version(
    ctx: typer.Context,
    ref: Reference,
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Compute every checksum again.")] = False,
    as_json: Json = False,
) -> None:
    """Show one version: results, gate, and the chain back to its raw files."""
    from tunery.registry.lineage import lineage
    from tunery.registry.lineage import verify as check_again

    with open_workspace(ctx) as workspace:
        chain = lineage(workspace, ref)
        checks = check_again(workspace, chain) if verify else None
        moves = [
            m
            for m in workspace.models.moves(chain.model.name)
            if chain.model.version in (m.version, m.previous if m.version is None else None)
        ]
    value: dict[str, Any] = {**chain.model_dump(mode="json"), "alias_moves": moves}
    if checks is not None:
        value["checks"] = checks
    answer(value, lambda: _version_text(chain, moves, checks or ()), as_json=as_json)


@app.command("give")
def give_name(
    ctx: typer.Context,
    name: Name,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="KEY", help="Name of an API key; left out, no key may use the name."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whose fine-tuning jobs may make versions of a model name.

    A name belongs to the key whose job made it first; names that `tunery run` made belong to no key.
    """
    with open_workspace(ctx) as workspace:
        workspace.model_names.give(name, to)
    told = f"{name} belongs to the key {to}" if to else f"{name} belongs to no key"
    answer({"name": name, "owner": to}, lambda: [told], as_json=as_json)


@app.command("move")
def move_name(
    ctx: typer.Context,
    name: Name,
    *,
    to: Annotated[str, typer.Option("--to", metavar="PROJECT", help="Whose it is from now on.")],
    as_json: Json = False,
) -> None:
    """Give a model name with all its versions to another project."""
    with open_workspace(ctx) as workspace:
        workspace.model_names.move(name, workspace.projects.require(to))
    answer({"name": name, "project": to}, lambda: [f"{name} belongs to {to}"], as_json=as_json)


@app.command("share")
def share_name(ctx: typer.Context, name: Name, *, to: SharedWith, as_json: Json = False) -> None:
    """Let another project ask a model; it sees its versions and can change nothing of them."""
    with open_workspace(ctx) as workspace:
        workspace.model_names.share(name, workspace.projects.require(to))
    told = f"{name} is shared with {to}"
    answer({"name": name, "shared_with": to}, lambda: [told], as_json=as_json)


@app.command("unshare")
def unshare_name(ctx: typer.Context, name: Name, *, to: SharedWith, as_json: Json = False) -> None:
    """Hide a model from a project that it was shared with."""
    with open_workspace(ctx) as workspace:
        workspace.model_names.unshare(name, to)
    told = f"{name} is no longer shared with {to}"
    answer({"name": name, "no_longer_shared_with": to}, lambda: [told], as_json=as_json)


@app.command("card")
def show_card(ctx: typer.Context, ref: Reference, *, as_json: Json = False) -> None:
    """Print a version's model card, in Markdown."""
    from tunery.core.errors import NotFoundError
    from tunery.registry.export import card_of
    from tunery.registry.versions import resolve

    with open_workspace(ctx) as workspace:
        version = resolve(workspace, ref)
        card = card_of(workspace, version.ref)
    if card is None:
        raise NotFoundError(
            f"records behind {version.ref} are gone, so it has no card",
            hint=f"tunery registry show {version.ref}",
        )
    answer({"model_version": version.ref, "card": card}, lambda: [card], as_json=as_json)


@app.command("export")
def export_version(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    ref: Reference,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="adapter, merged, gguf or gguf-adapter.")
    ] = "adapter",
    quantise: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Of gguf: f32, f16 [default], q8_0, q4_k_m. Of merged: int8, int4; else floating point.",
        ),
    ] = None,
    merged: Annotated[bool, typer.Option("--merged", help="The same as --format merged.")] = False,
    check: Annotated[
        bool, typer.Option(help="Measure every form but the adapter on the test rows before it is kept.")
    ] = True,
    margin: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Loss against the gate's figure that is accepted; else 2 points."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How llama.cpp is started to measure, such as python=PATH."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a version's adapter, or whole weights, and card to a folder that other programs open.

    An adapter is copied as the gate judged it. Merged weights and GGUF files are other forms: they answer the
    version's test rows first, and where they lose more than the margin nothing is left and the command exits
    with 5.
    """
    from tunery.cli.exporting import export_checked, wanted_export

    wanted = wanted_export("merged" if merged else form, quantise, engine or ())
    with open_workspace(ctx) as workspace:
        exported = export_checked(workspace, ref, folder, wanted, margin=margin, check=check)
    answer(exported.value, lambda: exported.lines, as_json=as_json)


@app.command("parity")
def show_parity(ctx: typer.Context, ref: Reference, *, as_json: Json = False) -> None:
    """Answer a version's test rows as training computed it, and compare with what serving answered.

    Plain transformers and PEFT compute one row at a time, which takes minutes. Exits with 5 where the served
    form has lost more than two points against it.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.stages.parity import parity_of_trainer

    with open_workspace(ctx) as workspace:
        found = parity_of_trainer(workspace, ref, progress=terminal_progress())
    answer(found.comparison, lambda: [found.sentence], as_json=as_json)
    found.require()


@app.command("compare")
def compare_versions(ctx: typer.Context, a: Reference, b: Reference, *, as_json: Json = False) -> None:
    """Compare two versions on the test rows that both were evaluated on; positive means B is better."""
    from tunery.cli.evaluate import comparison_text
    from tunery.pipeline.stages.evaluate_file import compare_versions as compare

    with open_workspace(ctx) as workspace:
        compared = compare(workspace, a, b)
    answer(compared, lambda: comparison_text(compared), as_json=as_json)


@app.command("register")
def register_refused(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, as `tunery runs ls` lists.")],
    *,
    override: Annotated[
        bool,
        typer.Option("--override", help="Answer for it, so that it may be promoted; needs --by, --reason."),
    ] = False,
    by: By = None,
    reason: WhyOverride = None,
    as_json: Json = False,
) -> None:
    """Register what a run made although its gate refused it, to be looked at under its number alone.

    With --override, --by and --reason the version may be promoted; its card, its listing and the run's report
    say who answered for it, and why.
    """
    from tunery.pipeline.stages.register import register_overridden
    from tunery.registry.versions import register_run

    with open_workspace(ctx) as workspace:
        if override or by or reason:
            version = register_overridden(workspace, run, by=by, reason=reason)
        else:
            version = register_run(workspace, run)
        changed(ctx, version.ref)
    refused = "refused: nothing points at it, and promoting it needs --override-gate"
    verdict = "passed" if version.gate_passed else refused
    told = version.overrides[-1].sentence if version.overrides else f"its gate {verdict}"
    answer(version, lambda: [f"{version.ref}: {told}"], as_json=as_json)


@app.command("promote")
def promote_version(
    ctx: typer.Context,
    ref: Reference,
    *,
    reason: WhyOverride = None,
    override_gate: OverrideGate = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion: the one that answers under the bare name."""
    from tunery.pipeline.stages.register import override_refusal
    from tunery.registry.aliases import promote

    with open_workspace(ctx) as workspace:
        if override_gate:
            override_refusal(workspace, ref, by=by, reason=reason)
        move = promote(workspace, ref, actor=ACTOR, reason=reason or "promoted by hand")
    answer(move, lambda: [_move_text(move)], as_json=as_json)


@app.command("rollback")
def rollback_champion(
    ctx: typer.Context, name: Name, *, reason: Reason = "rolled back by hand", as_json: Json = False
) -> None:
    """Make the champion before this one the champion again."""
    from tunery.registry.aliases import rollback

    with open_workspace(ctx) as workspace:
        move = rollback(workspace, name, actor=ACTOR, reason=reason)
    answer(move, lambda: [_move_text(move)], as_json=as_json)


@app.command("unalias")
def unalias_version(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="An alias, such as bot@champion.")],
    *,
    reason: Reason = "taken away by hand",
    as_json: Json = False,
) -> None:
    """Take an alias away; the version that it pointed at stays."""
    from tunery.registry.aliases import unalias

    with open_workspace(ctx) as workspace:
        move = unalias(workspace, ref, actor=ACTOR, reason=reason)
    answer(move, lambda: [_move_text(move)], as_json=as_json)


@app.command("rm")
def remove_version(
    ctx: typer.Context,
    ref: Reference,
    *,
    reason: Reason = "deleted by hand",
    as_json: Json = False,
) -> None:
    """Delete a version, and with a name's only one its aliases; the adapter's files go with `tunery gc`."""
    from tunery.registry.versions import resolve

    with open_workspace(ctx) as workspace:
        version = resolve(workspace, ref)
        workspace.models.delete(version.name, version.version, actor=ACTOR, reason=reason)
    value = {"model_version": version.ref, "adapter": version.adapter_id, "deleted": True}
    answer(value, lambda: [f"{version.ref} is deleted; its files go with: tunery gc"], as_json=as_json)


def _main_metric(version: ModelVersion) -> str:
    from tunery.core.figures import is_share, quantity, unit_behind
    from tunery.evaluate.metrics import title_of, unit_of

    name = str(version.config.get("goal", {}).get("metric") or next(iter(version.metrics), ""))
    value = version.metrics.get(name)
    if value is None:
        return ""
    unit = unit_of(name)
    return f"{title_of(name)} {quantity(value, share=is_share(unit, value))}{unit_behind(unit)}"


def _version_text(chain: Lineage, moves: list[AliasMove], checks: Iterable[LineageCheck]) -> Iterable[Part]:
    from tunery.cli.evaluate import metrics_table
    from tunery.core.figures import count

    model, dataset, adapter = chain.model, chain.dataset, chain.adapter
    yield f"{model.ref}\n"
    yield facts(
        [
            ("base", model.base),
            ("registered", model.created_at),
            ("gate", model.gate_word),
            ("labels", count(len(model.labels)) if model.labels else None),
            ("system prompt", model.system_prompt),
            ("run", model.run_id),
            (
                "adapter",
                f"{model.adapter_id} (sha256 {adapter.sha256[:12]})" if adapter else model.adapter_id,
            ),
            ("evaluation", model.evaluation_id),
            ("dataset", model.dataset_version),
            ("rows", f"{count(dataset.rows_kept)} of {count(dataset.rows_read)} read" if dataset else None),
            *(("raw file", f"{s.path} (sha256 {s.sha256[:12]})") for s in chain.sources),
            *(("grown from", parent) for parent in chain.unresolved),
        ]
    )
    if chain.evaluation:
        yield metrics_table(chain.evaluation)
    for rule in chain.gate.rules if chain.gate else ():
        yield f"{mark(rule.passed)} {rule.sentence}"
    for override in model.overrides:
        yield override.sentence
    for move in moves:
        yield _move_text(move)
    for check in checks:
        yield f"{mark(check.ok)} {check.what}: {check.detail}"


def _move_text(move: AliasMove) -> str:
    if move.version is None:
        return (
            f"{move.alias} of {move.name} was taken from {move.name}@{move.previous}; "
            f"{moment(move.at)}, {move.actor}: {move.reason}"
        )
    before = f", before it {move.name}@{move.previous}" if move.previous is not None else ""
    return (
        f"{move.name}@{move.version} is {move.alias} of {move.name}{before}; "
        f"{moment(move.at)}, {move.actor}: {move.reason}"
    )
