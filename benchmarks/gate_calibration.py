"""How often the gate passes what it should not, and what it should: simulated pairs through the gate itself.

    python benchmarks/gate_calibration.py [--trials 1000]

Each line simulates pairs of models whose true difference is known, compares and judges them with the own
functions of the product, and prints the share that passed with its 95 % interval. It exits with 1 where a
share is above its bound. No model is run; one core for some ten minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from tunery.core.evaluation import Comparison, Evaluation, Metric, Prediction
from tunery.core.statistics import wilson_interval
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import GoalConfig
from tunery.gate.gate import GateEvidence, SuiteResult, judge
from tunery.gate.power import rows_needed, rows_to_rule_out
from tunery.gate.rules import GateConfig, gate_rules

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Scores of the opponent and of the tuned model on the same rows, each of shape (rows,)."""


class Line(NamedTuple):
    """One simulation."""

    what: str
    rules: Sequence[str]
    draw: Draw
    size: int = 1
    """Rows in a cluster."""
    hide: bool = False
    """Whether the clusters are kept from the gate, to show what they change."""
    at_most: float | None = None
    """Share that may pass."""
    second: Draw | None = None
    """Scores on a suite named ``general``."""


def right_wrong(rows: int, discordant: float, gain: float = 0.0, size: int = 1) -> Draw:
    """Return pairs of right and wrong answers; rows of one cluster come out alike with chance 0.8."""

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chances = [(discordant + gain) / 2, (discordant - gain) / 2, 1 - discordant]
        own = generator.choice(3, rows, p=chances)
        shared = np.repeat(generator.choice(3, -(-rows // size), p=chances), size)[:rows]
        kind = np.where(generator.random(rows) < (0.8 if size > 1 else 0.0), shared, own)
        even = generator.random(rows) < 0.6
        before = np.where(kind == 2, even, kind == 1)
        after = np.where(kind == 2, even, kind == 0)
        return before.astype(float), after.astype(float)

    return draw


def graded(rows: int, gain: float = 0.0) -> Draw:
    """Return pairs of graded scores, skewed as shares of fields right are."""

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        before = generator.integers(0, 5, rows) / 4
        after = generator.integers(0, 5, rows) / 4
        return before, np.clip(after + gain, 0, 1)

    return draw


def predictions(scores: np.ndarray, clusters: Sequence[str | None]) -> list[Prediction]:
    """Return scores as an evaluation would keep them."""
    return [
        Prediction(
            id=str(number),
            prediction="",
            reference="",
            correct=bool(score == 1),
            scores={"field_match": float(score)},
            cluster=cluster,
        )
        for number, (score, cluster) in enumerate(zip(scores, clusters, strict=True))
    ]


def evaluation(subject: str, scores: np.ndarray) -> Evaluation:
    """Return an evaluation of the metric that the rules are about."""
    low, high = wilson_interval(min(float(scores.sum()), len(scores)), len(scores))
    metric = Metric(
        name="field_match", value=float(scores.mean()), n=len(scores), ci95=(low, high), method="wilson"
    )
    return Evaluation(
        id=f"eval-{subject}",
        subject=subject,
        base="simulated",
        adapter=None,
        data="simulated",
        main_metric="field_match",
        metrics={"field_match": metric},
        config={},
        created_at=NOW,
        seconds=0.0,
    )


def compared(a: str, before: np.ndarray, after: np.ndarray, clusters: Sequence[str | None]) -> Comparison:
    """Compare two sets of scores as a run does."""
    pair = predictions(before, clusters), predictions(after, clusters)
    return compare(*pair, metric="field_match", names=(a, "tuned"))


def passes(line: Line, generator: np.random.Generator) -> tuple[bool, Comparison]:
    """Simulate once and judge."""
    before, after = line.draw(generator)
    clusters = [
        f"c{number // line.size}" if line.size > 1 and not line.hide else None
        for number in range(len(before))
    ]
    main = compared("few_shot", before, after, clusters)
    suites = {}
    if line.second is not None:
        was, now = line.second(generator)
        on = compared("base", was, now, [None] * len(was))
        suites["general"] = SuiteResult(evaluation("base", was), evaluation("tuned", now), (on,))
    evidence = GateEvidence(
        evaluation("tuned", after), {"few_shot": evaluation("few_shot", before)}, (main,), suites=suites
    )
    gate = GateConfig.model_validate({"rules": list(line.rules)})
    rules = gate_rules(GoalConfig(metric="field_match"), gate, dict.fromkeys(suites, "field_match"))
    return judge(rules, evidence, now=NOW).passed, main


SHOWN, BY_CI, NO_WORSE = (
    "gain over few_shot (shown)",
    "gain over few_shot >= 0.05 (ci)",
    "no worse than few_shot within 0.05",
)
HOLM = (SHOWN, "no_worse general within 0.05")
NEEDED = rows_needed(0.05, 0.2)
LINES = (
    Line("A/A, 200 rows, 10 % judged differently", (SHOWN,), right_wrong(200, 0.1), at_most=0.05),
    Line("A/A, 1,000 rows, 30 % judged differently", (SHOWN,), right_wrong(1000, 0.3), at_most=0.05),
    Line("A/A, 40 rows, 10 % judged differently", (SHOWN,), right_wrong(40, 0.1), at_most=0.05),
    Line("A/A, graded, 30 rows", (SHOWN,), graded(30), at_most=0.05),
    Line("A/A, graded, 200 rows", (SHOWN,), graded(200), at_most=0.05),
    Line("A/A, 60 clusters of 5", (SHOWN,), right_wrong(300, 0.2, size=5), 5, at_most=0.05),
    Line("A/A, 12 clusters of 20", (SHOWN,), right_wrong(240, 0.3, size=20), 20, at_most=0.05),
    Line("the same, clusters ignored", (SHOWN,), right_wrong(240, 0.3, size=20), 20, hide=True),
    Line(
        "true gain 5 points, 'gain >= 0.05 (ci)', 1,000 rows",
        (BY_CI,),
        right_wrong(1000, 0.2, 0.05),
        at_most=0.05,
    ),
    Line("the same, 60 clusters of 10", (BY_CI,), right_wrong(600, 0.2, 0.05, size=10), 10, at_most=0.05),
    Line(
        "true loss 5 points, 'no worse within 0.05', 300 rows",
        (NO_WORSE,),
        right_wrong(300, 0.1, -0.05),
        at_most=0.05,
    ),
    Line("the same, 30 clusters of 10", (NO_WORSE,), right_wrong(300, 0.1, -0.05, size=10), 10, at_most=0.05),
    Line(
        "no task gain, suite unharmed, two rules",
        HOLM,
        right_wrong(500, 0.2),
        at_most=0.05,
        second=right_wrong(400, 0.1),
    ),
    Line(
        "task gain, suite loses 5 points",
        HOLM,
        right_wrong(500, 0.3, 0.2),
        at_most=0.05,
        second=right_wrong(400, 0.1, -0.05),
    ),
    Line("loss of 20 points, 385 rows", (SHOWN, NO_WORSE), right_wrong(385, 0.3, -0.2), at_most=0.0),
    Line("the same, each rule alone: no worse", (NO_WORSE,), right_wrong(385, 0.3, -0.2), at_most=0.0),
    Line("gain of 0.2 points, 3,080 rows", (SHOWN,), right_wrong(3080, 0.1, 0.002), at_most=0.08),
    Line(f"power: gain 5 points, {NEEDED:,} rows (0.8 foretold)", (SHOWN,), right_wrong(NEEDED, 0.2, 0.05)),
    Line(
        f"power: nothing lost, {rows_to_rule_out(0.05)} rows, within 0.05 (0.8 foretold)",
        (NO_WORSE,),
        right_wrong(rows_to_rule_out(0.05), 0.1),
    ),
    Line(
        "power: task gain 20 points, suite unharmed (400 rows), two rules",
        HOLM,
        right_wrong(500, 0.3, 0.2),
        second=right_wrong(400, 0.1),
    ),
)


def main() -> int:
    """Print each line's share; return 1 where one is above its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    above = 0
    print(f"{trials} simulations a line, alpha 0.05")
    for number, line in enumerate(LINES):
        generator = np.random.default_rng(number)
        found = sum(passes(line, generator)[0] for _ in range(trials))
        low, high = wilson_interval(found, trials)
        over = line.at_most is not None and low > line.at_most
        above += over
        bar = "" if line.at_most is None else f"  at most {line.at_most:g}{'  ABOVE' if over else ''}"
        print(f"{found / trials:6.3f} ({low:.3f}-{high:.3f})  {line.what}{bar}", flush=True)
    print("two systems 0.2 points apart on 3,080 rows:", two_tenths())
    return 1 if above else 0


def two_tenths() -> str:
    """Return the verdict on 3,080 rows of which six more are right."""
    before = np.zeros(3080)
    after = before.copy()
    before[:2000], after[:2000] = 1, 1
    before[2000:2150], after[2150:2306] = 1, 1
    return compared("a", before, after, [None] * 3080).verdict


if __name__ == "__main__":
    sys.exit(main())
