"""Which stages a run went through, how long each took, and where it stopped."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tunery.report.inputs import ReportInputs

Status = Literal["done", "stopped", "running", "not reached"]

_STANDING: dict[str, Status] = {"failed": "stopped", "cancelled": "stopped", "running": "running"}
"""What the first stage that is not done is, by the status of its run."""
_TITLES = {
    "data": "Data cleaned and split",
    "preflight": "Tokens and loss mask checked",
    "baseline": "Prompting measured",
    "train": "Adapter trained",
    "evaluate": "Tuned model measured",
    "gate": "Gate judged",
    "register": "Model version registered",
}
"""The loop's stages in its order, by the names they are timed under."""


class Stage(NamedTuple):
    """One line of the run's story."""

    name: str
    title: str
    status: Status
    seconds: float | None
    """Wall time [s]."""


def stages_of(inputs: ReportInputs) -> list[Stage]:
    """Return every stage of the loop in order, then any other that was timed.

    A stage is done when what it leaves is there, or when a later one was begun. The first that is not done
    is where the run stopped, except after a refusal, where registering was never meant to happen.
    """
    seconds, present = inputs.run.seconds, _artifacts(inputs)
    stages, ended = [], False
    for i, (name, title) in enumerate(_TITLES.items()):
        later = list(_TITLES)[i + 1 :]
        done = present[name] or any(present[other] or other in seconds for other in later)
        status: Status = "done" if done else "not reached"
        if not done and not ended:
            ended = True
            status = _STANDING.get(inputs.run.status, status)
        stages.append(Stage(name, title, status, seconds.get(name)))
    others = [name for name in seconds if name not in _TITLES]
    stages += [Stage(name, name.replace("_", " ").capitalize(), "done", seconds[name]) for name in others]
    return stages


def stopped_at(inputs: ReportInputs) -> Stage | None:
    """Return the stage that a failed, cancelled or running run is at."""
    return next((s for s in stages_of(inputs) if s.status in ("stopped", "running")), None)


def _artifacts(inputs: ReportInputs) -> dict[str, bool]:
    """Return which stages left something; preflight leaves nothing but its time."""
    run = inputs.run
    return {
        "data": run.dataset_version is not None or inputs.dataset is not None,
        "preflight": False,
        "baseline": bool({*run.evaluations, *inputs.evaluations} - {"tuned"}),
        "train": run.adapter_id is not None or inputs.adapter is not None,
        "evaluate": "tuned" in run.evaluations or inputs.tuned is not None,
        "gate": run.gate_id is not None or inputs.gate is not None,
        "register": run.model_version is not None,
    }
