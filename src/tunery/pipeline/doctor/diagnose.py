"""Diagnose: what a file of rows is, what a base's template makes of it, and what would go wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, RefusedByTemplate, first_of
from tunery.core.example import Example, prompt_text, where
from tunery.core.figures import counted, most_first, percent_of
from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.rows.flaws import refuse_bad
from tunery.data.split.assign import check_rows
from tunery.model.chat_templates import INPUT_HEADING, NAMES, chat_template_of
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.pipeline.doctor.first_recipe import (
    labels_of,
    metric_for,
    model_name,
    recipe_text,
    recipe_values,
)
from tunery.pipeline.doctor.sample import MOST_ROWS, Sample, read_sample
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.preflight import ServedPrompt
from tunery.text.language import language
from tunery.train.methods.method import TrainingMethod, TrainingRow
from tunery.train.preflight import Preflight, preflight
from tunery.train.section import DEFAULT_METHOD, training_methods

_MOST_RENDERED = 1_000
"""Rows tokenised, spread evenly over those read [count]."""
_MOST_SECONDS = 1.5
"""Time that tokenising them may take [s]."""
_LANGUAGES = 200
"""Rows whose language is looked at [count]."""
_NAMED = 5
"""Rows that a sentence names [count]."""
_PAIRED, _UNPAIRED = "dpo", "kto"
"""The method that a file of preference pairs starts with."""


class Diagnosis(Record):
    """What a look at a file and a base found."""

    file: str
    format: str
    """Of the file, such as ``jsonl``."""
    layout: str
    """How rows are read: ``columns``, ``instruction``, ``chat``, ``completion`` or ``preference``."""
    columns: Mapping[str, str]
    """Part of a conversation to the column that plays it in the first row."""
    rows: int
    """Rows looked at [count]."""
    whole: bool
    """Whether these are all rows of the file."""
    usable: int
    """Rows among them that can be learnt from, repeats left out [count]."""
    dropped: Mapping[str, int]
    """Reason to rows that teach nothing or cannot be understood [count]."""
    repeats: int
    """Rows that say the same as an earlier one, answer included [count]."""
    labels: int | None
    """Classes that answers are drawn from; None where they are open [count]."""
    languages: Mapping[str, int]
    """ISO 639-1 code to rows, of the first that tell theirs [count]."""
    personal_data: Mapping[str, int]
    """Type of personal data or secret to its places, which training sees masked [count]."""
    base: str
    method: str
    """What ``train.method`` would be."""
    window: int
    """Longest row that the base was made for [tokens]."""
    preflight: Preflight | None
    """Tokens and masks of the rows tokenised; None where none could be."""
    problems: tuple[str, ...]
    """What would stop training, a sentence each."""
    warnings: tuple[str, ...]
    """What training would go on with, a sentence each."""
    recipe: str
    """The recipe to start with, as YAML."""

    def require(self) -> None:
        """Raise where something would stop training.

        Raises:
            ConfigError: Lists it.
        """
        if self.problems:
            raise ConfigError.of_problems(self.file, list(self.problems))


class _Rendering(NamedTuple):
    """Rows as training would see them."""

    examples: list[Example]
    rows: list[TrainingRow]
    refused: list[str]
    """Rows that the template does not take, a sentence each."""
    too_long: list[str]
    """Rows over the base's window."""
    looked_at: int


def _method_for(sample: Sample) -> str:
    """Return the method that learns from rows like those of a file."""
    if sample.mapped.shape == "preference":
        return _PAIRED
    return _UNPAIRED if any(e.desirable is not None for e in sample.examples) else DEFAULT_METHOD


def diagnose(  # noqa: PLR0913 - the file, the base, and what the caller knows of either
    file: Path,
    base_folder: Path,
    *,
    base: str,
    recipe_dir: Path,
    chat_template: str | None = None,
    columns: ColumnsConfig | None = None,
    most_rows: int = MOST_ROWS,
) -> Diagnosis:
    """Look at the first rows of a file, and at what a base makes of them; nothing is trained or kept.

    Args:
        file: Rows in any format that a recipe's source may have.
        base_folder: Of the base model; only its tokenizer, template and configuration are read.
        base: How the recipe is to name it.
        recipe_dir: Folder of the recipe, which its paths start from.
        chat_template: As a recipe names it, a path from the current directory; the base's own when None.
        columns: Those of the file that the caller names.
        most_rows: Rows to look at [count].

    Raises:
        ConfigError: Nothing can be said of the file, or the base has no usable template.
    """
    chosen = chat_template and chat_template_of(chat_template, base_folder)
    tokenizer = load_tokenizer(base_folder, chat_template=chosen.text if chosen else None)
    settings = SourceConfig(
        path=str(file),
        columns=columns or ColumnsConfig(),
        before_input=INPUT_HEADING if chat_template == "alpaca" else None,
    )
    sample = read_sample(settings, most_rows=most_rows)
    method = training_methods()[_method_for(sample)]
    problems, warnings = [*sample.problems], [*sample.warnings]
    labels = _look_at_rows(sample, problems, warnings)
    rendering = _render(tokenizer, method, sample.examples)
    found = _look_at_tokens(tokenizer, rendering, problems, warnings)
    answers = [len(s.ids) - s.prompt_tokens for row in rendering.rows for s in row.sequences]
    values = recipe_values(
        model_name(file),
        base,
        _source(sample, file, recipe_dir),
        chat_template=_from_recipe(chat_template, recipe_dir) if chat_template else None,
        metric=metric_for(sample.examples),
        method=method.name,
        max_tokens=tokenizer.max_tokens if rendering.too_long else None,
        answer_tokens=max(answers, default=0),
    )
    parse_recipe(values, where="the recipe to start with")  # never hand out one that does not load
    return Diagnosis(
        file=str(file),
        format=sample.source.format,
        layout=sample.mapped.shape,
        columns=sample.columns,
        rows=sample.rows,
        whole=sample.whole,
        usable=len(sample.examples) - sample.repeats,
        dropped=dict(most_first(Counter(d.reason for d in sample.dropped))),
        repeats=sample.repeats,
        labels=len(labels) if labels else None,
        languages=_languages(sample.examples),
        personal_data=dict(most_first(sample.personal)),
        base=base,
        method=method.name,
        window=tokenizer.max_tokens,
        preflight=found,
        problems=tuple(problems),
        warnings=tuple(warnings),
        recipe=recipe_text(values),
    )


def _look_at_rows(sample: Sample, problems: list[str], warnings: list[str]) -> tuple[str, ...] | None:
    """Add what is wrong with the rows themselves; return their classes."""
    if sample.guessed:
        columns = " and ".join(f"{part} {name!r}" for part, name in sample.columns.items())
        warnings.append(f"the columns say no format; {columns} were taken by their names")
    try:
        refuse_bad(sample.dropped, "rows that cannot be understood", sample.rows, strict=False)
    except ConfigError as error:
        problems.append(error.message)
    else:
        if sample.dropped:
            shown = first_of([f"row {d.row}: {d.detail}" for d in sample.dropped], _NAMED)
            warnings.append(f"{counted(len(sample.dropped), 'row')} would be dropped: {'; '.join(shown)}")
    if sample.contradictory:
        shown = first_of([f"rows {a} and {b}" for a, b in sample.contradictory], _NAMED)
        several = counted(len(sample.contradictory), "prompt")
        warnings.append(f"{several} with several answers, of which training learns all: {', '.join(shown)}")
    if sample.whole:
        try:
            check_rows(len(sample.examples) - sample.repeats, splitting=True)
        except ConfigError as error:
            problems.append(error.message)
    labels = None
    try:
        labels = labels_of(sample.examples)
    except ConfigError as error:
        # Conversations may all end with the same words; a table of one class teaches nothing.
        (problems if sample.mapped.shape == "columns" else warnings).append(error.message)
    if labels:
        rows_of = Counter(e.reference for e in sample.examples)
        least, most = min(rows_of.values()), max(rows_of.values())
        if most > 20 * least:
            few = next(name for name, n in rows_of.items() if n == least)
            warnings.append(f"classes have between {least:,} ({few!r:.60}) and {most:,} rows")
    return labels


def _render(tokenizer: ChatTokenizer, method: TrainingMethod, examples: Sequence[Example]) -> _Rendering:
    """Tokenise rows spread evenly, as many as there is time for."""
    every = max(1, -(-len(examples) // _MOST_RENDERED))
    objective = method.objective(method.defaults)
    taken = _Rendering([], [], [], [], 0)
    ends_at, looked_at = time.monotonic() + _MOST_SECONDS, 0
    for example in examples[::every]:
        if time.monotonic() > ends_at:
            break
        looked_at += 1
        try:
            (row,) = objective.rows(tokenizer, [example], split="train")
        except RefusedByTemplate as refusal:
            taken.refused.append(f"{_row(example)}: {refusal.words}")
            continue
        longest = max(len(s.ids) for s in row.sequences)
        if longest > tokenizer.max_tokens:
            taken.too_long.append(f"{_row(example)} ({longest:,} tokens)")
            continue
        taken.examples.append(example)
        taken.rows.append(row)
    return taken._replace(looked_at=looked_at)


def _look_at_tokens(
    tokenizer: ChatTokenizer, rendering: _Rendering, problems: list[str], warnings: list[str]
) -> Preflight | None:
    """Add what is wrong with rows as the base reads them; return tokens, masks and checks."""
    if rendering.refused:
        what = "the base's chat template does not take"
        _add(problems, warnings, rendering, rendering.refused, what)
    if rendering.too_long:
        what = f"the base's window of {tokenizer.max_tokens:,} tokens is too short for"
        _add(problems, warnings, rendering, rendering.too_long, what)
    if not rendering.rows:
        return None
    found = preflight(
        tokenizer,
        rendering.examples,
        rendering.rows,
        max_tokens=tokenizer.max_tokens,
        serving_template_sha256=tokenizer.chat_template_sha256,
        served=ServedPrompt(tokenizer, None),
    )
    problems += [check.sentence for check in found.checks if not check.passed]
    several = sum(
        example.rejected is None and len(row.sequences) > 1
        for example, row in zip(rendering.examples, rendering.rows, strict=True)
    )
    if several:
        warnings.append(
            f"the base's chat template rewrites earlier turns when a conversation goes on: each answer of "
            f"{counted(several, 'row')} is a sequence of its own"
        )
    return found


def _add(
    problems: list[str], warnings: list[str], rendering: _Rendering, rows: Sequence[str], what: str
) -> None:
    """Add a sentence on rows: a problem where they are half of all, for then training refuses the file."""
    share = f"{counted(len(rows), 'row')} of {rendering.looked_at:,}"
    stops = 2 * len(rows) >= rendering.looked_at
    (problems if stops else warnings).append(f"{what} {share}: {'; '.join(first_of(rows, _NAMED))}")


def _source(sample: Sample, file: Path, recipe_dir: Path) -> dict[str, Any]:
    """Return the source as the recipe writes it."""
    ours = {"path", "before_input"}  # the template says the second
    said = sample.source.settings.model_dump(mode="json", exclude_defaults=True, exclude=ours)
    return {"path": _relative(file, recipe_dir), **said}


def _from_recipe(chat_template: str, recipe_dir: Path) -> str:
    return chat_template if chat_template in NAMES else _relative(Path(chat_template), recipe_dir)


def _relative(file: Path, recipe_dir: Path) -> str:
    """Return a path as a recipe in that folder writes it."""
    where_it_is = file.expanduser().resolve()
    inside = where_it_is.is_relative_to(recipe_dir.resolve())
    return str(where_it_is.relative_to(recipe_dir.resolve()) if inside else where_it_is)


def _languages(examples: Sequence[Example]) -> dict[str, int]:
    every = max(1, len(examples) // _LANGUAGES)
    found = (language(prompt_text(e)) for e in examples[::every][:_LANGUAGES])
    return dict(most_first(Counter(name for name in found if name is not None)))


def _row(example: Example) -> str:
    return f"row {example.metadata['row']}" if "row" in example.metadata else where(example)


def trained_share(found: Preflight) -> str:
    """Return which part of the tokens is trained, for people."""
    return percent_of(found.trained_tokens, found.tokens)
