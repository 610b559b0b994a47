"""A recording as a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from tunery.core.errors import first_of
from tunery.core.figures import counted, percent, usd
from tunery.data.version.reasons import meaning
from tunery.pipeline.rescue.record import SURE, Recorded

_SHOWN = 20
"""Of the rows that are left out [count]."""


def recorded_lines(found: Recorded) -> Iterator[str]:
    """Yield what is recorded of a model, a sentence each."""
    for portion, prompts in found.prompts.items():
        there = found.answers.get(portion, 0)
        use = "only compares, never trains" if portion == "holdout" else f"for {portion}"
        yield f"{portion}: {there:,} of {counted(prompts, 'prompt')} recorded, {use}"
    cost = f", {usd(found.usd)}" if found.usd is not None else ""
    bought = counted(found.bought, "answer")
    yield f"spent by all calls: {found.tokens:,} tokens{cost}; this call bought {bought}"
    if found.lost:
        yield (
            f"{found.lost:,} of these tokens were in flight when a call was killed: nobody knows whether "
            "they were billed, so they count"
        )
    if found.truths:
        share = percent(found.right / found.truths)
        yield f"the old model answers as its rows' owner did in {share} of {counted(found.truths, 'row')}"
    if found.repeated:
        yield (
            f"asked twice, it answers {counted(found.repeated, 'prompt')} alike in "
            f"{percent(found.same / found.repeated)}: what differs is its own noise"
        )
    if any(found.answers.values()):
        yield "log-probabilities: " + ("with every answer" if found.logprobs else "the source offers none")
    if found.sure or found.unsure:
        short = counted(found.sure + found.unsure, "short answer")
        yield f"the old model is less than {percent(SURE)} sure of {found.unsure:,} of {short}"
    if found.tool_calls:
        yield f"{counted(found.tool_calls, 'answer')} call tools"
    if found.cut:
        yield f"{counted(found.cut, 'answer')} ended at the limit of tokens and are cut short: --max-tokens"
    if found.given:
        yield f"{counted(found.given, 'answer')} of this server's log, of the time it was forwarded to"
    for reason, count in found.skipped.items():
        yield f"left out, {counted(count, 'request')} of this server's log: {meaning(reason)}"
    if found.left_out:
        yield f"left out, {counted(len(found.left_out), 'row')} that could not be understood:"
        yield from first_of(found.left_out, _SHOWN)
    for reason, count in found.failed.items():
        yield f"not recorded, {counted(count, 'prompt')}: {reason}"


def recorded_page(found: Recorded) -> str:
    """Return the page of a recording."""
    return (
        "\n".join([f"# Recorded of {found.model}", "", *(f"- {line}" for line in recorded_lines(found))])
        + "\n"
    )
