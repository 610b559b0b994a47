"""Looking back with the flight recorder: at which steps the loss rose, and which rows were there."""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.train.recorder import Recorded

_WINDOW = 50
_FEWEST = 5
_NAMED = 3


class Spike(Record):
    """A step whose loss was above that of the steps before it."""

    step: int
    loss: float
    """Of the step, as the sum of its rows' shares [nats]."""
    usual: float
    """Median of up to 50 steps before it [nats]."""
    rows: tuple[str, ...]
    """Ids of the rows that added most, at most three."""

    @property
    def factor(self) -> float:
        """The loss in multiples of the usual one; infinite where it is no number."""
        return self.loss / self.usual if math.isfinite(self.loss) and self.usual > 0 else math.inf


class RowThen(Record):
    """A row of a step."""

    id: str
    loss: float
    """Mean over the row's own tokens, or of its pair [nats]."""
    share: float
    """What it added to the step's loss [nats]."""
    before: tuple[float, ...]
    """Its losses in earlier steps, the first one first [nats]."""
    after: tuple[float, ...]
    """Its losses in later steps [nats]."""
    usual: float | None
    """Median of the rows of up to 50 steps before [nats]; None at the first step."""


class Rewound(Record):
    """A step that was looked back at."""

    step: int
    steps: int
    """That were recorded, up to this last one [count]."""
    loss: float
    """See :class:`Spike`."""
    usual: float | None
    """Median of up to 50 steps before it [nats]; None at the first step."""
    rows: tuple[RowThen, ...]
    """Those that added most first."""


def spikes(recorded: Recorded, *, limit: int = 10) -> list[Spike]:
    """Return the steps whose loss rose most above the median of those before, in multiples of it.

    The first five steps have too little before them.
    """
    steps, losses = _steps(recorded)
    found = []
    for i in range(_FEWEST, len(steps)):
        before = [loss for loss in losses[max(0, i - _WINDOW) : i] if math.isfinite(loss)]
        if before and not losses[i] <= median(before):
            found.append((int(steps[i]), float(losses[i]), median(before)))
    return [
        Spike(step=step, loss=loss, usual=usual, rows=tuple(_most(recorded, step)))
        for step, loss, usual in sorted(found, key=_highest_first)[:limit]
    ]


def rewind(recorded: Recorded, step: int) -> Rewound:
    """Return what a step's rows were and did.

    Raises:
        ConfigError: The step was not recorded.
    """
    steps, losses = _steps(recorded)
    rows = recorded.of_step(step)
    if not rows:
        raise ConfigError(
            f"step {step} was not recorded; there are steps {steps[0]:,} to {steps[-1]:,}"
            if len(steps)
            else "no step was recorded yet"
        )
    earlier = losses[max(0, int(np.searchsorted(steps, step)) - _WINDOW) : np.searchsorted(steps, step)]
    window = recorded.loss[(recorded.step < step) & (recorded.step >= step - _WINDOW)]
    index = {identity: i for i, identity in enumerate(recorded.ids)}
    then = []
    for row in rows:
        own = recorded.row == index[row.id]
        then.append(
            RowThen(
                id=row.id,
                loss=row.loss,
                share=row.share,
                before=tuple(recorded.loss[own & (recorded.step < step)].tolist()),
                after=tuple(recorded.loss[own & (recorded.step > step)].tolist()),
                usual=_median(window),
            )
        )
    return Rewound(
        step=step,
        steps=int(steps[-1]),
        loss=float(losses[np.searchsorted(steps, step)]),
        usual=_median(earlier),
        rows=tuple(sorted(then, key=lambda row: (not math.isnan(row.share), -row.share, row.id))),
    )


def _steps(recorded: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and the loss of each; both have the shape ``(steps,)``."""
    steps, begins = np.unique(recorded.step, return_index=True)
    if not len(steps):
        return steps, np.empty(0)
    return steps, np.add.reduceat(recorded.share.astype(np.float64), begins)


def _highest_first(spike: tuple[int, float, float]) -> tuple[float, int]:
    step, loss, usual = spike
    return (-(loss / usual if math.isfinite(loss) and usual > 0 else math.inf), step)


def _most(recorded: Recorded, step: int) -> list[str]:
    rows = sorted(recorded.of_step(step), key=lambda row: (not math.isnan(row.share), -row.share))
    return [row.id for row in rows[:_NAMED]]


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None
