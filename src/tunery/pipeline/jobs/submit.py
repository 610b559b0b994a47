"""A recipe as a job of the queue: what ``tunery jobs start`` puts there for a running server to take."""

from __future__ import annotations

from pathlib import Path

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.ids import new_id
from tunery.core.job import Job
from tunery.data.config import SourceConfig
from tunery.model.chat_templates import NAMES
from tunery.pipeline.recipe import Recipe
from tunery.store.jobs import QUEUED, Line
from tunery.store.workspace import Workspace


def start_job(workspace: Workspace, recipe: Recipe, *, base_dir: Path, recipe_path: Path, actor: str) -> Job:
    """Put a recipe into the queue.

    Args:
        base_dir: What its relative paths are relative to; whoever takes the job stands elsewhere.
        recipe_path: File it was read from, named where OpenAI's clients expect a training file.
    """
    now = workspace.clock.now()
    project = workspace.project or workspace.model_names.project_of(recipe.name) or DEFAULT_PROJECT
    settled = with_absolute_paths(recipe, base_dir)
    job = Job(
        id=new_id("ftjob", now),
        kind="run",
        status="queued",
        recipe=settled.model_dump(mode="json"),
        # The model is known to clients by its base's name, not by the folder it lies in.
        request={"model": Path(recipe.base).name, "training_file": recipe_path.name},
        created_at=now,
        submitted_by=actor,
        project=project,
    )
    return workspace.jobs.create(job, [Line(f"Created fine-tuning job: {job.id}"), Line(QUEUED)])


def with_absolute_paths(recipe: Recipe, base_dir: Path) -> Recipe:
    """Return the recipe with every file named by its whole path."""
    from tunery.data.edits.sets import from_anywhere
    from tunery.store.urls import whole_path

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
        name: suite.model_copy(update={"source": suite.source and settled(suite.source)})
        for name, suite in recipe.evaluate.suites.items()
    }
    local = base_dir / Path(recipe.base).expanduser()
    return recipe.model_copy(
        update={
            "base": str(local) if local.is_dir() else recipe.base,
            "chat_template": _placed(recipe.chat_template, base_dir),
            "data": data,
            "inspect": recipe.inspect.model_copy(update={"references": references}),
            "evaluate": recipe.evaluate.model_copy(update={"suites": suites}),
        }
    )


def _placed(chat_template: str | None, base_dir: Path) -> str | None:
    if chat_template is None or chat_template in NAMES:
        return chat_template
    return str(base_dir / Path(chat_template).expanduser())


def resume_job(workspace: Workspace, job_id: str) -> Job:
    """Put a paused, failed or cancelled job back into the queue; it continues from its last checkpoint.

    Raises:
        NotFoundError: No such job.
        ConflictError: The job succeeded, waits already, or runs.
    """
    return workspace.jobs.resume(job_id)
