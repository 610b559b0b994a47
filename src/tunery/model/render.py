"""Conversation to token ids and loss mask: one renderer for preflight, training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.model.tokenizer import ChatTokenizer

LossOn = Literal["completion", "last_completion", "all"]


class Rendered(NamedTuple):
    """A conversation up to one of its answers, tokenised."""

    ids: tuple[int, ...]
    """Token ids, shape ``(n_tokens,)``."""
    mask: tuple[int, ...]
    """1 where predicting this token from those before it counts in the loss; same shape."""
    prompt_tokens: int
    """Tokens before the first trained one of the last assistant turn [count]."""
    prompt_mask: tuple[int, ...] = ()
    """1 where a token of a user's or tool's turn counts in the prompt loss; same shape, or empty where none
    does."""
    turn: int = -1
    """Place of that last assistant turn among the conversation's."""


class _Answer(NamedTuple):
    """An assistant turn with what stands before it."""

    turn: int
    opened: str
    """Text of everything before it, as serving would have it."""
    text: str
    """From there to its stop token."""
    trained: bool


def render(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    *,
    loss_on: LossOn = "completion",
    mark_prompt: bool = False,
) -> tuple[Rendered, ...]:
    """Render a conversation that ends with an assistant turn.

    Each assistant turn is tokenised on its own, as it was given, after exactly the ids that serving would
    feed the model at that point, so that training sees what inference sees. The mask covers the answer and
    the one stop token that ends it, never what the template writes after that. What follows the last trained
    turn is left out.

    Templates of reasoning models write earlier turns otherwise once later ones exist: no single sequence is
    then what serving feeds for each of them, and each trained turn gets a sequence of its own.

    Args:
        tokenizer: Of the base model.
        messages: Turns; an assistant turn with ``weight`` 0 is context only.
        loss_on: ``completion`` trains every assistant turn, ``last_completion`` the last one, ``all`` every
            token but the first.
        mark_prompt: Whether to mask tokens of users' and tools' turns for the prompt loss, too.

    Returns:
        One sequence, or one for each trained turn; at least one, each up to the stop token of its turn.

    Raises:
        ConfigError: The conversation does not end with an assistant turn.
        RefusedByTemplate: The template does not take it.
    """
    if not messages or messages[-1].role != "assistant":
        raise ConfigError("a conversation to train on must end with an assistant turn")
    answers = list(_answers(tokenizer, messages, loss_on))
    pieces = _Pieces(tokenizer, messages, mark_prompt=mark_prompt)
    whole = _one_sequence(pieces, answers, everything=loss_on == "all")
    if whole is not None:
        return (whole,)
    alone: list[Rendered] = []
    for answer in [answer for answer in answers if answer.trained] or answers[-1:]:
        before = alone[-1].ids if alone else ()
        alone.append(_alone(pieces, answer, before, everything=loss_on == "all"))
    return tuple(alone)


def _answers(tokenizer: ChatTokenizer, messages: Sequence[Message], loss_on: LossOn) -> Iterator[_Answer]:
    """Yield the assistant turns up to the last trained one; up to the last where none is."""
    turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
    weighed = [i for i in turns if messages[i].weight == 1]
    last = weighed[-1] if weighed else turns[-1]
    for turn in turns:
        if turn > last:
            return
        opened, between, after = tokenizer.answer_frame(messages[:turn])
        text = between + tokenizer.special.hide(messages[turn].content) + after
        trained = messages[turn].weight == 1 and (loss_on != "last_completion" or turn == last)
        yield _Answer(turn, opened, text, trained)


class _Pieces:
    """Texts of one conversation to ids with their masks."""

    def __init__(self, tokenizer: ChatTokenizer, messages: Sequence[Message], *, mark_prompt: bool) -> None:
        self.tokenizer = tokenizer
        self._messages = messages
        self._mark_prompt = mark_prompt
        self.clear()

    def clear(self) -> None:
        """Begin a new sequence."""
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.prompt_mask: list[int] = []

    def add(self, context: str, answer: _Answer) -> None:
        """Append a context and the answer after it."""
        before = self.tokenizer.encode_template(context)
        after = _until_stop(self.tokenizer, self.tokenizer.encode_template(answer.text))
        self.ids += [*before, *after]
        self.mask += [0] * len(before) + [int(answer.trained)] * len(after)
        if self._mark_prompt:
            first = not self.prompt_mask  # the system turn stands at the beginning alone
            opening = _system_tokens(self.tokenizer, self._messages, answer.opened) if first else 0
            self.prompt_mask += [0] * opening + [1] * (len(before) - opening) + [0] * len(after)
        self.prompt_tokens = len(self.ids) - len(after)

    def rendered(self, turn: int, *, everything: bool, told: int = 1) -> Rendered:
        """Return the sequence so far.

        Args:
            turn: Of the answer that it ends with.
            everything: Whether every token is trained on.
            told: Leading tokens in no loss: the first, which nothing stands before to predict it from, and
                those that another sequence has [count].
        """
        mask = [1] * len(self.ids) if everything else list(self.mask)
        prompt_mask = list(self.prompt_mask)
        mask[:told] = [0] * told
        prompt_mask[:told] = [0] * told if self._mark_prompt else []
        return Rendered(tuple(self.ids), tuple(mask), self.prompt_tokens, tuple(prompt_mask), turn)


def _one_sequence(pieces: _Pieces, answers: Sequence[_Answer], *, everything: bool) -> Rendered | None:
    """Return all answers in one sequence; None where its ids are not what serving feeds before the last."""
    pieces.clear()
    written = ""
    for answer in answers:
        if not answer.opened.startswith(written):
            return None
        pieces.add(answer.opened[len(written) :], answer)
        written = answer.opened + answer.text
    if len(answers) > 1:
        served = pieces.tokenizer.encode_template(answers[-1].opened)
        if tuple(pieces.ids[: pieces.prompt_tokens]) != served:
            return None
    return pieces.rendered(answers[-1].turn, everything=everything)


def _alone(pieces: _Pieces, answer: _Answer, before: Sequence[int], *, everything: bool) -> Rendered:
    """Return one answer after its own prompt; what the sequence before has too counts there alone."""
    pieces.clear()
    pieces.add(answer.opened, answer)
    shared = next(
        (i for i, (a, b) in enumerate(zip(pieces.ids, before, strict=False)) if a != b), len(before)
    )
    told = max(1, min(shared, pieces.prompt_tokens))
    return pieces.rendered(answer.turn, everything=everything, told=told)


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
