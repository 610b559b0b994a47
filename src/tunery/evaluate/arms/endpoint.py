"""A model behind an endpoint, asked the test rows: paid for once, failures counted as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunery.core.engine import FinishReason, Tokenizer
from tunery.core.example import Example
from tunery.core.ids import canonical_json, sha256_text
from tunery.endpoint.ask import Asking, ask_all
from tunery.endpoint.budget import Limits
from tunery.endpoint.client import Turns
from tunery.endpoint.journal import Journal, PaidAnswer
from tunery.endpoint.requests import sampling
from tunery.evaluate.arms.config import EndpointArm
from tunery.evaluate.ask import Completions
from tunery.evaluate.kept import Answer
from tunery.evaluate.prompting import Prompting, Subject, base_prompt, draw_shots
from tunery.evaluate.task import Task


def endpoint_subject(
    name: str, config: EndpointArm, task: Task, train: Sequence[Example], tokenizer: Tokenizer
) -> Subject:
    """Return a model behind an endpoint as a subject, asked as the prompted baselines are.

    Args:
        name: What the recipe calls it.
        config: Where it is and how it is asked.
        task: What is asked.
        train: Where solved examples come from.
        tokenizer: Of the recipe's base; measures how long solved examples are.

    Raises:
        ConfigError: Solved examples are wanted and there is none to show.
    """
    settings = task.config.baseline
    if config.system_prompt is not None:
        settings = settings.model_copy(update={"system_prompt": config.system_prompt})
    prompting = base_prompt(settings, task)
    if config.shots:
        drawn = settings.model_copy(update={"shots": config.shots})
        prompting = replace(
            prompting, shots=draw_shots(train, task.examples, settings=drawn, tokenizer=tokenizer)
        )
    about = {"arm": "endpoint", "model": config.model, "base_url": config.base_url, **sampling(config)}
    base = f"{config.model}@{config.host}"
    return Subject(name, base, prompting=prompting, engine=about, perplexity=False)


def ask_endpoint(
    config: EndpointArm, task: Task, subject: Subject, folder: Path, asking: Asking
) -> Completions:
    """Ask a model behind an endpoint every question; what an earlier call paid for is not asked again.

    What times out, is turned away or brings garbage is tried again as the settings say; then, or once the
    budget is spent, the row counts as answered wrongly, with the reason.

    Args:
        config: Who answers.
        task: The questions.
        subject: How they are put.
        folder: Keeps what was paid for.
        asking: Clock, progress and stop.

    Raises:
        ConfigError: The endpoint refuses for a reason that only the user can mend.
        ResourceError: The account is empty.
        BusyError: Another process is asking it.
    """
    who = sha256_text(canonical_json([config.base_url, config.model, sampling(config)]))[:16]
    folder.mkdir(parents=True, exist_ok=True)
    requests = {e.id: turns_of(subject.prompting, e) for e in task.examples}
    asking = replace(asking, limits=Limits(config.budget_tokens, config.budget_usd))
    with Journal(folder / f"{who}.jsonl", who) as journal:
        came = ask_all(config, requests, journal, what=f"{subject.name}: answering", asking=asking)
    answers = tuple(
        _answer(came.found[e.id]) if e.id in came.found else Answer("", "error", 0, 0, 0.0, came.failed[e.id])
        for e in task.examples
    )
    paid = came.found.values()
    tokens = sum(a.prompt_tokens + a.completion_tokens for a in paid)
    known = config.price_prompt is not None and config.price_completion is not None
    usd = sum(config.usd(a.prompt_tokens, a.completion_tokens) for a in paid) if known else None
    return Completions(answers, {}, tokens, usd=usd)


def turns_of(prompting: Prompting, example: Example) -> Turns:
    """Return what an endpoint is sent for a question."""
    return [{"role": turn.role, "content": turn.content} for turn in prompting.conversation(example)]


def _answer(paid: PaidAnswer) -> Answer:
    finish: FinishReason = "length" if paid.finish == "length" else "stop"
    return Answer(paid.text, finish, paid.prompt_tokens, paid.completion_tokens, paid.latency_ms or 0.0)
