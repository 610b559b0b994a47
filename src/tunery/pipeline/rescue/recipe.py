"""A recipe that takes an old model's place: its data, its settings as far as they carry over, its gate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.core.figures import counted, one_line, percent
from tunery.core.tool_text import NotACall, functions_of, read_answer, with_words, words_of
from tunery.data.conversations.messages import check_conversation, parse_messages
from tunery.data.rows.row import BadRow, UnusableRow
from tunery.evaluate.arms.answers import turns_key
from tunery.inspect.json_answers import json_value
from tunery.pipeline.doctor.first_recipe import model_name, recipe_text
from tunery.pipeline.rescue.holdout import LEAST
from tunery.pipeline.rescue.prompts import FEW_LABELS, answered, is_short, known_prompts
from tunery.pipeline.rescue.requests import calls_of
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Portion, RecordedPrompt, Recording, SourceJob
from tunery.text.pii.mask import mask

TrainOn = Literal["owner", "recorded"]
OLD = "old"
"""Name of the arm that the old model's recorded answers are."""
RECIPE = "recipe.yaml"
_LONGEST = 400
"""Of a comment; what a source says may be long, and must not end the line [characters]."""
_SHOTS = 8
"""Solved examples before each question to a successor [count]."""


class Choices(NamedTuple):
    """What the user decides."""

    base: str
    train_on: TrainOn = "owner"
    """Whose answer a row trains on where its owner gave one: theirs, or the old model's."""
    margin: float = 0.02
    """How much worse than the old model ours may be."""
    successor: Mapping[str, Any] | None = None
    """Endpoint of a model that is offered in its place, measured with and without examples; None for none."""


class Drafted(Record):
    """A recipe that was written."""

    model: str
    name: str
    """Ours."""
    path: Path
    rows: Mapping[Portion, int]
    """Written [count]."""
    owner: int
    """Training rows with their owner's answer [count]."""
    recorded: int
    """Training rows with the old model's answer [count]."""
    measures: Literal["truth", "agreement"]
    """Whether the hold-out has its owners' answers to be right or wrong by, or the old model's alone."""
    metric: str
    reasons: tuple[str, ...]
    """What carried over from the job and what did not, a sentence each."""


def draft(folder: RescueFolder, model: str, job: SourceJob | None, settings: Choices) -> Drafted:
    """Write a recipe and its files into the model's folder, in place of what was there.

    Args:
        folder: Of the rescue.
        model: The old one.
        job: That made it, None where it is not known.
        settings: What the user decides.

    Raises:
        ConfigError: Too little is recorded.
    """
    on_owner = settings.train_on == "owner"
    recordings = {recording.id: recording for recording in folder.answers(model)}
    kept = {id: r for id, r in recordings.items() if answered(r) and r.finish != "length"}
    parts: dict[Portion, list[RecordedPrompt]] = {"train": [], "validation": [], "holdout": []}
    unread = 0
    for prompt in {**{each.id: each for each in known_prompts(folder, model)}, **recordings}.values():
        owned = prompt.portion != "holdout" and on_owner and prompt.truth is not None
        if not owned and prompt.id not in kept:
            continue
        one = prompt if owned else kept[prompt.id]  # its owner's answer needs none of the old model's
        if is_readable(_row(one, truth=owned)):
            parts[prompt.portion].append(one)
        else:
            unread += 1
    held = [kept[prompt.id] for prompt in parts["holdout"]]
    if len(held) < LEAST or not parts["train"]:
        raise ConfigError(
            f"{counted(len(parts['train']), 'row')} to train on and {len(held)} held out are too few; "
            f"at least {LEAST} must be held out",
            hint=f"{command(folder.name, 'record', model)} --prompts FILE, with more prompts",
        )
    with_truth = [recording for recording in held if recording.truth is not None]
    by_truth = 2 * len(with_truth) >= len(held)
    held = with_truth if by_truth else held
    parts["holdout"] = list(held)
    references = [_reference(r, truth=by_truth) for r in held]
    metrics = metrics_of(references)
    metric = metrics[0]
    place = folder.make(folder.of_model(model))
    for portion, rows in parts.items():
        truth = by_truth if portion == "holdout" else on_owner
        folder.write_lines(place / f"{portion}.jsonl", (_row(each, truth=truth) for each in rows))
    folder.write_lines(place / "old-answers.jsonl", _old_answers(held))
    reasons = [
        *_settings_of(job),
        *_left_out(recordings.values(), kept, unread),
        _grounds(held, settings.margin, by_truth=by_truth),
        *_asked_there(settings.successor, len(held)),
    ]
    values = {
        "name": _name(model, job),
        "description": f"Takes the place of {model}.",
        "goal": {"metric": metric},
        "base": settings.base,
        "data": {"sources": _sources(parts)},
        "train": _training(job),
        "evaluate": _evaluate(references, metric, settings.successor),
        "gate": {"rules": [_rule(settings.margin, each, by_truth=by_truth) for each in metrics]},
    }
    text = "".join(f"# {one_line(line, _LONGEST)}\n" for line in reasons) + recipe_text(values)
    path = folder.write_text(place / RECIPE, text)
    owner = sum(r.truth is not None for r in parts["train"]) if on_owner else 0
    return Drafted(
        model=model,
        name=values["name"],
        path=path,
        rows={portion: len(rows) for portion, rows in parts.items()},
        owner=owner,
        recorded=len(parts["train"]) - owner,
        measures="truth" if by_truth else "agreement",
        metric=metric,
        reasons=tuple(reasons),
    )


def metrics_of(references: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics by which answers like these are compared, the one that decides first.

    Calls are compared by name and arguments. Where some answers call and others do not, the others' words
    count, too: to a metric of calls any answer without one is as good as another.
    """
    words = [text for text in references if not read_answer(text).calls]
    if not words:
        return ("tool_call",)
    if all(isinstance(json_value(text.strip()), dict) for text in words):
        metric = "field_match"
    else:
        metric = "exact_match" if all(map(is_short, words)) else "token_f1"
    if len(words) == len(references):
        return (metric,)
    metric = "token_f1"  # rows that call are in it with the words of their calls
    return ("tool_call", metric) if 2 * len(words) < len(references) else (metric, "tool_call")


class _Row(Record):
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()


def is_readable(row: _Row) -> bool:
    """Tell whether a dataset takes a row; one that it does not would have it refuse the whole file."""
    try:
        messages = parse_messages(list(row.messages), "messages")
        check_conversation(messages, "messages")
        functions_of(list(row.tools))
    except (BadRow, UnusableRow, NotACall):
        return False
    return True


class _Answer(Record):
    messages: tuple[Mapping[str, Any], ...]
    answer: str


def _reference(prompt: RecordedPrompt, *, truth: bool) -> str:
    if truth and prompt.truth is not None:
        return prompt.truth
    return (answered(prompt) or "") if isinstance(prompt, Recording) else ""


def _row(prompt: RecordedPrompt, *, truth: bool) -> _Row:
    said = read_answer(_reference(prompt, truth=truth))
    turn: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.calls:
        turn["content"] = said.text or None
        turn["tool_calls"] = calls_of(said.calls)
    return _Row(messages=(*prompt.messages, turn), tools=prompt.tools)


def _old_answers(held: Iterable[Recording]) -> Iterator[_Answer]:
    """Yield the recorded answers with what was asked, as it is and as it reads once personal data is masked.

    Prompts that come to the same once they are masked are compared with the first one's answer.
    """
    there: set[str] = set()
    for recording in held:
        asked = parse_messages(list(recording.messages), "messages")
        answer = Message(role="assistant", content=answered(recording) or "")
        *hidden, masked = (with_words(turn, mask(words_of(turn)).texts) for turn in (*asked, answer))
        for turns in (asked, hidden):
            if (key := turns_key((turn.role, turn.content) for turn in turns)) not in there:
                there.add(key)
                messages = tuple({"role": turn.role, "content": turn.content} for turn in turns)
                yield _Answer(messages=messages, answer=masked.content)


def _sources(parts: Mapping[Portion, Sequence[RecordedPrompt]]) -> list[dict[str, str]]:
    named = {"train": "train", "validation": "validation", "holdout": "test"}
    return [{"path": f"{part}.jsonl", "split": named[part]} for part, rows in parts.items() if rows]


def _training(job: SourceJob | None) -> dict[str, Any]:
    settings = job.hyperparameters if job else {}
    carried = {"epochs": settings.get("n_epochs"), "batch_size": settings.get("batch_size")}
    found: dict[str, Any] = {
        name: value
        for name, value in carried.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1000
    }
    # A whole batch of a large provider may be longer than all rows of a short epoch here.
    if "batch_size" in found:
        found["batch_size"] = max(1, min(64, int(found["batch_size"])))
    if job and job.seed is not None and 0 <= job.seed < 2**31:
        found["seed"] = job.seed
    return {"method": "sft", **found}


def _left_out(recordings: Iterable[Recording], kept: Mapping[str, Recording], unread: int) -> Iterable[str]:
    if lost := sum(recording.id not in kept for recording in recordings):
        yield f"{counted(lost, 'recording')} left out: empty, cut short, or a call that is no JSON."
    if unread:
        yield f"{counted(unread, 'row')} left out: images, sound or turns that cannot be trained on here."


def _settings_of(job: SourceJob | None) -> Iterable[str]:
    if job is None:
        yield "The old model's job is not known; training has its defaults."
        return
    own = job.hyperparameters
    yield f"From {job.id}, {job.method} on {job.base}."
    if job.method != "supervised":
        yield (
            f"method: sft on answers; what {job.method} taught the old model is in its recorded answers, "
            "so --train-on recorded carries it over."
        )
    for name, ours in (("n_epochs", "epochs"), ("batch_size", "batch_size")):
        value = own.get(name)
        carried = isinstance(value, (int, float)) and not isinstance(value, bool)
        yield f"{name} {value}: " + (
            f"carried over as {ours}." if carried else "not a number; the default here."
        )
    yield (
        f"learning_rate_multiplier {own.get('learning_rate_multiplier')}: not carried over, what it "
        "multiplies is not published; the default here is a LoRA's."
    )
    yield f"seed {job.seed}: as it was; it draws other weights here."


def _evaluate(references: Sequence[str], metric: str, successor: Mapping[str, Any] | None) -> dict[str, Any]:
    longest = max(len(text.encode()) for text in references)
    found: dict[str, Any] = {
        "max_new_tokens": min(2048, max(16, 8 * -(-longest // 16))),
        "arms": {OLD: {"answers": "old-answers.jsonl"}},
        "baseline": {"perplexity": False},
    }
    if successor is not None:
        found["arms"] |= {"successor": dict(successor), "successor-few": {**successor, "shots": _SHOTS}}
    if metric == "exact_match" and len(set(references)) <= FEW_LABELS:
        found["suites_off"] = "it gives one of a few short answers, as the old model did"
    return found


def _rule(margin: float, metric: str, *, by_truth: bool) -> dict[str, Any]:
    if by_truth:
        return {"metric": metric, "no_worse_than": OLD, "within": margin}
    return {"metric": metric, "at_least": round(1.0 - margin, 4), "ci": True}


def _grounds(held: Sequence[Recording], margin: float, *, by_truth: bool) -> str:
    rows = counted(len(held), "held-out prompt")
    if by_truth:
        return (
            f"gate: on {rows} with their owners' answers, ours must be shown to be no worse than the old "
            f"model by more than {100 * margin:g} points: by the interval of the paired difference."
        )
    return (
        f"gate: most of {rows} have no answer of their owners', so agreement with the old model is "
        f"measured, right or wrong; it must be shown to be at least {percent(1 - margin)}."
    )


def _asked_there(successor: Mapping[str, Any] | None, rows: int) -> Iterator[str]:
    if successor is not None:
        yield (
            f"successor: the run asks {successor['model']} {counted(2 * rows, 'request')}, billed there; "
            "evaluate.arms.successor.budget_tokens and that of successor-few cap them."
        )


def _name(model: str, job: SourceJob | None) -> str:
    suffix = (job.suffix if job else None) or (model.split(":")[3] if model.count(":") >= 4 else "")
    return model_name(Path(suffix or f"rescued-{model.rsplit(':', 1)[-1]}"))
