"""Names of models: whose each is, which key may make versions of it, and with whom it is shared."""

from __future__ import annotations

import builtins
from typing import NamedTuple

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.errors import ConflictError, ForbiddenError, NotFoundError
from tunery.core.ids import check_name
from tunery.store.database import Database, Transaction, Value

OWN = "name IN (SELECT name FROM model_names WHERE project = :project)"
"""What is of a project's own names."""
VISIBLE = (
    "name IN (SELECT name FROM model_names WHERE project = :project "
    "UNION ALL SELECT name FROM model_shares WHERE project = :project)"
)
"""What is of names that a project may ask for: its own, and those of others that are shared with it."""
_HOLDER = "SELECT owner, project FROM model_names WHERE name = :name"


class Share(NamedTuple):
    """A name that another project may ask for."""

    name: str
    project: str


class ModelNames:
    """The names; each belongs to one project, and no two projects have the same one.

    Args:
        project: Whose names there are, with those shared with it; None sees all.
    """

    def __init__(self, database: Database, project: str | None = None) -> None:
        self._database = database
        self._project = project
        self.visible = "1 = 1" if project is None else VISIBLE
        """What rows with a name fulfil that may be seen; goes with :meth:`params`."""

    def claim(self, name: str, owner: str) -> None:
        """Keep a name for one owner of this project: whoever claims it first, for ever.

        Args:
            name: Of a model that there may not be yet.
            owner: Name of an API key; keys of one name are one owner, so that a key can be replaced.

        Raises:
            ForbiddenError: It is another key's or project's, or one that came from the command line, which is
                the operator's. The error does not tell which.
        """
        check_name(name, "model name")
        project = self._project or DEFAULT_PROJECT

        def claim(transaction: Transaction) -> None:
            transaction.run(
                "INSERT INTO model_names (name, last_version, owner, project) "
                "VALUES (:name, 0, :owner, :project) ON CONFLICT (name) DO NOTHING",
                {"name": name, "owner": owner, "project": project},
            )
            held = transaction.rows(_HOLDER, {"name": name})[0]
            if (held["owner"], held["project"]) != (owner, project):
                raise taken(name)

        self._database.atomically(claim, lock=lock_of(name))

    def give(self, name: str, owner: str | None) -> None:
        """Let another key make versions of a name; None keeps it for the command line.

        Raises:
            NotFoundError: There is no such name.
        """

        def change(transaction: Transaction) -> None:
            self.require_own(transaction, name)
            transaction.run(
                "UPDATE model_names SET owner = :owner WHERE name = :name", {"name": name, "owner": owner}
            )

        self._database.atomically(change, lock=lock_of(name))

    def own(self) -> builtins.list[str]:
        """Return this project's names, be there a version yet or not, sorted."""
        own = "1 = 1" if self._project is None else OWN
        rows = self._database.rows(f"SELECT name FROM model_names WHERE {own}", self.params())  # noqa: S608
        return sorted(str(row["name"]) for row in rows)

    def project_of(self, name: str) -> str | None:
        """Return the project that a name belongs to; None where there is no such name yet."""
        sql = f"SELECT project FROM model_names WHERE name = :name AND {self.visible}"  # noqa: S608
        rows = self._database.rows(sql, self.params(name=name))
        return str(rows[0]["project"]) if rows else None

    def share(self, name: str, project: str) -> None:
        """Let another project ask for a name's versions; it sees them and can change nothing of them.

        Raises:
            NotFoundError: There is no such name.
            ConflictError: It is that project's own.
        """

        def share(transaction: Transaction) -> None:
            if self.require_own(transaction, name) == project:
                raise ConflictError(f"{name} belongs to the project {project} itself")
            transaction.run(
                "INSERT INTO model_shares (name, project) VALUES (:name, :project) ON CONFLICT DO NOTHING",
                {"name": name, "project": project},
            )

        self._database.atomically(share, lock=lock_of(name))

    def unshare(self, name: str, project: str) -> None:
        """Hide a name from a project that it was shared with.

        Raises:
            NotFoundError: There is no such name, or it is not shared with that project.
        """

        def hide(transaction: Transaction) -> None:
            self.require_own(transaction, name)
            gone = "DELETE FROM model_shares WHERE name = :name AND project = :project"
            if not transaction.run(gone, {"name": name, "project": project}):
                known = [s.project for s in self._shares(transaction) if s.name == name]
                raise NotFoundError.of(f"project that {name} is shared with", project, known)

        self._database.atomically(hide, lock=lock_of(name))

    def shares(self) -> builtins.list[Share]:
        """Return which of this project's names are shared with which others, by name."""
        return self._shares(self._database)

    def move(self, name: str, project: str) -> None:
        """Give a name with all its versions to another project, where it belongs to no key.

        Raises:
            NotFoundError: There is no such name.
        """

        def change(transaction: Transaction) -> None:
            self.require_own(transaction, name)
            given = {"name": name, "project": project}
            transaction.run("DELETE FROM model_shares WHERE name = :name AND project = :project", given)
            transaction.run(
                "UPDATE model_names SET project = :project, owner = NULL WHERE name = :name", given
            )

        self._database.atomically(change, lock=lock_of(name))

    def require_own(self, source: Database | Transaction, name: str) -> str:
        """Return whose a name is, which must be this project's, where it sees only one.

        Raises:
            NotFoundError: There is no such name.
            ForbiddenError: Another project shares it.
        """
        sql = f"SELECT name, project FROM model_names WHERE {self.visible}"  # noqa: S608
        visible = {str(row["name"]): str(row["project"]) for row in source.rows(sql, self.params())}
        if name not in visible:
            raise NotFoundError.of("model", name, visible, hint="tunery registry ls")
        if self._project not in (None, visible[name]):
            raise ForbiddenError(f"{name} belongs to another project, which shares it; it can change it")
        return visible[name]

    def params(self, **params: Value) -> dict[str, Value]:
        """Return the parameters of a statement that has ``visible`` in it."""
        return params if self._project is None else {**params, "project": self._project}

    def _shares(self, source: Database | Transaction) -> builtins.list[Share]:
        own = "1 = 1" if self._project is None else OWN
        sql = f"SELECT name, project FROM model_shares WHERE {own} ORDER BY name, project"  # noqa: S608
        return [Share(str(row["name"]), str(row["project"])) for row in source.rows(sql, self.params())]


def taken(name: str) -> ForbiddenError:
    """Return the refusal of a name, the same whoever has it."""
    return ForbiddenError(
        f"the model name {name!r} belongs to somebody else", hint="choose another suffix", param="suffix"
    )


def lock_of(name: str) -> str:
    """Return the name of the lock that changes of one model name are made under."""
    return f"models/{name}"
