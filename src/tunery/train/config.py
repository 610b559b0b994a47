"""Settings of training that every method has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, WithJsonSchema, model_validator

from tunery.core.config import Settings
from tunery.core.variants import Variants

AdapterKind = Literal["lora", "rslora", "dora", "none"]
_OF_ADAPTERS = ("rank", "alpha", "dropout", "target_modules", "modules_to_save", "lora_plus_ratio", "merge")
"""Settings that mean nothing where all weights are trained."""
AutoSetting = Literal["batch_size", "epochs", "learning_rate", "rank"]
AUTO = "auto"
AUTO_BOUNDS: Mapping[str, tuple[int, int]] = {"batch_size": (4, 64), "epochs": (1, 8), "rank": (16, 256)}
"""Least and most that ``auto`` chooses, for the settings that say how large a training is."""

_FULL_LEARNING_RATE = 1e-4
"""Peak learning rate by default where all weights are trained: a tenth of LoRA's."""

_SAME_ADAPTER = ("adapter", "rank", "alpha", "target_modules", "modules_to_save")
"""Settings in which trainings of one adapter are alike, or the second could not go on from the first's."""
_SAME_PLACE = (
    "device",
    "dtype",
    "quantization",
    "threads",
    "micro_batch_tokens",
    "engine",
    "workers",
    "sharding",
)
"""Settings that the earlier training has from the later one where it says nothing else."""


def _methods() -> Mapping[str, type[TrainConfig]]:
    from tunery.train.section import training_methods

    return {name: method.config for name, method in training_methods().items()}


Earlier = Annotated[
    "TrainConfig",
    Variants("training method", key="method", find=_methods, default="sft"),
    WithJsonSchema({"type": "object"}),  # the methods' own schemas hold this one
]
"""Settings of a training before another, by the method that they name."""


class TrainConfig(Settings):
    """How the adapter is trained; each method's file adds its own settings."""

    method: str
    """What is learnt from the rows."""
    auto: tuple[AutoSetting, ...] = ()
    """Settings that are chosen by the base and by the rows: batch_size, epochs, learning_rate and rank can
    be. ``learning_rate: auto`` says the same; docs/training.md has the rules."""
    adapter: AdapterKind = "lora"
    """What is trained on the frozen base: LoRA; rank-stabilised LoRA, whose update is multiplied by alpha /
    sqrt(rank), so that large ranks learn as fast as small ones; DoRA, which trains the length of each row of
    a weight apart from its direction, and takes longer; or none, which is full fine-tuning: every weight of
    the base is trained, and what comes out is a model of its own."""
    quantization: Literal["nf4"] | None = None
    """How the frozen base is held while it is trained on: nf4 is QLoRA, four bits a weight of the linear
    layers, their scales quantised once more, computed with in fp32 on a CPU and in bf16 on a GPU. Takes the
    extra tunery[qlora]. What is evaluated and served is the adapter on the base as it is."""
    rank: int = Field(default=16, ge=1, le=1024)
    """LoRA rank: width of the trained low-rank update."""
    alpha: float = Field(default=32.0, gt=0)
    """LoRA scale numerator; the update is multiplied by alpha / rank, by alpha / sqrt(rank) for rslora."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the input of the adapted layers."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers adapted: every linear layer but the output one, or some by name, such as [q_proj, v_proj], or by
    pattern, such as ["layers.2?.*", "*.down_proj"]: ``*`` stands for any text, ``?`` for one character,
    ``[...]`` for one of several."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained whole beside the adapter, such as [lm_head, embed_tokens]. No engine serves those
    beside the adapters of others, so the adapter has to be merged: merge: true."""
    merge: bool = False
    """Whether the trained adapter is merged into the base's weights. The version is then a model of its own,
    of the base's size on disk and in memory, that any engine serves without knowing of adapters."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate; by default 0.001, and 0.0001 with adapter: none, as LoRA bears about ten times the
    rate of full fine-tuning."""
    lora_plus_ratio: float = Field(default=1.0, ge=1)
    """LoRA+: learning rate of the adapter's second matrices (B) over that of its first ones (A); 1 is plain
    LoRA."""
    epochs: float = Field(default=3.0, gt=0, le=1000)
    """Passes over the train split."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimizer step, in as many forwards as they need."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples per forward at most; must divide batch_size. By default as many as fit micro_batch_tokens."""
    micro_batch_tokens: int = Field(default=8192, ge=16)
    """Tokens computed in one forward at most, what examples begin with counted once; fewer where memory is
    short. An example that has more is computed alone. Examples of a step that begin alike come into the same
    forward."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Whether a layer's activations are computed again going backward, which takes a third longer and a
    fraction of the memory; auto does so where the longest example would not fit otherwise."""
    warmup_ratio: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps over which the learning rate rises from zero."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after warm-up."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay (AdamW)."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    validation_every: int | None = Field(default=None, ge=1)
    """Steps between validation losses and checkpoints; by default eight times a run."""
    early_stopping: int | None = Field(default=3, ge=1)
    """Stop after this many validations without a better one; null never stops early."""
    divergence_factor: float | None = Field(default=3.0, gt=1)
    """Training stops where the loss of five steps in a row is above this many times the median of the fifty
    steps before and above that of the first five; the checkpoint from before is kept, and the step's rows are
    named. Null never stops for it. A loss that is no number stops any training."""
    keep: Literal["best", "last"] = "best"
    """Which step's weights become the adapter: those of the best validation, or the last ones. With few
    validation rows the best is mostly luck, and the loss may rise while more answers become right."""
    keep_checkpoints: Annotated[int, Field(ge=1, le=1000)] | Literal["all"] | None = None
    """Adapters of so many newest checkpoints stay beside the one that training makes, of `all` or of none;
    each then answers the validation split. Only of adapters that are not merged, and without sharding."""
    generate_rows: int | None = Field(default=None, ge=1)
    """Validation rows that the model answers at each validation, drawn so that classes keep their shares; the
    answers are judged as the test split's are. Holds the base a second time meanwhile. None by default."""
    best_by: str = "loss"
    """What makes a validation the best one, for keep and early_stopping: loss, or a metric of the answers to
    generate_rows, such as exact_match; of equal ones the lower loss."""
    smoke: bool = True
    """Whether a few rows are trained on first, a tenth of the steps at most, to see that their loss falls; it
    changes nothing of the training that follows."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of initial weights, data order and dropout."""
    device: str = "auto"
    """Where it computes: auto (a CUDA GPU if there is one), cpu, or cuda for the first GPU it sees;
    CUDA_VISIBLE_DEVICES says which that is."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen base: fp32 on a CPU, bf16 on a GPU; the adapter is always trained in fp32. With adapter:
    none of what is computed, while the weights are in fp32."""
    engine: Literal["local", "ray"] = "local"
    """Where it runs: this process, with those that torchrun started beside it, or as many workers of the Ray
    cluster that ``RAY_ADDRESS`` names (extra tunery[ray]). They read the base and write checkpoints at the
    paths that this process has them at. Losses are those of one process but for rounding."""
    workers: int | None = Field(default=None, ge=1)
    """Processes of a training on Ray. When null, as many as the cluster has GPUs, or nodes where it has
    none. Where a node is lost, training goes on from its newest checkpoint on those that are left."""
    sharding: Literal["none", "fsdp"] = "none"
    """Whether several processes divide the weights among them: none, each holds all; or fsdp, each holds its
    part, and a layer is whole while it computes. With adapter: none gradients and the optimizer's state are
    divided too. For bases that do not fit into one GPU; the layers are sent twice for each forward."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads. When null, as many as other processes leave cores for, looked at while it trains, and all
    cores where results would depend on the number: on processors of another maker than Intel."""

    start_from: Earlier | None = None
    """A training before this one, such as {method: sft, epochs: 2}: an adapter of its own on the same rows,
    from whose weights this one begins and which a reference then is. It has the settings of a train section;
    adapter, rank, alpha, target_modules, modules_to_save, device, dtype, quantization, threads,
    micro_batch_tokens, engine, workers and sharding are those of this one where it names none."""

    @model_validator(mode="before")
    @classmethod
    def _notes_auto(cls, values: Any) -> Any:
        """Take the settings whose value is ``auto`` for named in ``auto``."""
        if not isinstance(values, Mapping):
            return values
        named = [name for name in get_args(AutoSetting) if values.get(name) == AUTO]
        listed = values.get("auto", ())
        if not named or not isinstance(listed, (list, tuple)):
            return values
        others = {name: value for name, value in values.items() if name not in named}
        # What cannot be sorted, or is no setting, is refused with its place in the list.
        return {**others, "auto": [*listed, *(name for name in sorted(named) if name not in listed)]}

    @model_validator(mode="before")
    @classmethod
    def _hands_down(cls, values: Any) -> Any:
        """Give the earlier training the shape of the adapter and the place where it is computed."""
        if not isinstance(values, Mapping) or not isinstance(values.get("start_from"), Mapping):
            return values
        shared = {name: values[name] for name in (*_SAME_ADAPTER, *_SAME_PLACE) if name in values}
        listed = values.get("auto")
        if isinstance(listed, (list, tuple)) and "rank" in listed:
            shared["rank"] = AUTO
        return {**values, "start_from": {**shared, **values["start_from"]}}

    @model_validator(mode="before")
    @classmethod
    def _full_learns_slower(cls, values: Any) -> Any:
        """Lower the default learning rate where every weight is trained."""
        if isinstance(values, Mapping) and values.get("adapter") == "none" and "learning_rate" not in values:
            return {**values, "learning_rate": _FULL_LEARNING_RATE}
        return values

    @model_validator(mode="after")
    def _fit_each_other(self) -> TrainConfig:
        if self.adapter == "none" and self.quantization:
            raise ValueError(
                f"adapter is none and quantization {self.quantization}: weights of four bits cannot be "
                "trained themselves; take adapter: lora, or leave quantization out"
            )
        if self.sharding == "fsdp" and self.quantization:
            raise ValueError(
                f"sharding is fsdp and quantization {self.quantization}: weights of four bits are not "
                "divided; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _is_chosen_or_named(self) -> TrainConfig:
        for name in self.auto:
            # A stored recipe has the default beside what is left open.
            usual = {type(self).model_fields[name].default}
            if name == "learning_rate" and self.adapter == "none":
                usual.add(_FULL_LEARNING_RATE)
            if (value := getattr(self, name)) not in usual:
                raise ValueError(f"{name} is {value:g}, and auto lists it; leave one of them out")
        return self

    @model_validator(mode="after")
    def _can_choose(self) -> TrainConfig:
        if self.best_by != "loss" and self.generate_rows is None:
            raise ValueError(
                f"best_by is {self.best_by}, a metric of answers, and generate_rows is not set; "
                "generate_rows: 64 has 64 validation rows answered"
            )
        if self.generate_rows and self.modules_to_save:
            raise ValueError(
                "generate_rows is set, and so is modules_to_save: what is not merged yet cannot answer; "
                "leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _keeps_adapters(self) -> TrainConfig:
        whole = self.makes_a_model or self.modules_to_save or self.sharding == "fsdp"
        if self.keep_checkpoints is not None and whole:
            raise ValueError(
                f"keep_checkpoints is {self.keep_checkpoints}, and what comes out is no adapter by itself, "
                "or the base is divided: checkpoints of whole models are not kept; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _starts_from_its_like(self) -> TrainConfig:
        before = self.start_from
        for name in _SAME_ADAPTER if before else ():
            mine, earlier = (
                AUTO if one and name in one.auto else getattr(one, name) for one in (self, before)
            )
            if mine != earlier:
                raise ValueError(
                    f"start_from.{name} is {earlier!r} and {name} {mine!r}: both train one adapter; leave "
                    f"start_from.{name} out"
                )
        if self.start_from and self.start_from.merge:
            raise ValueError(
                "start_from.merge is true: only the last training's adapter is merged; leave it out"
            )
        return self

    @property
    def unservable(self) -> str | None:
        """Why no engine could serve what comes out, and what to set instead; None where one can."""
        if not self.modules_to_save or self.makes_a_model:
            return None
        return (
            f"modules_to_save {list(self.modules_to_save)} are whole modules, which no engine serves beside "
            "the adapters of others; merge: true makes a model of its own of them"
        )

    @property
    def makes_a_model(self) -> bool:
        """Whether what comes out is a model of its own rather than an adapter on the base."""
        return self.merge or self.adapter == "none"

    @model_validator(mode="after")
    def _divides(self) -> TrainConfig:
        open_ = "batch_size" in self.auto  # it is chosen as a multiple
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size and not open_:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}"
            )
        return self

    def total_steps(self, rows: int) -> int:
        """Return the optimizer steps of a full training, a last incomplete batch counted [count]."""
        return max(1, math.ceil(math.ceil(rows / self.batch_size) * self.epochs))

    def steps_between_validations(self, steps: int) -> int:
        """Return how many of ``steps`` lie between two validations [count]."""
        return self.validation_every or max(1, math.ceil(steps / 8))

    def kept_checkpoints(self, steps: int) -> int:
        """Return how many checkpoints' adapters stay of a training of so many steps [count]."""
        there = math.ceil(steps / self.steps_between_validations(steps))
        return 0 if self.keep_checkpoints is None else min(there, self.most_kept or there)

    @property
    def most_kept(self) -> int | None:
        """Newest checkpoints' adapters that stay; None for all, where any does [count]."""
        return self.keep_checkpoints if isinstance(self.keep_checkpoints, int) else None

    def base_in_half(self, device_type: str) -> bool:
        """Tell whether the frozen base is held in bf16 on a device of this type (``cpu``, ``cuda``)."""
        return self.adapter != "none" and self._in_half(device_type)

    def mixed_precision(self, device_type: str) -> bool:
        """Tell whether trained weights are held in fp32 and computed with in bf16."""
        return self.adapter == "none" and self._in_half(device_type)

    def _in_half(self, device_type: str) -> bool:
        return self.dtype == "bfloat16" or (self.dtype == "auto" and device_type == "cuda")


_NOT_IN_IDENTITY = frozenset(
    {
        "auto",
        "device",
        "divergence_factor",
        "engine",
        "gradient_checkpointing",
        "micro_batch_size",
        "micro_batch_tokens",
        "sharding",
        "smoke",
        "threads",
        "workers",
    }
)
"""Settings that say where, in what pieces and how long the same computation runs."""
_SINCE: Mapping[str, object] = {
    "adapter": "lora",
    "start_from": None,
    "quantization": None,
    "modules_to_save": [],
    "merge": False,
    "lora_plus_ratio": 1.0,
    "generate_rows": None,
    "best_by": "loss",
    "keep_checkpoints": None,
}
"""Settings that came later, with the value that everything before them was trained with."""


def identity_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that an adapter's id depends on, as JSON values.

    What was trained before a setting existed keeps its id.

    Raises:
        RuntimeError: A setting is left to ``auto`` still.
    """
    if config.auto:
        raise RuntimeError(f"{', '.join(config.auto)}: chosen before anything is trained or named")
    unused = _OF_ADAPTERS if config.adapter == "none" else ()
    settings = config.model_dump(mode="json", exclude={*_NOT_IN_IDENTITY, *unused})
    if config.start_from is not None:
        settings["start_from"] = identity_settings(config.start_from)
    return {name: value for name, value in settings.items() if name not in _SINCE or value != _SINCE[name]}
