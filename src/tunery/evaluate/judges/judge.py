"""A judge behind an endpoint: many verdicts at once, each paid for once, none silently missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.example import Message
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.judging import ANY_FORM, AnswerForm, NoAnswer
from tunery.endpoint.ask import OVER_BUDGET, Asking, ask_all
from tunery.endpoint.budget import Limits
from tunery.endpoint.client import Turns
from tunery.endpoint.config import EndpointConfig
from tunery.endpoint.journal import Journal
from tunery.evaluate.judges.config import JudgeConfig, JudgeKind
from tunery.evaluate.judges.prompts import AGAIN, prompt_version

_READINGS = 3
"""Answers that are looked at before a verdict counts as unreadable [count]."""
_PATIENCE = 24
"""Requests in a row without an answer after which the endpoint is given up [count]."""
_UNREADABLE = f"none of {_READINGS} answers could be read as a verdict"


def judge_key(config: JudgeConfig, kind: JudgeKind) -> str:
    """Return what tells one judge from another: model, endpoint, rubric, and every word it is shown."""
    return sha256_text(canonical_json([config.decides, kind, prompt_version(config, kind)]))[:16]


class EndpointJudge:
    """Answers conversations through an endpoint; what was paid for is in a journal and is not paid for again.

    It can be given to scorers as ``ScorerModels.judge``.

    Args:
        config: Who judges.
        folder: Where the journal is kept.
        of: What is judged, such as a dataset version: each has a journal and a budget of its own.
        asking: Clock, stop and progress; its limits and its patience are the judge's own.
    """

    def __init__(self, config: JudgeConfig, folder: Path, *, of: str, asking: Asking | None = None) -> None:
        self.config = config
        self.failed: dict[str, str] = {}
        """Key of each conversation without a readable answer to why it has none."""
        given = asking or Asking()
        self._asking = Asking(
            Limits(config.budget_tokens, config.budget_usd),
            given.now,
            given.should_stop,
            given.progress,
            _PATIENCE,
        )
        self._identity = sha256_text(canonical_json([config.decides, of]))[:32]
        self._journal = folder / f"{self._identity}.jsonl"
        self._answers: dict[str, str] = {}
        self._takes_forms = True

    def __call__(self, conversation: Sequence[Message]) -> str:
        """Return the answer to a conversation.

        Raises:
            NoAnswer: There is none after every attempt; says why.
            TuneryError: As :meth:`ask` says.
        """
        key = _key(conversation)
        if key not in self._answers and key not in self.failed:
            self.ask([conversation])
        if key in self.failed:
            raise NoAnswer(self.failed[key])
        return self._answers[key]

    def ask(self, conversations: Sequence[Sequence[Message]], form: AnswerForm = ANY_FORM) -> None:
        """Get the answers to many conversations at once.

        One that cannot be read is asked again with a word on the form. A conversation that no attempt
        brought a readable answer to is in ``failed`` with its reason.

        Raises:
            ConfigError: The endpoint refuses a request for a reason that only the user can mend.
            ResourceError: The endpoint does not answer, its account is empty, or the budget is spent.
            KeyboardInterrupt: It was to stop.
        """
        known = {**self._answers, **self.failed}
        asked = {_key(turns): [*turns] for turns in conversations}
        waiting: dict[str, list[Message]] = {k: turns for k, turns in asked.items() if k not in known}
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        for reading in range(1, _READINGS + 1):
            if not waiting:
                return
            unread: dict[str, list[Message]] = {}
            for key, text in self._answered(waiting, form).items():
                if form.readable(text):
                    self._answers[key] = text
                elif reading == _READINGS:
                    self.failed[key] = _UNREADABLE
                else:
                    said = Message(role="assistant", content=text)
                    unread[key] = [*waiting[key], said, AGAIN]
            waiting = unread

    def _answered(self, waiting: Mapping[str, Sequence[Message]], form: AnswerForm) -> dict[str, str]:
        """Return the answers that came; the others are noted as failed."""
        turns = {
            # Half a character, which a model may write, cannot be sent.
            key: [
                {"role": turn.role, "content": turn.content.encode("utf-8", "replace").decode()}
                for turn in conversation
            ]
            for key, conversation in waiting.items()
        }
        with Journal(self._journal, self._identity) as journal:
            answers = self._put(turns, journal, form)
        if OVER_BUDGET in answers.failed.values():
            raise ResourceError(
                f"the judge's budget pays for {len(self._answers) + len(answers.found):,} of "
                f"{len(self._answers) + len(waiting):,} verdicts",
                hint="the same command with a larger evaluate.judge.budget_tokens or budget_usd goes on from "
                "here; nothing is paid for twice",
            )
        self.failed |= answers.failed
        return {key: answer.text for key, answer in answers.found.items()}

    def _put(self, turns: Mapping[str, Turns], journal: Journal, form: AnswerForm) -> Any:
        what = f"verdicts of {self.config.model}"
        if form.schema is not None and self._takes_forms and "response_format" not in self.config.extra:
            try:
                constrained = self._endpoint({"response_format": _response_format(form.schema)})
                return ask_all(constrained, turns, journal, what=what, asking=self._asking)
            except ConfigError as refusal:
                if refusal.param is not None:
                    raise
                self._takes_forms = False  # an endpoint without constrained answers; if not, it says so again
        return ask_all(self._endpoint({}), turns, journal, what=what, asking=self._asking)

    def _endpoint(self, extra: Mapping[str, Any]) -> EndpointConfig:
        names = set(EndpointConfig.model_fields)
        return EndpointConfig.model_validate(
            {**self.config.model_dump(include=names), "extra": {**self.config.extra, **extra}}
        )


def _key(conversation: Sequence[Message]) -> str:
    return sha256_text(canonical_json([[turn.role, turn.content] for turn in conversation]))


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": dict(schema)}}
