"""A version in another form: its own test rows again, beside the answers that its gate was judged by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.engine import Engine
from tunery.core.errors import GateFailed, NotFoundError
from tunery.core.evaluation import Comparison
from tunery.core.faults import told
from tunery.core.figures import change, change_interval, count, counted, gap_bound, is_share, quantity
from tunery.core.progress import Progress
from tunery.core.run import TRAINER
from tunery.evaluate.comparison import compare
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.scorers import ScorerOptions
from tunery.model.integers import Integers, to_floats
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import stored_recipe
from tunery.pipeline.stages.evaluate import measure_trainer, predictions_of, test_task, tuned_subject
from tunery.registry.export import LORA_SUFFIX
from tunery.registry.lineage import lineage
from tunery.serve.engines import open_engine
from tunery.serve.engines.llamacpp import LlamaCppSettings
from tunery.serve.engines.upstream.swapping import SwappingEngine
from tunery.store.adapters import base_here
from tunery.store.workspace import Workspace

MARGIN = 0.02
"""Loss against the form that was judged from which a form is not fit to ship."""


class Parity(NamedTuple):
    """How a form compares with the one that the gate judged."""

    form: str
    comparison: Comparison
    """Of the form (B) with the answers behind the gate's verdict (A), on the same rows."""
    margin: float

    @property
    def holds(self) -> bool:
        """Whether what is served loses no more than the margin against the other form."""
        gained = self.comparison.difference
        return (gained if self.form == TRAINER else -gained) <= self.margin + 1e-9

    @property
    def sentence(self) -> str:
        """The numbers in one sentence."""
        compared = self.comparison
        a, b = compared.value_a or 0.0, compared.value_b or 0.0
        share = is_share(compared.unit, a, b)
        return (
            f"{self.form}: {compared.metric_title} {quantity(b, share=share)} where the gate judged "
            f"{quantity(a, share=share)} on the same {compared.n:,} rows "
            f"({change(compared.difference, share=share)}, 95 % interval "
            f"{change_interval(*compared.ci95, share=share)}; {compared.fixed} fixed, "
            f"{compared.broken} broken)"
        )

    def require(self) -> None:
        """Refuse a form that lost more than the margin.

        Raises:
            GateFailed: With the numbers.
        """
        if not self.holds:
            raise GateFailed(
                f"{self.sentence}; what is served may lose {gap_bound(self.margin, share=True)} at most",
                hint="tunery registry export --no-check writes it all the same; --margin takes another bound",
            )


def parity_of_folder(
    workspace: Workspace, ref: str, folder: Path, *, progress: Progress, margin: float = MARGIN
) -> Parity:
    """Measure an exported model on its version's test rows, in the engine that serves.

    Args:
        workspace: Where the version is registered.
        ref: The version.
        folder: All weights, as they were exported.
        progress: Told of every batch.
        margin: Loss that is accepted.

    Raises:
        NotFoundError: The version's run, rows or answers are no longer stored.
        ConfigError: The engine does not take the folder.
    """
    context, judged = _again(workspace, ref, progress)
    settings = context.engine_settings
    return _measured(context, judged, "exported", lambda: open_engine(folder, settings), margin)


def parity_of_integers(
    workspace: Workspace,
    ref: str,
    folder: Path,
    integers: Integers,
    *,
    progress: Progress,
    margin: float = MARGIN,
) -> Parity:
    """Measure weights that were made integers on their version's test rows: in floating point again, which is
    what engines that open them compute with.

    Args:
        workspace: Where the version is registered.
        ref: The version.
        folder: As it was exported.
        integers: What its weights are.
        progress: Told of every batch.
        margin: Loss that is accepted.

    Raises:
        NotFoundError: The version's run, rows or answers are no longer stored.
        ResourceError: There is no room for the weights in floating point.
    """
    context, judged = _again(workspace, ref, progress)
    settings = context.engine_settings
    again = folder.with_name(f"{folder.name}.measured")
    try:
        with told(again):
            to_floats(folder, again)
        return _measured(context, judged, integers, lambda: open_engine(again, settings), margin)
    finally:
        shutil.rmtree(again, ignore_errors=True)


def parity_of_gguf(
    workspace: Workspace,
    ref: str,
    file: Path,
    *,
    settings: LlamaCppSettings,
    progress: Progress,
    margin: float = MARGIN,
) -> Parity:
    """Measure an exported GGUF file on its version's test rows, in llama.cpp.

    Args:
        workspace: Where the version is registered.
        ref: The version.
        file: Of the export: all weights, or an adapter, which is measured on its base.
        settings: How llama.cpp is started; which file it serves is filled in.
        progress: Told of every batch.
        margin: Loss that is accepted.

    Raises:
        NotFoundError: The version's run, rows or answers are no longer stored.
        GateFailed: llama.cpp reads other tokens in the rows' conversations than training did.
        ResourceError: llama.cpp cannot be started.
    """
    context, judged = _again(workspace, ref, progress)
    whole = not file.stem.endswith(LORA_SUFFIX)
    chosen = settings.model_copy(update={"gguf": file}) if whole else settings

    def opened() -> Engine:
        engine = SwappingEngine(Path(context.base.path), chosen)
        try:
            _require_same_tokens(engine, context, workspace.datasets.get(judged.dataset))
            if not whole:
                engine.load_adapter_file(judged.adapter, file)
        except BaseException:
            engine.close()
            raise
        return engine

    form = file.stem.rpartition("-")[2] if whole else f"lora on {settings.quantise}"
    adapter = None if whole else judged.adapter
    return _measured(context, judged, f"gguf {form}", opened, margin, adapter=adapter)


def _require_same_tokens(engine: SwappingEngine, context: RunContext, dataset: DatasetVersion) -> None:
    """Compare how llama.cpp splits the test rows' conversations, because other programs send it text."""
    tokenizer = context.tokenizer
    texts = [
        tokenizer.template_text(example.prompt, open_turn=True)
        for example in test_task(context, dataset).examples
    ]
    differing = engine.read_otherwise(texts)
    if differing:
        raise GateFailed(
            f"llama.cpp reads other tokens in {counted(differing, 'conversation')} of {count(len(texts))}: "
            "programs that send it text would not get the answers that were judged",
            hint="tunery registry export --no-check writes it all the same",
        )


def _measured(
    context: RunContext,
    judged: _Judged,
    form: str,
    opened: Callable[[], Engine],
    margin: float,
    *,
    adapter: str | None = None,
) -> Parity:
    workspace, progress = context.workspace, context.progress
    task = test_task(context, workspace.datasets.get(judged.dataset))
    record = workspace.adapters.get(judged.adapter)
    subject = replace(tuned_subject(context, record, name="exported"), adapter=adapter, whole=False)
    engine = opened()
    try:
        result = evaluate(engine, context.tokenizer, task, subject=subject, progress=progress)
    finally:
        engine.close()
    return _compared(form, workspace, judged, result, margin)


def parity_of_trainer(
    workspace: Workspace, ref: str, *, progress: Progress, margin: float = MARGIN
) -> Parity:
    """Measure a version as training computed it, on its test rows; raises as :func:`parity_of_folder`."""
    context, judged = _again(workspace, ref, progress)
    task = test_task(context, workspace.datasets.get(judged.dataset))
    result = measure_trainer(context, task, workspace.adapters.get(judged.adapter))
    return _compared(TRAINER, workspace, judged, result, margin)


class _Judged(NamedTuple):
    """What a version's gate was judged by."""

    ref: str
    dataset: str
    adapter: str
    evaluation: str


def _again(workspace: Workspace, ref: str, progress: Progress) -> tuple[RunContext, _Judged]:
    """Return the run behind a version as a context, and what its gate was judged by."""
    chain = lineage(workspace, ref)
    version = chain.model
    if not (chain.run and chain.dataset and chain.adapter and chain.evaluation):
        raise NotFoundError(
            f"records behind {version.ref} are gone, so it cannot be measured again",
            hint=f"tunery registry show {version.ref}",
        )
    recipe = stored_recipe(chain.run.recipe, where=chain.run.id)
    base = base_here(workspace, chain.adapter.base)
    context = RunContext(recipe, workspace, Path.cwd(), progress, _base=base)
    return context, _Judged(version.ref, chain.dataset.id, chain.adapter.id, chain.evaluation.id)


def _compared(
    form: str, workspace: Workspace, judged: _Judged, result: EvaluationResult, margin: float
) -> Parity:
    metric = result.evaluation.main_metric
    compared = compare(
        predictions_of(workspace, judged.evaluation),
        result.predictions,
        metric=metric,
        names=(judged.ref, f"{judged.ref} {form}"),
        options=ScorerOptions.of_config(result.evaluation.config),
    )
    return Parity(form, compared, margin)
