"""Checks: filters that look at one example and keep it or drop it with a reason.

A filter is one class with one method. It sees examples in batches, so that one that needs a tokenizer or a
model can work on many at once; what it says about an example must not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Drop, Example, Message
from tunery.data.config import CleanConfig
from tunery.text.pii import detect
from tunery.text.pii.types import PiiType


class Filter(Protocol):
    """Keeps examples or drops them."""

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Return for each example why it goes, or None to keep it."""
        ...


class LengthFilter:
    """Drops prompts and answers outside character bounds."""

    def __init__(self, *, inputs: tuple[int, int | None], outputs: tuple[int, int | None]) -> None:
        """Bounds are (shortest, longest) in characters, both included; None is no bound."""
        self._inputs, self._outputs = inputs, outputs

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Look at the prompt without its system turn, then at the answer."""
        return [self._judge_one(e) for e in examples]

    def _judge_one(self, example: Example) -> Drop | None:
        prompt = sum(len(m.content) for m in example.prompt if m.role != "system")
        return _outside(prompt, self._inputs, "input") or _outside(
            len(example.reference), self._outputs, "output"
        )


def _outside(length: int, bounds: tuple[int, int | None], what: str) -> Drop | None:
    shortest, longest = bounds
    if length == 0 and what == "output":
        return Drop("empty_output", "nothing is left of the answer after cleaning")
    if length == 0:
        return Drop("empty_input", "nothing is left of the prompt after cleaning")
    if length < shortest:
        return Drop(f"{what}_too_short", f"{what} of {length} characters, at least {shortest} asked for")
    if longest is not None and length > longest:
        return Drop(f"{what}_too_long", f"{what} of {length:,} characters, at most {longest:,} allowed")
    return None


class SamePairFilter:
    """Drops preference pairs whose two answers are the same: nothing can be learned from them."""

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Compare the answers letter by letter."""
        return [
            Drop("same_answers", "the preferred and the other answer are the same")
            if e.rejected is not None and e.rejected == e.reference
            else None
            for e in examples
        ]


class PersonalDataFilter:
    """Drops examples that hold personal data of kinds whose rows are not wanted at all."""

    def __init__(self, types: Sequence[PiiType]) -> None:
        """Look for ``types``."""
        self._types = types

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Look at every turn but the system's, and at the answer that was not preferred."""
        texts = [
            [*(m.content for m in e.messages if m.role != "system"), *([e.rejected] if e.rejected else [])]
            for e in examples
        ]
        found = iter(detect([t for row in texts for t in row], self._types))
        verdicts: list[Drop | None] = []
        for row in texts:
            kinds = sorted({span.type for _ in row for span in next(found)})
            verdicts.append(Drop("personal_data", f"holds {', '.join(kinds)}") if kinds else None)
        return verdicts


class TokenFilter:
    """Drops examples whose rendered tokens do not fit; cutting them would train on half an answer."""

    _TOKENS_PER_BYTE = 2
    _MARGIN = 64

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        """Count with ``tokenizer``; allow ``max_tokens`` for prompt, answer and stop token together."""
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._overheads: dict[str, int] = {}

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Count exactly only where the text is long enough to matter."""
        verdicts: list[Drop | None] = []
        for example in examples:
            if self._surely_fits(example):
                verdicts.append(None)
                continue
            verdicts.append(self._measure(example))
        return verdicts

    def _measure(self, example: Example) -> Drop | None:
        try:
            tokens = token_length(example, self._tokenizer)
        except ConfigError as refusal:
            return Drop("refused_by_template", refusal.message)
        if tokens <= self._max_tokens:
            return None
        return Drop("too_long", f"{tokens:,} tokens, at most {self._max_tokens:,} fit")

    def _surely_fits(self, example: Example) -> bool:
        texts = [m.content for m in example.messages] + [example.rejected or ""]
        size = sum(len(t.encode("utf-8", "surrogatepass")) for t in texts)
        return self.surely_fits(size, ",".join(m.role for m in example.prompt))

    def surely_fits(self, size: int, roles: str) -> bool:
        """Tell cheaply: a tokenizer makes at most one token of a byte, two where it folds letters.

        Args:
            size: All texts together [bytes].
            roles: Of the prompt's turns, joined by commas.
        """
        if size * self._TOKENS_PER_BYTE + self._MARGIN > self._max_tokens:
            return False
        if roles not in self._overheads:
            blank = [Message.model_validate({"role": role, "content": ""}) for role in roles.split(",")]
            try:
                self._overheads[roles] = len(self._tokenizer.render_prompt(blank))
            except ConfigError:
                # The template refuses this order of turns: measuring the row will say so.
                self._overheads[roles] = self._max_tokens
        return size * self._TOKENS_PER_BYTE + self._overheads[roles] + self._MARGIN <= self._max_tokens


def token_length(example: Example, tokenizer: Tokenizer) -> int:
    """Return how many tokens an example needs: prompt, longer answer, stop token [tokens]."""
    prompt = len(tokenizer.render_prompt(example.prompt))
    answers = [example.reference] if example.rejected is None else [example.reference, example.rejected]
    return prompt + max(len(tokenizer.encode(a)) for a in answers) + 1


def filters(clean: CleanConfig, tokenizer: Tokenizer | None, max_tokens: int | None) -> list[Filter]:
    """Return the filters that the settings ask for, cheapest first."""
    chosen: list[Filter] = [
        LengthFilter(
            inputs=(clean.min_input_chars, clean.max_input_chars),
            outputs=(clean.min_output_chars, clean.max_output_chars),
        ),
        SamePairFilter(),
    ]
    if clean.pii_dropped:
        chosen.append(PersonalDataFilter(clean.pii_dropped))
    if tokenizer is not None and max_tokens is not None:
        chosen.append(TokenFilter(tokenizer, max_tokens))
    return chosen
