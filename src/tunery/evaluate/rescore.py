"""Scores that files of answers lack: our scorers on the texts that stand in them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.example import Example, Message
from tunery.evaluate.corpus import corpus_names
from tunery.evaluate.metrics import declaration_of
from tunery.evaluate.pairing import Paired, Row
from tunery.evaluate.predictions import PredictionRow
from tunery.evaluate.scorers import ScorerOptions, make_scorer, scorer_names

_SHOWN = 10
_GIVEN_BY_TEXTS = {"labels", "json"}
"""What a scorer may need that references alone can give."""


def scored(rows: Paired, metric: str) -> Paired:
    """Return the rows with a score of ``metric`` on both sides, judged by one rule.

    That is the files' own score where all rows have it, else our scorer's of that name.

    Raises:
        ConfigError: Neither can be had, or a score is no number; says what there is.
    """
    if needed := declaration_of(metric).scores:
        _refuse_no_numbers(rows, *needed)
        return rows
    is_corpus = metric in corpus_names()
    if not is_corpus and all(metric in row.scores for pair in rows.pairs for row in pair):
        _refuse_no_numbers(rows, metric)
        return rows
    if not is_corpus and metric.partition(".")[0] not in scorer_names():
        raise _unknown(rows, metric)
    lacking = [
        f"id {row.id!r:.80}: no {'prediction' if row.prediction is None else 'reference'} in {name}"
        for pair in rows.pairs
        for name, row in zip(rows.names, pair, strict=True)
        if row.prediction is None or (pair[0].reference is None and pair[1].reference is None)
    ]
    if lacking:
        where = " and ".join(rows.names)
        raise ConfigError.of_problems(f"{metric} needs the texts of {where}", lacking, limit=_SHOWN)
    if is_corpus:
        return rows
    needs = {*declaration_of(metric).needs} - _GIVEN_BY_TEXTS
    if needs:
        raise ConfigError(f"{metric} needs {listed(sorted(needs), _SHOWN)}, which no file of answers has")
    return _by_our_scorer(rows, metric)


def _by_our_scorer(rows: Paired, metric: str) -> Paired:
    name, _, part = metric.partition(".")
    references = [str(x.reference if x.reference is not None else y.reference) for x, y in rows.pairs]
    labels = tuple(sorted({*references})) if "labels" in declaration_of(metric).needs else None
    scorer = make_scorer(name, ScorerOptions(labels=labels, references=tuple(references)))

    def judge(row: Row, reference: str) -> Row:
        example = Example(
            id=row.id,
            group=row.id,
            messages=(Message(role="user", content=""), Message(role="assistant", content=reference)),
        )
        parts: Mapping[str, float] = scorer.parts(row.prediction or "", example) if part else {}  # type: ignore[attr-defined]
        found = parts.get(part, 0.0) if part else scorer.score(row.prediction or "", example)
        right = scorer.correct(row.prediction or "", example)
        return PredictionRow(row.id, row.prediction, reference, right, {metric: found}, row.cluster)

    pairs = [(judge(x, r), judge(y, r)) for (x, y), r in zip(rows.pairs, references, strict=True)]
    return rows._replace(pairs=pairs)


def _refuse_no_numbers(rows: Paired, *scores: str) -> None:
    bad = [
        f"id {row.id!r:.80}: {score} is {row.scores[score]} in {name}"
        for pair in rows.pairs
        for name, row in zip(rows.names, pair, strict=True)
        for score in scores
        if not math.isfinite(row.scores.get(score, 0.0))
    ]
    if bad:
        raise ConfigError.of_problems("a score that is no number cannot be compared", bad, limit=_SHOWN)


def _unknown(rows: Paired, metric: str) -> ConfigError:
    there = set.intersection(*({*row.scores} for pair in rows.pairs for row in pair))
    known = sorted({*there, *scorer_names(), *corpus_names()})
    shown = f"both files have {listed(sorted(there), _SHOWN) or 'no scores'}"
    some = sum(metric in row.scores for pair in rows.pairs for row in pair)
    lacking = (
        f"{2 * len(rows.pairs) - some} of {2 * len(rows.pairs)} rows have no score of it; " if some else ""
    )
    return ConfigError(
        f"--metric {metric}: {lacking}it is no scorer either{did_you_mean(metric, known)} "
        f"({shown}; scorers: {', '.join(scorer_names())})",
        param="metric",
    )
