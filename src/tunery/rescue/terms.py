"""What the terms of use of a source say about training on its answers: asked, never decided here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import model_validator

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.ids import sha256_text
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Scope

TERMS = "terms.json"


class TermsAnswer(Record):
    """Somebody's word that recordings may be used for training."""

    question: str
    """As it was put."""
    question_sha256: str
    answered_by: str
    at: datetime


class TermsAnswers(Record):
    """Every yes that was given, one a source."""

    answers: tuple[TermsAnswer, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, value: Any) -> Any:
        """Read a file that was written when there was room for one."""
        return {"answers": [value]} if isinstance(value, Mapping) and "question" in value else value


def question_of(scope: Scope) -> str:
    """Return the question that stands before the first recording."""
    host = urlsplit(scope.base_url).hostname
    return (
        f"What do the terms of use of {host} say about training a model on its answers? Terms of providers, "
        "OpenAI's among them, may restrict the use of output for developing models that compete with theirs. "
        "Whether your case is within them is for you, or your counsel, to judge: nothing is decided here, "
        "and nothing is sent before you answer. Have you read them, and may these answers train a model "
        "of your own?"
    )


def answered(folder: RescueFolder, scope: Scope) -> TermsAnswer | None:
    """Return the yes that was given to this very question, None where there is none."""
    asked = sha256_text(question_of(scope))
    return next((each for each in _given(folder) if each.question_sha256 == asked), None)


def _given(folder: RescueFolder) -> tuple[TermsAnswer, ...]:
    return folder.read(TERMS, TermsAnswers).answers if (folder.root / TERMS).is_file() else ()


def note_yes(folder: RescueFolder, scope: Scope, who: str, at: datetime) -> TermsAnswer:
    """Record somebody's yes, beside those that were given before."""
    question = question_of(scope)
    answer = TermsAnswer(question=question, question_sha256=sha256_text(question), answered_by=who, at=at)
    folder.write(TERMS, TermsAnswers(answers=(*_given(folder), answer)))
    return answer


def unanswered(scope: Scope) -> ConfigError:
    """Return the refusal to send anything before the question is answered."""
    return ConfigError(
        question_of(scope), hint="where the answer is yes, type the same command with --terms-read"
    )
