"""A recipe as a job of the queue: what ``tunery jobs start`` puts there for a running server to take."""

from __future__ import annotations

from pathlib import Path

from tunery.core.errors import ConflictError
from tunery.core.ids import new_id
from tunery.core.job import Job
from tunery.data.config import SourceConfig
from tunery.pipeline.jobs.supervisor import enqueue
from tunery.pipeline.recipe import Recipe
from tunery.store.workspace import Workspace


def start_job(workspace: Workspace, recipe: Recipe, *, base_dir: Path, recipe_path: Path, actor: str) -> Job:
    """Put a recipe into the queue.

    Args:
        base_dir: What its relative paths are relative to; whoever takes the job stands elsewhere.
        recipe_path: File it was read from, named where OpenAI's clients expect a training file.
    """
    now = workspace.clock.now()
    settled = with_absolute_paths(recipe, base_dir)
    job = Job(
        id=new_id("ftjob", now),
        kind="run",
        status="validating_files",
        recipe=settled.model_dump(mode="json"),
        # The model is known to clients by its base's name, not by the folder it lies in.
        request={"model": Path(recipe.base).name, "training_file": recipe_path.name},
        created_at=now,
        submitted_by=actor,
    )
    workspace.jobs.add(job)
    return enqueue(workspace, job.id)


def with_absolute_paths(recipe: Recipe, base_dir: Path) -> Recipe:
    """Return the recipe with every file named by its whole path."""
    from tunery.data.edits.sets import from_anywhere
    from tunery.data.readers.storage.urls import whole_path

    def settled(source: SourceConfig) -> SourceConfig:
        return source.model_copy(update={"path": whole_path(source.path, base_dir)})

    references = tuple(whole_path(path, base_dir) for path in recipe.inspect.references)
    data = recipe.data.model_copy(
        update={
            "sources": tuple(map(settled, recipe.data.sources)),
            "edits": tuple(from_anywhere(reference, base_dir) for reference in recipe.data.edits),
        }
    )
    suites = {
        name: suite.model_copy(update={"source": settled(suite.source)})
        for name, suite in recipe.evaluate.suites.items()
    }
    local = base_dir / Path(recipe.base).expanduser()
    return recipe.model_copy(
        update={
            "base": str(local) if local.is_dir() else recipe.base,
            "data": data,
            "inspect": recipe.inspect.model_copy(update={"references": references}),
            "evaluate": recipe.evaluate.model_copy(update={"suites": suites}),
        }
    )


def resume_job(workspace: Workspace, job_id: str) -> Job:
    """Put a failed or cancelled job back into the queue; it continues from its last checkpoint.

    Raises:
        NotFoundError: No such job.
        ConflictError: The job succeeded, or has not ended.
    """
    job = workspace.jobs.get(job_id)
    if job.status not in ("failed", "cancelled"):
        raise ConflictError(
            f"job {job.id} is {job.status}; only a failed or cancelled one can be resumed",
            hint=f"tunery jobs status {job.id}",
        )
    resumed = workspace.jobs.update(
        job.id,
        status="queued",
        worker=None,
        lease_until=None,
        attempts=0,
        cancel_requested=False,
        error=None,
        finished_at=None,
    )
    workspace.jobs.add_event(job.id, f"Resumed after it was {job.status}")
    return resumed
