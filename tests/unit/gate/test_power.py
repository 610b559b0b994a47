"""Power of the paired test: against simulated pairs, and in the sentences that plan and run say."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tunery.core.evaluation import Evaluation, Metric
from tunery.evaluate.comparison import SIGNIFICANT
from tunery.gate.power import (
    after_baselines,
    before_anything,
    detectable_gain,
    discordant_share,
    rows_needed,
    rows_to_rule_out,
    undecidable,
    unmeasured,
)
from tunery.gate.rules import GateRule
from tunery.statistics.mcnemar import mcnemar_exact, newcombe_interval


@pytest.mark.parametrize(("gain", "discordant"), [(0.02, 0.1), (0.05, 0.1), (0.1, 0.4), (0.2, 0.2)])
def test_at_the_rows_needed_simulated_pairs_show_the_gain_four_times_in_five(
    gain: float, discordant: float
) -> None:
    rows, draw, trials = rows_needed(gain, discordant), np.random.default_rng(0), 600
    fixed = draw.binomial(rows, (discordant + gain) / 2, trials)
    broken = draw.binomial(rows - fixed, (discordant - gain) / 2 / (1 - (discordant + gain) / 2))
    shown = 0
    for won, lost in zip(fixed.tolist(), broken.tolist(), strict=True):
        a, b = [False] * won + [True] * lost, [True] * won + [False] * lost
        test = mcnemar_exact(a, b)
        shown += test.p_value < 0.05 and won > lost
    # The exact test is a little more careful than the normal one that rows are counted by.
    assert 0.68 < shown / trials < 0.86


def test_the_smallest_gain_is_the_one_whose_rows_there_are() -> None:
    for rows in (20, 63, 385, 3080):
        found = detectable_gain(rows, unmeasured)
        assert found is not None
        assert rows_needed(found, unmeasured(found)) <= rows
        less = found - 0.001
        assert rows_needed(less, unmeasured(less)) > rows
    assert detectable_gain(2, unmeasured) is None


@pytest.mark.parametrize("baseline", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_models_disagree_on_no_less_than_is_won_and_no_more_than_errors_allow(baseline: float) -> None:
    for gain in np.linspace(0.001, 1 - baseline, 20):
        share = discordant_share(baseline, float(gain))
        assert gain <= share <= 1
        assert share <= max(gain, 2 * (1 - baseline) - gain) + 1e-12


def test_before_anything_is_measured_the_sentence_names_gain_and_rows() -> None:
    said = before_anything(385, [0.02])
    assert said.startswith("385 test rows can show a gain of 4.6 points (paired test at 0.05, power 0.8")
    assert said.endswith("for 2.0 points that the gate asks for take 2,000")
    assert before_anything(3080, [0.05]).endswith("for 0.8 points take 13,000")
    assert "can show no gain at all" in before_anything(2, [0.05])


def test_no_gain_is_promised_to_rows_that_the_exact_test_cannot_show_it_on() -> None:
    for rows in range(1, 12):
        shown = mcnemar_exact([False] * rows, [True] * rows).p_value < SIGNIFICANT
        assert (detectable_gain(rows, unmeasured) is not None) == shown
    assert before_anything(5, []).endswith("can show no gain at all; take 6 at least")


def _evaluation(subject: str, value: float, n: int) -> Evaluation:
    metric = Metric(
        name="exact_match", title="exact match", value=value, n=n, ci95=(value, value), method="wilson",
        higher_is_better=True,
    )  # fmt: skip
    return Evaluation.model_construct(subject=subject, metrics={"exact_match": metric})


def test_once_baselines_are_measured_their_errors_count() -> None:
    measured = {
        "zero_shot": _evaluation("zero_shot", 0.62, 385),
        "few_shot": _evaluation("few_shot", 0.9, 385),
    }
    rule = GateRule(metric="exact_match", gain_over="best_baseline", by=0.02, significant=True)
    (said,) = after_baselines([rule, rule], measured)
    assert "is at 90.0 %: 385 test rows show gains from 5.3 points on; " in said
    assert said.endswith("would show the 2.0 points that the gate asks for")
    wide = GateRule(metric="exact_match", gain_over="few_shot", by=0.08, significant=True)
    plain = GateRule(metric="exact_match", gain_over="few_shot", by=0.02)
    assert after_baselines([wide, plain], measured) == []
    few = {"zero_shot": _evaluation("zero_shot", 0.9, 20)}
    assert "too few to show any gain" in after_baselines([rule], few)[0]
    assert detectable_gain(385, partial(discordant_share, 0.9), most=0.1) == pytest.approx(0.0529)
    for value in (1.0, 1.0 + 2**-52):  # a mean of floats may end behind 1
        assert (
            "100.0 %: nothing can gain over it"
            in after_baselines([rule], {"zero_shot": _evaluation("zero_shot", value, 20)})[0]
        )


def test_rules_that_their_rows_cannot_decide_are_named_with_the_rows_that_could() -> None:
    rules = [
        GateRule(metric="accuracy", on="general", no_worse_than="base", within=0.02),
        GateRule(metric="accuracy", on="large", no_worse_than="base", within=0.02),
        GateRule(metric="exact_match", at_least=0.99, ci=True),
        GateRule(metric="exact_match", at_least=0.5, ci=True),
        GateRule(metric="accuracy", on="general", no_worse_than="base"),
    ]
    rows = {None: 100, "general": 400, "large": 3000}
    found = undecidable(rules, lambda rule: rows[rule.on], alpha=0.05)
    assert len(found) == 3
    assert found[0].startswith(
        "general.accuracy no worse within 0.02: 400 rows of general can hardly show it"
    )
    assert found[0].endswith("take 2,000")
    assert "100 test rows can hardly show it (even with every answer right); take 390" in found[1]
    assert "no number of rows rules every loss out" in found[2]


def test_the_rows_that_rule_out_a_loss_do_so_as_often_as_they_should() -> None:
    generator = np.random.default_rng(1)
    rows = rows_to_rule_out(0.05)
    ruled_out = 0
    for _ in range(400):
        fixed, broken, _ = generator.multinomial(rows, [0.05, 0.05, 0.9])
        low = newcombe_interval(rows // 2, fixed, broken, rows - rows // 2 - fixed - broken).low
        ruled_out += low > -0.05
    assert 0.72 <= ruled_out / 400 <= 0.88
