"""Before any compute is spent: are the exact tokens and the loss mask right?"""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.config import Record
from tunery.core.errors import ConfigError, listed
from tunery.core.example import Example
from tunery.model.render import Rendered
from tunery.model.tokenizer import ChatTokenizer

_SHOWN = 5


class PreflightToken(Record):
    """One token as it will be trained."""

    text: str
    trained: bool


class PreflightRow(Record):
    """One row as it will be trained."""

    example_id: str
    tokens: tuple[PreflightToken, ...]


class Check(Record):
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

    checks: tuple[Check, ...]
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


def preflight(
    tokenizer: ChatTokenizer,
    examples: Sequence[Example],
    rows: Sequence[Rendered],
    *,
    max_tokens: int,
    serving_template_sha256: str,
    samples: int = 3,
) -> Preflight:
    """Check every row that training would see.

    Args:
        tokenizer: The training tokenizer.
        examples: Shape ``(n_rows,)``.
        rows: The same rows, rendered.
        max_tokens: Longest row that training and the base's context window allow [count].
        serving_template_sha256: Hash of the template that serving renders with.
        samples: Rows to show, spread evenly.

    Returns:
        All checks, failed ones included; nothing is raised here.
    """
    checks = (
        _stop_token(tokenizer, examples, rows),
        _trained(examples, rows),
        _truncated(examples, rows, max_tokens),
        _template(tokenizer, examples, rows, serving_template_sha256),
        _answer(tokenizer, examples, rows),
    )
    every = max(1, len(rows) // max(samples, 1))
    return Preflight(
        checks=checks,
        samples=tuple(
            _show(tokenizer, examples[i], rows[i]) for i in list(range(0, len(rows), every))[:samples]
        ),
        rows=len(rows),
        tokens=sum(len(r.ids) for r in rows),
        trained_tokens=sum(sum(r.mask) for r in rows),
        longest=max((len(r.ids) for r in rows), default=0),
    )


def _stop_token(tokenizer: ChatTokenizer, examples: Sequence[Example], rows: Sequence[Rendered]) -> Check:
    wanted = {tokenizer.end_of_turn} if tokenizer.end_of_turn is not None else tokenizer.stop_ids
    bad = [
        e.id
        for e, r in zip(examples, rows, strict=True)
        if not (r.mask and r.mask[-1] == 1 and r.ids[-1] in wanted)
    ]
    stop = ", ".join(sorted(tokenizer.token_text(i) for i in wanted if i is not None)) or "none found"
    return _check(
        "stop_token_trained",
        bad,
        good=f"the stop token ({stop}) ends every row and is trained",
        fault=f"the stop token ({stop}) is not trained, so the model would never learn to stop,",
    )


def _trained(examples: Sequence[Example], rows: Sequence[Rendered]) -> Check:
    bad = [e.id for e, r in zip(examples, rows, strict=True) if not any(r.mask)]
    return _check(
        "has_trained_tokens",
        bad,
        good="every row has trained tokens",
        fault="no token at all would be trained",
    )


def _truncated(examples: Sequence[Example], rows: Sequence[Rendered], max_tokens: int) -> Check:
    bad = [e.id for e, r in zip(examples, rows, strict=True) if len(r.ids) > max_tokens]
    return _check(
        "not_truncated",
        bad,
        good=f"no row is longer than {max_tokens} tokens, nothing is cut",
        fault=f"longer than {max_tokens} tokens and would have to be cut (set data.max_tokens to drop them)",
    )


def _template(
    tokenizer: ChatTokenizer, examples: Sequence[Example], rows: Sequence[Rendered], serving_sha256: str
) -> Check:
    """Serving renders the prompt alone; its ids must be what the row begins with."""
    if tokenizer.chat_template_sha256 != serving_sha256:
        return Check(
            name="serving_template",
            passed=False,
            rows=len(rows),
            sentence=f"the training template ({tokenizer.chat_template_sha256[:12]}) is not the serving "
            f"template ({serving_sha256[:12]})",
        )
    bad = []
    for example, row in zip(examples, rows, strict=True):
        prompt = tokenizer.render_prompt(example.prompt)
        if row.ids[: len(prompt)] != prompt or row.prompt_tokens != len(prompt):
            bad.append(example.id)
    return _check(
        "serving_template",
        bad,
        good="every row begins with exactly the tokens that serving will feed the model",
        fault="training and serving tokenise the prompt differently",
    )


def _answer(tokenizer: ChatTokenizer, examples: Sequence[Example], rows: Sequence[Rendered]) -> Check:
    """What is trained after the prompt must read as the answer that will be asked for, and nothing else."""
    bad = []
    for example, row in zip(examples, rows, strict=True):
        written = tokenizer.decode(row.ids[row.prompt_tokens :])
        if written.strip() != tokenizer.decode(tokenizer.encode(example.reference)).strip():
            bad.append(example.id)
    return _check(
        "answer_as_given",
        bad,
        good="what is trained reads exactly as the answers given",
        fault="the template adds to or changes the answer, so the model would learn to say something else,",
    )


def _check(name: str, bad: Sequence[str], *, good: str, fault: str) -> Check:
    if not bad:
        return Check(name=name, passed=True, rows=0, sentence=good)
    sentence = f"{fault} in {len(bad)} rows: {listed(bad, _SHOWN)}"
    return Check(name=name, passed=False, rows=len(bad), sentence=sentence)


def _show(tokenizer: ChatTokenizer, example: Example, row: Rendered) -> PreflightRow:
    tokens = tuple(
        PreflightToken(text=tokenizer.token_text(i), trained=bool(m))
        for i, m in zip(row.ids, row.mask, strict=True)
    )
    return PreflightRow(example_id=example.id, tokens=tokens)
