"""The verdict on two arms' counts, apart from any store."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.deploy.config import CanaryConfig
from tunery.deploy.guards import weigh
from tunery.store.requests import Tally


def tally(requests: int = 0, errors: int = 0, **more: int | float | None) -> Tally:
    counts = {"format_checked": 0, "format_valid": 0, "rated": 0, "liked": 0}
    latencies = {"latency_ms_p50": None, "latency_ms_p95": None}
    return Tally(requests=requests, errors=errors, **{**counts, **latencies, **more})


def test_all_watched_guards_share_alpha_equally():
    both = tally(100, format_checked=100, format_valid=100, rated=10, liked=10)
    judged = weigh(CanaryConfig(alpha=0.06), both, both, hours=0)
    assert [g.guard for g in judged.guards] == ["error rate", "invalid format", "dislikes"]
    assert {round(g.confidence, 9) for g in judged.guards} == {0.98}
    alone = CanaryConfig(alpha=0.06, max_format_invalid_increase=None, max_dislike_increase=None)
    assert [round(g.confidence, 9) for g in weigh(alone, both, both, hours=0).guards] == [0.94]


def test_a_guard_without_observations_has_no_reading():
    judged = weigh(CanaryConfig(), tally(100), tally(30), hours=0)
    assert [g.guard for g in judged.guards] == ["error rate"]


def test_nothing_is_judged_before_the_least_number_of_requests():
    judged = weigh(CanaryConfig(min_requests=20), tally(500), tally(19, errors=19), hours=999)
    assert judged.action == "continue"
    assert (
        weigh(CanaryConfig(min_requests=20), tally(500), tally(20, errors=20), hours=0).action == "rollback"
    )


def test_both_horizons_must_be_reached_where_both_are_set():
    rule = CanaryConfig(horizon_requests=50, horizon_hours=24)
    for requests, hours, action in ((50, 23, "continue"), (49, 25, "continue"), (50, 24, "promote")):
        assert weigh(rule, tally(500), tally(requests), hours=hours).action == action


def test_a_broken_guard_outweighs_a_horizon_that_is_reached():
    rule = CanaryConfig(horizon_requests=50)
    assert weigh(rule, tally(500), tally(50, errors=40), hours=0).action == "rollback"


def test_a_promotion_says_which_increase_it_could_not_rule_out():
    judged = weigh(CanaryConfig(horizon_requests=50), tally(500, errors=5), tally(50), hours=0)
    assert judged.action == "promote"
    assert "0.0 % (0 of 50) against the champion's 1.0 % (5 of 500)" in judged.reason
    high = judged.guards[0].high
    assert high > 0.02
    assert f"up to {100 * high:.1f} points remain possible" in judged.reason


def test_a_challenger_shown_to_be_no_worse_is_called_so():
    judged = weigh(CanaryConfig(), tally(90_000, errors=900), tally(10_000, errors=100), hours=0)
    assert judged.guards[0].verdict == "not worse"
    assert "within the 2.0 points tolerated" in judged.reason


def test_a_champion_that_has_answered_nobody_cannot_convict_a_sound_challenger():
    judged = weigh(CanaryConfig(), tally(0), tally(60, errors=1), hours=0)
    assert judged.action == "continue"
    assert "unknown (0 of 0)" in judged.reason


@settings(max_examples=60)
@given(st.integers(20, 150), st.integers(0, 300), st.data())
def test_a_challenger_whose_rate_is_not_above_the_champions_is_never_rolled_back(n, champion_n, data):
    errors = data.draw(st.integers(0, n))
    champion_errors = data.draw(st.integers(-(-errors * champion_n // n), champion_n)) if champion_n else 0
    judged = weigh(CanaryConfig(), tally(champion_n, champion_errors), tally(n, errors), hours=0)
    assert judged.action != "rollback" or champion_n == 0


def test_a_judgement_can_be_printed_as_json_and_read_back():
    judged = weigh(CanaryConfig(), tally(90, errors=2), tally(60, errors=1), hours=0)
    assert type(judged).model_validate_json(judged.model_dump_json()) == judged
