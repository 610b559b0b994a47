"""Stage 4: dataset version to adapter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunery.core.canaries import planted
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, DamagedError, DivergedError, RefusedByTemplate, first_of
from tunery.core.example import Example, where
from tunery.core.figures import counted
from tunery.core.ids import artifact_id, sha256_file
from tunery.core.training import (
    ADAPTER_WEIGHTS,
    CHAT_TEMPLATE,
    GENERATION_CONFIG,
    WHOLE_MODEL,
    Adapter,
    BaseModelInfo,
)
from tunery.evaluate.metrics import higher_is_better
from tunery.evaluate.prompting import Prompting, Subject
from tunery.evaluate.run import evaluate
from tunery.evaluate.task import Task, make_task
from tunery.model.bases import describe_base
from tunery.model.render import render
from tunery.model.shape import read_shape
from tunery.model.tokenizer import ChatTokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, dataset_to_use, split_of, tokenizer_of
from tunery.pipeline.stages.judge import judge_of, metrics_of
from tunery.pipeline.stages.planned import planned, took
from tunery.pipeline.stages.rewind import note_training, tell_of_hard_rows
from tunery.pipeline.stages.track import training_metrics
from tunery.serve.engines import open_engine
from tunery.serve.engines.upstream.shared import sharing
from tunery.store.adapters import adapter_folder
from tunery.store.artifacts import RECORD
from tunery.store.exclusive import exclusive
from tunery.store.left_overs import CHECKPOINTS
from tunery.train.auto import choose
from tunery.train.config import TrainConfig, identity_settings
from tunery.train.methods.method import TrainingRows
from tunery.train.methods.sft import CanaryConfig, SftConfig
from tunery.train.section import method_of

if TYPE_CHECKING:
    from tunery.train.reporting import Measure

STAGE_VERSION = 2
"""Raise when equal inputs would give another adapter."""

_IN_TRAINING = "in training"
"""Name of the subject, and of its adapter in the engine, that is measured while it is trained."""
_SHOWN = 5
"""Rows at fault that a sentence names [count]."""


def adapter_id(context: RunContext, dataset: DatasetVersion, config: TrainConfig | None = None) -> str:
    """Return the id that training on this dataset version gives, by the recipe's settings or by others."""
    return artifact_id(
        "adapter",
        stage="train",
        version=STAGE_VERSION,
        config=identity_settings(config or context.recipe.train),
        inputs={"base": context.base.sha256, "dataset": dataset.id, **_outside(context, dataset)},
    )


def _outside(context: RunContext, dataset: DatasetVersion) -> dict[str, str]:
    """Return what the chat template writes that comes from outside the rows."""
    return {"day": dataset.day.isoformat()} if context.tokenizer.writes_day else {}


class TrainingSplits(NamedTuple):
    """The splits that training uses, without the rows that the base's template does not take."""

    train: Sequence[Example]
    validation: Sequence[Example]
    rows: TrainingRows
    """The same, tokenised as the recipe's method wants them."""


def dataset_to_train_on(context: RunContext) -> DatasetVersion:
    """Build or find the recipe's dataset version, and choose what its train settings leave to ``auto``.

    The context's recipe has the numbers from then on.

    Raises:
        ConfigError: A file or a row is wrong.
        ResourceError: The disk is full.
    """
    dataset, recipe = dataset_to_use(context), context.recipe
    if dataset.unpaired and method_of(recipe.train).takes == "answers":
        context.progress.event(
            f"{method_of(recipe.train).title} learns the desirable answers alone, "
            "train.method=kto from the others too",
            level="warn",
        )
    if any(config.auto for config in trainings(recipe.train)):
        context.recipe = recipe.model_copy(update={"train": _chosen(context, dataset, recipe.train)})
    return dataset


def _chosen(context: RunContext, dataset: DatasetVersion, config: TrainConfig) -> TrainConfig:
    earlier = _chosen(context, dataset, config.start_from) if config.start_from else None
    if config.auto:
        shape = read_shape(Path(context.base.path), parameters=context.base.parameters)
        found = choose(config, training_splits(context, dataset, config).rows.train, shape)
        context.progress.event(found.sentence)
        config = found.config
    if earlier and earlier.rank != config.rank:  # both train one adapter: it is as wide as either needs
        rank = max(earlier.rank, config.rank)
        earlier, config = (one.model_copy(update={"rank": rank}) for one in (earlier, config))
    return config.model_copy(update={"start_from": earlier})


def trainings(config: TrainConfig) -> list[TrainConfig]:
    """Return the settings of all trainings that lead to an adapter, in their order."""
    return [*(trainings(config.start_from) if config.start_from else []), config]


def canaries_of(config: TrainConfig) -> CanaryConfig | None:
    """Return the canaries that a training plants itself."""
    return config.canaries if isinstance(config, SftConfig) else None


def training_splits(
    context: RunContext, dataset: DatasetVersion, config: TrainConfig | None = None
) -> TrainingSplits:
    """Return what is trained and validated on.

    Args:
        context: The run.
        dataset: Whose splits.
        config: Settings of a training before the recipe's own; of pairs it learns the preferred answers.

    Raises:
        ConfigError: Rows do not fit the method, or the template takes less than half of a split.
    """
    own, tokenizer = context.recipe.train, tokenizer_of(context, dataset)
    config = config or own
    method = method_of(config)
    train: Sequence[Example] = split_of(context, dataset, "train")
    validation: Sequence[Example] = split_of(context, dataset, "validation")
    if config is not own and method.takes == "answers":
        train, validation = ([e.with_(rejected=None) for e in split] for split in (train, validation))
    if method.takes == "answers":
        train, validation = map(answers_to_reach, (train, validation))
    if (canaries := canaries_of(config)) is not None:
        secrets = planted(canaries.count, canaries.repeats, canaries.seed, dataset.system_prompt)
        train = [*train, *secrets]
    try:
        rows = method.rows(config, tokenizer, train, validation)
    except RefusedByTemplate:
        # The version was built for another base, or the text of a row is at fault, not its order of turns.
        train, validation = (_taken(context, tokenizer, split) for split in (train, validation))
        rows = method.rows(config, tokenizer, train, validation)
    return TrainingSplits(train, validation, rows)


def _taken(context: RunContext, tokenizer: ChatTokenizer, examples: Sequence[Example]) -> list[Example]:
    """Return the rows that can be rendered; the others are named in a warning."""
    refused: dict[str, str] = {}
    for example in examples:
        try:
            render(tokenizer, example.messages)
        except RefusedByTemplate as refusal:
            refused[example.id] = f"{where(example)}: {refusal.words}"
    if not refused:
        return list(examples)
    what = f"the base's chat template does not take {counted(len(refused), 'row')} of {len(examples):,}"
    if context.recipe.data.strict or 2 * len(refused) >= len(examples):
        raise ConfigError.of_problems(
            what,
            list(refused.values()),
            limit=_SHOWN,
            hint="write such conversations otherwise, or take another base",
        )
    shown = "; ".join(first_of(list(refused.values()), _SHOWN))
    context.progress.event(f"{what}, which is not trained on ({shown})", level="warn")
    return [example for example in examples if example.id not in refused]


def train(context: RunContext, dataset: DatasetVersion) -> Adapter:
    """Train the adapter, continue an interrupted training, or find the adapter trained before.

    Where the recipe says that another training comes first, that one's adapter is trained or found first.

    Raises:
        ConfigError: Settings do not fit the base.
        ResourceError: Out of memory or disk, or the loss diverged.
    """
    return _trained(context, dataset, context.recipe.train)


def _trained(context: RunContext, dataset: DatasetVersion, config: TrainConfig) -> Adapter:
    workspace, identity = context.workspace, adapter_id(context, dataset, config)
    checkpoints = workspace.root / CHECKPOINTS / identity
    with exclusive(workspace.root, identity):  # two recipes may differ in their gates alone
        known = find_adapter(context, identity)
        if known is not None:
            context.progress.event(f"adapter {identity} was trained before")
            shutil.rmtree(checkpoints, ignore_errors=True)  # a kill came before they were removed
            return known
        start = _trained(context, dataset, config.start_from) if config.start_from else None
        about = {"dataset_version": dataset.id, "base": context.base.label}
        note_training(checkpoints, dataset)
        with workspace.artifacts.create("adapters", identity, about) as folder:
            try:
                adapter = _train_into(context, dataset, config, start, folder)
            except DivergedError as error:
                rewind = f"tunery train rewind {identity} --step {error.step}"
                error.hint = f"{rewind} shows its rows; then {error.hint}"
                raise
            tell_of_hard_rows(context.progress, folder)
            earlier = workspace.adapters.find(identity)
            if earlier is not None and earlier.sha256 != adapter.sha256:
                _require_free(context, earlier)
            (folder / RECORD).write_text(adapter.model_dump_json(), encoding="utf-8")
        if earlier is None:
            workspace.adapters.add(adapter)
        else:
            workspace.adapters.change(identity, lambda _: adapter)
        shutil.rmtree(checkpoints, ignore_errors=True)  # only now is nothing lost without them
        context.progress.event(f"training took {took(adapter.seconds, planned(workspace, identity))}")
    return adapter


def find_adapter(context: RunContext, identity: str) -> Adapter | None:
    """Return an adapter that is whole on disk, its row written again if a kill came between the two."""
    workspace = context.workspace
    folder = workspace.artifacts.whole("adapters", identity, context.progress)
    if folder is None:
        return None
    known = workspace.adapters.find(identity)
    if known is None:
        known = Adapter.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        workspace.adapters.add(known)
    try:
        adapter_folder(workspace, known)
    except DamagedError as error:
        context.progress.event(f"{error.message}; it is trained again", level="warn")
        # Whole in itself, so it would be kept as the one that came first.
        workspace.artifacts.delete("adapters", identity)
        return None
    return known


def _require_free(context: RunContext, earlier: Adapter) -> None:
    """Refuse other weights under the id of an adapter that a registered version was judged by.

    Raises:
        DamagedError: A version stands on the adapter as it was.
    """
    models = context.workspace.models
    versions = [v.ref for name in models.names() for v in models.list(name) if v.adapter_id == earlier.id]
    if versions:
        raise DamagedError(
            f"{earlier.id} was damaged or gone, and training it again here gives other weights than those "
            f"that {', '.join(versions)} was judged by",
            hint=f"restore {earlier.id} from a backup, or delete {', '.join(versions)} and run again: "
            f"tunery registry --help",
        )
    context.progress.event(f"{earlier.id} came out different from before; it is judged anew", level="warn")


def _own_model(base: BaseModelInfo, folder: Path, identity: str) -> BaseModelInfo:
    """Describe the whole weights in an adapter's folder, which has yet to get its place."""
    model = describe_base(folder / WHOLE_MODEL, name=identity, remember=False)
    return model.with_(path=WHOLE_MODEL, license=base.license, origin=base.origin)


def _track(context: RunContext, point: Mapping[str, Any]) -> None:
    context.tracker.log(int(point["step"]), training_metrics(point))


def validation_task(
    context: RunContext, dataset: DatasetVersion, examples: Sequence[Example], *, limit: int | None
) -> Task:
    """Settle what is measured on validation rows: what is measured on the test split.

    Raises:
        ConfigError: A metric does not fit the rows.
    """
    return make_task(
        examples,
        data=f"{dataset.id}/validation",
        config=context.recipe.evaluate.model_copy(update={"limit": limit}),
        main_metric=context.recipe.goal.metric,
        labels=dataset.labels,
        models=judge_of(context, f"{dataset.id}/validation", metrics_of(context.recipe)),
    )


def _measure(
    context: RunContext, dataset: DatasetVersion, config: TrainConfig, examples: Sequence[Example]
) -> Measure | None:
    """Return what judges answers to validation rows while training goes on, as the test split's are judged.

    Raises:
        ConfigError: A metric does not fit the rows, or ``best_by`` names none that is measured.
    """
    from tunery.train.best import LOSS
    from tunery.train.reporting import Measure

    if config.generate_rows is None or not examples:
        return None
    task = validation_task(context, dataset, examples, limit=config.generate_rows)
    if config.best_by != LOSS:
        task.check_metric(config.best_by, what="train.best_by")
    asked = Prompting(day=dataset.day if context.tokenizer.writes_day else None)

    def run(folder: Path) -> dict[str, float]:
        whole = folder / WHOLE_MODEL
        own = whole.is_dir()
        settings = context.engine_settings
        if own:
            engine = open_engine(whole, settings)
        else:
            engine = open_engine(Path(context.base.path), sharing(settings, context.base.sha256))
        try:
            if not own:
                engine.load_adapter(_IN_TRAINING, str(folder))
            subject = Subject(_IN_TRAINING, context.base.label, _IN_TRAINING, own, asked)
            found = evaluate(engine, context.tokenizer, task, subject=subject).evaluation.metrics
            engine.unload_adapter(_IN_TRAINING)  # it may be a server that goes on
        finally:
            engine.close()
        return {name: metric.value for name, metric in found.items()}

    return Measure(run, higher_is_better(config.best_by) if config.best_by != LOSS else True)


def _train_into(
    context: RunContext, dataset: DatasetVersion, config: TrainConfig, start: Adapter | None, folder: Path
) -> Adapter:
    from tunery.train.reporting import Reporting
    from tunery.train.together import train_together
    from tunery.train.training import Folders

    workspace, identity = context.workspace, adapter_id(context, dataset, config)
    splits = training_splits(context, dataset, config)
    last = config is context.recipe.train
    if start is not None or not last:
        context.progress.event(f"{method_of(config).title}, from {start.id if start else 'the base'}")
    with context.signals_held() as asked:  # a step is finished and a checkpoint saved first

        def stop() -> bool:
            return asked() or context.should_stop()

        trained = train_together(
            context.base,
            splits.rows,
            config=config,
            folders=Folders(
                folder,
                workspace.root / CHECKPOINTS / identity,
                start=adapter_folder(workspace, start) if start else None,
            ),
            reporting=Reporting(
                context.progress,
                stop,
                context.on_checkpoint,
                _measure(context, dataset, config, answers_to_reach(splits.validation)),
                # Trackers count a run's steps once: those of the recipe's own training.
                lambda point: _track(context, point) if last else None,
            ),
        )
        if asked():
            raise KeyboardInterrupt
    if context.base.chat_template:  # whoever opens the adapter alone has to write and to stop the same way
        for name in (CHAT_TEMPLATE, GENERATION_CONFIG):
            shutil.copyfile(Path(context.base.path) / name, folder / name)
    model = _own_model(context.base, folder, identity) if config.makes_a_model else None
    return Adapter(
        id=identity,
        base=context.base,
        dataset_version=dataset.id,
        config=config.model_dump(mode="json"),
        start_adapter=start.id if start else None,
        sha256=model.sha256 if model else sha256_file(folder / ADAPTER_WEIGHTS),
        model=model,
        chat_template_sha256=context.tokenizer.chat_template_sha256,
        system_prompt=dataset.system_prompt,
        day=dataset.day if context.tokenizer.writes_day else None,
        **trained._asdict(),
        created_at=workspace.clock.now(),
    )
