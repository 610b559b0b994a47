"""Which stages a run went through, how long each took, and where it stopped."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tunery.pipeline.report.inputs import ReportInputs

Status = Literal["done", "stopped", "running", "not reached"]

_TITLES = {
    "data": "Data cleaned and split",
    "baseline": "Prompting measured",
    "preflight": "Tokens and loss mask checked",
    "train": "Adapter trained",
    "evaluate": "Tuned model measured",
    "gate": "Gate judged",
    "registry": "Model version registered",
}


class Stage(NamedTuple):
    """One line of the run's story."""

    name: str
    title: str
    status: Status
    seconds: float | None
    """Wall time [s]."""


def stages_of(inputs: ReportInputs) -> list[Stage]:
    """Return every stage of the loop in order, then any other that was timed.

    A stage is done when what it makes is there. The first one that is not is where the run stopped,
    except after a refusal, where registering was never meant to happen.
    """
    seconds = inputs.run.seconds
    stages, ended = [], False
    for name, title in _TITLES.items():
        done = _made(inputs, name)
        status: Status = "done" if done else "not reached"
        if not done and not ended:
            ended = True
            if inputs.run.status in ("failed", "cancelled"):
                status = "stopped"
            elif inputs.run.status == "running":
                status = "running"
        stages.append(Stage(name, title, status, seconds.get(name)))
    others = [name for name in seconds if name not in _TITLES]
    stages += [Stage(name, name.replace("_", " ").capitalize(), "done", seconds[name]) for name in others]
    return stages


def stopped_at(inputs: ReportInputs) -> Stage | None:
    """Return the stage that a failed, cancelled or running run is at."""
    return next((s for s in stages_of(inputs) if s.status in ("stopped", "running")), None)


def _made(inputs: ReportInputs, stage: str) -> bool:
    run = inputs.run
    trained = run.adapter_id is not None or inputs.adapter is not None
    evaluated = "tuned" in run.evaluations or inputs.tuned is not None
    prompting = bool({*run.evaluations, *inputs.evaluations} - {"tuned"})
    made = {
        "data": run.dataset_version is not None or inputs.dataset is not None,
        "baseline": prompting or "baseline" in run.seconds,
        # Preflight leaves nothing but its time: a run that trained has passed it.
        "preflight": trained or "preflight" in run.seconds,
        "train": trained,
        "evaluate": evaluated,
        "gate": run.gate_id is not None or inputs.gate is not None,
        "registry": run.model_version is not None,
    }
    return made[stage]
