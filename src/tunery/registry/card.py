"""The model card: what a version is for, what it reaches, where it fails and how to call it, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import listed
from tunery.core.evaluation import Evaluation, GateResult, metric_title
from tunery.core.evidence import Evidence
from tunery.core.figures import (
    contamination_sentence,
    count,
    counted,
    duration,
    effort,
    is_rate,
    listed_counts,
    metric_interval,
    metric_value,
    percent,
    quantity,
    subject_name,
    subject_order,
    subject_phrase,
)
from tunery.core.markdown import bullets, code, fenced, inline, table, without_controls
from tunery.core.registry import ModelVersion
from tunery.core.run import Run
from tunery.core.training import Adapter, BaseModelInfo

_SHOWN_LABELS = 40
_WEAK_CLASSES = 5
_WEAK_F1 = 0.7
"""F1 under which a class is named among the limits."""

_KINDS: Mapping[str, str] = {
    "lora": "LoRA adapter",
    "rslora": "rank-stabilised LoRA adapter",
    "dora": "DoRA adapter",
    "none": "full fine-tuning",
}
"""What the card calls each kind of ``train.adapter``."""

_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = {base}  # {label}
ADAPTER = "."  # the folder of this card

tokenizer = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForCausalLM.from_pretrained(BASE, use_safetensors=True)
model = PeftModel.from_pretrained(model, ADAPTER).eval()
"""
_TEMPLATE = """
tokenizer.chat_template = Path(ADAPTER, "chat_template.jinja").read_text(encoding="utf-8")
model.generation_config = GenerationConfig.from_pretrained(ADAPTER)  # where the template ends an answer
"""
_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = "."  # the folder of this card

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, use_safetensors=True).eval()
"""
_ANSWER = """
messages = [
{messages}
]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens={max_tokens}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""

_OPENAI = """\
import os

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=os.environ["OPENAI_API_KEY"])
answer = client.chat.completions.create(
    model={model},
    messages=[{{"role": "user", "content": {question}}}],
    max_tokens={max_tokens},
    temperature=0,
)
print(answer.choices[0].message.content)
"""

_QUESTION = "Put your own input here."


def render_card(  # noqa: PLR0913 - each is a record of its own
    version: ModelVersion,
    dataset: DatasetVersion,
    adapter: Adapter,
    evaluation: Evaluation,
    baselines: Mapping[str, Evaluation],
    gate: GateResult,
    *,
    run: Run | None = None,
) -> str:
    """Return the card of one model version as Markdown.

    It lies beside the adapter, or beside all weights where that has its ``model``, as ``README.md``, so its
    loading code names its own folder. Text from users (labels, prompts, warnings) is escaped and cannot end a
    table, a code block or the front matter.
    ``evaluation`` is that of the tuned model on the test split; ``baselines`` has that of each subject which
    it was compared with; ``run`` is the run that made it.

    Returns:
        Markdown with YAML front matter, ending in a newline.
    """
    parts = [
        _front_matter(version, adapter),
        f"# {inline(version.ref)}",
        f"{_kind(version, adapter)} {_opening(version, evaluation, baselines, gate)}",
        "## Intended use",
        _intended_use(version, adapter, evaluation),
        "## Results",
        _results(evaluation, baselines),
        _effort(version, evaluation, baselines),
        "### Gate",
        bullets(f"**{'passed' if r.passed else 'refused'}**: {inline(r.sentence)}" for r in gate.rules),
        "## Limits",
        bullets(_limits(dataset, evaluation, run)),
        "## Data",
        _data(version, dataset),
        "## Training",
        _training(adapter),
        "## Lineage",
        _lineage(version, dataset, adapter, gate),
        *([_evidence(run.evidence)] if run and run.evidence else []),
        "## Load it in plain transformers" if adapter.model else "## Load it in plain PEFT",
        fenced(_loading_code(version, adapter), "python"),
        "## Call it through the openai client",
        f"With `tunery serve` running and a key from `tunery keys create` in `OPENAI_API_KEY`:\n\n"
        f"{fenced(_openai_code(version), 'python')}",
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _front_matter(version: ModelVersion, adapter: Adapter) -> str:
    kind = adapter.config.get("adapter", "lora")
    about = {
        "base_model": adapter.base.name,
        "library_name": "transformers" if adapter.model else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["full-fine-tuning" if kind == "none" else kind, "tunery"],
        "model_name": version.ref,
    }
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---"


def _kind(version: ModelVersion, adapter: Adapter) -> str:
    kind = _KINDS.get(adapter.config.get("adapter", "lora"), "adapter")
    if kind == _KINDS["none"]:
        return f"A {kind} of {inline(version.base)}."
    return f"A {kind} {'merged into' if adapter.model else 'on'} {inline(version.base)}."


def _opening(
    version: ModelVersion, evaluation: Evaluation, baselines: Mapping[str, Evaluation], gate: GateResult
) -> str:
    main = evaluation.main
    interval = f"(95 % interval {metric_interval(main)}, n {count(main.n)})"
    reached = f"{metric_value(main)} {inline(main.title)} {interval}"
    others = [
        f"{inline(subject_phrase(subject))} {metric_value(one.metrics[main.name])}"
        for subject, one in _ordered(baselines)
        if main.name in one.metrics
    ]
    beside = f" On the same rows: {'; '.join(others)}." if others else ""
    word = "Its gate passed." if gate.passed else "**Its gate refused it: do not ship it.**"
    answered = "".join(f"\n\n> {inline(override.sentence)}" for override in version.overrides)
    return f"It reaches {reached}.{beside} {word}{answered}"


def _intended_use(version: ModelVersion, adapter: Adapter, evaluation: Evaluation) -> str:
    goal = version.config.get("goal") or {}
    paragraphs = [inline(str(version.config["description"]))] if version.config.get("description") else []
    if version.labels:
        labels = listed([f"`{code(label)}`" for label in version.labels], _SHOWN_LABELS)
        paragraphs.append(
            f"Its answers are meant to be one of {counted(len(version.labels), 'label')}: {labels}."
        )
    else:
        paragraphs.append("It answers in the form of its training examples.")
    if goal.get("metric"):
        metric, target = evaluation.metrics.get(goal["metric"]), goal.get("target")
        worth = ""
        if metric and target is not None:
            worth = f", with {quantity(target, share=is_rate(metric))} as its target"
        title = metric.title if metric else metric_title(goal["metric"])
        paragraphs.append(f"The recipe's goal is {inline(title)}{worth}.")
    if version.system_prompt:
        turn = fenced(version.system_prompt)
        paragraphs.append(f"Every example began with this system turn, and so should every call:\n\n{turn}")
    if adapter.day:
        paragraphs.append(
            f"The base's chat template writes the day into every prompt. Training wrote "
            f"{adapter.day:%d %b %Y}, and so does `tunery serve`; whoever renders prompts otherwise should "
            "write that day, too."
        )
    paragraphs.append(
        "It is meant for inputs like those of its dataset version. Nothing was measured on other subjects, "
        "other languages or hostile input."
    )
    return "\n\n".join(paragraphs)


def _results(evaluation: Evaluation, baselines: Mapping[str, Evaluation]) -> str:
    subjects = [*_ordered(baselines), ("tuned", evaluation)]
    names = dict.fromkeys([evaluation.main_metric, *(n for _, e in subjects for n in e.metrics)])
    rows = []
    for name in names:
        measured = [one.metrics.get(name) for _, one in subjects]
        cells = [f"{metric_value(m)} ({metric_interval(m)}, n {count(m.n)})" if m else "–" for m in measured]
        rows.append([inline(next(m.title for m in measured if m)), *cells])
    header = ["metric (95 % interval, n)", *(inline(subject_name(subject)) for subject, _ in subjects)]
    on = f"Measured on `{code(evaluation.data)}`, all models on the same rows; n says how many."
    return f"{table(header, rows)}\n\n{on}"


def _effort(version: ModelVersion, evaluation: Evaluation, baselines: Mapping[str, Evaluation]) -> str:
    price = (version.config.get("evaluate") or {}).get("price_per_hour")
    found = {s: effort(e, price) for s, e in [*_ordered(baselines), ("tuned", evaluation)]}
    if all(value is None for pairs in found.values() for _, value in pairs):
        return ""
    header = ["what the answers took", *(name for name, _ in next(iter(found.values())))]
    return table(
        header, [[inline(subject_name(s)), *(v or "–" for _, v in pairs)] for s, pairs in found.items()]
    )


def _limits(dataset: DatasetVersion, evaluation: Evaluation, run: Run | None) -> Iterable[str]:
    main = evaluation.main
    yield (
        f"{main.title} was measured on {counted(main.n, 'row')}; the true value plausibly lies "
        f"anywhere in {metric_interval(main)}."
    )
    for found in run.contaminated if run else ():
        yield f"{inline(contamination_sentence(found))}."
    weak = sorted((s for s in evaluation.per_class if s.f1 < _WEAK_F1), key=lambda s: (s.f1, s.label))
    if weak:
        named = ", ".join(f"`{code(s.label)}` ({percent(s.f1)})" for s in weak[:_WEAK_CLASSES])
        verb = "has" if len(weak) == 1 else "have"
        classes = counted(len(weak), "class", "classes")
        yield f"{classes} {verb} an F1 under {percent(_WEAK_F1)}; worst: {named}."
    for confusion in evaluation.confusions[:3]:
        yield (
            f"`{code(confusion.reference)}` was answered as `{code(confusion.prediction)}` "
            f"{counted(confusion.count, 'time')}."
        )
    for warning in dataset.warnings:
        yield inline(warning)
    yield "It inherits what its base model gets wrong; a confident answer is not a right one."


def _data(version: ModelVersion, dataset: DatasetVersion) -> str:
    # Configurations are recipes as they were checked; those of versions that no run made may be empty.
    stated = (version.config.get("data") or {}).get("sources") or ()
    licences = {source["path"]: source.get("license") for source in stated}
    sources = [
        [
            f"`{code(source.path)}`",
            count(source.rows),
            inline(licences.get(source.path) or "not stated"),
            f"`{source.sha256}`",
        ]
        for source in dataset.sources
    ]
    splits = ", ".join(f"{name} {count(rows)}" for name, rows in dataset.splits.items())
    reasons, masked = (
        inline(listed_counts({name.replace("_", " "): n for name, n in counts.items()}))
        for counts in (dataset.dropped, dataset.masked)
    )
    return "\n\n".join(
        [
            f"Dataset version `{code(dataset.id)}`: {counted(dataset.rows_read, 'row')} read, "
            f"{count(dataset.rows_kept)} kept ({splits}).",
            table(["source", "rows", "licence", "sha256"], sources),
            f"Dropped: {reasons or 'nothing'}. Personal data masked: {masked or 'nothing found'}.",
        ]
    )


def _training(adapter: Adapter) -> str:
    facts = [
        ["base parameters", count(adapter.base.parameters)],
        ["trained parameters", count(adapter.trainable_parameters)],
        ["steps", f"{count(adapter.steps)}, the adapter of step {count(adapter.best_step)} kept"],
        ["trained-on tokens", count(adapter.trained_tokens)],
        *([["day in every prompt", adapter.day.isoformat()]] if adapter.day else []),
        ["time", duration(adapter.seconds)],
        *([inline(key), f"`{code(str(value))}`"] for key, value in sorted(adapter.config.items())),
    ]
    return table(["setting", "value"], facts)


def _lineage(version: ModelVersion, dataset: DatasetVersion, adapter: Adapter, gate: GateResult) -> str:
    base = adapter.base
    rows = [
        ["model version", version.ref, f"run `{code(version.run_id)}`, gate `{code(gate.id)}`"],
        ["adapter", adapter.id, f"sha256 `{adapter.sha256}`"],
        ["chat template", adapter.base.chat_template or "", f"sha256 `{adapter.chat_template_sha256}`"],
        ["base model", base.name, f"sha256 `{base.sha256}`, licence {inline(base.license or 'not stated')}"],
        ["dataset version", dataset.id, f"sha256 `{dataset.content_sha256}`"],
        *(["grown from", parent, ""] for parent in dataset.parents),
        ["evaluation", version.evaluation_id, ""],
    ]
    cells = [[kind, f"`{code(name)}`" if name else "", proof] for kind, name, proof in rows]
    origin = f"\n\nThe base comes from {inline(base.origin)}." if base.origin else ""
    return table(["what", "id", "proof"], cells) + origin


def _evidence(evidence: Evidence) -> str:
    cells = [
        [inline(what), f"`{code(name)}`" if name else "", f"`{sha256}`" if sha256 else ""]
        for what, name, sha256 in evidence.facts()
    ]
    return f"### Evidence\n\nStamped when the gate judged:\n\n{table(['what', 'id', 'sha256'], cells)}"


def _loading_code(version: ModelVersion, adapter: Adapter) -> str:
    turns = [("system", version.system_prompt)] if version.system_prompt else []
    turns.append(("user", _QUESTION))
    messages = "\n".join(f'    {{"role": "{role}", "content": {_literal(text)}}},' for role, text in turns)
    load = _WHOLE if adapter.model else _peft_code(adapter.base)
    return load + _ANSWER.format(messages=messages, max_tokens=_max_tokens(version))


def _peft_code(base: BaseModelInfo) -> str:
    own = base.chat_template is None
    label = without_controls(base.label) + ("" if own else f", with the {base.chat_template} template")
    code = _PEFT.format(base=_literal(base.origin_path or base.path), label=label)
    if own:
        return code
    imports = code.replace("from peft", "from pathlib import Path\n\nfrom peft", 1)
    return imports.replace("AutoTokenizer\n", "AutoTokenizer, GenerationConfig\n", 1) + _TEMPLATE.lstrip("\n")


def _openai_code(version: ModelVersion) -> str:
    return _OPENAI.format(
        model=_literal(version.ref), question=_literal(_QUESTION), max_tokens=_max_tokens(version)
    )


def _max_tokens(version: ModelVersion) -> int:
    return (version.config.get("evaluate") or {}).get("max_new_tokens") or 64


def _ordered(baselines: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    return sorted(baselines.items(), key=lambda item: subject_order(item[0]))


def _literal(text: str) -> str:
    """Return a Python string literal in double quotes, as the rest of the code has them."""
    escaped = repr(text)[1:-1]
    if repr(text)[0] == "'":
        escaped = escaped.replace("\\'", "'").replace('"', '\\"')
    return f'"{escaped}"'
