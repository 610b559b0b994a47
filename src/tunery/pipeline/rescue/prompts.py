"""What an old model is asked again: prompts of files and logs, the hold-out drawn before the first answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.config import NonEmpty, Record
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.ids import canonical_json, sampling_key, sha256_text
from tunery.evaluate.readers.files import load
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Inventory, Portion, RecordedPrompt, SourceJob
from tunery.text.minhash import SimilarPair, close_to, similar_pairs
from tunery.text.sameness import fingerprint

PROMPTS = "prompts.jsonl"
NEAR = 0.7
"""Likeness from which two prompts serve the same purpose, as `group_threshold` of datasets has it."""
_QUESTIONS = ("prompt", "question", "input", "query", "text")
_TRUTHS = ("completion", "answer", "output", "response", "label", "ideal")
_ORDER: Sequence[Portion] = ("train", "validation", "holdout")


class HoldOut(Record):
    """How much is held out."""

    share: float = 0.1
    """Of the prompts, within the two limits."""
    at_least: int = 200
    at_most: int = 1000
    seed: int = 17


class FoundPrompt(NamedTuple):
    """A prompt before it is known what it is for."""

    origin: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    truth: str | None = None

    @property
    def id(self) -> str:
        """Hash of all that the model reads."""
        return sha256_text(canonical_json([list(self.messages), list(self.tools)]))[:24]

    @property
    def text(self) -> str:
        """What tells it from others: every turn but the instruction that all share."""
        return _told(self.messages)

    @property
    def beginnings(self) -> Iterator[str]:
        """Texts of the prompts that it goes on from: their answers stand in it, so it trains on them."""
        for place, turn in enumerate(self.messages[:-1], 1):
            if turn.get("role") == "user" and self.messages[place].get("role") == "assistant":
                yield _told(self.messages[:place])


_INSTRUCTING = frozenset({"system", "developer"})


class PromptFile(Record):
    """A file of prompts."""

    path: Path
    origin: NonEmpty


def _told(turns: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(text_of(turn) for turn in turns if turn.get("role") not in _INSTRUCTING)


def text_of(turn: Mapping[str, Any]) -> str:
    """Return the words of a turn, whichever shape its content has; other parts count as they are."""
    content = turn.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(str(part.get("text") or canonical_json(part)) for part in content)
    return canonical_json(turn.get("tool_calls") or "")


def job_sources(folder: RescueFolder, job: SourceJob | None) -> list[PromptFile]:
    """Return the files of a job that are here."""
    named = [(job.training_file, "training_file"), (job.validation_file, "validation_file")] if job else []
    here = [(folder.file(id), origin) for id, origin in named if id]
    return [PromptFile(path=path, origin=origin) for path, origin in here if path.is_file()]


def job_of(inventory: Inventory, model: str) -> SourceJob | None:
    """Return the job that made a model, None where none that could be listed did.

    Raises:
        NotFoundError: The inventory has no such model.
    """
    found = next((each for each in inventory.models if each.id == model), None)
    if found is None:
        raise NotFoundError.of("fine-tuned model", model, [each.id for each in inventory.models])
    return next((job for job in inventory.jobs if job.id == found.job_id), None)


def read_prompts(source: PromptFile) -> Iterator[FoundPrompt]:
    """Yield the prompts of a file in any form that trains: chat, preference, prompt and completion, columns.

    Raises:
        ConfigError: It cannot be read, or has rows without a prompt; lists the first by number.
    """
    problems: list[str] = []
    for number, row in load(source.path, problems):
        asked = prompt_of(row, source.origin) if isinstance(row, Mapping) else None
        if asked is None:
            problems.append(f"row {number}: no prompt found in it")
        else:
            yield asked
    if problems:
        raise ConfigError.of_problems(str(source.path), problems, limit=20)


def prompt_of(row: Mapping[str, Any], origin: str) -> FoundPrompt | None:
    """Return what a row asks, with its last answer as what its owner wrote; None where it asks nothing."""
    inner = row["input"] if isinstance(row.get("input"), Mapping) else row
    messages = inner.get("messages")
    tools = tuple(t for t in inner.get("tools") or () if isinstance(t, Mapping))
    truth: Any = None
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, Mapping)]
        if len(turns) < len(messages):
            return None
        if turns and turns[-1].get("role") == "assistant":
            truth = turns.pop().get("content")
        preferred = row.get("preferred_output")
        if isinstance(preferred, list) and preferred and isinstance(preferred[-1], Mapping):
            truth = preferred[-1].get("content")
        # ``weight`` and the like train; they are nothing that a model is asked with.
        turns = [{k: v for k, v in turn.items() if k != "weight" and v is not None} for turn in turns]
    else:
        question = next((row[key] for key in _QUESTIONS if isinstance(row.get(key), str)), None)
        turns = [{"role": "user", "content": question}] if question else []
    if truth is None:
        truth = next((row[key] for key in _TRUTHS if isinstance(row.get(key), str)), None)
    if not any(turn.get("role") == "user" for turn in turns):
        return None
    return FoundPrompt(origin, tuple(turns), tools, truth if isinstance(truth, str) else None)


def drawn_prompts(
    asked: Iterable[FoundPrompt], known: Sequence[RecordedPrompt], settings: HoldOut
) -> list[RecordedPrompt]:
    """Return every prompt once with what it is for; what was drawn before stays as it was.

    Prompts that resemble each other serve the same purpose, and so does a conversation's later prompt, in
    which the earlier one's answer stands: no held-out prompt's answer, nor its twin's, trains. A prompt that
    comes later and resembles one drawn before, or goes on from it, joins it.

    Args:
        asked: Prompts as found; of the same one, the first that has its owner's answer counts.
        known: Drawn before.
        settings: How much is held out of the new ones.
    """
    found: dict[str, FoundPrompt] = {}
    for each in asked:
        there = found.get(each.id)
        if there is None or (there.truth is None and each.truth is not None):
            found[each.id] = each
    before = {prompt.id for prompt in known}
    fresh = [each for id, each in found.items() if id not in before]
    roots = _groups(fresh)
    portions = _joined(known, fresh, roots)
    free: dict[int, int] = {}
    for root in roots:
        free[root] = free.get(root, 0) + (root not in portions)
    new = sum(free.values())
    wanted = min(max(round(settings.share * new), settings.at_least), settings.at_most, new // 2)
    wanted -= min(wanted, sum(prompt.portion == "holdout" for prompt in known) if known else 0)
    validating = {root for root, each in zip(roots, fresh, strict=True) if each.origin == "validation_file"}
    # Rows that were validated on and not trained on say more of how a model does on what it never saw.
    order = sorted(
        (root for root, count in free.items() if count),
        key=lambda root: (root not in validating, sampling_key(settings.seed, "holdout", fresh[root].id)),
    )
    for root in order:
        if wanted <= 0:
            break
        if free[root] <= max(wanted, settings.at_least // 10):
            portions[root] = "holdout"
            wanted -= free[root]
    for root in validating:
        portions.setdefault(root, "validation")
    return [
        *known,
        *(
            RecordedPrompt(
                id=each.id,
                portion=portions.get(root, "train"),
                origin=each.origin,
                messages=each.messages,
                tools=each.tools,
                truth=each.truth,
            )
            for root, each in zip(roots, fresh, strict=True)
        ),
    ]


def _groups(fresh: Sequence[FoundPrompt]) -> list[int]:
    """Return for each prompt the place of the first it belongs to: by likeness, or as what follows."""
    roots = list(range(len(fresh)))

    def root(place: int) -> int:
        while roots[place] != place:
            roots[place] = roots[roots[place]]
            place = roots[place]
        return place

    def join(one: int, other: int) -> None:
        first, second = root(one), root(other)
        roots[max(first, second)] = min(first, second)

    texts: dict[str, int] = {}
    for place, each in enumerate(fresh):
        first = texts.setdefault(fingerprint(each.text), place)
        roots[place] = first
    places = list(texts.values())
    for pair in similar_pairs(list(texts), NEAR):
        join(places[pair.first], places[pair.second])
    for place, each in enumerate(fresh):
        for beginning in each.beginnings:
            if (earlier := texts.get(fingerprint(beginning))) is not None:
                join(earlier, place)
    return [root(place) for place in range(len(fresh))]


def _joined(
    known: Sequence[RecordedPrompt], fresh: Sequence[FoundPrompt], roots: Sequence[int]
) -> dict[int, Portion]:
    """Return what groups are for that resemble a prompt drawn before, go on from it or begin it.

    Where several disagree the strictest counts.
    """
    if not known or not fresh:
        return {}
    before: dict[str, int] = {}
    begun: dict[str, int] = {}
    for prompt in sorted(known, key=lambda p: _ORDER.index(p.portion)):
        drawn, kind = FoundPrompt(prompt.origin, prompt.messages, prompt.tools), _ORDER.index(prompt.portion)
        before[fingerprint(drawn.text)] = kind
        begun |= {fingerprint(beginning): kind for beginning in drawn.beginnings}
    texts = [fingerprint(each.text) for each in fresh]
    near = close_to(list(before), texts, NEAR)
    kinds = list(before.values())
    pairs = [SimilarPair(*row) for row in zip(*(column.tolist() for column in near), strict=True)]
    strict: dict[int, int] = {}
    for pair in pairs:
        root = roots[pair.second]
        strict[root] = max(strict.get(root, 0), kinds[pair.first])
    for each, text, root in zip(fresh, texts, roots, strict=True):
        kin = [before.get(text), begun.get(text), *(before.get(fingerprint(b)) for b in each.beginnings)]
        for place in kin:
            if place is not None:
                strict[root] = max(strict.get(root, 0), place)
    return {root: _ORDER[kind] for root, kind in strict.items()}


def known_prompts(folder: RescueFolder, model: str) -> list[RecordedPrompt]:
    """Return the prompts drawn before.

    Raises:
        DamagedError: A line is no prompt.
    """
    return list(folder.lines(folder.of_model(model) / PROMPTS, RecordedPrompt))


def write_prompts(folder: RescueFolder, model: str, prompts: Sequence[RecordedPrompt]) -> None:
    """Write the prompts with what each is for, which later calls do not change.

    Raises:
        ResourceError: They cannot be written.
    """
    folder.write_lines(folder.of_model(model) / PROMPTS, prompts)
