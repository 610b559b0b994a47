"""A tokenizer with its chat template: the only way from messages to ids, for every stage."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from tunery.core.errors import ConfigError, RefusedByTemplate
from tunery.core.example import Message, Role
from tunery.core.faults import explained
from tunery.core.ids import sha256_text
from tunery.model.special_tokens import SpecialTokens
from tunery.model.token_length import TokenLength, token_length_of

_UNBOUNDED_ROPE = ("dynamic", "longrope")  # rotation depends on the longest row of a batch
_RANDOM = re.compile(r"\|\s*random\b|\blipsum\b")
_PROBE = "tunery-probe-answer"


class ChatTokenizer:
    """Wraps a fast Hugging Face tokenizer; implements :class:`tunery.core.engine.Tokenizer`.

    Text in a message that reads like one of the tokenizer's special tokens is encoded as its characters, so
    that what somebody writes can never end a turn or open a system turn, and no character is changed.

    Some templates refuse a system turn or pass over it. Its text then opens the first user turn, in training
    and serving.

    Args:
        hf: A fast tokenizer with a chat template.
        window: Tokens that the base's attention was made for; None where only the tokenizer tells.

    Raises:
        ConfigError: There is no template, it cannot be used, or it writes at random.
    """

    def __init__(self, hf: Any, *, window: int | None = None) -> None:
        if not getattr(hf, "chat_template", None):
            raise ConfigError(
                "the base model's tokenizer has no chat template", hint="chat_template: chatml in the recipe"
            )
        if _RANDOM.search(str(hf.chat_template)):
            raise ConfigError(
                "the base's chat template writes at random, so training and serving would differ",
                hint="give the base's folder a chat template without it",
            )
        self.hf = hf
        self._window = window
        self._day: date | None = None
        self._days: dict[date, Self] = {}
        self.special = SpecialTokens(hf)
        self._takes_tool = self._takes_system = True
        try:
            self.special.add_written(self._around_a_user_turn())
            self._takes_system = self._writes_turn("system")
            self._takes_tool = self._writes_turn("tool")
            self.end_of_turn = self._find_end_of_turn()
        except RefusedByTemplate as error:
            raise ConfigError(f"the base's chat template cannot be used: {error.words}") from None

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

    @property
    def writes_day(self) -> bool:
        """Whether the template writes the day on which it is asked."""
        return "strftime_now" in str(self.hf.chat_template)

    @property
    def day(self) -> date | None:
        """Day that the template is given; None where it writes none, or each day its own."""
        return self._day

    def on_day(self, day: date | None) -> Self:
        """Return the tokenizer as its template writes on that day, at midnight; None for each day's own.

        What was trained on one day is answered on later ones, and must be asked in the same words.
        """
        if day == self._day or not self.writes_day:
            return self
        if day is not None and day in self._days:
            return self._days[day]
        other = copy.copy(self)  # with the same dictionary of days
        other._day = day
        if day is not None:
            self._days[day] = other
        return other

    def template_text(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        """Return the conversation as the template writes it, for :meth:`encode_template` to read.

        Special tokens that messages quote are hidden in it.

        Args:
            messages: The conversation so far.
            open_turn: Whether to end with the opening of an assistant turn.

        Raises:
            RefusedByTemplate: The template refuses the conversation, e.g. two user turns in a row, or passes
                over turns of a role in it.
        """
        if not self._takes_tool and any(m.role == "tool" for m in messages):
            raise RefusedByTemplate("it does not write turns of role tool")
        return self._render(messages if self._takes_system else _folded(messages), open_turn=open_turn)

    def refusal(self, messages: Sequence[Message]) -> str | None:
        """Return in the template's words why a conversation cannot be trained on; None where it can."""
        trained = [i for i, m in enumerate(messages) if m.role == "assistant" and m.weight == 1]
        try:
            for turn in range(trained[-1] + 1 if trained else 0):
                if messages[turn].role == "assistant":
                    self.answer_frame(messages[:turn])
        except RefusedByTemplate as refusal:
            return refusal.words
        return None

    def refused_turn(self, messages: Sequence[Message]) -> int | None:
        """Return which message of a refused conversation is the first that the template does not take.

        None where it cannot be told: what is refused then is the conversation as a whole.
        """
        taken, refused = 0, len(messages)
        while refused - taken > 1:  # a conversation that goes on from a refused one is mostly refused, too
            middle = (taken + refused) // 2
            taken, refused = (middle, refused) if self._takes(messages[:middle]) else (taken, middle)
        return None if self._takes(messages[:refused]) else refused - 1

    def _takes(self, messages: Sequence[Message]) -> bool:
        try:
            self.template_text(messages, open_turn=messages[-1].role != "assistant")
        except RefusedByTemplate:
            return False
        return True

    def _render(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        turns = [{"role": m.role, "content": self.special.hide(m.content)} for m in messages]
        outside: Mapping[str, object] = {} if self._day is None else {"strftime_now": _clock_of(self._day)}
        try:
            return str(
                _compiled(self.hf).render(
                    messages=turns,
                    tools=None,
                    documents=None,
                    add_generation_prompt=open_turn,
                    enable_thinking=False,  # templates of reasoning models; others do not look at it
                    **self.hf.special_tokens_map,
                    **outside,
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is somebody's program: it may fail in any way
            raise RefusedByTemplate(self.special.show(_words(error))) from None

    def _around_a_user_turn(self) -> str:
        """Return what the template writes around a user's turn."""
        text = self._render([Message(role="user", content=_PROBE)], open_turn=False)
        return text.replace(_PROBE, "")

    def _writes_turn(self, role: Role) -> bool:
        """Tell whether the template writes turns of a role, each where it is usual."""
        probe = Message(role=role, content=_PROBE)
        user = Message(role="user", content="hello")
        before = [] if role == "system" else [user, Message(role="assistant", content="hello")]
        try:
            text = self._render([*before, probe, *([user] if role == "system" else [])], open_turn=True)
        except RefusedByTemplate:
            return False
        return _PROBE in text

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
            RefusedByTemplate: The template does not take the conversation.
            ConfigError: It cannot have ``most`` tokens or fewer.
        """
        text = self.template_text(messages, open_turn=True)
        self._refuse_longer(self.special.show(text), most)
        return self.encode_template(text)

    def encode_template(self, text: str) -> tuple[int, ...]:
        """Return the ids of what :meth:`template_text` wrote, no special tokens added."""
        return self.special.encode(text)

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
        return self.special.encode(self.special.hide(text))

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

    def decode_all(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens by their names."""
        return str(self.hf.decode(list(ids), clean_up_tokenization_spaces=False))

    def framed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return ids with what the tokenizer's own library puts around a text, such as a BOS."""
        bare = self.hf.encode("a", add_special_tokens=False)
        whole = self.hf.encode("a", add_special_tokens=True)
        begin = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        return (*whole[:begin], *ids, *whole[begin + len(bare) :])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the entries of the vocabulary, as its file writes them."""
        return [piece or "" for piece in self.hf.convert_ids_to_tokens(list(ids))]

    def token_text(self, token_id: int) -> str:
        """Return how one token is shown, special ones included."""
        return str(self.hf.decode([token_id], clean_up_tokenization_spaces=False))

    def answer_frame(self, before: Sequence[Message]) -> tuple[str, str, str]:
        """Return what the template writes up to an answer, right before its text, and after it.

        The first part is what serving feeds the model at that point. Where the template writes an answer
        otherwise once it is given than it opens one, the second part is empty: what counts is what serving
        will have written. The third ends with the first stop token, and with everything where there is none.

        Args:
            before: The turns before the answer; none where the assistant speaks first.

        Raises:
            RefusedByTemplate: The template does not take the turns.
        """
        probe = Message(role="assistant", content=_PROBE)
        closed = self.template_text([*before, probe], open_turn=False)
        lead, found, tail = closed.rpartition(_PROBE)
        if not found:
            raise RefusedByTemplate("it does not write what the assistant says")
        opened = lead
        if any(m.role != "system" for m in before):  # else there is no request that serving could render
            opened = self.template_text(before, open_turn=True)
        between = lead[len(opened) :] if lead.startswith(opened) else ""
        return opened, between, self._until_stop(tail)

    def _until_stop(self, text: str) -> str:
        ends = [text.find(stop) + len(stop) for stop in map(self.token_text, self.stop_ids) if stop in text]
        return text[: min(ends)] if ends else text

    def _find_end_of_turn(self) -> int | None:
        """Return the special token that the template writes right after an assistant's answer."""
        dialogue = [Message(role="user", content="hello"), Message(role="assistant", content=_PROBE)]
        text = self.template_text(dialogue, open_turn=False)
        tail = self.encode_template(text.rpartition(_PROBE)[2])
        return next((i for i in tail[:1] if i in self.special), None)


def _compiled(hf: Any) -> Any:
    # Transformers' own, cached there; its public way in replaces the clock that it is given by a placeholder.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return _compile_jinja_template(hf.get_chat_template())


def _clock_of(day: date) -> Callable[[str], str]:
    return datetime.combine(day, time()).strftime


def _words(error: Exception) -> str:
    """Return an error of a template in one line; those that are no template's own come with their kind."""
    import jinja2

    words = " ".join(str(error).split())[:300]
    if isinstance(error, jinja2.TemplateError) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with its leading system text at the beginning of the first user turn."""
    if not messages or messages[0].role != "system":
        return messages
    user = next((i for i, m in enumerate(messages) if m.role == "user"), None)
    if user is None:
        return messages
    first = messages[user].with_(content=f"{messages[0].content}\n\n{messages[user].content}")
    return [*messages[1:user], first, *messages[user + 1 :]]


def context_window(config: Any) -> int | None:
    """Return how many tokens a row may have: what the base was made for.

    Args:
        config: A Transformers model configuration.

    Returns:
        None where it sets no limit.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    limits = [getattr(config, "max_position_embeddings", None)]
    if rope.get("rope_type") in _UNBOUNDED_ROPE:
        limits.append(rope.get("original_max_position_embeddings"))
    found = [int(limit) for limit in limits if limit]
    return min(found) if found else None


def declared_window(folder: Path | str) -> int | None:
    """Return how many tokens a base's configuration says a row may have, read without loading anything."""
    try:
        values = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        values = values.get("text_config") or values
        return context_window(SimpleNamespace(**{"rope_parameters": values.get("rope_scaling"), **values}))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def load_hf_tokenizer(folder: Path | str) -> Any:
    """Load the Hugging Face tokenizer of a folder, from disk alone and without running its code.

    Raises:
        ConfigError: The folder has no usable tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a torn file raises whatever the library happens to stumble over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise explained(error) or ConfigError(f"{folder}: no usable tokenizer ({reason:.200})") from None


def load_tokenizer(folder: Path | str, *, chat_template: str | None = None) -> ChatTokenizer:
    """Load the fast tokenizer and chat template of a Hugging Face folder, from disk alone.

    Args:
        folder: Of the base.
        chat_template: Jinja that takes the place of the folder's template.

    Raises:
        ConfigError: The folder has no usable tokenizer or template.
    """
    from transformers import AutoConfig

    hf = load_hf_tokenizer(folder)
    if not hf.is_fast:
        raise ConfigError(f"{folder}: needs a fast tokenizer (tokenizer.json)")
    if chat_template is not None:
        hf.chat_template = chat_template
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return ChatTokenizer(hf)  # a tokenizer alone; whoever loads the weights says what is missing
    return ChatTokenizer(hf, window=context_window(config))
