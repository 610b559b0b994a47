"""Fix: findings and decisions become edits, and edits the next version, which a recipe can name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.finding import Edit, Evidence, Finding
from tunery.core.progress import Silent
from tunery.data.edits.sets import read_changed
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.fix import apply_findings, build_next, read_review, write_review
from tunery.pipeline.stages.inspect import inspect_data, keep_inspection, stored_findings
from tunery.store.dataset_files import read_columns, read_dropped
from tunery.store.workspace import Workspace

TOPICS = ["card", "transfer", "refund"]
RECIPE = """\
name: bank
goal: {{metric: exact_match}}
base: {base}
data:
  sources:
    - path: rows.csv
      columns: {{input: text, output: category}}
  split: {{test: 6, validation: 6}}
"""


@pytest.fixture
def context(tmp_path: Path, tiny_model: Path, workspace: Workspace) -> RunContext:
    rows = [f"{chr(97 + i % 26) * 4} {i * 7919} about my {TOPICS[i % 3]},{TOPICS[i % 3]}" for i in range(60)]
    rows += ["when does my new card come to me,card"] * 3 + ["when does my new card come to me,refund"]
    (tmp_path / "rows.csv").write_text("\n".join(["text,category", *rows]) + "\n", encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    return RunContext(load_recipe(tmp_path / "recipe.yaml"), workspace, tmp_path, Silent())


def contradictions(context: RunContext) -> tuple[Finding, ...]:
    """Prompts with two classes, found by looking: the class of the first row is taken for right."""
    columns = read_columns(context.workspace.artifacts.path("datasets", make_dataset(context).id))
    first: dict[str, int] = {}
    wrong = [
        (i, first[p])
        for i, p in enumerate(columns.prompts)
        if columns.answers[first.setdefault(p, i)] != columns.answers[i]
    ]
    edits = tuple(
        Edit(row=columns.ids[i], action="set_output", value=columns.answers[j], reason="contradiction")
        for i, j in wrong
    )
    evidence = tuple(
        Evidence(rows=(columns.ids[i], columns.ids[j]), text=columns.prompts[i]) for i, j in wrong
    )
    return (
        Finding(
            kind="contradiction",
            severity="high",
            message="m",
            rows=tuple(columns.ids[i] for i, _ in wrong),
            evidence=evidence,
            fix="Pick one.",
            edits=edits,
        ),
        Finding(kind="imbalance", severity="low", message="m", fix="Add rows to the small classes."),
    )


def test_a_fix_makes_the_next_version_and_says_what_it_changed(context: RunContext) -> None:
    before = make_dataset(context)
    fixed = apply_findings(context, contradictions(context), ["contradiction"])
    assert fixed.before == before
    assert fixed.after.id != before.id
    assert fixed.after.parents == (before.id,)
    assert fixed.requested == {"contradiction": 1}
    (change,) = fixed.changed
    assert (change.before, change.after, change.row) == ("refund", "card", 64)
    assert change.edits == fixed.edits
    # Mended, it says what row 61 says, so it goes as its repeat: told, not lost.
    dropped = read_dropped(context.workspace.artifacts.path("datasets", fixed.after.id))
    assert (64, "exact_duplicate") in {(d.row, d.reason) for d in dropped}
    assert fixed.after.changed == {"contradiction": 1}


def test_the_override_that_is_printed_gives_the_fixed_version(context: RunContext) -> None:
    fixed = apply_findings(context, contradictions(context), ["contradiction"])
    recipe = load_recipe(context.base_dir / "recipe.yaml", [fixed.override])
    again = RunContext(recipe, context.workspace, context.base_dir, Silent())
    assert make_dataset(again) == fixed.after
    assert make_dataset(context) == fixed.before


def test_fixing_twice_builds_on_the_first_fix(context: RunContext) -> None:
    first = apply_findings(context, contradictions(context), ["contradiction"])
    recipe = load_recipe(context.base_dir / "recipe.yaml", [first.override])
    again = RunContext(recipe, context.workspace, context.base_dir, Silent())
    columns = read_columns(context.workspace.artifacts.path("datasets", first.after.id))
    second = build_next(again, [Edit(row=columns.ids[0], action="drop", reason="review", by="Ada")])
    assert second.before == first.after
    assert second.after.parents[-1] == first.after.id
    assert second.override == f"data.edits=[{first.edits}, {second.edits}]"
    assert second.after.changed == {"contradiction": 1}
    assert second.after.dropped["review"] == 1


def test_edits_whose_rows_are_gone_from_the_files_are_refused(context: RunContext) -> None:
    fixed = apply_findings(context, contradictions(context), ["contradiction"])
    path = context.base_dir / "rows.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    recipe = load_recipe(context.base_dir / "recipe.yaml", [fixed.override])
    again = RunContext(recipe, context.workspace, context.base_dir, Silent())
    with pytest.raises(ConfigError, match=f"not in the data: {fixed.changed[0].id}"):
        make_dataset(again)


def test_kinds_that_were_not_found_and_kinds_without_edits_are_refused(context: RunContext) -> None:
    found = contradictions(context)
    with pytest.raises(NotFoundError, match="did you mean 'contradiction'"):
        apply_findings(context, found, ["contradictions"])
    with pytest.raises(ConfigError, match="imbalance: Add rows"):
        apply_findings(context, found, ["imbalance", "contradiction"])


def test_a_review_goes_out_and_comes_back_as_edits_in_the_reviewers_name(context: RunContext) -> None:
    path = context.base_dir / "review.csv"
    assert write_review(context, path, lambda: contradictions(context), [], replace=False) == 1
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(text.replace(",answer: card,,,", ",answer: card,change,,seen"), encoding="utf-8")
    review = read_review(context, path, "Ada")
    assert review.notes == {review.edits[0].row: "seen"}
    fixed = build_next(context, review.edits)
    (change,) = fixed.changed
    assert (change.by, change.reason, change.after) == ("Ada", "review", "card")


def test_an_inspection_is_kept_under_its_content_and_found_again(context: RunContext) -> None:
    dataset = make_dataset(context)
    columns = read_columns(context.workspace.artifacts.path("datasets", dataset.id))
    found = contradictions(context)
    kept = keep_inspection(context.workspace, dataset, columns, found)
    again = keep_inspection(context.workspace, dataset, columns, found[::-1])
    assert again.id == kept.id
    assert keep_inspection(context.workspace, dataset, columns, found[:1]).id != kept.id
    context.workspace.artifacts.path("inspections", kept.id)
    assert kept.page.is_file()
    assert stored_findings(context.workspace, kept.id, dataset) == kept.findings
    fixed = apply_findings(context, found, ["contradiction"])
    with pytest.raises(ConfigError, match=f"{kept.id} looked at {dataset.id}"):
        stored_findings(context.workspace, kept.id, fixed.after)
    with pytest.raises(NotFoundError):
        stored_findings(context.workspace, "inspection-none", dataset)


def test_the_detectors_find_the_contradiction_and_their_edits_mend_it(context: RunContext) -> None:
    found = inspect_data(context)
    kinds = {f.kind: f for f in found.findings}
    assert "contradiction" in kinds
    assert kinds["contradiction"].rows
    # Of two rows none is a clear majority, so a person must say; the detector then has no edits of its own.
    for finding in found.findings:
        assert {e.row for e in finding.edits} <= set(found.columns.ids)
    shutil.rmtree(context.workspace.root / "reports")
    assert inspect_data(context).id == found.id
    assert found.page.is_file()


def test_each_changed_text_lies_beside_the_rows(context: RunContext) -> None:
    fixed = apply_findings(context, contradictions(context), ["contradiction"])
    folder = context.workspace.artifacts.path("datasets", fixed.after.id)
    assert read_changed(folder) == list(fixed.changed)
    assert read_changed(context.workspace.artifacts.path("datasets", fixed.before.id)) == []
