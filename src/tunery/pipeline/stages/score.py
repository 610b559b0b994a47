"""What the base says of training rows before training: how hard is each answer, and how hard alone?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.engine import Engine, Score, Tokenizer
from tunery.core.example import Example, Message
from tunery.core.ids import artifact_id
from tunery.core.progress import Progress
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import make_dataset, split_of, tokenizer_of
from tunery.store.exclusive import exclusive

if TYPE_CHECKING:
    from tunery.core.quality import RowQuality
    from tunery.synthesise.config import RowJudgeConfig
    from tunery.synthesise.judge import JudgeContext

STAGE_VERSION = 1
"""Raise when equal inputs would give other scores."""

Pair = tuple[tuple[int, ...], tuple[int, ...]]


class ScoredRows(NamedTuple):
    """The scores of a dataset version's training rows."""

    id: str
    """``quality-`` and 16 hex digits: hash of the dataset version and the base."""
    rows: Sequence[RowQuality]
    """One for each training row, in its order."""


def score_recipe(
    context: RunContext, dataset: DatasetVersion | None = None, *, judge: RowJudgeConfig | None = None
) -> ScoredRows:
    """Score the training rows of a recipe under its base, or find the scores of an earlier call.

    Args:
        context: Of the recipe.
        dataset: Which version; the recipe's own where None, built if need be.
        judge: A model that scores each row from 1 to 5 besides; nobody where None.

    Raises:
        ConfigError: A file is wrong, a row does not fit the base's context window, or the judge's endpoint
            refuses.
        ResourceError: The judge does not answer, or the budget does not pay for all rows; answers that were
            paid for are kept, and the same call goes on from there.
        KeyboardInterrupt: Ctrl-C; no scores are kept but the judge's answers.
    """
    from tunery.data.select.scores import read_quality, write_quality
    from tunery.synthesise.judge import JudgeContext, judge_identity

    dataset = dataset or make_dataset(context)
    artifacts = context.workspace.artifacts
    inputs = {"dataset": dataset.id, "base": context.base.sha256}
    train = split_of(context, dataset, "train")
    task = context.recipe.description or context.recipe.data.system_prompt
    judging = JudgeContext(task, dataset.labels or (), judge.rubric if judge else None)
    config: dict[str, Any] = {"engine": context.engine_settings.identity}
    if context.tokenizer.writes_day:
        config["day"] = dataset.day.isoformat()
    if judge:
        config["judge"] = judge_identity(judge, judging, train)
    identity = artifact_id("quality", stage="quality", version=STAGE_VERSION, config=config, inputs=inputs)
    folder = artifacts.whole("quality", identity, context.progress)
    if folder is not None:
        context.progress.event(f"{identity} is already there", data={"quality": identity})
        return ScoredRows(identity, read_quality(folder))
    scores = _judged(context, train, judge, judging, identity) if judge else {}
    rows = score_rows(
        context.engine(),
        tokenizer_of(context, dataset),
        train,
        rows_per_batch=context.recipe.evaluate.rows_per_batch,
        progress=context.progress,
        before_batch=context.check_stop,
    )
    rows = [row.with_(judge=scores.get(row.id)) for row in rows]
    with artifacts.create("quality", identity, {**inputs, "rows": len(rows)}) as partial:
        write_quality(rows, partial)
    return ScoredRows(identity, rows)


def _judged(
    context: RunContext, train: Sequence[Example], judge: RowJudgeConfig, judging: JudgeContext, identity: str
) -> Mapping[str, int]:
    """Return the judge's scores by example id."""
    from tunery.pipeline.stages.synthesise import warn_of_sending
    from tunery.synthesise.judge import judge_rows

    warn_of_sending(context, judge.judge)
    folder = context.workspace.root / "journals"
    folder.mkdir(exist_ok=True)
    with exclusive(context.workspace.root, identity):
        return judge_rows(
            train,
            judge,
            judging,
            folder / f"{identity}.jsonl",
            now=context.workspace.clock.now,
            progress=context.progress,
            should_stop=context.should_stop,
        )


def score_rows(
    engine: Engine,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    rows_per_batch: int,
    progress: Progress,
    before_batch: Callable[[], None] = lambda: None,
) -> list[RowQuality]:
    """Return the quality of each example under an engine's base, in order.

    The answer is scored twice: after its prompt, and after the same turns with their words taken out, so that
    the roles and marks of the chat template are there both times. Equal questions, such as a class name on
    its own, are put to the model once.

    Args:
        engine: Scores; no adapter is used.
        tokenizer: Of the engine's base.
        examples: What is scored.
        rows_per_batch: Requests put to the engine at once [count].
        progress: Told of the questions done.
        before_batch: Called before each batch; what it raises ends the work.

    Returns:
        One quality for each example.

    Raises:
        ConfigError: A row does not fit the base's context window.
    """
    from tunery.data.select.scores import row_quality
    from tunery.evaluate.ask import completion_ids

    given, alone = [], []
    for example in examples:
        answer = completion_ids(tokenizer, example.reference)
        given.append((tokenizer.render_prompt(example.prompt), answer))
        alone.append((tokenizer.render_prompt(_wordless(example.prompt)), answer))
    unique = list(dict.fromkeys([*given, *alone]))
    likelihoods: dict[Pair, Score] = {}
    with progress.task("Scoring rows with the base", len(unique)) as bar:
        for start in range(0, len(unique), rows_per_batch):
            before_batch()
            batch = unique[start : start + rows_per_batch]
            likelihoods.update(zip(batch, engine.score(batch), strict=True))
            bar.advance(len(batch))
    return [
        row_quality(example.id, likelihoods[a], likelihoods[b])
        for example, a, b in zip(examples, given, alone, strict=True)
    ]


def _wordless(prompt: Sequence[Message]) -> list[Message]:
    return [Message(role=m.role, content="", weight=m.weight) for m in prompt]
