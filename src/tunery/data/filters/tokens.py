"""Drops examples that the base's chat template does not take, or whose rendered tokens do not fit."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from types import FunctionType
from typing import Any, ClassVar, Self

from tunery.core.engine import Tokenizer
from tunery.core.errors import RefusedByTemplate
from tunery.core.example import Drop, Example, Message
from tunery.data.filters.filters import FilterContext

REFUSED = "refused_by_template"
"""Drop reason of a row that the base's chat template does not take."""


class TokenFilter:
    """Drops examples that the template does not take, and those whose rendered tokens do not fit.

    Cutting them would train on half an answer. What a template takes goes by who speaks when, so each order
    of turns is tried once, with texts of no meaning; a row is tried itself where its order is refused or its
    length is measured.

    On its way to a worker the tokenizer is bytes, written once and read there when a first row needs it: most
    rows are so short that counting their bytes is proof enough, and reading a tokenizer takes seconds.
    """

    settings = None
    cost = 2
    reasons: ClassVar = {
        "too_long": "more tokens than training takes",
        REFUSED: "the base's chat template does not take this conversation",
    }
    _TOKENS_PER_BYTE = 2
    _MARGIN = 64

    def __init__(self, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        """Count with ``tokenizer``; allow ``max_tokens`` for prompt, answer and stop token, any for None."""
        self._tokenizer: Callable[[], Tokenizer] = _Here(tokenizer)
        self._max_tokens = max_tokens
        self._overheads: dict[str, int] = {}
        self._refused: dict[tuple[tuple[str, bool, int], ...], bool] = {}

    @classmethod
    def build(cls, _settings: None, context: FilterContext) -> Self | None:
        """Return the filter where there is a tokenizer."""
        if context.tokenizer is None:
            return None
        return cls(context.tokenizer, context.max_tokens)

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Count exactly only where the text is long enough to matter."""
        return [self._refusal(e) or self._overlength(e) for e in examples]

    def _refusal(self, example: Example) -> Drop | None:
        """Say why the template does not take a row, by its order of turns and then by the row itself."""
        order = tuple((m.role, bool(m.content.strip()), m.weight) for m in example.messages)
        if order not in self._refused:
            plain = [m.with_(content="a" if m.content.strip() else "") for m in example.messages]
            self._refused[order] = self._tokenizer().refusal(plain) is not None
        words = self._tokenizer().refusal(example.messages) if self._refused[order] else None
        return None if words is None else Drop(REFUSED, words)

    def _overlength(self, example: Example) -> Drop | None:
        if self._max_tokens is None or self._surely_fits(example, self._max_tokens):
            return None
        try:
            tokens = token_length(example, self._tokenizer())
        except RefusedByTemplate as refusal:
            return Drop(REFUSED, refusal.words)
        if tokens <= self._max_tokens:
            return None
        return Drop("too_long", f"{tokens:,} tokens, at most {self._max_tokens:,} fit")

    def _surely_fits(self, example: Example, max_tokens: int) -> bool:
        """Tell cheaply: a tokenizer makes at most one token of a byte, two where it folds letters."""
        most = self._TOKENS_PER_BYTE * _bytes(example) + self._MARGIN
        return most <= max_tokens and most + self._overhead(example, max_tokens) <= max_tokens

    def _overhead(self, example: Example, max_tokens: int) -> int:
        """Return what the template adds to a prompt with these turns [tokens]."""
        roles = ",".join(m.role for m in example.prompt)
        if roles not in self._overheads:
            blank = [Message(role=m.role, content="") for m in example.prompt]
            try:
                self._overheads[roles] = len(self._tokenizer().render_prompt(blank))
            except RefusedByTemplate:  # it wants texts in them: measuring the row will say more
                self._overheads[roles] = max_tokens
        return self._overheads[roles]


def _bytes(example: Example) -> int:
    texts = [m.content for m in example.messages] + ([example.rejected] if example.rejected else [])
    return sum(len(t) if t.isascii() else len(t.encode("utf-8", "surrogatepass")) for t in texts)


def token_length(example: Example, tokenizer: Tokenizer) -> int:
    """Return how many tokens an example needs: prompt, longer answer, stop token [tokens]."""
    prompt = len(tokenizer.render_prompt(example.prompt))
    answers = [example.reference] if example.rejected is None else [example.reference, example.rejected]
    return prompt + max(len(tokenizer.encode(a)) for a in answers) + 1


class _Here:
    """A tokenizer in the process that loaded it; a worker keeps the one it read last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self) -> Tokenizer:
        return self._tokenizer

    @cached_property
    def _written(self) -> _PickledTokenizer:
        out = io.BytesIO()
        _ImportablePickler(out, pickle.HIGHEST_PROTOCOL).dump(self._tokenizer)
        return _PickledTokenizer(hashlib.sha256(out.getvalue()).hexdigest(), out.getvalue())

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (_read, self._written)


class _ImportablePickler(pickle.Pickler):
    """Refuses what is defined in ``__main__``: a worker's ``__main__`` is another one."""

    def reducer_override(self, value: Any) -> Any:
        definition = value if isinstance(value, type | FunctionType) else type(value)
        if definition.__module__ == "__main__":
            raise pickle.PicklingError(f"{definition.__qualname__} is defined in __main__")
        return NotImplemented


@dataclass(frozen=True, slots=True)
class _PickledTokenizer:
    """A tokenizer as bytes, known by their hash: they are megabytes, and looked up for each chunk of rows."""

    sha256: str
    content: bytes = field(compare=False, repr=False)


@lru_cache(maxsize=1)
def _read(written: _PickledTokenizer) -> Tokenizer:
    tokenizer: Tokenizer = pickle.loads(written.content)  # noqa: S301 - written by this run's own process
    return tokenizer
