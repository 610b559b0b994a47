"""Losses and gradients of every method against TRL 1.16.0 on the same rows, adapter and base, in one process.

Where TRL differs on purpose or by mistake, the test says so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from tunery.model.load import load_for_packing
from tunery.model.packing import pack, target_logits
from tunery.model.render import Rendered
from tunery.train.config import TrainConfig
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.kto import KtoConfig
from tunery.train.methods.method import TrainingRow
from tunery.train.methods.orpo import OrpoConfig
from tunery.train.methods.preferences import sequence_log_probs
from tunery.train.methods.sft import SftConfig
from tunery.train.methods.simpo import SimpoConfig
from tunery.train.section import method_of

trl = pytest.importorskip("trl", reason="the reference is TRL: pip install trl==1.16.0")
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's own

TEXTS = {"prompt": ["Who?"], "chosen": ["Me."], "rejected": ["You."]}


class Step(NamedTuple):
    loss: float
    gradients: Mapping[str, torch.Tensor]


class Pair(NamedTuple):
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def row(self) -> TrainingRow:
        return TrainingRow(tuple(sequence(self.prompt, answer) for answer in (self.chosen, self.rejected)))


def sequence(prompt: list[int], answer: list[int]) -> Rendered:
    mask = (0,) * len(prompt) + (1,) * len(answer)
    return Rendered((*prompt, *answer), mask, len(prompt))


def pairs(count: int, *, prompt: int | None = None, seed: int = 0) -> list[Pair]:
    draw = random.Random(seed)
    common = [draw.randrange(3, 250) for _ in range(9)]

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(3, 250) for _ in range(draw.randint(least, most))]

    # Answers that begin alike, so that the first token behind the shared prefix counts.
    made = []
    for _ in range(count):
        begin = ids(1, 3)
        prompted = common + ids(2, 12) if prompt is None else ids(prompt, prompt)
        made.append(Pair(prompted, begin + ids(2, 9), begin + ids(1, 14)))
    return made


def adapted(base: Path, *, packed: bool) -> Any:
    """Return the base with one adapter whose B is not zero, the same whoever asks."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = (
        load_for_packing(base) if packed else AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    )
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, lora)
    drawn = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=drawn)
    return wrapped


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name.replace(".default", ""): parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def ours(base: Path, config: TrainConfig, rows: list[TrainingRow], *, reference: str = "base") -> Step:
    """Return the loss of one step over these rows and its gradients."""
    model = adapted(base, packed=True)
    objective = method_of(config).objective(config)
    sequences = [sequence for row in rows for sequence in row.sequences]
    known: list[float] = []
    if method_of(config).needs_reference:
        with torch.no_grad(), model.disable_adapter() if reference == "base" else nullcontext():
            known = sequence_log_probs(model, pack(sequences)).tolist()
    batch = pack(sequences, reference=known)
    torch.manual_seed(3)  # of noise, where the method draws any
    terms = zip(objective.weights, objective.losses(model, batch), objective.counts(batch), strict=True)
    loss = sum(weight * total.sum() / count.sum() for weight, total, count in terms)
    loss.backward()
    return Step(float(loss.detach()), gradients(model))


def assert_equal(mine: Step, theirs: Step) -> None:
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-4, abs=1e-5)
    assert mine.gradients.keys() == theirs.gradients.keys()
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in theirs.gradients.values())
    for name, gradient in theirs.gradients.items():
        torch.testing.assert_close(mine.gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path / "trl"),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "max_length": None,
    }


def loss_of_trl(trainer: Any, batch: Mapping[str, Any]) -> Step:
    trainer.model.train()
    torch.manual_seed(3)
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return Step(float(loss.detach()), gradients(trainer.model))


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (DpoConfig(beta=0.3), {"beta": 0.3}),
        (DpoConfig(beta=2.0, loss_type="hinge"), {"beta": 2.0, "loss_type": ["hinge"]}),
        (DpoConfig(beta=0.7, loss_type="ipo"), {"beta": 0.7, "loss_type": ["ipo"]}),
        (
            DpoConfig(beta=0.3, sft_weight=0.5),
            {"beta": 0.3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        ),
    ],
    ids=["sigmoid", "hinge", "ipo", "with cross-entropy"],
)
def test_direct_preference_optimisation_is_trls(
    tiny_model: Path, tokenizer: Any, arguments: dict[str, Any], config: DpoConfig, theirs: dict[str, Any]
) -> None:
    given = pairs(6)
    trainer = dpo_trainer(tiny_model, tokenizer, {**arguments, **theirs})
    trainer.model.delete_adapter("ref")  # a copy of the adapter at the start; without it the base is meant
    mine = ours(tiny_model, config, [p.row for p in given])
    assert_equal(mine, loss_of_trl(trainer, preference_batch(trainer, given)))


def test_training_that_goes_on_from_an_adapter_compares_with_that_adapter_as_trl_does(
    tiny_model: Path, tokenizer: Any, arguments: dict[str, Any]
) -> None:
    given = pairs(6)
    trainer = dpo_trainer(tiny_model, tokenizer, {**arguments, "beta": 0.3})
    mine = ours(tiny_model, DpoConfig(beta=0.3), [p.row for p in given], reference="start")
    assert mine.loss == pytest.approx(math.log(2), rel=1e-5)
    assert_equal(mine, loss_of_trl(trainer, preference_batch(trainer, given)))


def dpo_trainer(base: Path, tokenizer: Any, arguments: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(
        adapted(base, packed=False),
        args=DPOConfig(**arguments),
        train_dataset=Dataset.from_dict(TEXTS),
        processing_class=tokenizer,
    )


def preference_batch(trainer: Any, given: list[Pair]) -> Any:
    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in given]
    return trainer.data_collator(rows)


def test_conservative_preferences_are_the_mixture_of_both_orders(tiny_model: Path) -> None:
    """TRL 1.16.0 keeps its label smoothing for other losses, so the definition itself is the reference."""
    given = [p.row for p in pairs(5)]
    swapped = [row._replace(sequences=row.sequences[::-1]) for row in given]
    smooth = ours(tiny_model, DpoConfig(label_smoothing=0.2), given).loss
    right, wrong = (ours(tiny_model, DpoConfig(), rows).loss for rows in (given, swapped))
    assert smooth == pytest.approx(0.8 * right + 0.2 * wrong, rel=1e-6)


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def attention(rows: list[list[int]]) -> torch.Tensor:
    return padded([[1] * len(row) for row in rows], 0)


def pair_batch(given: list[Pair]) -> dict[str, torch.Tensor]:
    """Return a batch as TRL's older preference trainers take it."""
    batch: dict[str, torch.Tensor] = {}
    for name, answers in (("chosen", [p.chosen for p in given]), ("rejected", [p.rejected for p in given])):
        rows = [p.prompt + answer for p, answer in zip(given, answers, strict=True)]
        labels = [[-100] * len(p.prompt) + answer for p, answer in zip(given, answers, strict=True)]
        batch[f"{name}_input_ids"] = padded(rows, 2)
        batch[f"{name}_attention_mask"] = attention(rows)
        batch[f"{name}_labels"] = padded(labels, -100)
    return batch


def test_odds_ratio_preference_optimisation_is_trls(
    tiny_model: Path, tokenizer: Any, arguments: dict[str, Any]
) -> None:
    """Prompts have one token here: TRL 1.16.0 takes the cross-entropy over the prompt's tokens too, where
    equation 6 of the paper has the answer's alone."""
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    given = pairs(6, prompt=1)
    trainer = ORPOTrainer(
        adapted(tiny_model, packed=False),
        args=ORPOConfig(**{**arguments, "max_length": 64}, beta=0.4),
        train_dataset=Dataset.from_dict(TEXTS),
        processing_class=tokenizer,
    )
    mine = ours(tiny_model, OrpoConfig(beta=0.4), [p.row for p in given])
    assert_equal(mine, loss_of_trl(trainer, pair_batch(given)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_simple_preference_optimisation_is_trls(
    tiny_model: Path, tokenizer: Any, arguments: dict[str, Any], smoothing: float
) -> None:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    given = pairs(6)
    trainer = CPOTrainer(
        adapted(tiny_model, packed=False),
        args=CPOConfig(
            **{**arguments, "max_length": 64},
            loss_type="simpo",
            cpo_alpha=0.0,
            beta=2.5,
            simpo_gamma=0.8,
            label_smoothing=smoothing,
        ),
        train_dataset=Dataset.from_dict(TEXTS),
        processing_class=tokenizer,
    )
    config = SimpoConfig(beta=2.5, gamma=0.8, label_smoothing=smoothing)
    mine = ours(tiny_model, config, [p.row for p in given])
    assert_equal(mine, loss_of_trl(trainer, pair_batch(given)))


@pytest.mark.parametrize(
    ("config", "theirs", "given"),
    [
        (SftConfig(), {}, 6),
        (SftConfig(label_smoothing=0.2), {"label_smoothing_factor": 0.2}, 6),
        (SftConfig(neftune_alpha=9.0), {"neftune_noise_alpha": 9.0}, 1),
    ],
    ids=["plain", "label smoothing", "noise on the embeddings"],
)
def test_supervised_fine_tuning_is_trls(
    tiny_model: Path,
    tokenizer: Any,
    arguments: dict[str, Any],
    config: SftConfig,
    theirs: dict[str, Any],
    given: int,
) -> None:
    """Noise is compared on one row: TRL divides by the length that rows are padded to, the paper's
    algorithm 1 by a row's own."""
    from datasets import Dataset
    from transformers.integrations.neftune import activate_neftune
    from trl import SFTConfig, SFTTrainer

    drawn = pairs(given)
    trainer = SFTTrainer(
        adapted(tiny_model, packed=False),
        args=SFTConfig(**arguments, **theirs),
        train_dataset=Dataset.from_dict({"text": ["Who?"]}),
        processing_class=tokenizer,
    )
    rows = [sequence(p.prompt, p.chosen) for p in drawn]
    labels = [[i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)] for row in rows]
    ids = [list(row.ids) for row in rows]
    batch = {"input_ids": padded(ids, 2), "attention_mask": attention(ids), "labels": padded(labels, -100)}
    training = [TrainingRow((row,)) for row in rows]
    if config.neftune_alpha:
        activate_neftune(trainer.model, config.neftune_alpha)
    mine = ours(tiny_model, config, training)
    assert_equal(mine, loss_of_trl(trainer, batch))
    plain = ours(tiny_model, SftConfig(), training).loss
    assert (abs(mine.loss - plain) < 1e-6) == (config == SftConfig())
    with torch.no_grad():  # as validation is measured
        model, packed = adapted(tiny_model, packed=True), pack(rows)
        losses = [method_of(c).objective(c).losses(model, packed)[0] for c in (config, SftConfig())]
    torch.testing.assert_close(*losses)


def test_noise_on_the_embeddings_goes_by_each_rows_own_length(tiny_model: Path) -> None:
    model = load_for_packing(tiny_model)
    rows = [sequence([5, 6, 7], [8]), sequence([30 + i for i in range(90)], [9] * 10)]
    packed, seen = pack(rows), []
    layer = model.get_input_embeddings()
    clean = layer(packed.input_ids)[0]
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"][0]), with_kwargs=True
    )
    target_logits(model, packed, neftune_alpha=5.0)
    noise, reach = (seen[0] - clean).abs(), 5.0 / math.sqrt(clean.shape[1])
    for of_row, length in ((noise[packed.lengths == 4], 4), (noise[packed.lengths == 100], 100)):
        assert len(of_row) == length
        assert 0.9 * reach < float(of_row.max()) * math.sqrt(length) <= reach * 1.0001
        assert float(of_row.mean()) * math.sqrt(length) == pytest.approx(reach / 2, rel=0.1)


@pytest.mark.parametrize("kind", ["pairs", "unpaired"])
def test_kahneman_tversky_optimisation_is_trls(
    tiny_model: Path, tokenizer: Any, arguments: dict[str, Any], kind: str
) -> None:
    """TRL 1.16.0 takes the divergence of a micro-batch by itself, so that accumulation changes its loss; here
    one batch is the whole step, and each prompt has the answers of the row before as unrelated ones."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    given = pairs(6)
    weights = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.75}
    trainer = KTOTrainer(
        adapted(tiny_model, packed=False),
        args=KTOConfig(**arguments, **weights, train_sampling_strategy="sequential"),
        train_dataset=Dataset.from_dict(
            {"prompt": ["Who?"] * 2, "completion": ["Me.", "You."], "label": [True, False]}
        ),
        processing_class=tokenizer,
    )
    trainer.model.delete_adapter("ref")
    before = [given[-1], *given[:-1]]
    answered = [
        (p.prompt, own, other, label)
        for i, (p, q) in enumerate(zip(given, before, strict=True))
        for own, other, label in ((p.chosen, q.chosen, True), (p.rejected, q.rejected, False))
        if kind == "pairs" or label == bool(i % 3)
    ]
    if kind == "unpaired":  # four answers that are desirable, two that are not, each to a prompt of its own
        owns = [own for _, own, _, _ in answered]
        answered = [(p, o, b, g) for (p, o, _, g), b in zip(answered, [owns[-1], *owns[:-1]], strict=True)]
    columns = ("prompt_ids", "completion_ids", "KL_completion_ids", "label")
    unpaired = [dict(zip(columns, one, strict=True)) for one in answered]
    theirs = loss_of_trl(trainer, trainer.data_collator(unpaired))

    model = adapted(tiny_model, packed=True)
    objective = method_of(KtoConfig()).objective(KtoConfig(**weights))
    sequences = [sequence(prompt, own) for prompt, own, _, _ in answered]
    unrelated = [sequence(prompt, other) for prompt, _, other, _ in answered]
    half = len(answered) // 2
    about: dict[str, Any] = {
        "desirable": [good for *_, good in answered],
        "examples": [i // 2 for i in range(len(answered))] if kind == "pairs" else None,
    }
    with torch.no_grad(), model.disable_adapter():
        known, beside = (sequence_log_probs(model, pack(some)).tolist() for some in (sequences, unrelated))
    with torch.no_grad():
        halves = [pack(unrelated[at : at + half], reference=beside[at : at + half]) for at in (0, half)]
        (batch,) = objective.of_step(model, [pack(sequences, reference=known, **about)], halves)
    assert float(batch.reference[0]) > known[0]  # the divergence is not 0, so it counts
    losses, in_order, margins = objective.losses(model, batch)
    loss = losses.sum() / objective.counts(batch)[0].sum()
    loss.backward()
    assert_equal(Step(float(loss.detach()), gradients(model)), theirs)
    assert len(losses) == 6
    assert in_order.tolist() == [float(margin > 0) for margin in margins.tolist()]
