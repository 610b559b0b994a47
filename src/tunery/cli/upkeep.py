"""``tunery verify`` and ``tunery gc``: whether what is stored is what it was, and what may go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, mark, table
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.registry.lineage import LineageCheck
    from tunery.store.left_overs import LeftOver
    from tunery.store.workspace import Workspace

ALL = "all"


def verify(
    ctx: typer.Context,
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="A version, the id of an artifact, or all.")
    ] = ALL,
    *,
    as_json: Json = False,
) -> None:
    """Compute every checksum again: of a version, all that it was made from and its base, or of everything.

    Exits with 4 when a file is not what it was; each is named with what mends it.
    """
    with open_workspace(ctx) as workspace:
        checks = _checks(workspace, ref)
    answer_checks(ref, checks, as_json=as_json)


def answer_checks(ref: str, checks: Sequence[LineageCheck], *, as_json: bool) -> None:
    """Print what was looked at again.

    Raises:
        DamagedError: Something is not what it was; names each with what mends it.
    """
    from tunery.core.errors import DamagedError

    bad = [check for check in checks if not check.ok]
    value = {"ref": ref, "ok": not bad, "checks": checks}
    answer(value, lambda: _checks_text(checks), as_json=as_json)
    if bad:
        mends = dict.fromkeys(check.mend for check in bad if check.mend)
        raise DamagedError(
            f"{len(bad)} of {len(checks)} checks failed: {'; '.join(f'{c.what}: {c.detail}' for c in bad)}",
            hint="; ".join(mends) or None,
        )


def gc(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it and remove nothing.")] = False,
    unused: Annotated[
        bool,
        typer.Option(
            "--unused", help="Free what no registered version stands on, too; its recipe makes it again."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove what killed processes left behind, and show what no version needs.

    What a running process holds stays, and so does what people reviewed, judges were paid for and clients
    uploaded.
    """
    from tunery.registry import unused as needs
    from tunery.store.left_overs import LeftOver, left_overs

    with open_workspace(ctx) as workspace:
        left = left_overs(workspace.root, remove=not dry_run)
        left += [
            LeftOver(stray.url, stray.bytes, "upload of a killed process")
            for stray in workspace.artifacts.strays(remove=not dry_run)
        ]
        free = unused and not dry_run
        extra = needs.free_unused(workspace) if free else needs.unused(workspace)
    value = {
        "dry_run": dry_run,
        "left_over": left,
        "unused": extra,
        "removed_bytes": 0 if dry_run else sum(x.bytes for x in [*left, *(extra if unused else [])]),
    }
    answer(value, lambda: _freed_text(left, extra, dry_run=dry_run, freed=free), as_json=as_json)


def _checks(workspace: Workspace, ref: str) -> Sequence[LineageCheck]:
    from tunery.core.errors import ConfigError, NotFoundError
    from tunery.registry.lineage import lineage, verify_all, verify_artifact
    from tunery.registry.lineage import verify as verify_version

    if ref == ALL:
        return verify_all(workspace)
    try:
        return verify_version(workspace, lineage(workspace, ref))
    except (ConfigError, NotFoundError) as unknown:
        try:
            return verify_artifact(workspace, ref)
        except NotFoundError:
            raise unknown from None


def _checks_text(checks: Sequence[LineageCheck]) -> Iterable[Part]:
    if not checks:
        yield "nothing is stored yet"
    for check in checks:
        yield f"{mark(check.ok)} {check.what}: {check.detail}"


def _freed_text(
    left: Sequence[LeftOver], extra: Sequence[LeftOver], *, dry_run: bool, freed: bool
) -> Iterable[Part]:
    from tunery.core.figures import size

    def listed(found: Sequence[LeftOver]) -> Part:
        return table(["what", ">size", "path"], [(x.what, size(x.bytes), x.path) for x in found])

    verb = "would be removed" if dry_run else "removed"
    yield f"left over by killed processes, {verb}: {size(sum(x.bytes for x in left))}"
    if left:
        yield listed(left)
    if not extra:
        return
    verb = "freed" if freed else "kept; tunery gc --unused frees it"
    yield f"no version stands on it, {verb}: {size(sum(x.bytes for x in extra))}"
    yield listed(extra)
