"""The inspection of a dataset version as a page: what is in it, what hurts, and what to do about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from tunery.core.columns import Columns
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import listed
from tunery.core.example import Dropped
from tunery.core.figures import count, counted, most_first, percent
from tunery.core.finding import Evidence, Finding, FindingKind
from tunery.report.page import render_page, write_page
from tunery.report.results import Tile
from tunery.report.rows import data_story

_GROUPS = 10
_CONFUSIONS = 20
_OPEN_CLASSES = 12


@dataclass(frozen=True)
class InspectionInputs:
    """What the page is written from."""

    id: str
    """The inspection's."""
    dataset: DatasetVersion
    columns: Columns
    findings: Sequence[Finding]
    """In the order they are shown."""
    kinds: Mapping[str, FindingKind]
    """What detectors declare of the kinds, by name; others are called by their name."""
    dropped: Sequence[Dropped]
    """Rows that curation removed; a few of each reason are enough."""


class DataVerdict(NamedTuple):
    """Whether to train on it, in one sentence."""

    kind: Literal["ship", "refused", "open"]
    word: str
    sentence: str
    steps: tuple[tuple[str, str], ...]
    """What to do and what to type for it."""


class FindingView(NamedTuple):
    """One finding as a reader sees it."""

    finding: Finding
    name: str
    edits: str | None
    """What its edits would do; None where only a person can tell."""
    command: str | None
    """What to type for them."""
    cases: Sequence[tuple[Evidence, str]]
    """What shows it, and in which rows."""


class LookAlikes(NamedTuple):
    """Rows that resemble each other."""

    rows: Sequence[int]
    """Their places among all rows."""
    answers: int
    """Different answers among them [count]."""
    agree: bool


def render_inspection(inputs: InspectionInputs) -> str:
    """Return the inspection as one HTML document that needs no network.

    Args:
        inputs: The version and what was found in it.
    """
    columns = inputs.columns
    names_of_private = {kind.name for kind in inputs.kinds.values() if kind.is_private}
    private = {row for f in inputs.findings if f.kind in names_of_private for row in f.rows}
    groups = [rows for rows in _groups(columns) if not any(columns.ids[i] in private for i in rows)]
    classes = _classes(columns)
    open_classes = _OPEN_CLASSES if len(classes) > _OPEN_CLASSES + 2 else len(classes)
    return render_page(
        "inspection.html.j2",
        id=inputs.id,
        dataset=inputs.dataset,
        columns=columns,
        verdict=_verdict(inputs),
        tiles=_tiles(inputs, len(groups)),
        findings=[_finding(f, inputs) for f in inputs.findings],
        lengths=_lengths(columns, closed=inputs.dataset.labels is not None),
        classes=classes[:open_classes],
        more_classes=classes[open_classes:],
        languages=_languages(inputs.findings),
        groups=[_group(rows, columns) for rows in groups[:_GROUPS]],
        all_groups=len(groups),
        confusions=_confusions(inputs),
        data=data_story(inputs.dataset, inputs.dropped),
    )


def write_inspection(inputs: InspectionInputs, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises:
        ResourceError: The file cannot be written; says why.
    """
    write_page(render_inspection(inputs), path)


def _rows_of(findings: Iterable[Finding]) -> int:
    return len({row for f in findings for row in f.rows})


def _verdict(inputs: InspectionInputs) -> DataVerdict:
    rows = max(1, len(inputs.columns))
    high = [f for f in inputs.findings if f.severity == "high"]
    medium = [f for f in inputs.findings if f.severity == "medium"]
    steps = _steps(inputs)
    if high:
        concerned = _rows_of(high)
        touched = f" in {counted(concerned, 'row')} ({percent(concerned / rows)})" if concerned else ""
        noun = counted(len(high), "serious finding")
        return DataVerdict("refused", "Repair it first", f"{noun}{touched}: {_listed(high)}.", steps)
    if medium:
        concerned = _rows_of(medium)
        sentence = (
            f"nothing would train the model wrong, but {counted(concerned, 'row')} "
            f"({percent(concerned / rows)}) cost quality: {_listed(medium)}."
        )
        return DataVerdict("open", "Usable, with flaws", sentence, steps)
    if inputs.findings:
        return DataVerdict(
            "ship", "Good to train on", f"{_listed(inputs.findings)} may be worth a look.", steps
        )
    return DataVerdict("ship", "Good to train on", "no detector found anything.", ())


def _listed(findings: Sequence[Finding]) -> str:
    names = [f.kind.replace("_", " ") for f in findings]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def applicable(findings: Sequence[Finding], kinds: Mapping[str, FindingKind]) -> list[Finding]:
    """Return the findings whose edits can be made without a person looking at each."""
    return [f for f in findings if f.edits and not (f.kind in kinds and kinds[f.kind].is_guess)]


def _steps(inputs: InspectionInputs) -> tuple[tuple[str, str], ...]:
    findings = inputs.findings
    able = [f for f in applicable(findings, inputs.kinds) if f.severity != "low"]
    steps = []
    if able:
        flags = " ".join(f"--apply {f.kind}" for f in able)
        steps.append(("Make the changes that need no person:", f"tunery data fix RECIPE {flags}"))
    if any(f.rows for f in findings):
        steps.append(
            (
                "Let someone who knows the field decide, in a spreadsheet:",
                "tunery data fix RECIPE --export-review review.csv",
            )
        )
    return tuple(steps)


def _tiles(inputs: InspectionInputs, groups: int) -> list[Tile]:
    dataset, rows = inputs.dataset, len(inputs.columns)
    concerned = _rows_of(f for f in inputs.findings if f.severity != "low")
    high = sum(f.severity == "high" for f in inputs.findings)
    tiles = [
        Tile("Rows", count(rows), f"kept of {counted(dataset.rows_read, 'row')} read"),
        Tile("Findings", count(len(inputs.findings)), f"{count(high)} of them serious"),
        Tile(
            "Rows concerned", count(concerned), f"{percent(concerned / max(1, rows))}, small things left out"
        ),
        Tile("Look-alikes", count(groups), "groups of rows that resemble each other"),
    ]
    if dataset.labels:
        sizes = Counter(inputs.columns.labels).values()
        each = f"{min(sizes):,} to {max(sizes):,} rows each" if sizes else "none has a row"
        tiles.append(Tile("Classes", count(len(dataset.labels)), each))
    return tiles


def _finding(finding: Finding, inputs: InspectionInputs) -> FindingView:
    verbs = {
        "drop": "take out {}",
        "set_output": "correct the answer of {}",
        "set_input": "correct the question of {}",
        "set_rejected": "correct the rejected answer of {}",
    }
    counts = Counter(e.action for e in finding.edits)
    doing = " and ".join(verbs[action].format(counted(n, "row")) for action, n in counts.most_common())
    kind = inputs.kinds.get(finding.kind)
    guesses = kind is not None and kind.is_guess
    way = f"--export-review review.csv --kind {finding.kind}" if guesses else f"--apply {finding.kind}"
    place = {row: i for i, row in enumerate(inputs.columns.ids)} if finding.evidence else {}
    return FindingView(
        finding=finding,
        name=kind.title if kind else finding.kind.replace("_", " "),
        edits=f"Its edits would {doing}." if doing else None,
        command=f"tunery data fix RECIPE {way}" if doing else None,
        cases=[(e, _where(e, inputs.columns, place)) for e in finding.evidence],
    )


def _where(evidence: Evidence, columns: Columns, place: Mapping[str, int]) -> str:
    named = [place[row] for row in evidence.rows if row in place]
    return listed([f"{columns.where(i)}, {columns.splits[i]}" for i in named], 4, separator="; ")


def _lengths(columns: Columns, *, closed: bool) -> dict[str, list[int]]:
    lengths = {"questions": [len(text) for text in columns.prompts]}
    # The lengths of class names say nothing that the table of classes does not say better.
    if not closed:
        lengths["answers"] = [len(text) for text in columns.answers]
    return lengths if len(columns) else {}


def _classes(columns: Columns) -> list[tuple[str, Counter[str]]]:
    """Return the rows of each class by split, the class of most rows first."""
    by_label: dict[str, Counter[str]] = defaultdict(Counter)
    for label, split in zip(columns.labels, columns.splits, strict=True):
        if label is not None:
            by_label[label][split] += 1
    return sorted(by_label.items(), key=lambda item: (-item[1].total(), item[0]))


def _languages(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Return rows by language where a detector counted them, in its ``counts``."""
    counted_ones = (f.numbers.get("counts") for f in findings if f.kind.startswith("language_"))
    return next((counts for counts in counted_ones if counts), {})


def _groups(columns: Columns) -> list[list[int]]:
    """Return rows that share a group with others: groups that disagree first, then the largest."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(columns.groups):
        members[group].append(i)
    shared = [rows for rows in members.values() if len(rows) > 1]
    # Free text that differs need not disagree; classes that differ do.
    agree = {rows[0]: len({columns.labels[i] for i in rows}) == 1 for rows in shared}
    return sorted(shared, key=lambda rows: (agree[rows[0]], -len(rows), rows[0]))


def _group(rows: Sequence[int], columns: Columns) -> LookAlikes:
    answers = {columns.answers[i] for i in rows}
    return LookAlikes(rows, len(answers), agree=len({columns.labels[i] for i in rows}) == 1)


def _confusions(inputs: InspectionInputs) -> list[tuple[tuple[str, str], int]]:
    """Return pairs of classes by the rows that are given one and look like the other, most rows first.

    A detector of wrong labels suggests another class for each row that it finds; where none does, rows that
    resemble each other and yet carry different classes tell.
    """
    columns = inputs.columns
    if inputs.dataset.labels is None:
        return []
    place = {row: i for i, row in enumerate(columns.ids)}
    pairs: Counter[tuple[str, str]] = Counter()
    for finding in inputs.findings:
        for edit in finding.edits:
            given = columns.labels[place[edit.row]] if edit.row in place else None
            if edit.action == "set_output" and given is not None and edit.value is not None:
                pairs[given, edit.value] += 1
    for rows in [] if pairs else _groups(columns):
        labels = Counter(label for i in rows if (label := columns.labels[i]) is not None)
        for one, other in combinations(sorted(labels), 2):
            pairs[one, other] += min(labels[one], labels[other])
    return most_first(pairs)[:_CONFUSIONS]
