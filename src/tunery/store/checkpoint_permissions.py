"""Permissions of checkpoints: which other projects may ask for one."""

from __future__ import annotations

from tunery.core.access import DEFAULT_PROJECT, CheckpointPermission
from tunery.core.clock import Clock
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.ids import new_id
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "checkpoint_permissions",
    CheckpointPermission,
    "permission",
    ("checkpoint", "granted_to", "project"),
    private=True,
    owned="project = :project",
)


class CheckpointPermissions(Records[CheckpointPermission]):
    """The permissions that a project has given."""

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock
        self._own = project or DEFAULT_PROJECT

    def grant(self, checkpoint: str, project: str) -> CheckpointPermission:
        """Let another project ask for a checkpoint; one that may already keeps its permission.

        Raises:
            NotFoundError: There is no such project; names no others, which are not the caller's to know.
            ConfigError: It is the project's own checkpoint.
        """
        known = self.database.rows("SELECT id FROM projects WHERE id = :id", {"id": project})
        if project != DEFAULT_PROJECT and not known:
            raise NotFoundError(f"no project named {project!r:.80}", param="project_ids")
        if project == self._own:
            raise ConfigError(f"the checkpoint belongs to {project} itself", param="project_ids")
        there = self.list(1, checkpoint=checkpoint, granted_to=project)
        if there:
            return there[0]
        now = self._clock.now()
        return self.add(
            CheckpointPermission(
                id=new_id("cp", now),
                checkpoint=checkpoint,
                granted_to=project,
                project=self._own,
                created_at=now,
            )
        )
