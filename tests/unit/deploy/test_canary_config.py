"""Canary settings: bounds, and that a canary always ends."""

from __future__ import annotations

import pytest

from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError
from tunery.deploy.config import CanaryConfig, DeployConfig


def test_the_defaults_are_a_tenth_of_the_traffic_for_500_challenger_requests():
    canary = DeployConfig().canary
    assert (canary.percent, canary.horizon_requests, canary.on_horizon) == (10.0, 500, "promote")


def test_every_setting_says_what_it_does():
    for model in (CanaryConfig, DeployConfig):
        for name, field in model.model_fields.items():
            assert field.description, name


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"percent": 0}, "percent"),
        ({"percent": 100}, "percent"),
        ({"alpha": 0}, "alpha"),
        ({"max_error_rate_increase": -0.1}, "max_error_rate_increase"),
        ({"max_latency_p95_ratio": 0}, "max_latency_p95_ratio"),
        ({"horizon_requests": None}, "needs an end"),
        ({"precent": 5}, "did you mean 'percent'"),
    ],
)
def test_a_canary_that_makes_no_sense_is_refused(values, named):
    with pytest.raises(ConfigError, match=named):
        parse_settings(CanaryConfig, values, where="deploy.canary")


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError, match="2 problems"):
        parse_settings(CanaryConfig, {"percent": 200, "alpha": 2}, where="deploy.canary")
