"""The report of a run for a pull request: the verdict, the figures and the rules, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunery.core.figures import (
    change,
    count,
    is_rate,
    metric_interval,
    metric_value,
    one_line,
    p_value,
    subject_name,
)
from tunery.core.markdown import bullets, code, inline, table
from tunery.report.inputs import ReportInputs
from tunery.report.paired import ExampleCard, cards_of, pairs_of
from tunery.report.results import ordered_evaluations, rule_as_written
from tunery.report.text import visible
from tunery.report.verdict import rule_in_words, verdict_of
from tunery.text.pii.mask import redact

_MARKS = {"ship": "✅", "refused": "❌", "open": "⚪"}
_CARDS = 5
"""Answers that a summary shows of those that broke, and of those that were fixed [count]."""
_LONGEST = 120
"""Characters of an answer that a table's cell shows [count]."""
_CALLS = re.compile(r"(?<![A-Za-z0-9`])([@#!~$%])(?=\w)")
"""What makes a link to a person or an issue of a text, behind any escape."""


def render_markdown(inputs: ReportInputs) -> str:
    """Return the summary of a run, fit for a comment on a pull request.

    Words of users and models stay words: nothing in them becomes a table's cell, markup, a link or a call to
    a person.
    """
    verdict = verdict_of(inputs)
    parts = [
        f"## {_MARKS[verdict.kind]} {_plain(inputs.run.name)}",
        f"**{verdict.word}:** {_plain(verdict.sentence)}",
        bullets(map(_plain, verdict.reasons)) if verdict.reasons and not inputs.gate else "",
        _figures(inputs),
        *_gate(inputs),
        *(["### Worth it?", bullets(map(_plain, inputs.worth))] if inputs.worth else []),
        *_flips(inputs),
        *(["### Warnings", bullets(map(_plain, inputs.warnings))] if inputs.warnings else []),
        _evidence(inputs),
    ]
    return visible("\n\n".join(part for part in parts if part)) + "\n"


def _figures(inputs: ReportInputs) -> str:
    rows = []
    for subject, evaluation in ordered_evaluations(inputs):
        metric, compared = inputs.main_of(evaluation), inputs.comparisons.get(subject)
        if metric is None:
            continue
        ahead = ""
        if compared is not None:
            ahead = f"{change(compared.difference, share=is_rate(metric))} ({p_value(compared.p_value)})"
        cells = [
            _plain(subject_name(subject)),
            metric_value(metric),
            metric_interval(metric),
            count(metric.n),
            ahead,
        ]
        rows.append([f"**{cell}**" if cell else "" for cell in cells] if subject == "tuned" else cells)
    if not rows:
        return ""
    main = next(m for _, e in ordered_evaluations(inputs) if (m := inputs.main_of(e)))
    return table(["", _plain(main.title), "95 % interval", "n", "tuned is ahead by"], rows)


def _gate(inputs: ReportInputs) -> Iterable[str]:
    if inputs.gate is None:
        return
    yield "### Gate"
    yield table(
        ["", "rule", "what was found"],
        (
            [
                "✅" if rule.passed else "❌",
                f"`{code(rule_as_written(rule))}`",
                _plain(rule_in_words(rule)),
            ]
            for rule in inputs.gate.rules
        ),
    )


def _flips(inputs: ReportInputs) -> Iterable[str]:
    pairs = pairs_of(inputs)
    if not pairs:
        return
    yield "### Fixed and broken"
    yield _plain(f"{pairs[0].what} {pairs[0].luck}")
    if inputs.run.judged:
        yield _plain(str(inputs.run.judged["sentence"]))
    cards = cards_of(inputs)
    if cards is None:
        return
    header = ["", "row", "should be", subject_name(cards.subject), subject_name("tuned")]
    shown = [("broken", card) for card in cards.broken[:_CARDS]] + [
        ("fixed", c) for c in cards.fixed[:_CARDS]
    ]
    rows = [[word, *_card(card)] for word, card in shown]
    yield f"<details><summary>Some of them</summary>\n\n{table(header, rows)}\n\n</details>"


def _card(card: ExampleCard) -> list[str]:
    asked = card.turns[-1].content if card.turns else card.where
    return [_said(text) for text in (asked, card.reference, card.before, card.after)]


def _evidence(inputs: ReportInputs) -> str:
    evidence = inputs.run.evidence
    if evidence is None:
        return f"Run `{inputs.run.id}`."
    rows = [
        [_plain(what), f"`{code(name)}`" if name else "", f"`{sha256}`" if sha256 else ""]
        for what, name, sha256 in evidence.facts()
    ]
    facts = table(["what", "id", "sha256"], rows)
    verify = f"`tunery evaluate verify {inputs.run.id}` computes them again."
    return f"<details><summary>Evidence</summary>\n\n{facts}\n\n{verify}\n\n</details>"


def _said(text: str | None) -> str:
    """Return what a user or a model wrote as code: within it nothing is markup, a link or a call.

    A comment may be read by many, so it is without keys and personal data, whatever the recipe.
    """
    if text is None:
        return ""
    shown = code(one_line(redact(text), _LONGEST))
    return shown if shown == "(empty)" else f"`{shown}`"


def _plain(text: str) -> str:
    """Return one of our sentences, which may quote others, as text that calls nobody and links nothing."""
    return _CALLS.sub("\\1&#8203;", inline(text).replace("&", "&amp;"))
