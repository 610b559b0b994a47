"""The old model's answers, bought once each: golden answers, with log-probabilities where it gives them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, ConflictError
from tunery.core.ids import canonical_json, sampling_key, sha256_text
from tunery.endpoint.ask import Answers, Asking, ask_all, key_of
from tunery.endpoint.client import Line, prompt_ceiling
from tunery.endpoint.config import EndpointConfig, MaxTokensField
from tunery.endpoint.journal import Journal, PaidAnswer
from tunery.pipeline.rescue.prompts import answered, is_short, same_answer
from tunery.pipeline.rescue.requests import answers_kept
from tunery.rescue.folder import RECORDINGS, RescueFolder
from tunery.rescue.records import Portion, RecordedPrompt, Recording, Scope
from tunery.rescue.source import Source

JOURNAL = "journal.jsonl"
_SETTINGS = "recording.json"
_REPEATS = 20
"""Prompts that are asked a second time, which shows how much the old model disagrees with itself [count]."""
_LOGPROBS: Mapping[str, Any] = {"logprobs": True, "top_logprobs": 5}
_SEED = 17
SURE = 0.9
"""Probability from which an answer leaves no doubt worth speaking of."""
_PROMPT_FIELDS = tuple(RecordedPrompt.model_fields)


class RecordingSettings(Record):
    """How answers are drawn; the same for all answers of a model."""

    max_tokens: int = 1024
    """Longest answer [tokens]."""
    logprobs: bool = True
    """Whether log-probabilities are requested; not of a source that refused them."""


class Estimate(Record):
    """What a recording will take at most, before anything is sent."""

    requests: int
    """Still to be answered [count]."""
    tokens: int
    """Of prompts, one a byte, and of answers of the longest length [count]."""
    likely_tokens: int
    """With prompts of four bytes a token and answers as long as earlier ones, else their owners' [count]."""
    usd: float | None
    """What :attr:`tokens` cost; None where no prices are given [US dollars]."""
    likely_usd: float | None


class Recorded(Record):
    """What is recorded of a model."""

    model: str
    prompts: Mapping[Portion, int]
    """Drawn [count]."""
    answers: Mapping[Portion, int]
    """Recorded [count]."""
    bought: int
    """Answers that this call paid for [count]."""
    failed: Mapping[str, int]
    """Why prompts have no answer, to how many [count]."""
    lost: int
    """Tokens of requests that a kill left without a known end, at their ceiling [count]."""
    tokens: int
    """Spent by all calls together, what was lost included [count]."""
    usd: float | None
    """What they cost; None where no prices are given [US dollars]."""
    logprobs: bool
    truths: int
    """Answers whose prompt came with its owner's own [count]."""
    right: int
    """Of these, those that say the same but for case and spacing, or make the same calls [count]."""
    repeated: int
    """Prompts that were asked twice [count]."""
    same: int
    """Of these, those that were answered alike [count]."""
    cut: int
    """Answers that the limit of tokens ended [count]."""
    tool_calls: int
    """Answers that call tools [count]."""
    max_tokens_field: MaxTokensField = "max_tokens"
    """What the source was found to call the limit of an answer."""
    sure: int = 0
    """Answers of a word or a label whose probability is known and at least :data:`SURE` [count]."""
    unsure: int = 0
    """Those below it: where the old model's own doubt says more than its answer [count]."""
    given: int = 0
    """Answers of the time when it was forwarded to, which cost nothing here [count]."""
    left_out: tuple[str, ...] = ()
    """Rows and stored completions that could not be understood: where each is, and what is wrong."""
    skipped: Mapping[str, int] = {}
    """Why requests of this server's log were not taken, to how many [count]."""


def endpoint_of(scope: Scope, model: str, **settings: Any) -> EndpointConfig:
    """Return the old model as an endpoint; its key comes from the scope."""
    return EndpointConfig(base_url=scope.base_url, model=model, **settings)


def estimate(
    folder: RescueFolder, config: EndpointConfig, prompts: Sequence[RecordedPrompt], most: int
) -> Estimate:
    """Return what is still to be bought, the repeats included.

    Args:
        folder: Of the rescue.
        config: The old model, with its prices.
        prompts: Drawn.
        most: Longest answer [tokens].
    """
    there = {recording.id: recording.completion_tokens for recording in folder.answers(config.model)}
    given = {recording.id for recording in answers_kept(folder, config.model)}
    prompts = [prompt for prompt in prompts if prompt.id not in given]
    left = [prompt for prompt in prompts if prompt.id not in there]
    asked = [*left, *(prompt for prompt in _repeats(prompts) if left)]
    ceilings = [prompt_ceiling([*p.messages, _fields(p)]) for p in asked]
    known = there.values() if len(there) >= _REPEATS else ()
    lengths = sorted(known or (len(p.truth.encode()) // 4 + 1 for p in asked if p.truth))
    usual = min(most, lengths[len(lengths) // 2] if lengths else most)
    priced = config.price_prompt is not None and config.price_completion is not None
    likely = sum(ceilings) // 4
    return Estimate(
        requests=len(asked),
        tokens=sum(ceilings) + most * len(asked),
        likely_tokens=likely + usual * len(asked),
        usd=config.usd(sum(ceilings), most * len(asked)) if priced else None,
        likely_usd=config.usd(likely, usual * len(asked)) if priced else None,
    )


def record(
    folder: RescueFolder,
    scope: Scope,
    config: EndpointConfig,
    prompts: Sequence[RecordedPrompt],
    asking: Asking,
) -> Recorded:
    """Have the old model answer every prompt at temperature 0; what was paid for is not asked again.

    Nor is what it answered while it was forwarded to (:mod:`tunery.pipeline.rescue.requests`): that answer is
    the recording. Every answer is on disk before the next step. A request that a kill leaves behind is asked
    again, for nobody knows whether it was billed; it counts as spent, at its ceiling.

    Args:
        folder: Of the rescue; ``recordings.jsonl`` of the model is written, whole.
        scope: Whose model it is.
        config: The model, how fast it may be asked, its prices.
        prompts: Drawn; those of the hold-out too, whose answers are what ours is compared with.
        asking: Budget, clock, progress and stop.

    Raises:
        ConflictError: Answers were recorded with another limit of tokens.
        ConfigError: The source refuses the key or a request.
        ResourceError: The account is empty, or the source was given up.
        BusyError: Another process records the same model.
        KeyboardInterrupt: It was to stop; what was paid for is kept.
    """
    place = folder.make(folder.of_model(config.model))
    asking = replace(asking, line=lambda: _line(scope))
    identity = sha256_text(canonical_json([config.base_url, config.model]))[:16]
    (place / JOURNAL).touch(mode=0o600)
    given = {each.id: each for each in answers_kept(folder, config.model)}
    left = [prompt for prompt in prompts if prompt.id not in given]
    with Journal(place / JOURNAL, identity) as journal:
        _check_length(folder, place, config, journal)
        try:
            came = _bought(folder, place, config, left, journal, asking)
        except ConfigError as error:
            if error.param == "api_key_env":
                key = scope.api_key_env or scope.api_key_file or "the scope's settings"
                raise ConfigError(error.message, hint=f"check the key in {key}", param="api_key") from None
            raise
        finally:
            # Whatever ended the call: what is paid for is what the next step finds.
            there = _kept(_config(config, _settings(folder, place, config)), prompts, given, journal)
            kept = _written(folder, place / RECORDINGS, there)
        found = _recorded(config, prompts, kept, came, journal)
        return found.with_(given=sum(each.id in given for each in kept))


def note_field(folder: RescueFolder, scope: Scope, field: MaxTokensField) -> None:
    """Keep what a source calls the limit of an answer, so that whatever asks it next knows.

    Raises:
        ResourceError: The inventory cannot be written.
    """
    there = folder.inventory()
    told = scope.model_copy(update={"max_tokens_field": field})
    scopes = [told if one.name == scope.name else one for one in there.scopes]
    folder.write("inventory.json", there.with_(scopes=tuple(scopes)))


class _Came(NamedTuple):
    """What a call brought."""

    first: Answers
    again: Answers
    """To the prompts that were put a second time."""
    bought: int
    """Answers that were paid for in it [count]."""


def _bought(
    folder: RescueFolder,
    place: Path,
    config: EndpointConfig,
    prompts: Sequence[RecordedPrompt],
    journal: Journal,
    asking: Asking,
) -> _Came:
    """Buy what is missing, without log-probabilities where the source refuses them from the beginning."""
    before, what = journal.answers, f"answers of {config.model}"
    # What a budget does not reach is then the rows that could train without the old model's answer.
    in_order = sorted(prompts, key=lambda prompt: prompt.portion != "holdout")
    asking = _with_fields(asking, in_order)
    settings = _settings(folder, place, config)
    folder.write(place / _SETTINGS, settings)
    try:
        first = ask_all(_config(config, settings), _turns(in_order), journal, what=what, asking=asking)
    except ConfigError as error:
        if "logprobs" not in error.message or journal.answers or not settings.logprobs:
            raise
        settings = settings.with_(logprobs=False)
        folder.write(place / _SETTINGS, settings)
        first = ask_all(_config(config, settings), _turns(in_order), journal, what=what, asking=asking)
    twice = _repeats([prompt for prompt in in_order if prompt.id in first.found])
    seeded = _with_fields(asking, twice, {"seed": _SEED + 1})
    config = config.model_copy(update={"max_tokens_field": first.max_tokens_field})
    again = ask_all(
        _config(config, settings),
        _turns(twice),
        journal,
        what=f"{len(twice)} of them a second time",
        asking=seeded,
    )
    return _Came(first, again, journal.answers - before)


def _config(config: EndpointConfig, settings: RecordingSettings) -> EndpointConfig:
    extra = {"seed": _SEED, **(_LOGPROBS if settings.logprobs else {})}
    return config.model_copy(update={"temperature": 0.0, "max_tokens": settings.max_tokens, "extra": extra})


def _settings(folder: RescueFolder, place: Path, config: EndpointConfig) -> RecordingSettings:
    path = place / _SETTINGS
    if not path.is_file():
        return RecordingSettings(max_tokens=config.max_tokens)
    return folder.read(path, RecordingSettings)


def _check_length(folder: RescueFolder, place: Path, config: EndpointConfig, journal: Journal) -> None:
    settings = _settings(folder, place, config)
    most = settings.max_tokens
    if not journal.answers:
        folder.write(place / _SETTINGS, settings.with_(max_tokens=config.max_tokens))
    elif most != config.max_tokens:
        raise ConflictError(
            f"answers were recorded with at most {most} tokens each, not {config.max_tokens}",
            hint=f"--max-tokens {most}, or move {place} away to record everything anew",
        )


def _line(scope: Scope) -> Line:
    source = Source(scope)
    return Line(source.client, source.safe)


def _turns(prompts: Iterable[RecordedPrompt]) -> dict[str, Any]:
    return {prompt.id: prompt.messages for prompt in prompts}


def _fields(prompt: RecordedPrompt) -> dict[str, Any]:
    return {"tools": list(prompt.tools)} if prompt.tools else {}


def _with_fields(
    asking: Asking, prompts: Iterable[RecordedPrompt], more: Mapping[str, Any] | None = None
) -> Asking:
    fields = {prompt.id: {**_fields(prompt), **(more or {})} for prompt in prompts}
    return replace(asking, fields={id: own for id, own in fields.items() if own})


def _repeats(prompts: Sequence[RecordedPrompt]) -> list[RecordedPrompt]:
    return sorted(prompts, key=lambda prompt: sampling_key(_SEED, "repeat", prompt.id))[:_REPEATS]


def _kept(
    config: EndpointConfig,
    prompts: Sequence[RecordedPrompt],
    given: Mapping[str, Recording],
    journal: Journal,
) -> Iterator[Recording]:
    """Yield the answers there are: those bought, and of prompts that were not asked those of the log."""
    for prompt in prompts:
        answer = journal.whole(key_of(config, prompt.messages, _fields(prompt)))
        if answer is not None:
            yield _recording(prompt, config.model, answer)
        elif prompt.id in given:
            # What a prompt is for, and its owner's answer, is what the newest list of prompts says.
            yield given[prompt.id].with_(**{key: getattr(prompt, key) for key in _PROMPT_FIELDS})


def _written(folder: RescueFolder, file: Path, recordings: Iterable[Recording]) -> list[Recording]:
    """Write recordings, and return them without most of their log-probabilities, which would fill memory."""
    kept: list[Recording] = []

    def passing() -> Iterator[Recording]:
        for one in recordings:
            few = one.logprobs if is_short(one.answer) else one.logprobs[:1]
            kept.append(
                one.model_copy(update={"logprobs": tuple({"logprob": t.get("logprob")} for t in few)})
            )
            yield one

    folder.write_lines(file, passing())
    return kept


def _recording(prompt: RecordedPrompt, model: str, paid: PaidAnswer) -> Recording:
    return Recording(
        **prompt.model_dump(),
        model=model,
        answer=paid.text,
        tool_calls=tuple(paid.tool_calls or ()),
        finish=paid.finish,
        logprobs=tuple(paid.logprobs or ()),
        at=datetime.fromisoformat(paid.at),
        prompt_tokens=paid.prompt_tokens,
        completion_tokens=paid.completion_tokens,
        usd=paid.usd,
    )


def likelihood(recording: Recording) -> float:
    """Return the probability that the old model gave its answer, in [0, 1].

    The end of the answer is no token of it, so this is that of an answer that begins so.
    """
    found = [token.get("logprob") for token in recording.logprobs]
    return math.exp(min(0.0, sum(each for each in found if isinstance(each, (int, float)))))


def _said(paid: PaidAnswer) -> list[Any]:
    """Return what an answer says and calls; the ids of calls differ each time."""
    return [paid.text, *(call.get("function") for call in paid.tool_calls or ())]


def _recorded(
    config: EndpointConfig,
    prompts: Sequence[RecordedPrompt],
    kept: Sequence[Recording],
    came: _Came,
    journal: Journal,
) -> Recorded:
    priced = config.price_prompt is not None and config.price_completion is not None
    with_truth = [recording for recording in kept if recording.truth is not None]
    both = [id for id in came.again.found if id in came.first.found]
    likely = [likelihood(r) for r in kept if r.logprobs and not r.tool_calls and is_short(r.answer)]
    return Recorded(
        model=config.model,
        prompts=Counter(prompt.portion for prompt in prompts),
        answers=Counter(recording.portion for recording in kept),
        bought=came.bought,
        failed=Counter(came.first.failed.values()),
        lost=journal.lost.tokens,
        tokens=journal.spent.tokens,
        usd=journal.spent.usd if priced else None,
        logprobs=any(recording.logprobs for recording in kept),
        truths=len(with_truth),
        right=sum(same_answer(answered(r), r.truth) for r in with_truth),
        repeated=len(both),
        same=sum(_said(came.again.found[id]) == _said(came.first.found[id]) for id in both),
        cut=sum(recording.finish == "length" for recording in kept),
        tool_calls=sum(bool(recording.tool_calls) for recording in kept),
        max_tokens_field=came.first.max_tokens_field,
        sure=sum(each >= SURE for each in likely),
        unsure=sum(each < SURE for each in likely),
    )
