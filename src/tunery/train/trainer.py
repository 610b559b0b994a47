"""The transformers Trainer with our batches, our loss and our checkpoints.

Accelerate, gradient accumulation, clipping, schedules and resume are the Trainer's. Rows reach it packed
(:mod:`tunery.model.packing`), so a batch is one sequence without padding and the output layer runs for
supervised tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.model.packing import Packed, pack
from tunery.train import checkpoints
from tunery.train.config import TrainConfig
from tunery.train.fitting import Fitting
from tunery.train.methods.method import Objective, TrainingRow, TrainingRows, WholeStep, validation_rows
from tunery.train.order import ByPrompt
from tunery.train.packed_state import unpacked_state
from tunery.train.ranks import ALONE, Sums, Team
from tunery.train.recorder import Recorder, RowLoss
from tunery.train.section import method_of
from tunery.train.sharding import Whole, divide_state, gather, is_divided, load_divided
from tunery.train.watcher import goes_on

_BATCH, _BESIDE, _IDS = "packed", "beside", "ids"


def collate(rows: Sequence[TrainingRow]) -> dict[str, Any]:
    """Pack the sequences of a micro-batch, row by row."""
    reference = [value for row in rows for value in row.reference]
    sequences = [sequence for row in rows for sequence in row.sequences]
    examples = [i for i, row in enumerate(rows) for _ in row.sequences]
    desirable = [value for row in rows for value in row.desirable]
    packed: dict[str, Any] = {
        _BATCH: pack(sequences, reference=reference, desirable=desirable, examples=examples)
    }
    packed[_IDS] = [row.id for row in rows]
    if beside := [sequence for row in rows for sequence in row.beside]:
        known = [value for row in rows for value in row.beside_reference]
        packed[_BESIDE] = pack(beside, reference=known)
    return packed


Batches = list[dict[str, Any]]
"""Micro-batches as :func:`collate` makes them."""


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step of one process."""

    rows: Sequence[TrainingRow]
    """Of all ranks."""
    bound: int
    """By which they were divided [tokens]."""
    divided: list[list[int]]
    """Indices of the rows of each micro-batch of this rank."""
    batches: Batches


class PackedTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose batches are packed rows and whose loss is the method's."""

    def __init__(  # noqa: PLR0913 - what the parts of a training are
        self,
        model: nn.Module,
        objective: Objective,
        arguments: TrainingArguments,
        rows: TrainingRows,
        callbacks: Sequence[TrainerCallback],
        *,
        fitting: Fitting | None = None,
        recorder: Recorder | None = None,
        measure: Callable[[nn.Module], Mapping[str, float]] = lambda model: {},
        should_stop: Callable[[], bool] = lambda: False,
        team: Team = ALONE,
    ) -> None:
        self.config = objective.config
        self.optimizer: torch.optim.Optimizer | None = None
        self.fitting = fitting or Fitting(objective.config, Silent())
        self.recorder = recorder
        self.measure = measure
        self.should_stop = should_stop
        self.team = team
        self._sum = Sums(team)
        self._whole: Whole | None = None  # while a checkpoint is written
        team.begin_alike(model)
        super().__init__(
            model=model,
            args=arguments,
            data_collator=self._divide,
            train_dataset=rows.train,
            eval_dataset=rows.validation or None,
            callbacks=list(callbacks),
        )
        self.objective = objective
        self._measured = [0.0] * len(objective.metrics)  # means over the step that is being computed
        self._recorded: list[tuple[list[str], torch.Tensor]] = []  # its rows' losses and shares
        self._random: RandomState | None = None  # behind the last step of this process
        self.remove_callback(PrinterCallback)  # its logs reach the progress port instead

    def _divide(self, rows: Sequence[TrainingRow]) -> Step:
        """Divide a step's rows among forwards of bounded size; those that begin alike share one."""
        mine = self.team.share(rows)
        divided = [[mine[i] for i in some] for some in self.fitting.divide([rows[i] for i in mine])]
        return Step(rows, self.fitting.bound, divided, [collate([rows[i] for i in some]) for some in divided])

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return in which order rows are drawn: at random, or prompt by prompt."""
        if method_of(self.config).shuffles_prompts:
            return ByPrompt(self.train_dataset, seed=self.config.seed)
        return super()._get_train_sampler(train_dataset)

    def training_step(
        self, model: nn.Module, inputs: Step, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return a step's loss [nats] after going forward and backward through its micro-batches.

        Where one of them does not fit into memory, the step begins anew with smaller ones. Where somebody
        asks to stop between two of them, what was computed of the step is dropped and a checkpoint saved.

        Raises:
            KeyboardInterrupt: Somebody asked.
        """
        self.team.seed(self.config.seed, self.state.global_step)
        random = RandomState.now()
        step = inputs

        def compute() -> torch.Tensor:
            nonlocal step
            if step.bound != self.fitting.bound:
                step = self._measured_whole([self._divide(step.rows)])[0]
            return self._forward_and_backward(model, step, num_items_in_batch)

        def undo() -> None:
            model.zero_grad()
            self._forget()
            random.restore()

        try:
            loss = self.fitting.fit(compute, undo=undo)
        except _Asked:
            undo()
            self._save_and_stop(model)
        if self.team.size > 1:
            loss = loss.new_tensor(self.team.sum([float(loss)])[0])
            self.team.sum_gradients(self.model)
        losses = [RowLoss(*row) for rows in self.team.gather(self._rows_of_step()) for row in rows]
        self._random = RandomState.now()
        if self.recorder is not None:
            self.recorder.add(self.state.global_step + 1, step.rows, losses)
        return loss

    def _forward_and_backward(
        self, model: nn.Module, step: Step, counts: torch.Tensor | int | None
    ) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        idle = self.team.idle(len(step.batches))
        for some, batch in zip(step.divided, step.batches, strict=True):
            # Ranks that wait for each other in a step stop between steps.
            if losses and self.team.size == 1 and self.should_stop():
                raise _Asked
            self.fitting.computing = [step.rows[i] for i in some]
            losses.append(super().training_step(model, batch, counts))
        for _ in range(idle):
            batch = collate(step.rows[:1])[_BATCH].to(self.args.device)
            with self.compute_loss_context_manager():
                nothing = torch.stack([loss.sum() for loss in self.objective.losses(model, batch)]).sum() * 0
            self.accelerator.backward(nothing)
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.args.device)

    def _save_and_stop(self, model: nn.Module) -> NoReturn:
        """Save a checkpoint of the last whole step, unless there is one, and end training."""
        step = self.state.global_step
        if self._random is not None and step not in checkpoints.steps_in(Path(self.args.output_dir)):
            self._random.restore()
            self._save_checkpoint(model, trial=None)
            self.callback_handler.on_save(self.args, self.state, self.control)
        raise KeyboardInterrupt(*[goes_on(step, self.state.max_steps)] * (step > 0))

    def _rows_of_step(self) -> list[RowLoss]:
        """Return the losses of the rows of the step just computed."""
        each = zip(self._recorded, (values.tolist() for _, values in self._recorded), strict=True)
        found = [
            RowLoss(identity, loss, share)
            for (ids, _), (losses, shares) in each
            for identity, loss, share in zip(ids, losses, shares, strict=True)
        ]
        self._recorded = []
        return found

    def _forget(self) -> None:
        """Drop what was measured of a step that is computed anew."""
        self._measured = [0.0] * len(self._measured)
        self._recorded = []

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the micro-batch's share of the step's loss [nats].

        Dividing by the step's counts, not the micro-batch's, makes accumulation equal to one big batch.
        """
        batch = inputs[_BATCH].to(self.args.device)
        counts = num_items_in_batch if isinstance(num_items_in_batch, torch.Tensor) else self._counts([batch])
        losses, each = self.objective.losses(model, batch), counts.unbind()
        totals = [loss.sum() for loss in losses]
        if measured := len(self._measured):
            means = zip(self._measured, totals[-measured:], each[-measured:], strict=True)
            self._measured = [mean + float(total) / int(count) for mean, total, count in means]
        # Counted where the batch was made: a device would have to be waited for.
        own = [count.to(self.args.device) for count in self.objective.counts(inputs[_BATCH])]
        self._record(inputs[_IDS], losses, own, each)
        shares = zip(self.objective.weights, totals, each, strict=True)
        return torch.stack([weight * loss / count for weight, loss, count in shares if weight]).sum()

    def _record(
        self,
        ids: list[str],
        losses: Sequence[torch.Tensor],
        own: Sequence[torch.Tensor],
        counts: Sequence[torch.Tensor],
    ) -> None:
        """Note what each row's loss is, as a mean over its own tokens and as a part of the step's."""
        terms = list(zip(self.objective.weights, losses, own, counts, strict=True))
        each = [w * loss.detach() / mine.clamp(min=1) for w, loss, mine, _ in terms if w]
        shares = [w * loss.detach() / count for w, loss, _, count in terms if w]
        self._recorded.append((ids, torch.stack([torch.stack(some).sum(0) for some in (each, shares)])))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """Take a step's micro-batches and count what its loss is a mean over, shape ``(terms,)``."""
        steps = [step for _, step in zip(range(num_batches), epoch_iterator, strict=False)]
        self._sum.begin()
        steps = self._measured_whole(steps)
        return steps, self._counts([batch[_BATCH] for step in steps for batch in step.batches]).to(device)

    def _measured_whole(self, steps: list[Step]) -> list[Step]:
        """Return steps with what the objective measures of all of them together, in forwards that fit."""
        if not isinstance(self.objective, WholeStep) or not steps:
            return steps
        given = steps

        def compute() -> list[Step]:
            nonlocal given
            self._sum.again()
            given = [s if s.bound == self.fitting.bound else self._divide(s.rows) for s in given]
            measured = iter(
                self._of_step(
                    [batch for step in given for batch in step.batches],
                    [[step.rows[i] for i in some] for step in given for some in step.divided],
                )
            )
            return [replace(step, batches=[next(measured) for _ in step.batches]) for step in given]

        return self.fitting.fit(compute)

    def _of_step(self, batches: Batches, rows: Sequence[Sequence[TrainingRow]]) -> Batches:
        """Return micro-batches with what the objective measures of all of them."""
        if not isinstance(self.objective, WholeStep):
            return batches
        self.fitting.computing = max(rows, key=lambda some: sum(row.tokens for row in some), default=())
        training, device = self.model.training, self.args.device
        self.model.eval()
        with torch.no_grad():
            beside = [batch[_BESIDE].to(device) for batch in batches if _BESIDE in batch]
            found = self.objective.of_step(
                self.model, [batch[_BATCH] for batch in batches], beside, self._sum
            )
        self.model.train(training)
        return [{**given, _BATCH: batch} for given, batch in zip(batches, found, strict=True)]

    def _counts(self, batches: Sequence[Packed]) -> torch.Tensor:
        """Return the summed counts of each term, shape ``(terms,)``; at least 1, which no sum is then by."""
        counts = [0] * len(self.objective.weights)
        for batch in batches:
            own = self.objective.counts(batch)
            counts = [count + int(c.sum()) for count, c in zip(counts, own, strict=True)]
        return torch.tensor([max(int(count), 1) for count in self.team.sum(counts)])

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW, with a learning rate of its own for the second matrices where LoRA+ is asked for."""
        if self.optimizer is None and self.config.lora_plus_ratio > 1 and self.config.adapter != "none":
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = create_loraplus_optimizer(
                self.model,
                kind,
                loraplus_lr_ratio=self.config.lora_plus_ratio,
                loraplus_weight_decay=self.args.weight_decay,
                **options,
            )
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restore both from a checkpoint as it lies on the disk."""
        with unpacked_state(Path(checkpoint)) if checkpoint else nullcontext() as folder:
            super()._load_optimizer_and_scheduler(str(folder) if folder else None)
        if is_divided(self.model) and self.optimizer is not None:
            divide_state(self.optimizer)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the objective measured in the step whose loss is logged."""
        if "loss" in logs:
            names = [f"train/{name}" for name in self.objective.metrics]
            logs |= dict(zip(names, self.team.sum(self._measured), strict=True))
            self._measured = [0.0] * len(self._measured)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Return 0: the Trainer's own count would read fields that packed batches do not have."""
        return 0

    def _load_best_model(self) -> None:
        """Do nothing: the Trainer would load what it finds, and where it finds nothing keep the last weights.

        Whoever called :meth:`train` loads the best checkpoint, by ``load_checkpoint`` of ``trainable``.
        """

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss of the validation split, as if it were one batch [nats]."""
        objective = self.objective
        self._sum.begin()
        means = self.fitting.fit(self._validation_means)
        loss = sum(weight * mean for weight, mean in zip(objective.weights, means, strict=True))
        measured = means[len(means) - len(objective.metrics) :]
        names = [f"validation/{name}" for name in objective.metrics]
        metrics = {f"{metric_key_prefix}_loss": loss, **dict(zip(names, measured, strict=True))}
        random = RandomState.now()
        answers = self.team.of_first(lambda: dict(self.measure(self.model)))
        metrics |= {f"validation/{name}": value for name, value in answers.items()}
        random.restore()
        self.log(dict(metrics))
        handler = self.callback_handler
        self.control: Any = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_means(self) -> list[float]:
        """Return the mean of each term over the validation split [nats]."""
        model, objective = self.model, self.objective
        model.eval()
        totals = [0.0] * len(objective.weights)
        counts = [0] * len(objective.weights)
        self._sum.again()
        most_rows = validation_rows(self.fitting.config)
        mine = [self.eval_dataset[i] for i in self.team.share(self.eval_dataset)]
        rows = [[mine[i] for i in some] for some in self.fitting.divide(mine, most_rows=most_rows)]
        idle = self.team.idle(len(rows))
        with torch.no_grad():
            for some, item in zip(rows, self._of_step([collate(r) for r in rows], rows), strict=True):
                self.fitting.computing = some
                batch = item[_BATCH].to(self.args.device)
                losses = objective.losses(model, batch)
                totals = [t + float(loss.sum()) for t, loss in zip(totals, losses, strict=True)]
                counts = [c + int(n.sum()) for c, n in zip(counts, objective.counts(batch), strict=True)]
            for _ in range(idle):
                objective.losses(model, collate([self.eval_dataset[0]])[_BATCH].to(self.args.device))
        model.train()
        whole = self._sum([*totals, *counts])
        return [t / max(n, 1) for t, n in zip(whole[: len(totals)], whole[len(totals) :], strict=True)]

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, which is one for all ranks and holds whole tensors."""
        if is_divided(self.model) and self.optimizer is not None:
            self._whole = gather(self.model, self.optimizer, keep=self.team.leads)
        if self.team.leads:
            super()._save_checkpoint(model, trial)
        self._whole = None

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict if self._whole is None else self._whole.weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._whole is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        torch.save(self._whole.optimizer, Path(output_dir) / OPTIMIZER_NAME)
        torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if is_divided(self.model):
            load_divided(self.model, Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """Scale gradients down to the norm that is allowed; return the norm before, of all ranks' parts."""
        if is_divided(self.model):
            norm: torch.Tensor = self._mixed_mesh_grad_norm(model, self.args.max_grad_norm)
        else:
            norm = super()._clip_grad_norm(model)
        return norm


class _Asked(Exception):  # noqa: N818 - named after what happened
    """Somebody asked to stop in the midst of a step."""


class RandomState(NamedTuple):
    """State of the generators that dropout draws from."""

    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]

    @classmethod
    def now(cls) -> RandomState:
        """Return that of this moment."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(torch.get_rng_state(), tuple(cuda))

    def restore(self) -> None:
        """Draw from here on what was drawn from that moment on."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))


def training_arguments(
    config: TrainConfig, output: Path, *, device: torch.device, rows: TrainingRows
) -> TrainingArguments:
    """Translate our settings into the Trainer's.

    Args:
        config: Ours.
        output: Where checkpoints go.
        device: Where to train.
        rows: What is trained and validated on.
    """
    between_validations = config.steps_between_validations(config.total_steps(len(rows.train)))
    validate = bool(rows.validation)
    schedule = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=config.batch_size,  # divided among forwards by PackedTrainer
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=schedule[config.schedule],
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=device.type == "cpu",
        bf16=config.mixed_precision(device.type),
        optim="adamw_torch",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=between_validations,
        eval_strategy="steps" if validate else "no",
        eval_steps=between_validations if validate else None,
        save_total_limit=None,  # rotation is ours: the old one goes only after the new one is sealed
        remove_unused_columns=False,
        label_names=[],
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
        push_to_hub=False,
    )
    if arguments.device.type != device.type:
        raise ConfigError(f"train.device {device} is not what this PyTorch trains on ({arguments.device})")
    # With several GPUs in sight the Trainer would split a batch among them, which a packed one does not bear.
    arguments._n_gpu = min(arguments._n_gpu, 1)
    return arguments
