"""Conversation to token ids and loss mask: one renderer for preflight, training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.model.tokenizer import ChatTokenizer

LossOn = Literal["completion", "last_completion", "all"]


class Rendered(NamedTuple):
    """One conversation, tokenised."""

    ids: tuple[int, ...]
    """Token ids, shape ``(n_tokens,)``."""
    mask: tuple[int, ...]
    """1 where predicting this token from those before it counts in the loss; same shape."""
    prompt_tokens: int
    """Tokens before the first trained one of the last assistant turn [count]."""
    prompt_mask: tuple[int, ...] = ()
    """1 where a token of a user's or tool's turn counts in the prompt loss; same shape, or empty where none
    does."""


def render(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    *,
    loss_on: LossOn = "completion",
    mark_prompt: bool = False,
) -> Rendered:
    """Render a conversation that ends with an assistant turn.

    Each assistant turn is tokenised on its own, after exactly the ids that serving would feed the model
    at that point, so that training sees what inference sees. The mask covers the answer and the one stop
    token that ends it, never what the template writes after that.

    Args:
        tokenizer: Of the base model.
        messages: Turns; an assistant turn with ``weight`` 0 is context only.
        loss_on: ``completion`` trains every assistant turn, ``last_completion`` the last one, ``all`` every
            token but the first.
        mark_prompt: Whether to mask tokens of users' and tools' turns for the prompt loss, too.

    Returns:
        Ids up to the last stop token and their mask.

    Raises:
        ConfigError: The conversation does not end with an assistant turn, or the template writes earlier
            turns differently once later ones exist (then no mask can be right).
    """
    if not messages or messages[-1].role != "assistant":
        raise ConfigError("a conversation to train on must end with an assistant turn")
    ids: list[int] = []
    mask: list[int] = []
    prompt_mask: list[int] = []
    written = ""
    prompt_tokens = 0
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        opened = tokenizer.template_text(messages[:index], open_turn=True)
        closed = tokenizer.template_text(messages[: index + 1], open_turn=False)
        if not (closed.startswith(opened) and opened.startswith(written)):
            raise ConfigError(
                "the base's chat template rewrites earlier turns when a conversation goes on; "
                "train on single-turn examples with this base"
            )
        context = tokenizer.encode_template(opened[len(written) :])
        answer = _until_stop(tokenizer, tokenizer.encode_template(closed[len(opened) :]))
        trained = message.weight == 1 and (loss_on != "last_completion" or index == len(messages) - 1)
        ids += [*context, *answer]
        mask += [0] * len(context) + [int(trained)] * len(answer)
        if mark_prompt:
            opening = _system_tokens(tokenizer, messages, opened) if not written else 0
            prompt_mask += [0] * opening + [1] * (len(context) - opening) + [0] * len(answer)
        prompt_tokens = len(ids) - len(answer)
        written = opened + _text_until_stop(tokenizer, closed[len(opened) :])
    if loss_on == "all":
        mask = [1] * len(ids)
    mask[:1] = [0]  # nothing stands before the first token to predict it from
    prompt_mask[:1] = [0] if mark_prompt else []
    return Rendered(tuple(ids), tuple(mask), prompt_tokens, tuple(prompt_mask))


def _system_tokens(tokenizer: ChatTokenizer, messages: Sequence[Message], opened: str) -> int:
    """Return how many tokens the system turn takes at the front [count]; 0 where it is no turn of its own."""
    if messages[0].role != "system":
        return 0
    try:
        system = tokenizer.template_text(messages[:1], open_turn=False)
    except ConfigError:  # a template that wants a user turn
        return 0
    return len(tokenizer.encode_template(system)) if opened.startswith(system) else 0


def _until_stop(tokenizer: ChatTokenizer, ids: Sequence[int]) -> tuple[int, ...]:
    """Cut after the first stop token; a template without one keeps everything (preflight refuses it)."""
    for position, token in enumerate(ids):
        if token in tokenizer.stop_ids:
            return tuple(ids[: position + 1])
    return tuple(ids)


def _text_until_stop(tokenizer: ChatTokenizer, text: str) -> str:
    if tokenizer.end_of_turn is None:
        return text
    stop = tokenizer.token_text(tokenizer.end_of_turn)
    head, found, _ = text.partition(stop)
    return head + found
