"""Drops examples whose rendered tokens do not fit."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Drop, Example, Message


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
