"""Before any compute is spent: are the exact tokens and the loss mask right?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, first_of
from tunery.core.example import Example, Message, where
from tunery.model.render import Rendered
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.methods.method import TrainingRow

_NAMED = 5
"""Rows at fault that a sentence names [count]."""


class PreflightToken(Record):
    """One token as it will be trained."""

    text: str
    trained: bool
    """Whether it counts in the loss."""
    prompt_loss: bool = False
    """Whether it counts there by ``train.prompt_loss_weight``, not in full."""


class PreflightRow(Record):
    """One sequence as it will be trained; a preference pair has two."""

    example_id: str
    tokens: tuple[PreflightToken, ...]


class PreflightCheck(Record):
    """One thing that was looked at in every row."""

    name: str
    """``stop_token_trained``, ``has_trained_tokens``, ``not_truncated``, ``serving_template``,
    ``answer_as_given``."""
    passed: bool
    rows: int
    """Rows at fault [count]."""
    sentence: str
    """What was found, with row ids."""


class Preflight(Record):
    """What training will see."""

    checks: tuple[PreflightCheck, ...]
    samples: tuple[PreflightRow, ...]
    rows: int
    tokens: int
    """Of all rows [count]."""
    trained_tokens: int
    """Tokens in the loss [count]."""
    longest: int
    """Tokens of the longest row [count]."""

    @property
    def passed(self) -> bool:
        """Whether training may begin."""
        return all(check.passed for check in self.checks)

    def require(self) -> None:
        """Raise unless every check passed.

        Raises:
            ConfigError: Lists the failed checks.
        """
        if not self.passed:
            failed = [check.sentence for check in self.checks if not check.passed]
            raise ConfigError.of_problems(
                "preflight", failed, hint="tunery train preflight RECIPE shows the tokens and the mask"
            )


Served = Callable[[Sequence[Message]], tuple[int, ...] | None]
"""Gives the ids of a conversation as serving makes them; None where serving does not take it."""


class _Sequence(NamedTuple):
    """What the model will read, and the answer that it should end with."""

    example: Example
    rendered: Rendered
    answer: str


def preflight(  # noqa: PLR0913 - the rows, and all that they are held against
    tokenizer: ChatTokenizer,
    examples: Sequence[Example],
    rows: Sequence[TrainingRow],
    *,
    max_tokens: int,
    serving_template_sha256: str,
    served: Served | None = None,
    samples: int = 3,
) -> Preflight:
    """Check every row that training would see.

    Args:
        tokenizer: The training tokenizer.
        examples: Shape ``(n_rows,)``.
        rows: The same, as the training method tokenised them.
        max_tokens: Longest sequence that training and the base's context window allow [count].
        serving_template_sha256: Hash of the template that serving renders with.
        served: Gives the prompt's ids as serving makes them; the tokenizer alone where None.
        samples: Rows to show, spread evenly.

    Returns:
        All checks, failed ones included; nothing is raised here.
    """
    sequences = [s for example, row in zip(examples, rows, strict=True) for s in _sequences(example, row)]
    every = max(1, len(rows) // max(samples, 1))
    return Preflight(
        checks=tuple(
            _checks(
                tokenizer, sequences, max_tokens, serving_template_sha256, served or tokenizer.render_prompt
            )
        ),
        samples=tuple(
            _sample(tokenizer, sequence)
            for i in list(range(0, len(rows), every))[:samples]
            for sequence in _sequences(examples[i], rows[i])
        ),
        rows=len(rows),
        tokens=sum(r.tokens for r in rows),
        trained_tokens=sum(r.loss_tokens for r in rows),
        longest=max((len(s.rendered.ids) for s in sequences), default=0),
    )


def _sequences(example: Example, row: TrainingRow) -> list[_Sequence]:
    answers = [example.messages[s.turn].content for s in row.sequences]
    if example.rejected is not None:
        answers[1:] = [example.rejected]
    return [_Sequence(example, s, answer) for s, answer in zip(row.sequences, answers, strict=True)]


def _checks(
    tokenizer: ChatTokenizer,
    sequences: Sequence[_Sequence],
    max_tokens: int,
    serving_sha256: str,
    served: Served,
) -> Iterator[PreflightCheck]:
    wanted = {tokenizer.end_of_turn} if tokenizer.end_of_turn is not None else tokenizer.stop_ids
    stop = ", ".join(sorted(tokenizer.token_text(i) for i in wanted if i is not None)) or "none found"
    yield _check(
        "stop_token_trained",
        sequences,
        lambda s: bool(s.rendered.mask) and s.rendered.mask[-1] == 1 and s.rendered.ids[-1] in wanted,
        good=f"the stop token ({stop}) ends every row and is trained",
        fault=f"the stop token ({stop}) is not trained, so the model would never learn to stop,",
    )
    yield _check(
        "has_trained_tokens",
        sequences,
        lambda s: any(s.rendered.mask),
        good="every row has trained tokens",
        fault="no token at all would be trained",
    )
    yield _check(
        "not_truncated",
        sequences,
        lambda s: len(s.rendered.ids) <= max_tokens,
        good=f"no row is longer than {max_tokens} tokens, nothing is cut",
        fault=f"longer than {max_tokens} tokens and would have to be cut (set data.max_tokens to drop them)",
    )
    if tokenizer.chat_template_sha256 == serving_sha256:
        yield _check(
            "serving_template",
            sequences,
            lambda s: _begins_as_served(served, s),
            good="every row begins with exactly the tokens that serving will feed the model"
            + (f"; the day in its template is held at {tokenizer.day:%d %b %Y}" if tokenizer.day else ""),
            fault="training and serving tokenise the prompt differently",
        )
    else:
        yield PreflightCheck(
            name="serving_template",
            passed=False,
            rows=len({s.example.id for s in sequences}),
            sentence=f"the training template ({tokenizer.chat_template_sha256[:12]}) is not the serving "
            f"template ({serving_sha256[:12]})",
        )
    yield _check(
        "answer_as_given",
        sequences,
        lambda s: _ends_as_given(tokenizer, s),
        good="what is trained reads exactly as the answers given",
        fault="the template adds to or changes the answer, so the model would learn to write something else,",
    )


def _begins_as_served(served: Served, sequence: _Sequence) -> bool:
    """Tell whether a row begins with the ids of its prompt alone, which is what serving renders."""
    row = sequence.rendered
    before = sequence.example.messages[: row.turn]
    if all(m.role == "system" for m in before):
        return True  # the assistant speaks first: there is no request yet
    prompt = served(before)
    return prompt is None or (row.ids[: len(prompt)] == prompt and row.prompt_tokens == len(prompt))


def _ends_as_given(tokenizer: ChatTokenizer, sequence: _Sequence) -> bool:
    """Tell whether what follows the prompt reads as the answer, and nothing else.

    What the tokenizer itself cannot give back, such as a character that it does not know, is not asked of it.
    """
    written = tokenizer.decode(sequence.rendered.ids[sequence.rendered.prompt_tokens :]).strip()
    given = sequence.answer
    return written == given.strip() or written == tokenizer.decode(tokenizer.encode(given)).strip()


def _check(
    name: str, sequences: Sequence[_Sequence], holds: Callable[[_Sequence], bool], *, good: str, fault: str
) -> PreflightCheck:
    bad = {s.example.id: s.example for s in sequences if not holds(s)}
    if not bad:
        return PreflightCheck(name=name, passed=True, rows=0, sentence=good)
    which = ", ".join(first_of([f"{e.id} ({where(e)})" for e in bad.values()], _NAMED))
    return PreflightCheck(
        name=name, passed=False, rows=len(bad), sentence=f"{fault} in {len(bad)} rows: {which}"
    )


def _sample(tokenizer: ChatTokenizer, sequence: _Sequence) -> PreflightRow:
    row = sequence.rendered
    prompt_mask = row.prompt_mask or (0,) * len(row.ids)
    return PreflightRow(
        example_id=sequence.example.id,
        tokens=tuple(
            PreflightToken(text=tokenizer.token_text(i), trained=bool(m or p), prompt_loss=bool(p and not m))
            for i, m, p in zip(row.ids, row.mask, prompt_mask, strict=True)
        ),
    )
