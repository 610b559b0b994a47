"""Applying edits: examples with their texts replaced or taken out, and what was changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunery.core.errors import ConfigError, listed
from tunery.core.example import Drop, Dropped, Example, example_id, numbered
from tunery.core.finding import Action, Changed, Edit
from tunery.data.clean import Text, clean_texts
from tunery.data.config import CleanConfig
from tunery.data.edits.sets import SHOWN_PROBLEMS, EditSet
from tunery.data.rows.dropped import dropped_example
from tunery.data.rows.identity import said_prompt, wide_prompt


@dataclass(frozen=True, slots=True)
class Edited:
    """What applying edits gave."""

    examples: list[Example]
    """Those that stay, changed ones in their place."""
    dropped: list[Dropped]
    changed: list[Changed]
    stay: list[int]
    """Position that each of ``examples`` had before."""


def apply_all(examples: Sequence[Example], sets: Sequence[EditSet], clean: CleanConfig) -> Edited:
    """Apply sets of edits one after the other: each names the rows as the one before left them.

    New texts are repaired and masked as the settings ask of every other text.

    Args:
        examples: Cleaned examples in reading order.
        sets: From :func:`load_edits`.
        clean: The recipe's cleaning.

    Raises:
        ConfigError: An edit names a row that is not in the data, or changes a text that it does not have.
    """
    result = Edited(list(examples), [], [], list(range(len(examples))))
    for one in sets:
        edits = _cleaned(one.edits, clean)
        step = apply_edits(result.examples, edits, name=one.name, with_repeats=clean.exact_duplicates)
        result = Edited(
            step.examples,
            result.dropped + step.dropped,
            result.changed + step.changed,
            [result.stay[i] for i in step.stay],
        )
    return result


def _cleaned(edits: Sequence[Edit], clean: CleanConfig) -> list[Edit]:
    texts = [Text(e.value or "", is_answer=e.action != "set_input") for e in edits]
    values = clean_texts(texts, clean).texts
    return [
        e if e.action == "drop" or e.value == v else e.with_(value=v)
        for e, v in zip(edits, values, strict=True)
    ]


def apply_edits(
    examples: Sequence[Example], edits: Sequence[Edit], *, name: str = "edits", with_repeats: bool = True
) -> Edited:
    """Take out and change the rows that edits name.

    Curation removes rows that repeat an earlier one, so an edit of the row it kept must hold for those
    repeats too: otherwise one of them would take the place of the row that was taken out.

    Args:
        examples: Cleaned examples in reading order; equal ones share an id.
        edits: As :func:`settle` left them.
        name: What messages call the edits.
        with_repeats: False where curation keeps repeats; then the second of equal rows is called ``ex-…-2``,
            as in the dataset version, and an edit holds for the row it names only.

    Returns:
        Rows that stay, rows that went with the edit's reason, and every text that was replaced.

    Raises:
        ConfigError: Lists all edits that name no row of the data, and those of a text that a row lacks.
    """
    requested: dict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        requested[edit.row].append(edit)
    targets = _targets(examples, requested, with_repeats=with_repeats)
    _check(examples, requested, targets, name)
    result = Edited([], [], [], [])
    for i, example in enumerate(examples):
        row = targets.get(i)
        if row is not None:
            drop = next((e for e in requested[row] if e.action == "drop"), None)
            if drop is not None:
                result.dropped.append(_dropped(example, drop, row, name))
                continue
            before, example = example, _changed(example, requested[row])
            result.changed.extend(_changes(before, example, requested[row], name))
        result.stay.append(i)
        result.examples.append(example)
    return result


def _targets(
    examples: Sequence[Example], requested: Mapping[str, Sequence[Edit]], *, with_repeats: bool
) -> dict[int, str]:
    """Return the position of every example concerned, and the row id under which edits name it."""
    if not with_repeats:
        return {i: row for i, row in enumerate(numbered(e.id for e in examples)) if row in requested}
    found = {i: e.id for i, e in enumerate(examples) if e.id in requested}
    compared = {_compared(examples[i]): row for i, row in reversed(list(found.items()))}
    # Comparing prompts costs time; the answers, letter by letter, tell which rows need one.
    answers = {examples[i].reference for i in found}
    for i, example in enumerate(examples):
        if i not in found and example.reference in answers:
            repeated = compared.get(_compared(example))
            if repeated is not None:
                found[i] = repeated
    return found


def _compared(example: Example) -> tuple[str, ...]:
    """Return what two rows have in common of which one repeats the other."""
    return wide_prompt(example), said_prompt(example), *example.answers


def _check(
    examples: Sequence[Example],
    requested: Mapping[str, Sequence[Edit]],
    targets: Mapping[int, str],
    name: str,
) -> None:
    missing = sorted(requested.keys() - set(targets.values()))
    if missing:
        noun = "row that is" if len(missing) == 1 else f"{len(missing):,} rows that are"
        raise ConfigError(
            f"{name} names {'a ' if len(missing) == 1 else ''}{noun} not in the data: "
            f"{listed(missing, SHOWN_PROBLEMS)}",
            hint="the files or the settings changed since; inspect the data and make the edits again",
        )
    problems = []
    for i, row in targets.items():
        if examples[i].id != row:
            continue
        for edit in requested[row]:
            if edit.action == "set_rejected" and examples[i].rejected is None:
                problems.append(f"{row} is no preference pair: there is no rejected answer to change")
            if edit.action == "set_input" and not any(m.role == "user" for m in examples[i].prompt):
                problems.append(f"{row} has no user turn to change")
    if problems:
        raise ConfigError.of_problems(name, problems, limit=SHOWN_PROBLEMS)


def _dropped(example: Example, drop: Edit, named: str, name: str) -> Dropped:
    copied = "" if example.id == named or named.startswith(f"{example.id}-") else f", as it repeats {named}"
    why = Drop(drop.reason, f"taken out by {drop.by} in {name}{copied}")
    return dropped_example(example, why)


def _changed(example: Example, edits: Sequence[Edit]) -> Example:
    values = {e.action: e.value or "" for e in edits}
    messages = list(example.messages)
    if "set_input" in values:
        last = max(i for i, m in enumerate(messages[:-1]) if m.role == "user")
        messages[last] = messages[last].with_(content=values["set_input"])
    if "set_output" in values:
        messages[-1] = messages[-1].with_(content=values["set_output"])
    rejected = values.get("set_rejected", example.rejected)
    if tuple(messages) == example.messages and rejected == example.rejected:
        return example
    identity = example_id(tuple(messages), rejected, example.desirable)
    return example.with_(id=identity, group=identity, messages=tuple(messages), rejected=rejected)


def _changes(before: Example, after: Example, edits: Sequence[Edit], name: str) -> Iterable[Changed]:
    for edit in edits:
        old, new = _text(before, edit.action), _text(after, edit.action)
        if old != new:
            yield Changed(
                source=before.metadata["source"],
                row=before.metadata["row"],
                id=before.id,
                became=after.id,
                action=edit.action,
                before=old,
                after=new,
                reason=edit.reason,
                by=edit.by,
                edits=name,
            )


def _text(example: Example, action: Action) -> str:
    if action == "set_output":
        return example.reference
    if action == "set_rejected":
        return example.rejected or ""
    return next(m.content for m in reversed(example.prompt) if m.role == "user")
