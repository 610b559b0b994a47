"""A tokenizer with its chat template: the only way from messages to ids, for every stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.core.faults import explained
from tunery.core.ids import sha256_text
from tunery.model.token_length import TokenLength, token_length_of

_UNBOUNDED_ROPE = ("dynamic", "longrope")  # rotation depends on the longest row of a batch


class ChatTokenizer:
    """Wraps a fast Hugging Face tokenizer; implements :class:`tunery.core.engine.Tokenizer`.

    Text that looks like one of the tokenizer's special tokens is broken with a zero-width space when it
    stands in a message, so that what a user types can never end a turn or open a system turn.

    Some templates refuse a system turn. Its text then opens the first user turn, in training and serving.

    Args:
        hf: A fast tokenizer with a chat template.
        window: Tokens that the base's attention was made for; None where only the tokenizer tells.
    """

    def __init__(self, hf: Any, *, window: int | None = None) -> None:
        if not getattr(hf, "chat_template", None):
            raise ConfigError("the base model's tokenizer has no chat template")
        self.hf = hf
        self._window = window
        self._added = {i: t.content for i, t in hf.added_tokens_decoder.items() if t.special}
        special = [*sorted(hf.all_special_tokens, key=len, reverse=True), *self._added.values()]
        self._special = re.compile(
            "|".join(re.escape(t) for t in dict.fromkeys(special) if len(t) > 1) or r"(?!)"
        )
        self._takes_system = self._accepts_system()
        self.end_of_turn = self._find_end_of_turn()

    @property
    def chat_template_sha256(self) -> str:
        """Hash of the template's text; training and serving must agree on it."""
        return sha256_text(str(self.hf.chat_template))

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an assistant turn: what the template writes after one, and the tokenizer's EOS."""
        return frozenset(i for i in (self.end_of_turn, self.hf.eos_token_id) if i is not None)

    @property
    def max_tokens(self) -> int:
        """Longest conversation that the base was made for [tokens]; a million where it does not say."""
        return min(int(self.hf.model_max_length), self._window or 1_000_000, 1_000_000)

    @property
    def vocab_size(self) -> int:
        """Ids, added ones counted [count]."""
        return len(self.hf)

    def template_text(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        """Return the conversation as the template writes it.

        Args:
            messages: The conversation so far.
            open_turn: Whether to end with the opening of an assistant turn.

        Raises:
            ConfigError: The template refuses the conversation, e.g. two user turns in a row.
        """
        import jinja2

        try:
            return self._render(messages if self._takes_system else _folded(messages), open_turn=open_turn)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the base's chat template refuses this conversation: {error}") from None

    def _render(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        turns = [{"role": m.role, "content": self._defuse(m.content)} for m in messages]
        return str(
            self.hf.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=open_turn,
                enable_thinking=False,  # templates of reasoning models; others do not look at it
            )
        )

    def _accepts_system(self) -> bool:
        import jinja2

        try:
            self._render(
                [Message(role="system", content="a"), Message(role="user", content="b")], open_turn=True
            )
        except jinja2.TemplateError:
            return False
        return True

    @cached_property
    def token_length(self) -> TokenLength:
        """The most text that one token stands for."""
        return token_length_of(self.hf)

    def render_prompt(self, messages: Sequence[Message], *, most: int | None = None) -> tuple[int, ...]:
        """Return the ids of a conversation up to where the assistant begins to speak.

        Args:
            messages: The conversation.
            most: As :meth:`encode`.

        Raises:
            ConfigError: The template refuses the conversation, or it cannot have ``most`` tokens or fewer.
        """
        text = self.template_text(messages, open_turn=True)
        self._refuse_longer(text, most)
        return self.encode_template(text)

    def encode_template(self, text: str) -> tuple[int, ...]:
        """Return the ids of text in which special tokens are meant, none added."""
        return tuple(self.hf.encode(text, add_special_tokens=False))

    def encode(self, text: str, *, most: int | None = None) -> tuple[int, ...]:
        """Return the ids of plain text, no special tokens added or recognised.

        Args:
            text: The text.
            most: Tokens it may have [count]. A text that is sure to have more is not tokenised: that would
                take 2 s and 200 MB a megabyte. One that may still fit is, and may have more.

        Raises:
            ConfigError: The text cannot have ``most`` tokens or fewer.
        """
        self._refuse_longer(text, most)
        return tuple(self.hf.encode(self._defuse(text), add_special_tokens=False))

    def _refuse_longer(self, text: str, most: int | None) -> None:
        if most is None or len(text) <= most:
            return
        size = len(text.encode("utf-8", "surrogatepass"))
        if self.token_length.fewest_tokens(size) > most:
            raise ConfigError(
                f"the prompt's {size:,} bytes are {self.token_length.fewest_tokens(size):,} tokens or more, "
                f"which leave no room in the context window of {most + 1:,} tokens",
                param="messages",
            )

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self.hf.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token_id: int) -> str:
        """Return how one token is shown, special ones included."""
        return str(self.hf.decode([token_id], clean_up_tokenization_spaces=False))

    def _defuse(self, text: str) -> str:
        return self._special.sub(lambda found: found[0][0] + "\u200b" + found[0][1:], text)

    def _find_end_of_turn(self) -> int | None:
        """Return the special token that the template writes right after an assistant's answer."""
        probe = "tunery-probe-answer"
        dialogue = [Message(role="user", content="hello"), Message(role="assistant", content=probe)]
        text = self.template_text(dialogue, open_turn=False)
        tail = self.encode_template(text.rpartition(probe)[2])
        return next((i for i in tail[:1] if i in self._added or i in self.hf.all_special_ids), None)


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with its leading system text at the beginning of the first user turn."""
    if len(messages) < 2 or messages[0].role != "system" or messages[1].role != "user":
        return messages
    first = messages[1].with_(content=f"{messages[0].content}\n\n{messages[1].content}")
    return [first, *messages[2:]]


def context_window(config: Any) -> int | None:
    """Return how many tokens a row may have: what the base was made for, and never past a sliding window.

    Args:
        config: A Transformers model configuration.

    Returns:
        None where it sets no limit.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    limits = [getattr(config, "max_position_embeddings", None), getattr(config, "sliding_window", None)]
    if rope.get("rope_type") in _UNBOUNDED_ROPE:
        limits.append(rope.get("original_max_position_embeddings"))
    found = [int(limit) for limit in limits if limit]
    return min(found) if found else None


def load_tokenizer(folder: Path | str) -> ChatTokenizer:
    """Load the fast tokenizer and chat template of a Hugging Face folder, from disk alone.

    Raises:
        ConfigError: The folder has no usable tokenizer or template.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        hf = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a torn file raises whatever the library happens to stumble over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise explained(error) or ConfigError(f"{folder}: no usable tokenizer ({reason:.200})") from None
    if not hf.is_fast:
        raise ConfigError(f"{folder}: needs a fast tokenizer (tokenizer.json)")
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return ChatTokenizer(hf)  # a tokenizer alone; whoever loads the weights says what is missing
    return ChatTokenizer(hf, window=context_window(config))
