"""A judge within a run and beside it: whom scorers may ask, what a gate may rest on, files compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, NotFoundError, TuneryError
from tunery.core.example import Message
from tunery.core.figures import is_prompting
from tunery.core.ids import sha256_file
from tunery.core.judging import ScorerModels
from tunery.core.progress import Progress
from tunery.core.run import TUNED
from tunery.endpoint.ask import Asking
from tunery.endpoint.client import key_of
from tunery.evaluate.comparison import best_of
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.judges.config import JudgeConfig, JudgeKind
from tunery.evaluate.judges.judge import EndpointJudge
from tunery.evaluate.metrics import WIN_RATE, declaration_of
from tunery.evaluate.pairing import Row
from tunery.evaluate.predictions import read_prediction_rows
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.task import Task
from tunery.gate.rules import GateRule
from tunery.graders.config import GRADER, asks_model, is_cosine, part_name
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import Recipe
from tunery.pipeline.stages.data import sentence_encoder
from tunery.review.check import JudgeCheck, check_judge, find_check, labels_kept, newest_check
from tunery.review.grader_check import check_grader, grader_key, model_graders, named_grader, read_marked
from tunery.review.pairwise import JudgedComparison, compare_by_judge
from tunery.review.rows import labels_of, pairs_of, prompts_in, read_labels
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace

if TYPE_CHECKING:
    from tunery.model.encoder import SentenceEncoder

JUDGES = "judges"
"""Folder of a workspace that holds the journals of judges."""
_EVERY = 100_000


def open_judge(
    workspace: Workspace,
    config: JudgeConfig,
    *,
    of: str,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> EndpointJudge:
    """Return a judge whose verdicts are kept in the workspace.

    Args:
        workspace: Where.
        config: Who judges.
        of: What is judged; each has a budget of its own.
        progress: Told of the verdicts.
        should_stop: Asked while they come.

    Raises:
        ConfigError: The environment does not hold the endpoint's key.
    """
    key_of(config)
    if config.is_open_to_listeners:
        message = f"{config.base_url} is not https: key and rows cross the network in the clear"
        progress.event(message, level="warn")
    asking = Asking(now=workspace.clock.now, should_stop=should_stop, progress=progress)
    return EndpointJudge(config, workspace.root / JUDGES, of=of, asking=asking)


@cache
def _encoder() -> SentenceEncoder:
    return sentence_encoder()


def judge_of(context: RunContext, of: str, metrics: Iterable[str]) -> ScorerModels:
    """Return the models that scorers of a run may ask: its judge and an encoder, where metrics need them.

    Args:
        context: The run.
        of: What is judged; each has a budget of its own.
        metrics: What may be measured on it; ``auto`` measures nothing that needs a model.

    Raises:
        NotFoundError: No encoder is installed.
        ConfigError: The environment does not hold the endpoint's key.
    """
    config, asked = context.recipe.evaluate.judge, tuple(metrics)
    graders = context.recipe.evaluate.graders if GRADER in asked else ()
    embeds = any("encoder" in declaration_of(name).needs for name in asked)
    encoder = _encoder() if embeds or any(is_cosine(grader) for grader in graders) else None
    if config is None or not (any(judged_kind(metric) for metric in asked) or asks_model(graders)):
        return ScorerModels(encoder=encoder)
    if not context.recipe.data.clean.mask_pii:
        message = f"data.clean.mask_pii is off: test rows and answers go to {config.host} unmasked"
        context.progress.event(message, level="warn")

    open_ = partial(
        open_judge, context.workspace, of=of, progress=context.progress, should_stop=context.should_stop
    )
    return ScorerModels(encoder=encoder, judge=open_(config), named=_named(open_, config))


def _named(
    open_: Callable[[JudgeConfig], EndpointJudge], config: JudgeConfig
) -> Callable[[str, Mapping[str, Any]], EndpointJudge]:
    """Return what opens a model by its name at the endpoint of a judge."""

    def named(model: str, changes: Mapping[str, Any]) -> EndpointJudge:
        extra = {**config.extra, **changes.get("extra", {})}
        return open_(config.model_copy(update={**changes, "extra": extra, "model": model}))

    return named


def metrics_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the metrics that a recipe names for its test split."""
    named = recipe.evaluate.metrics
    graded = (GRADER,) if recipe.evaluate.graders else ()
    return (recipe.goal.metric, *(() if named == "auto" else named), *graded)


def judge_against_best(
    context: RunContext, task: Task, results: Mapping[str, EvaluationResult]
) -> JudgedComparison | None:
    """Have the run's judge compare the tuned model with the best prompted baseline, where the recipe asks.

    Raises:
        TuneryError: The endpoint does not answer, or refuses.
    """
    judge: object = task.models.judge
    baselines = [r.evaluation for r in results.values() if is_prompting(r.evaluation)]
    if WIN_RATE not in task.metrics or not isinstance(judge, EndpointJudge) or not baselines:
        return None
    best = best_of(baselines, task.main_metric)
    rows = results[best.subject].predictions, results[TUNED].predictions
    prompts = {example.id: example.prompt for example in task.examples}
    found = judge_rows(context.workspace, judge, rows, prompts, (best.subject, TUNED))
    context.progress.event(found.sentence)
    return found


def unchecked_judges(workspace: Workspace, evaluate: EvaluateConfig, rules: Iterable[GateRule]) -> list[str]:
    """Return a problem for each rule that rests on a judge whom people were not shown to agree with.

    Args:
        workspace: Where checks are kept.
        evaluate: Its judge, and its graders that ask a model.
        rules: Of the gate.
    """
    if (config := evaluate.judge) is None:
        return []
    problems = []
    for number, rule in enumerate(rules):
        for judge in _judges_of(workspace, config, evaluate.graders, rule.metric):
            why = (
                "nobody has measured how far people agree with it"
                if judge.check is None
                else judge.check.problem(config.min_kappa)
            )
            if why is not None:
                problems.append(
                    f"gate.rules[{number}].metric: {rule.metric} is judged by {judge.name}, and {why}; type "
                    f"tunery evaluate judge-check LABELS.jsonl --recipe RECIPE{judge.option}"
                )
    return problems


class _Judge(NamedTuple):
    name: str
    check: JudgeCheck | None
    option: str = ""
    """What ``judge-check`` takes besides for it."""


def _judges_of(
    workspace: Workspace, config: JudgeConfig, graders: Iterable[Any], metric: str
) -> Iterator[_Judge]:
    """Yield whoever a metric's verdicts come from: the judge, or the graders that ask a model."""
    if kind := judged_kind(metric):
        yield _Judge(config.model, find_check(workspace, config, kind))
    for grader in model_graders(graders, metric):
        check = newest_check(workspace, grader_key(config, grader))
        yield _Judge(f"the grader {grader.name}", check, f" --grader {part_name(grader.name)}")


def judged_kind(metric: str) -> JudgeKind | None:
    """Return what kind of judge a metric comes from, None where it comes from none."""
    if metric.partition(".")[0] == WIN_RATE:
        return "pairwise"
    return "rubric" if "judge" in declaration_of(metric).needs else None


def check_labels(workspace: Workspace, config: JudgeConfig, labels: Path, progress: Progress) -> JudgeCheck:
    """Measure how far a judge agrees with what people said, and keep it.

    Args:
        workspace: Where the check is kept.
        config: The judge.
        labels: Rows as :func:`read_labels` takes them, or preference pairs in any form that training reads.
        progress: Told of the verdicts.

    Raises:
        ConfigError: The labels cannot be used.
        TuneryError: The endpoint does not answer, or refuses.
    """
    from tunery.data.config import DataConfig, SourceConfig
    from tunery.data.read_file import read_file

    try:
        rows = read_labels(labels)
    except ConfigError as ours:
        source = SourceConfig(path=str(labels))
        try:
            rows = labels_of(read_file(labels, source, DataConfig(sources=(source,))))
        except TuneryError:
            raise ours from None
        if not rows:
            raise
    of = f"labels {sha256_file(labels)}"
    return check_judge(workspace, open_judge(workspace, config, of=of, progress=progress), rows)


def check_marks(
    workspace: Workspace, evaluate: EvaluateConfig, name: str, labels: Path, progress: Progress
) -> JudgeCheck:
    """Measure how far a grader that asks a model agrees with people, and keep it.

    Args:
        workspace: Where the check is kept.
        evaluate: Its graders, and the endpoint of its judge.
        name: The grader.
        labels: Answers that people let pass or not, as :func:`read_marked` takes them.
        progress: Told of the verdicts.

    Raises:
        ConfigError: There is no endpoint, or the labels cannot be used.
        NotFoundError: No grader of that name asks a model.
        TuneryError: The endpoint does not answer, or refuses.
    """
    grader, config = named_grader(evaluate.graders, name), evaluate.judge
    if config is None:
        raise ConfigError(f"grader {name} has no endpoint to ask", hint="set evaluate.judge in the recipe")
    open_ = partial(open_judge, workspace, of=f"labels {sha256_file(labels)}", progress=progress)
    encoder = _encoder() if is_cosine(grader) else None
    models = ScorerModels(encoder=encoder, judge=open_(config), named=_named(open_, config))
    return check_grader(workspace, config, grader, models, read_marked(labels))


def judge_files(
    workspace: Workspace, config: JudgeConfig, a: Path, b: Path, progress: Progress
) -> JudgedComparison:
    """Have a judge compare two files of answers, from any source, on the rows that both have.

    Raises:
        ConfigError: A file has bad rows, they share none, or nothing says what was asked.
        TuneryError: The endpoint does not answer, or refuses.
    """
    rows = read_prediction_rows(a), read_prediction_rows(b)
    prompts = {**questions_of(workspace, [row.id for row in rows[0]]), **prompts_in(b), **prompts_in(a)}
    of = f"pairs {sha256_file(a)} {sha256_file(b)}"
    judge = open_judge(workspace, config, of=of, progress=progress)
    return judge_rows(workspace, judge, rows, prompts, (str(a), str(b)))


def judge_rows(
    workspace: Workspace,
    judge: EndpointJudge,
    rows: tuple[Sequence[Row], Sequence[Row]],
    prompts: dict[str, tuple[Message, ...]],
    names: tuple[str, str],
) -> JudgedComparison:
    """Have a judge compare the answers of two systems, corrected by every label of people that fits."""
    pairs = pairs_of(rows[0], rows[1], prompts, names)
    found = compare_by_judge(judge, pairs, names, labels=labels_kept(workspace))
    check = find_check(workspace, judge.config, "pairwise")
    return found if check is None else found.with_(kappa=check.kappa, kappa_ci95=check.kappa_ci95)


def questions_of(workspace: Workspace, ids: Iterable[str]) -> dict[str, tuple[Message, ...]]:
    """Return what was asked in rows of the stored dataset versions, by row id, the newest version first."""
    wanted, found = set(ids), dict[str, tuple[Message, ...]]()
    for version in workspace.datasets.list(limit=_EVERY):
        if not wanted:
            break
        try:
            folder = workspace.artifacts.path("datasets", version.id)
        except NotFoundError:
            continue
        for split in ("test", "validation", "train"):
            rows = {e.id: e.prompt for e in read_examples(folder, split) if e.id in wanted}
            found |= rows
            wanted -= rows.keys()
    return found


def judge_settings(values: dict[str, object], recipe: JudgeConfig | None) -> JudgeConfig:
    """Return a judge's settings: those of a recipe, changed by what was given beside it.

    Raises:
        ConfigError: Lists every problem.
    """
    base = {} if recipe is None else recipe.model_dump(mode="json")
    if not {**base, **values}.keys() >= {"base_url", "model"}:
        raise ConfigError("a judge needs an endpoint and a model", hint="--endpoint URL --model NAME")
    return parse_settings(JudgeConfig, {**base, **values}, where="judge")
