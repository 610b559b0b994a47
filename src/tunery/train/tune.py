"""Search for train settings: trials of the recipe with other values, those that fall behind cut short.

Values are drawn by a tree-structured Parzen estimator; after each validation a trial goes on only where it is
among the best third of those that came as far (asynchronous successive halving). What was tried is kept in a
file, so that a search goes on where it was stopped.

Source:
    Bergstra et al. (2011), NeurIPS 24; Li et al. (2020), arXiv 1810.05934; both as Optuna has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationError

from tunery.core.config import Record
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.train.config import TrainConfig

if TYPE_CHECKING:
    import optuna

Value = str | int | float | bool | None
_LOG_FROM = 10.0
"""A range whose ends are this many times apart is searched by its logarithm."""


class Searched(NamedTuple):
    """One setting and the values that are tried."""

    name: str
    choices: tuple[Value, ...] = ()
    """Empty where a range is searched."""
    low: float = 0.0
    high: float = 0.0

    def draw(self, trial: optuna.Trial) -> Value:
        """Return the value of a trial."""
        found: Value
        if self.choices:
            found = trial.suggest_categorical(self.name, self.choices)
        else:
            log = self.low > 0 and self.high / self.low >= _LOG_FROM
            found = trial.suggest_float(self.name, self.low, self.high, log=log)
        return found


class TrialResult(Record):
    """What came of one trial."""

    number: int
    values: Mapping[str, Value]
    state: Literal["complete", "pruned", "failed"]
    """``pruned`` where it fell behind or diverged, or the time was over."""
    loss: float | None
    """Lowest validation loss that it reached [nats]."""
    validations: int
    """How far it came [count]."""


class Tuned(Record):
    """What a search has found so far."""

    study: str
    trials: tuple[TrialResult, ...]
    """In the order they began; the first one has the recipe's own settings."""

    @property
    def best(self) -> TrialResult | None:
        """The trial that was trained to its end with the lowest loss."""
        ended = [t for t in self.trials if t.state == "complete" and t.loss is not None]
        return min(ended, key=lambda trial: trial.loss or math.inf, default=None)


class TimeIsOver(Exception):  # noqa: N818 - an event, not a malfunction
    """The search's time ended in the middle of a trial."""


Report = Callable[[float], None]
"""Told each validation loss of a trial; raises where it is to go no further."""


def default_search(config: TrainConfig) -> tuple[Searched, ...]:
    """Return what is searched where nothing is named: the learning rate, and the rank beside it."""
    ranks = sorted({max(1, config.rank // 2), config.rank, 2 * config.rank, 4 * config.rank})
    rate = config.learning_rate
    return (
        Searched("learning_rate", low=rate / 5, high=min(1.0, rate * 5)),
        Searched("rank", choices=tuple(ranks)),
    )


def parse_search(text: str, config: TrainConfig) -> Searched:
    """Read ``learning_rate=1e-4:3e-3`` or ``rank=8,16,32``.

    Raises:
        ConfigError: It is written otherwise, or a value is none that the setting takes.
        NotFoundError: There is no such setting.
    """
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("train.")
    if not equals or not values.strip():
        raise ConfigError(
            f"--search {text!r} names no values", hint="--search learning_rate=1e-4:3e-3, or rank=8,16,32"
        )
    if name not in type(config).model_fields:
        raise NotFoundError.of("train setting", name, type(config).model_fields)
    if ":" in values:
        found = _range(name, values)
        tried: Sequence[Value] = (found.low, found.high)
    else:
        import yaml

        tried = tuple(yaml.safe_load(value) for value in values.split(","))
        found = Searched(name, choices=tuple(tried))
    for value in tried:
        with_values(config, {name: value})
    return found


def _range(name: str, values: str) -> Searched:
    try:
        low, high = (float(value) for value in values.split(":"))
    except ValueError:
        raise ConfigError(f"--search {name}={values}: a range is two numbers, low:high") from None
    if not low < high < math.inf:
        raise ConfigError(f"--search {name}={values}: the first number of a range is the smaller one")
    return Searched(name, low=low, high=high)


def with_values(config: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """Return the settings with some values in the place of others.

    Raises:
        ConfigError: A setting does not take its value.
    """
    try:
        return type(config).model_validate({**config.model_dump(), **values})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        written = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ConfigError(f"--search {written}: {reason}") from None


def search(  # noqa: PLR0913 - what is searched, and within which bounds
    study_id: str,
    journal: Path,
    searched: Sequence[Searched],
    config: TrainConfig,
    *,
    trial_of: Callable[[TrainConfig, Report], None],
    until: float,
    trials: int,
) -> Tuned:
    """Try settings until the time is over or enough were tried.

    Args:
        study_id: Name of the search.
        journal: File that keeps it; its trials are gone on from.
        searched: What is varied.
        config: Everything else, and what the first trial has.
        trial_of: Trains with settings and calls the report with every validation loss.
        until: When it ends, by :func:`time.monotonic` [s].
        trials: At most, those of earlier calls included [count].

    Raises:
        ConfigError: Optuna is not installed.
        ResourceError: The first trial cannot be trained; later ones are left out.
    """
    study = _study(study_id, journal, seed=config.seed)
    if not study.trials and all(_holds(one, getattr(config, one.name)) for one in searched):
        study.enqueue_trial({one.name: getattr(config, one.name) for one in searched})

    def objective(trial: optuna.Trial) -> float:
        values = {one.name: one.draw(trial) for one in searched}
        return _run_trial(trial, lambda report: trial_of(with_values(config, values), report), until)

    while len(_ended(study)) < trials and time.monotonic() < until:
        study.optimize(objective, n_trials=1)
    return Tuned(study=study_id, trials=tuple(map(_result, _ended(study))))


def _run_trial(trial: optuna.Trial, train: Callable[[Report], None], until: float) -> float:
    import optuna

    losses: list[float] = []

    def report(loss: float) -> None:
        losses.append(loss)
        trial.report(min(losses), len(losses))
        if time.monotonic() > until:
            raise TimeIsOver
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        train(report)
    except TimeIsOver:
        raise optuna.TrialPruned from None
    except ResourceError:  # it diverged, or its values need too much memory; others may not
        if trial.number == 0:
            raise
        raise optuna.TrialPruned from None
    if not losses:
        raise optuna.TrialPruned
    return min(losses)


def _study(study_id: str, journal: Path, *, seed: int) -> optuna.Study:
    try:
        import optuna
    except ImportError:
        raise ConfigError("a search needs Optuna", hint='pip install "tunery[tune]"') from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal))))
    study = optuna.create_study(
        storage=storage,
        study_name=study_id,
        load_if_exists=True,
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):  # of a process that was killed
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _holds(searched: Searched, value: Value) -> bool:
    if searched.choices:
        return value in searched.choices
    return isinstance(value, (int, float)) and searched.low <= value <= searched.high


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    states: dict[str, Literal["complete", "pruned", "failed"]] = {
        "COMPLETE": "complete",
        "PRUNED": "pruned",
    }
    return TrialResult(
        number=trial.number,
        values=trial.params,
        state=states.get(trial.state.name, "failed"),
        loss=min(trial.intermediate_values.values(), default=None),
        validations=len(trial.intermediate_values),
    )
