"""Projects: the tenants of a home."""

from __future__ import annotations

from tunery.core.access import DEFAULT_PROJECT, Project
from tunery.core.clock import Clock
from tunery.core.errors import ConflictError, NotFoundError
from tunery.core.ids import check_name
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout("projects", Project, "project", (), hint="tunery projects ls")


class Projects(Records[Project]):
    """The projects that there are; the default one exists without having been created."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, _LAYOUT)
        self._clock = clock

    def create(self, name: str, description: str = "") -> Project:
        """Make a project.

        Raises:
            ConfigError: The name cannot be one.
            ConflictError: There is one of that name.
        """
        check_name(name, "project name")
        new = Project(id=name, created_at=self._clock.now(), description=description)
        if name == DEFAULT_PROJECT or self.add(new) != new:
            raise ConflictError(f"there is a project named {name!r} already", hint="tunery projects ls")
        return new

    def require(self, name: str) -> str:
        """Return a project's name.

        Raises:
            NotFoundError: There is none of that name; names the nearest.
        """
        if name != DEFAULT_PROJECT and self.find(name) is None:
            known = [DEFAULT_PROJECT, *(project.id for project in self.list(1000))]
            raise NotFoundError.of("project", name, known, hint=f"tunery projects create {name}")
        return name
