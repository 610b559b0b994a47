"""A search begins with the recipe's settings, cuts short what falls behind, and goes on where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.sft import SftConfig
from tunery.train.tune import Report, Searched, Tuned, default_search, parse_search, search, with_values

CONFIG = SftConfig(learning_rate=1e-3, rank=8)
RATES = (Searched("learning_rate", low=1e-4, high=1e-1), Searched("rank", choices=(4, 8, 16)))


class Trainer:
    """Losses that fall to a floor which depends on the learning rate: the best is 0.01."""

    def __init__(self, *, stop: Callable[[int], None] = lambda number: None) -> None:
        self.tried: list[SftConfig] = []
        self.reported = 0
        self._stop = stop

    def __call__(self, config: SftConfig, report: Report) -> None:
        self.tried.append(config)
        floor = abs(math.log10(config.learning_rate) + 2) + 0.01 * config.rank
        for step in range(1, 9):
            self._stop(len(self.tried))
            self.reported += 1
            report(floor + 1 / step)


def searched(path: Path, trainer: Trainer, *, trials: int, seconds: float = 60) -> Tuned:
    return search(
        "tune-1",
        path / "tune" / "journal.log",
        RATES,
        CONFIG,
        trial_of=trainer,  # type: ignore[arg-type]
        until=time.monotonic() + seconds,
        trials=trials,
    )


def test_the_first_trial_is_the_recipe_and_the_best_one_is_better(tmp_path: Path) -> None:
    trainer = Trainer()
    found = searched(tmp_path, trainer, trials=25)
    assert len(found.trials) == 25
    assert dict(found.trials[0].values) == {"learning_rate": 1e-3, "rank": 8}
    assert found.trials[0].state == "complete"
    assert found.best is not None
    assert found.best.loss is not None
    assert found.best.loss < 0.7 * found.trials[0].loss  # type: ignore[operator]
    assert {t.state for t in found.trials} == {"complete", "pruned"}
    assert trainer.reported < 25 * 8  # what fell behind was not trained to its end
    assert all(t.validations < 8 for t in found.trials if t.state == "pruned")


def test_a_search_goes_on_behind_what_a_killed_process_had_tried(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(number: int) -> None:
        if number == 4:
            raise Killed

    with pytest.raises(Killed):
        searched(tmp_path, Trainer(stop=die), trials=10)
    trainer = Trainer()
    found = searched(tmp_path, trainer, trials=10)
    assert [t.number for t in found.trials] == list(range(10))
    assert [t.state for t in found.trials].count("failed") == 1
    assert len(trainer.tried) == 6
    assert searched(tmp_path, trainer, trials=10) == found
    assert len(trainer.tried) == 6


def test_the_time_ends_a_trial_between_two_validations(tmp_path: Path) -> None:
    slow = Trainer(stop=lambda number: time.sleep(0.02))
    started = time.monotonic()
    found = searched(tmp_path, slow, trials=1000, seconds=0.5)
    assert time.monotonic() - started < 5
    assert found.trials[-1].state in ("complete", "pruned")
    assert 0 < len(found.trials) < 1000


def test_a_trial_that_diverges_ends_no_search_unless_it_is_the_recipe_itself(tmp_path: Path) -> None:
    def diverge(first: int) -> Callable[[int], None]:
        def stop(number: int) -> None:
            if number >= first:
                raise ResourceError("the model diverged")

        return stop

    found = searched(tmp_path / "later", Trainer(stop=diverge(2)), trials=4)
    assert [t.state for t in found.trials] == ["complete", "pruned", "pruned", "pruned"]
    with pytest.raises(ResourceError):
        searched(tmp_path / "first", Trainer(stop=diverge(1)), trials=4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=1e-4:3e-3", Searched("learning_rate", low=1e-4, high=3e-3)),
        ("train.rank=8, 16,32", Searched("rank", choices=(8, 16, 32))),
        ("schedule=cosine,linear", Searched("schedule", choices=("cosine", "linear"))),
        ("early_stopping=null,3", Searched("early_stopping", choices=(None, 3))),
    ],
)
def test_what_is_searched_is_written_as_settings_are(text: str, expected: Searched) -> None:
    assert parse_search(text, CONFIG) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rank", "names no values"),
        ("rank=", "names no values"),
        ("rank=0,8", "greater than or equal to 1"),
        ("learning_rate=1e-3:1e-4", "the first number of a range is the smaller one"),
        ("learning_rate=fast:slow", "a range is two numbers"),
        ("learning_rate=1:2", "less than or equal to 1"),
    ],
)
def test_what_no_setting_takes_is_refused_before_anything_is_trained(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_search(text, CONFIG)


def test_an_unknown_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'rank'"):
        parse_search("rnak=8,16", CONFIG)


def test_by_default_the_learning_rate_and_the_rank_are_searched_around_the_recipes() -> None:
    rate, rank = default_search(DpoConfig(rank=16, learning_rate=1e-4))
    assert (rate.name, rate.low, rate.high) == ("learning_rate", pytest.approx(2e-5), pytest.approx(5e-4))
    assert rank == Searched("rank", choices=(8, 16, 32, 64))
    assert with_values(DpoConfig(), {"rank": 8, "beta": 0.5}).model_dump()["beta"] == 0.5
