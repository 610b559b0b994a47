"""What ``tunery data`` prints for a person: versions, findings, fixes, differences, exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.cli.output import facts, styled, table
from tunery.core.errors import first_of
from tunery.core.splits import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from tunery.cli.output import Part
    from tunery.core.dataset import DatasetVersion
    from tunery.core.example import Dropped, Example
    from tunery.core.finding import Changed, Severity
    from tunery.data.edits.review import Review
    from tunery.data.version.diff import DatasetDiff, Reason
    from tunery.data.writers.export import Exported
    from tunery.pipeline.stages.fix import Fixed
    from tunery.pipeline.stages.inspect import Inspection

_CHARACTERS = 300
_CHANGES = 5
_CONTEXT = 40
_STYLES: Mapping[Severity, str] = {"high": "bold red", "medium": "yellow", "low": "dim"}


def version_text(version: DatasetVersion) -> Iterable[Part]:
    """Return a dataset version as a person reads it."""
    from tunery.core.figures import listed_counts
    from tunery.data.rows.changes import in_words

    yield facts(
        [
            ("dataset", version.id),
            ("name", version.name),
            *(
                ("from", f"{s.path} ({s.rows:,} rows, {s.shape}, sha256 {s.sha256[:12]})")
                for s in version.sources
            ),
            *(("grown from", parent) for parent in version.parents),
            ("rows", f"{version.rows_kept:,} kept of {version.rows_read:,} read"),
            ("splits", ", ".join(f"{name} {version.splits.get(name, 0):,}" for name in SPLITS)),
            ("dropped", listed_counts(version.dropped) or "nothing"),
            *(("texts changed", line) for line in in_words(version.cleaned)),
            ("edited", listed_counts(version.changed) or None),
            ("masked", listed_counts(version.masked) or "nothing found"),
            ("labels", f"{len(version.labels):,} classes" if version.labels else "open text"),
            ("system prompt", version.system_prompt),
        ]
    )
    for warning in version.warnings:
        yield f"warning: {warning}"


def rows_text(examples: Sequence[Example], dropped: Sequence[Dropped]) -> Iterable[str]:
    """Return a few rows of a version, and a few that it left out."""
    from tunery.core.figures import one_line

    for example in examples:
        yield f"\nexample {example.id}"
        for message in example.messages:
            yield f"  {message.role}: {one_line(message.content, _CHARACTERS)}"
        if example.rejected is not None:
            yield f"  rejected: {one_line(example.rejected, _CHARACTERS)}"
    for row in dropped:
        yield f"\ndropped ({row.reason}) {row.source} row {row.row}: {row.detail}"
        yield f"  {one_line(row.text, _CHARACTERS)}"
    yield ""


def inspection_text(found: Inspection) -> Iterable[Part]:
    """Return what an inspection found, with what to type next."""
    from tunery.report.inspection import applicable

    version = found.dataset
    yield f"{version.id}: {version.rows_kept:,} rows"
    if not found.findings:
        yield "No detector found anything."
    else:
        yield table(
            ["severity", "kind", ">rows", "message", "fix"],
            [
                (
                    styled(f.severity, _STYLES[f.severity]),
                    f.kind,
                    f"{len(f.rows):,}" if f.rows else "all",
                    f.message,
                    f.fix,
                )
                for f in found.findings
            ],
        )
    yield facts([("inspection", found.id), ("page", found.page)])
    able = [f.kind for f in applicable(found.findings, found.kinds)]
    if able:
        yield f"try: tunery data fix RECIPE {' '.join(f'--apply {kind}' for kind in able)}"
    if any(f.rows for f in found.findings):
        yield "try: tunery data fix RECIPE --export-review review.csv"


def fixed_text(fixed: Fixed, recipe: Path, review: Review | None = None) -> Iterable[Part]:
    """Return what a fix changed; its last line trains on the new version."""
    from tunery.core.figures import listed_counts

    before, after = fixed.before, fixed.after
    yield facts(
        [
            ("edits", fixed.edits),
            ("requested", listed_counts(fixed.requested)),
            ("before", f"{before.id} ({before.rows_kept:,} rows)"),
            ("after", f"{after.id} ({after.rows_kept:,} rows)"),
            ("texts changed", f"{len(fixed.changed):,}"),
            (
                "left out now",
                listed_counts(Counter(after.dropped) - Counter(before.dropped)) or "nothing more",
            ),
            ("kept by review", None if review is None else f"{review.kept:,}"),
            ("undecided", None if review is None else f"{review.undecided:,}, they stay as they are"),
        ]
    )
    for edit in fixed.overruled[:_CHANGES]:
        yield f"not changed but taken out: {edit.row} ({edit.reason})"
    yield from first_of([_change(c) for c in fixed.changed[:_CHANGES]], _CHANGES, total=len(fixed.changed))
    if len(fixed.changed) > _CHANGES:
        yield f"all of them: tunery data diff {before.id} {after.id}"
    for warning in (*(review.warnings if review else ()), *after.warnings):
        yield f"warning: {warning}"
    yield f"\ntunery run {recipe} '{fixed.override}'"


def diff_text(found: DatasetDiff) -> Iterable[Part]:
    """Return what happened to the rows between two versions."""
    whole = {name: sum(r.rows for r in getattr(found, name)) for name in ("came", "went", "changed", "moved")}
    yield facts(
        [
            ("from", found.a),
            ("to", found.b),
            ("same", f"{found.same:,}"),
            *((name, f"{rows:,}") for name, rows in whole.items()),
        ]
    )
    for setting in found.settings:
        yield f"setting {setting}"
    for name in whole:
        yield from _reasons_text(name, getattr(found, name))


def _reasons_text(name: str, reasons: Sequence[Reason]) -> Iterable[str]:
    for reason in reasons:
        yield f"\n{name}: {reason.rows:,} {reason.reason}"
        for row in reason.examples:
            yield f"  {row.where}: {row.detail}"
            if row.before is not None:
                yield f"    - {row.before}"
            if row.after is not None and row.after != row.before:
                yield f"    + {row.after}"


def exported_text(written: Exported) -> Iterable[Part]:
    """Return what an export wrote, and the recipe that reads it again."""
    yield facts(
        [
            (split, f"{rows:,} rows in {', '.join(map(str, written.files[split]))}")
            for split, rows in written.rows.items()
        ]
    )
    yield f"A recipe reads it again with:\n\n{written.recipe}"


def collected_text(path: str, rows: int, skipped: Mapping[str, int]) -> Iterable[Part]:
    """Return how much traffic became rows, why the rest did not, and how a recipe takes it."""
    reasons = [(reason, f"{count:,} left out") for reason, count in skipped.items()]
    yield facts([("rows", f"{rows:,} in {path}"), *reasons])
    yield f"A recipe takes them as a source: {{path: {path}, shape: chat}}"


def _change(change: Changed) -> str:
    """Return both texts from a little before where they part, with spaces and line ends to be seen."""
    before, after = change.before, change.after
    alike = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, alike - _CONTEXT)
    dots = "…" if start else ""
    old, new = (dots + repr(text[start : start + 3 * _CONTEXT])[1:-1] for text in (before, after))
    return f"{change.source} row {change.row} ({change.reason}): {old}\n  -> {new}"
