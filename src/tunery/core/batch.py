"""Batches: a file of requests that are answered when there is time, within a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record

BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
"""OpenAI's words."""
BATCH_ENDS: frozenset[BatchStatus] = frozenset({"failed", "completed", "expired", "cancelled"})


class BatchProblem(Record):
    """One thing that is wrong with a batch or its file."""

    code: str
    message: str
    line: int | None = None
    """Line of the file, counted from 1."""
    param: str | None = None


class Batch(Record):
    """One file of requests and how far its answers are."""

    id: str
    """``batch_…``."""
    created_at: datetime
    status: BatchStatus
    endpoint: str
    """Path that every line is sent to, such as ``/v1/chat/completions``."""
    input_file_id: str
    metadata: Mapping[str, str] | None = None
    key_id: str | None = None
    """Key whose requests these are; None where the server asks for none."""
    expires_at: datetime
    """When lines that are not answered never will be."""
    output_expires_after_s: int | None = None
    """Life of the produced files [s]; None keeps them."""
    model: str | None = None
    """What the first line asks for."""
    lines: int = 0
    """Requests in the file, once it was read [count]."""
    problems: tuple[BatchProblem, ...] = ()
    """Why it failed."""
    ends_as: BatchStatus | None = None
    """What it will be once its files are written; None while lines are being answered."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    ended_at: datetime | None = None
    cancelling_at: datetime | None = None
    answered: int = 0
    """Requests answered with success, once it has ended [count]."""
    refused: int = 0
    """Requests that came to an error, once it has ended [count]."""
    prompt_tokens: int = 0
    """Of all answers, once it has ended [count]."""
    completion_tokens: int = 0
    worker: str | None = None
    """Who works on it; no two ever have the same name."""
    lease_until: datetime | None = None
    project: str = DEFAULT_PROJECT
    """Whose files it reads and writes."""


class BatchAnswer(NamedTuple):
    """What one line came to."""

    line: int
    """Line of the file, counted from 1."""
    ok: bool
    """Whether it goes into the output file; else into that of errors."""
    prompt_tokens: int
    completion_tokens: int
    content: Mapping[str, Any]
    """As OpenAI writes it: ``id``, ``custom_id``, ``response``, ``error``."""


class BatchTally(NamedTuple):
    """What a batch's answers add up to."""

    answered: int
    """With success [count]."""
    refused: int
    """With an error [count]."""
    prompt_tokens: int
    completion_tokens: int
