"""The whole loop over one recipe: each stage once, resumable, kept as a record."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import BusyError, DamagedError, TuneryError
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.faults import explained, told
from tunery.core.figures import is_prompting, slice_sentence
from tunery.core.ids import artifact_id, in_order, sha256_file
from tunery.core.progress import Silent
from tunery.core.run import CHAMPION, START, TRAINER, TUNED, Run
from tunery.core.training import Adapter
from tunery.evaluate.arms.config import AnswersArm
from tunery.evaluate.comparison import best_of, compare_results
from tunery.evaluate.run import STAGE_VERSION as EVALUATE_VERSION
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.slices import compare_slices
from tunery.evaluate.task import Task
from tunery.gate.power import after_baselines
from tunery.gate.rules import metrics_to_compare
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages import evaluate as ev
from tunery.pipeline.stages import gate as gt
from tunery.pipeline.stages.arms import arms_of, measure_arm, was_asked_again_since
from tunery.pipeline.stages.benchmark import measure_benchmarks, prepared_benchmarks
from tunery.pipeline.stages.canaries import measure_canaries
from tunery.pipeline.stages.checkpoints import checkpoints_sentence, measure_checkpoints
from tunery.pipeline.stages.contamination import contaminated
from tunery.pipeline.stages.disk import check_disk
from tunery.pipeline.stages.evidence import rules_sha256, stamp
from tunery.pipeline.stages.judge import judge_against_best
from tunery.pipeline.stages.memorised import measure_memory
from tunery.pipeline.stages.plan import suites_sentence
from tunery.pipeline.stages.preflight import check_before_training
from tunery.pipeline.stages.register import register
from tunery.pipeline.stages.report import make_report
from tunery.pipeline.stages.review import was_reviewed_since
from tunery.pipeline.stages.settle import settle
from tunery.pipeline.stages.suites import measure_suites, suite_sha256
from tunery.pipeline.stages.track import evaluation_metrics, tracking
from tunery.pipeline.stages.train import STAGE_VERSION as TRAIN_VERSION
from tunery.pipeline.stages.train import adapter_id, dataset_to_train_on, find_adapter, train
from tunery.store.adapters import adapter_folder
from tunery.store.exclusive import exclusive, in_use
from tunery.store.left_overs import left_overs
from tunery.store.urls import whole_path
from tunery.train.config import identity_settings


def run_recipe(context: RunContext) -> Run:
    """Execute a recipe from raw files to a registered version, or continue where it was interrupted.

    What an earlier run with the same inputs made is found by its id and not made again.

    Returns:
        The finished run: ``succeeded``, or ``refused`` when the gate said no.

    Raises:
        KeyboardInterrupt: It was asked to stop; what was done is kept and the run is ``cancelled``.
        ConflictError: Another process runs the same recipe on the same data right now.
        TuneryError: A stage failed; the run is recorded as ``failed`` with the reason.
    """
    workspace = context.workspace
    timer = _Timer()
    with told(workspace.root), in_use(workspace.root):
        left_overs(workspace.root, remove=True)
        try:
            with timer("data"):
                dataset = dataset_to_train_on(context)
            run = _begin(context, dataset)
            with exclusive(workspace.root, run.id):
                run = workspace.runs.get(run.id)  # another process may have finished it meanwhile
                loop = _Loop(context, run, timer)
                return loop.again(dataset) if _is_decided(context, run) else loop.execute(dataset)
        finally:
            context.release_engine()


def _run_id(context: RunContext, dataset: DatasetVersion, *, ordered: bool = True) -> str:
    """Name a run after all that its verdict depends on, and nothing that it does not.

    Args:
        ordered: Whether the order of the JSON Schema's properties counts. Ids of runs up to version 0.1.0
            did not tell it.
    """
    suites = {
        f"suite {name}": suite_sha256(context, suite)
        for name, suite in context.recipe.evaluate.suites.items()
    }
    suites |= {f"benchmark {name}": found.data for name, found in prepared_benchmarks(context).items()}
    recipe = context.recipe.model_dump(
        mode="json",
        exclude={
            "description": True,
            "chat_template": True,  # the base's hash tells it
            "inspect": True,
            "track": True,
            "train": True,
            "evaluate": {"engine"},
        },
    )
    for name, arm in context.recipe.evaluate.arms.items():
        if isinstance(arm, AnswersArm):
            suites[f"arm {name}"] = sha256_file(Path(whole_path(arm.answers, context.base_dir)))
    recipe["train"] = identity_settings(context.recipe.train)
    if (judge := context.recipe.evaluate.judge) is not None:
        recipe["evaluate"]["judge"] = judge.decides  # not its price, its pace or its budget
    if ordered and recipe["evaluate"]["json_schema"] is not None:
        recipe["evaluate"]["json_schema"] = in_order(recipe["evaluate"]["json_schema"])
    return artifact_id(
        "run",
        stage="run",
        version=1,
        config={
            "recipe": recipe,
            "engine": context.engine_settings.identity,
            "stages": {"train": TRAIN_VERSION, "evaluate": EVALUATE_VERSION},
        },
        inputs={"dataset": dataset.id, "base": context.base.sha256, **suites},
    )


def _is_decided(context: RunContext, run: Run) -> bool:
    """Tell whether a run has its verdict and its version, so that nothing may be judged again.

    Judging a version again once it is champion would compare it with itself and refuse it. A run that was
    refused for want of people's ratings, or beside an endpoint that left rows without an answer, is judged
    again once they are there.
    """
    if run.gate_id is None:
        return False
    if run.model_version is None:
        changed = was_reviewed_since(context.workspace, run) or was_asked_again_since(context.workspace, run)
        return run.status == "refused" and not changed
    name, _, number = run.model_version.partition("@")
    return context.workspace.models.find(name, int(number)) is not None


class _Timer:
    """Adds up each stage's seconds."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - started


def _begin(context: RunContext, dataset: DatasetVersion) -> Run:
    """Return the run with these inputs, recorded now if it is new."""
    identity = _run_id(context, dataset)
    known = context.workspace.runs.find(identity) or _known_without_order(context, dataset)
    if known is not None:
        return known
    run = Run(
        id=identity,
        name=context.recipe.name,
        recipe=context.recipe.model_dump(mode="json"),
        status="running",
        created_at=context.workspace.clock.now(),
        dataset_version=dataset.id,
        rules_sha256=rules_sha256(context.recipe),
    )
    context.workspace.runs.add(run)
    return run


def _known_without_order(context: RunContext, dataset: DatasetVersion) -> Run | None:
    """Return an earlier run of this recipe whose id did not tell the order of its schema's properties."""
    earlier = context.workspace.runs.find(_run_id(context, dataset, ordered=False))
    if earlier is None:
        return None
    schema = earlier.recipe.get("evaluate", {}).get("json_schema")
    return earlier if in_order(schema) == in_order(context.recipe.evaluate.json_schema) else None


class _Loop:
    """One execution; holds what stages hand to each other."""

    def __init__(self, context: RunContext, run: Run, timer: _Timer) -> None:
        self.context = context
        self.run = run
        self.timer = timer
        self.before = dict(run.seconds)  # of earlier, interrupted executions

    def execute(self, dataset: DatasetVersion) -> Run:
        """Go through the stages and record how it ended."""
        self._note(status="running", error=None)
        try:
            with tracking(self.context, self.run.id, dataset):
                return self._stages(dataset)
        except KeyboardInterrupt:
            self._note(status="cancelled", finished_at=self._now())
            raise
        except BusyError:
            raise  # another process makes a part of it: nothing has failed, and whoever can wait goes on
        except TuneryError as error:
            self._note(status="failed", error=error.message, finished_at=self._now())
            self._report_failure()
            raise
        except BaseException as error:
            fault = explained(error, place=self.context.workspace.root)
            said = fault.message if fault else f"{type(error).__name__}: {error}"
            self._note(status="failed", error=said, finished_at=self._now())
            raise

    def again(self, dataset: DatasetVersion) -> Run:
        """Return a run that has its verdict; write what a kill after the verdict left unwritten.

        What it made is looked at, and what is missing or damaged is made again.

        Raises:
            DamagedError: Something cannot be made again as it was; says what mends it.
        """
        repaired = self._repair(dataset)
        done = "succeeded" if self.run.model_version else "refused"
        if self.run.status != done:
            self._note(status=done, error=None, finished_at=self._now())
        if repaired or not (self.run.report and Path(self.run.report).is_file()):
            self._report()
        if repaired:
            self.context.progress.event(f"{self.run.id}: {', '.join(repaired)} made again")
        else:
            self.context.progress.event(f"{self.run.id} is finished already: nothing to do")
        return self.run

    def _repair(self, dataset: DatasetVersion) -> list[str]:
        """Make again what of the run's adapter and evaluations is missing or damaged; return their ids."""
        context, workspace = self.context, self.context.workspace
        made, adapter = [], None
        if self.run.adapter_id:
            there = workspace.artifacts.whole("adapters", self.run.adapter_id, Silent()) is not None
            adapter = find_adapter(context, self.run.adapter_id) if there else None
        if self.run.adapter_id and adapter is None:
            adapter = train(context, dataset)
            made.append(adapter.id)
        lost = {
            subject: identity
            for subject, identity in self.run.evaluations.items()
            if workspace.evaluations.find(identity) is None
            or workspace.artifacts.whole("evaluations", identity, Silent()) is None
        }
        if lost and adapter is not None:
            task = ev.test_task(context, dataset)
            subjects = {s.name: s for s in ev.baseline_subjects(context, dataset, task)}
            arms = {arm.subject.name: arm for arm in arms_of(context, dataset, task)}
            for subject, identity in lost.items():
                if subject in subjects:
                    ev.measure(context, task, subjects[subject])
                elif subject in arms:
                    measure_arm(context, arms[subject])
                elif subject == TUNED:
                    ev.measure(context, task, ev.tuned_subject(context, adapter), adapter)
                elif subject == START:
                    ev.measure_start(context, task, adapter)
                elif subject == TRAINER:
                    ev.measure_trainer(context, task, adapter)
                else:
                    self._measure_champion_again(task, dataset, identity)
        return [*made, *lost.values()]

    def _measure_champion_again(self, task: Task, dataset: DatasetVersion, identity: str) -> None:
        workspace = self.context.workspace
        known = workspace.evaluations.find(identity)
        adapter = workspace.adapters.find(known.adapter) if known and known.adapter else None
        if adapter is None:
            raise DamagedError(
                f"{identity}, the evaluation of the champion of that time, is gone and cannot be made again",
                hint=f"restore {workspace.root / 'evaluations' / identity} from a backup",
            )
        ev.measure_as_champion(self.context, task, dataset, adapter)

    def _stages(self, dataset: DatasetVersion) -> Run:
        context, timer = self.context, self.timer
        with timer("preflight"):
            settled = settle(context, dataset)
            task, baselines, arms = settled.task, settled.baselines, settled.arms
            besides = suites_sentence(context, dataset, {**settled.suites, **settled.begun})
            for sentence in (settled.power, besides):
                if sentence:
                    context.progress.event(sentence)
            for sentence in settled.undecidable:
                context.progress.event(sentence, level="warn")
            check_before_training(context, dataset).require()
            check_disk(context, dataset)
            ev.check_champion(context)
        with timer("baseline"):
            results = {subject.name: ev.measure(context, task, subject) for subject in baselines}
            results |= {arm.subject.name: measure_arm(context, arm) for arm in arms}
            self._note(evaluations={n: r.evaluation.id for n, r in results.items()})
            measured = {name: result.evaluation for name, result in results.items()}
            for sentence in after_baselines(gt.rules_of(context), measured):
                context.progress.event(sentence)
        with timer("train"):
            context.release_engine()
            self._note(trains=adapter_id(context, dataset))
            adapter = train(context, dataset)
            self._note(adapter_id=adapter.id)
        with timer("evaluate"):
            results[TUNED] = ev.measure(context, task, ev.tuned_subject(context, adapter), adapter)
            if adapter.start_adapter:
                results[START] = ev.measure_start(context, task, adapter)
            champion = ev.measure_champion(context, task, dataset, adapter)
            if champion is not None:
                results[CHAMPION] = champion
            if gt.holds_to_trainer(context):
                results[TRAINER] = ev.measure_trainer(context, task, adapter)
            others = [r for n, r in results.items() if n != TUNED]
            rules = gt.rules_of(context)
            comparisons = compare_results(results[TUNED], others, metrics=metrics_to_compare(rules))
            suites = measure_suites(context, adapter, rules) | measure_benchmarks(context, adapter, rules)
            leaks = measure_canaries(context, dataset, adapter) | measure_memory(context, dataset, adapter)
            judged = judge_against_best(context, task, results)
            if judged is not None:
                tuned, rate = results[TUNED].evaluation, judged.metric
                with_rate = tuned.with_(metrics={**tuned.metrics, rate.name: rate})
                results[TUNED] = results[TUNED]._replace(evaluation=with_rate)
                self._note(judged={**judged.model_dump(mode="json"), "sentence": judged.sentence})
            self._slice(task, results)
            checkpoints = measure_checkpoints(context, dataset, adapter)
            self._note(checkpoints=checkpoints)
            if sentence := checkpoints_sentence(checkpoints):
                context.progress.event(sentence)
            self._note(contaminated=contaminated(context, task, results, suites))
            for name, result in results.items():
                context.tracker.log(0, evaluation_metrics(name, result.evaluation))
            self._note(
                evaluations={n: r.evaluation.id for n, r in results.items()},
                comparisons={
                    c.a: c.model_dump(mode="json") for c in comparisons if c.metric == task.main_metric
                },
            )
        with timer("gate"):
            gate = gt.judge_gate(context, results, comparisons, suites | leaks)
            evidence = stamp(context, self.run, adapter, gate, suites | leaks)
            self._note(gate_id=gate.id, evidence=evidence)
            if not evidence.are_rules_unchanged:
                context.progress.event("the gate's rules changed since the run began", level="warn")
        return self._conclude(dataset, adapter, results[TUNED].evaluation, gate)

    def _slice(self, task: Task, results: Mapping[str, EvaluationResult]) -> None:
        """Compare the tuned model with the best baseline on the slices that the recipe names."""
        baselines = [r.evaluation for r in results.values() if is_prompting(r.evaluation)]
        if not task.config.slices or not baselines:
            return
        best = results[best_of(baselines, task.main_metric).subject]
        found = compare_slices(task, results[TUNED], best)
        self._note(slices=found)
        for part in found:
            worse = part.verdict == "worse"
            self.context.progress.event(slice_sentence(part), level="warn" if worse else "info")

    def _conclude(
        self, dataset: DatasetVersion, adapter: Adapter, tuned: Evaluation, gate: GateResult
    ) -> Run:
        with self.timer("register"):
            if gate.passed and self.run.model_version is None:
                version = register(self.context, self.run, dataset, adapter, tuned, gate)
                self._note(model_version=version.ref)
        self._note(status="succeeded" if gate.passed else "refused", finished_at=self._now())
        self._report()
        self._track_files(adapter)
        return self.run

    def _track_files(self, adapter: Adapter) -> None:
        context, tracker = self.context, self.context.tracker
        tracker.tag({"status": self.run.status, "model_version": self.run.model_version or "none"})
        if self.run.report:
            tracker.file(Path(self.run.report))
        if context.recipe.track.adapter:
            tracker.file(adapter_folder(context.workspace, adapter))

    def _report(self) -> None:
        with self.timer("report"):
            path = make_report(self.context.workspace, self.run)
        self._note(report=str(path))

    def _report_failure(self) -> None:
        try:
            self._report()
        except Exception as error:  # the reason the run failed must be what the user reads
            self.context.progress.event(f"no report could be written: {error}", level="warn")

    def _note(self, **changes: object) -> None:
        total = {
            stage: round(self.before.get(stage, 0.0) + self.timer.seconds[stage], 3)
            for stage in self.before | self.timer.seconds
        }
        self.run = self.context.workspace.runs.update(self.run.id, seconds=total, **changes)

    def _now(self) -> object:
        return self.context.workspace.clock.now()


class TrainedAdapter(NamedTuple):
    """An adapter and what it was trained on."""

    dataset: DatasetVersion
    adapter: Adapter


def train_recipe(context: RunContext) -> TrainedAdapter:
    """Train a recipe's adapter, or continue, or find it; a later ``run`` of the recipe finds it too.

    Raises:
        ConfigError: The data or a setting is wrong, or preflight found what would spoil training.
        ResourceError: Out of memory or disk, or the loss diverged.
        KeyboardInterrupt: It was asked to stop; the last checkpoint is kept.
    """
    root = context.workspace.root
    with told(root), in_use(root):
        left_overs(root, remove=True)
        dataset = dataset_to_train_on(context)
        check_before_training(context, dataset).require()
        check_disk(context, dataset)
        with tracking(context, adapter_id(context, dataset), dataset):
            return TrainedAdapter(dataset, train(context, dataset))
