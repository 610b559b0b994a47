"""Dataset version to adapter, or to a model of its own; resumable at any moment."""

from __future__ import annotations

import gc
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from tunery.core.faults import told
from tunery.core.figures import counted, size
from tunery.core.free_memory import free_memory_bytes
from tunery.core.training import BaseModelInfo, StepLog
from tunery.model.device import choose_training_device
from tunery.model.shape import read_shape
from tunery.model.threads import Threads
from tunery.train import checkpoints
from tunery.train.best import Best, EarlyStopping
from tunery.train.budget import fitted, smoke_rows
from tunery.train.config import TrainConfig
from tunery.train.divergence import Guard
from tunery.train.fitting import Fitting
from tunery.train.kept import hand_over
from tunery.train.methods.method import TrainingRows
from tunery.train.ranks import ALONE, Team
from tunery.train.recorder import Recorder
from tunery.train.reporting import Measure, Reporting
from tunery.train.section import method_of
from tunery.train.sharding import is_divided, require_shardable, shard
from tunery.train.smoke import smoke_run
from tunery.train.trainable import (
    begin_with,
    checkpointed,
    load_checkpoint,
    save_merged,
    save_trained,
    trainable_model,
)
from tunery.train.trainer import PackedTrainer, training_arguments
from tunery.train.watcher import ThreadKeeper, Watcher

_MEMORY_HINT = "train.micro_batch_size=1, or a smaller data.max_tokens"


class Folders(NamedTuple):
    """Where training writes."""

    output: Path
    """Existing folder for ``adapter_model.safetensors`` and ``adapter_config.json``, or for ``model/``."""
    checkpoints: Path
    """This very training's checkpoints; the caller removes them once the adapter is safe."""
    start: Path | None = None
    """Folder of the adapter whose weights training begins with; None where they are drawn."""


class Trained(NamedTuple):
    """What training produced; weights are in the output folder."""

    history: tuple[StepLog, ...]
    steps: int
    best_step: int
    """Whose weights the adapter has: of the best validation, or the last where ``keep`` says so."""
    trainable_parameters: int
    trained_tokens: int
    """Prompt and completion tokens seen, epochs counted [count]."""
    seconds: float
    """Training wall time over all processes that took part [s]."""


def train_adapter(
    base: BaseModelInfo,
    rows: TrainingRows,
    *,
    config: TrainConfig,
    folders: Folders,
    reporting: Reporting,
    team: Team = ALONE,
) -> Trained:
    """Train an adapter and write it as a plain PEFT folder, or a whole model.

    A run that was killed continues from the newest complete checkpoint and ends with
    the losses of an undisturbed one: weights, optimizer, schedule, data order and random state are restored.

    Args:
        base: Frozen weights.
        rows: What to train and to validate on.
        config: Train settings.
        folders: Where to write.
        reporting: Who hears of its progress and may stop it.
        team: Ranks that train together; each calls this with the same base, rows, settings and folders.

    Returns:
        History and counts.

    Raises:
        ConfigError: Target modules match nothing, or the device is not there.
        ResourceError: Out of memory or disk, or the loss is not a number any more.
    """
    from transformers import set_seed

    threads = Threads(config.threads, exact=True)
    device = choose_training_device(config.device)

    def as_it_begins() -> nn.Module:
        set_seed(config.seed)
        model = trainable_model(base, config, device)
        if folders.start is not None:
            begin_with(model, folders.start)
        return model

    def ready(model: nn.Module) -> nn.Module:
        if config.gradient_checkpointing is True:
            checkpointed(model)
        if team.sharded:
            shard(model, device, team.size)
        return model

    if config.sharding == "fsdp":
        require_shardable(config)
        team = Team(team.rank, team.size, sharded=True)
        if not team.sharded:
            reporting.progress.event(
                "train.sharding is fsdp, and this process trains alone: it holds all weights", level="warn"
            )
    model = as_it_begins()
    config = _fitted(config, base, rows, device, reporting, team)
    model = ready(model)
    steps = config.total_steps(len(rows.train))
    folders.checkpoints.mkdir(parents=True, exist_ok=True)
    best = Best(config, reporting.measure is None or reporting.measure.higher_is_better)
    found = team.of_first(lambda: str(_newest(best, folders.checkpoints, reporting) or ""))
    resume, trainer = Path(found) if found else None, None
    history, seconds_before = _history_of(resume)
    if resume:
        before = _stored(resume).get("ranks", 1)
        elastic = f", on {counted(team.size, 'rank')} in place of {before}" if before != team.size else ""
        reporting.progress.event(f"continuing from step {checkpoints.step_of(resume)} of {steps}{elastic}")
    with reporting.progress.task("training", steps) as bar:
        bar.advance(checkpoints.step_of(resume) if resume else 0)
        fitting = _fitting(config, resume, reporting, team)
        recorder = _recorder(folders, rows, resume) if team.leads else None
        watcher = Watcher(
            reporting,
            bar,
            seconds_before=seconds_before,
            history=history,
            fitting=fitting,
            recorder=recorder,
            team=team,
        )
        if not (resume and best.is_over(history)):
            if method_of(config).needs_reference:
                rows = _with_reference(model.to(device), rows, fitting, folders.checkpoints, reporting, team)
            together = team.leads or team.sharded  # else the others need not take part
            if not resume and together and (few := smoke_rows(rows.train, config)):
                with told(folders.checkpoints, memory_hint=_MEMORY_HINT):
                    smoke_run(
                        model,
                        few,
                        config=config,
                        device=device,
                        fitting=fitting,
                        reporting=reporting,
                        team=team if team.sharded else ALONE,
                    )
                del model  # it was changed, and two of them would take twice the memory
                gc.collect()
                model = ready(as_it_begins())
            arguments = training_arguments(config, folders.checkpoints, device=device, rows=rows)
            callbacks = [
                *([Guard(best, folders.checkpoints, recorder, history)] if recorder else []),
                watcher,
                ThreadKeeper(threads),
                EarlyStopping(best, history),
            ]
            objective = method_of(config).objective(config)
            trainer = PackedTrainer(
                model,
                objective,
                arguments,
                rows,
                callbacks,
                fitting=fitting,
                recorder=recorder,
                measure=partial(_measured, base, folders.checkpoints, reporting.measure, threads),
                should_stop=watcher.asked,
                team=team,
            )
            _run(trainer, resume, folders.checkpoints)
            resume = None
        kept = best.step(history)
        divided = is_divided(model)
        if team.leads and divided:
            model = trainable_model(base, config, torch.device("cpu"))
        if team.leads and (divided or resume or kept != int(history[-1]["step"])):
            load_checkpoint(model, folders.checkpoints / f"checkpoint-{kept}")
    trained = Trained(
        history=_merge(history),
        steps=int(history[-1]["step"]),
        best_step=best.step(history),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        trained_tokens=round(sum(r.tokens for r in rows.train) * history[-1]["epoch"]),
        seconds=watcher.seconds,
    )
    if recorder is None:
        return trained  # rank 0 writes
    with told(folders.output):
        save_trained(model, base, folders.output)
        recorder.keep(folders.output)
        hand_over(folders.checkpoints, folders.output, trained.steps)
        if config.merge and config.adapter != "none":
            del model, trainer  # two of them would take twice the memory
            save_merged(base, folders.output)
    return trained


def _fitting(config: TrainConfig, resume: Path | None, reporting: Reporting, team: Team) -> Fitting:
    fitting = Fitting(config, reporting.progress, alone=not team.sharded)
    if resume is not None:
        fitting.restore(_stored(resume))
    return fitting


def _fitted(
    config: TrainConfig,
    base: BaseModelInfo,
    rows: TrainingRows,
    device: torch.device,
    reporting: Reporting,
    team: Team,
) -> TrainConfig:
    """Return the settings with forwards that fit into what memory the loaded base leaves, on every rank.

    Ranks on CPUs are taken to share one machine's memory.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_bytes() // team.size
    free = min(team.gather(free))
    shape = read_shape(Path(base.path), parameters=base.parameters)
    found = fitted(config, shape, rows.train, free=free, device_type=device.type, loaded=True)
    if found.micro_batch_tokens < config.micro_batch_tokens or found.gradient_checkpointing is True:
        how = ", activations computed again going backward" if found.gradient_checkpointing is True else ""
        reporting.progress.event(
            f"{size(free)} of memory are free: forwards of at most {found.micro_batch_tokens:,} tokens{how}; "
            f"batch_size stays {config.batch_size}"
        )
    return found


def _recorder(folders: Folders, rows: TrainingRows, resume: Path | None) -> Recorder:
    step = checkpoints.step_of(resume) if resume else 0
    with told(folders.checkpoints):
        return Recorder(folders.checkpoints, [row.id for row in rows.train], step=step)


def _with_reference(
    model: nn.Module,
    rows: TrainingRows,
    fitting: Fitting,
    folder: Path,
    reporting: Reporting,
    team: Team,
) -> TrainingRows:
    from tunery.train.reference import with_reference

    with told(folder, memory_hint=_MEMORY_HINT):
        return with_reference(
            model, rows, fitting=fitting, folder=folder, progress=reporting.progress, team=team
        )


def _measured(
    base: BaseModelInfo, folder: Path, measure: Measure | None, threads: Threads, model: nn.Module
) -> Mapping[str, float]:
    """Return what answers of the model as it is now are worth."""
    if measure is None:
        return {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="measured-") as now:
        save_trained(model, base, Path(now))
        found = measure.run(Path(now))
    threads.again()
    return found


def _newest(best: Best, root: Path, reporting: Reporting) -> Path | None:
    """Return the checkpoint to go on from, None where training begins at its first step."""

    def best_of(folder: Path) -> int | None:
        return best.step(_history_of(folder)[0]) if best.config.keep == "best" else None

    left_out = False

    def tell(message: str) -> None:
        nonlocal left_out
        left_out = True
        reporting.progress.event(message, level="warn")

    with told(root):
        found = checkpoints.newest(root, best_of=best_of, tell=tell)
    if left_out and found is None:
        reporting.progress.event("no checkpoint can be used: training begins anew", level="warn")
    return found


def _run(trainer: PackedTrainer, resume: Path | None, root: Path) -> None:
    with told(root, memory_hint=_MEMORY_HINT), warnings.catch_warnings():
        # The Trainer probes deprecated attributes of the model and schedules of a resumed run.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)


def _history_of(checkpoint: Path | None) -> tuple[list[dict[str, Any]], float]:
    if checkpoint is None:
        return [], 0.0
    stored = _stored(checkpoint)
    return list(stored["history"]), float(stored["seconds"])


def _stored(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "history.json").read_text(encoding="utf-8")))


def _merge(history: Sequence[Mapping[str, Any]]) -> tuple[StepLog, ...]:
    """Join the training and the validation point of a step."""
    by_step: dict[int, dict[str, Any]] = {}
    for point in history:
        known = by_step.setdefault(int(point["step"]), {})
        metrics = {**known.get("metrics", {}), **point.get("metrics", {})}
        known |= {**point, "metrics": metrics}
    return tuple(StepLog.model_validate(by_step[step]) for step in sorted(by_step))
