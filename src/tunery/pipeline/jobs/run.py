"""One job from its recipe to its end: the part of a worker that knows what a job is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunery.core.errors import BusyError, UnavailableError
from tunery.core.faults import explained
from tunery.core.run import Run
from tunery.pipeline.context import RunContext
from tunery.pipeline.gateway.names import ft_name_of
from tunery.pipeline.jobs.files import named_by_id, store_result
from tunery.pipeline.jobs.openai_job import result_csv
from tunery.pipeline.jobs.progress import JobProgress
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import stored_recipe
from tunery.pipeline.stages.register import note_registered
from tunery.registry.versions import register_run
from tunery.store.jobs import CANCELLED, Line
from tunery.store.workspace import Workspace

BUSY_POLL_S = 2.0
"""Time between two looks whether another process has ended what this job needs [s]."""


def run_job(workspace: Workspace, job_id: str, worker: str, should_stop: Callable[[], bool]) -> bool:
    """Run a job whose lease ``worker`` holds.

    Returns:
        True when the job has ended, False when it was interrupted and is to be continued.

    Raises:
        ConflictError: Another worker took the job over, or it has ended; nothing of it was changed.
    """
    job = workspace.jobs.get(job_id)
    workspace.jobs.add_event_once(job_id, "Fine-tuning job started")
    progress = JobProgress(workspace, job_id)

    def on_checkpoint(step: int, losses: Mapping[str, float]) -> None:
        workspace.jobs.add_checkpoint(job_id, step, losses)

    def stop() -> bool:
        return should_stop() or progress.stop_requested()

    try:
        while True:
            try:
                recipe = stored_recipe(job.recipe, where=job_id)
                run = run_recipe(RunContext(recipe, workspace, Path.cwd(), progress, stop, on_checkpoint))
                break
            except BusyError as busy:  # the same recipe, typed in a terminal: what it makes is found then
                workspace.jobs.add_event_once(job_id, f"Waiting: {busy.message}")
                _wait(stop)
            except UnavailableError:  # what was made is kept, and is found once the database is back
                _wait(stop)
        _conclude(workspace, job_id, worker, run)
    except KeyboardInterrupt:
        if not workspace.jobs.get(job_id).cancel_requested:
            return False
        workspace.jobs.finish(job_id, worker, "cancelled", [Line(CANCELLED)])
    except UnavailableError:  # told to stop while the database is away
        return False
    except Exception as raised:
        error = explained(raised)
        if error is None:
            raise  # a mistake of ours: the worker dies of it, and its log shows where
        message = f"{error.message}; try: {error.hint}" if error.hint else error.message
        message = named_by_id(workspace, message)
        _fail(workspace, job_id, worker, {"code": error.code, "message": message, "param": error.param})
    return True


def _wait(stop: Callable[[], bool]) -> None:
    """Let some time pass, or raise :class:`KeyboardInterrupt` when the job is to stop."""
    ends = time.monotonic() + BUSY_POLL_S
    while time.monotonic() < ends:
        if stop():
            raise KeyboardInterrupt
        time.sleep(min(0.2, BUSY_POLL_S))


def _conclude(workspace: Workspace, job_id: str, worker: str, run: Run) -> None:
    adapter = workspace.adapters.get(run.adapter_id) if run.adapter_id else None
    results = (store_result(workspace, job_id, result_csv(adapter)).id,) if adapter else ()
    changes: dict[str, Any] = {
        "run_id": run.id,
        "result_files": results,
        "trained_tokens": adapter.trained_tokens if adapter else None,
        "recipe": run.recipe,  # with the numbers that auto has chosen
    }
    if run.status == "refused" and not workspace.jobs.get(job_id).keep_refused:
        message = f"the gate refused the model: {_verdict(workspace, run)}"
        _fail(workspace, job_id, worker, {"code": "gate_failed", "message": message, "param": None}, changes)
        return
    name = ft_name_of(workspace.jobs.get(job_id))
    lines = [Line(f"New fine-tuned model created: {name}"), Line("The job has successfully completed")]
    made = run.model_version
    if run.status == "refused":
        version = register_run(workspace, run.id)
        note_registered(workspace, version)
        made = version.ref
        lines.insert(1, Line(_without_a_gate(name, made, _verdict(workspace, run)), "warn"))
    workspace.jobs.finish(job_id, worker, "succeeded", lines, model_version=made, **changes)


def _without_a_gate(name: str, ref: str, verdict: str) -> str:
    """Say what it means that a model is there which nothing speaks for."""
    return (
        f"The gate did not hold, so nothing shows that {ref} is better than prompting: {verdict}. It answers "
        f"as {name} and as {ref} alone and is no champion. More rows let the test show smaller gains, more "
        "epochs may bring larger ones; an operator who wants it all the same: "
        f"tunery registry promote {ref} --override-gate"
    )


def _verdict(workspace: Workspace, run: Run) -> str:
    if run.gate_id is None:
        return "no rules were judged"
    broken = [rule.sentence for rule in workspace.gates.get(run.gate_id).rules if not rule.passed]
    return " ".join(broken)


def _fail(
    workspace: Workspace,
    job_id: str,
    worker: str,
    error: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
) -> None:
    line = Line(f"The job failed: {error['message']}", "error")
    workspace.jobs.finish(job_id, worker, "failed", [line], **{**(changes or {}), "error": error})
