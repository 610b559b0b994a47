"""Model versions, the aliases that point at them, and every move of an alias."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.clock import Clock
from tunery.core.errors import ConflictError, NotFoundError
from tunery.core.forwarding import ForwardedName
from tunery.core.ids import check_name
from tunery.core.registry import AliasMove, ModelVersion, Override
from tunery.core.rollout import Rollout
from tunery.store.database import Database, Transaction
from tunery.store.model_names import VISIBLE, ModelNames, lock_of, taken
from tunery.store.records import Records, TableLayout, from_row, read_moment, read_row, to_row

_LAYOUT = TableLayout(
    "model_versions",
    ModelVersion,
    "model version",
    ("name", "version"),
    identity=lambda version: version.ref,
    hint="tunery registry ls",
    owned=VISIBLE,
)


class VersionHead(NamedTuple):
    """What a list of versions shows."""

    name: str
    version: int
    created_at: datetime
    gate_passed: bool
    aliases: tuple[str, ...]
    overridden: bool = False
    """Whether somebody answered for it although its gate refused it."""

    @property
    def ref(self) -> str:
        """``name@N``."""
        return f"{self.name}@{self.version}"


class Models:
    """The registry's tables.

    A name and everything under it belongs to one project, and no two projects have one of the same name. A
    name may be shared with others, which see its versions and cannot change them.

    Args:
        project: Whose names there are, with those shared with it; None sees all.
    """

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        self._database = database
        self._clock = clock
        self._project = project
        self._records = Records(database, _LAYOUT, project)
        self._names = ModelNames(database, project)
        self._visible = self._names.visible

    def register(self, version: ModelVersion, *, once: bool = False) -> ModelVersion:
        """Store a model version under the next number of its name and return it with that number.

        Numbers count up for ever: that of a deleted version is not given again.

        Args:
            version: What to store; its own number is ignored.
            once: Return the version that the same run registered with the same adapter, where there is one,
                so that a run that was killed after registering and is resumed registers nothing twice.

        Raises:
            ConfigError: The name cannot be one.
            ForbiddenError: It is another project's.
        """
        check_name(version.name, "model name")
        project = self._project or DEFAULT_PROJECT

        def next_number(transaction: Transaction) -> ModelVersion:
            if once:
                for other in self._records.select(transaction, "WHERE name = :name", {"name": version.name}):
                    if (other.run_id, other.adapter_id) == (version.run_id, version.adapter_id):
                        return other
            rows = transaction.rows(
                "INSERT INTO model_names (name, last_version, project) VALUES (:name, 1, :project) "
                "ON CONFLICT (name) DO UPDATE SET last_version = model_names.last_version + 1 "
                "RETURNING last_version, project",
                {"name": version.name, "project": project},
            )
            if self._project is not None and rows[0]["project"] != self._project:
                raise taken(version.name)
            return self._records.insert(transaction, version.with_(version=rows[0]["last_version"]))

        return self._database.atomically(next_number, lock=lock_of(version.name))

    def get(self, name: str, version: int) -> ModelVersion:
        """Return a model version.

        Raises:
            NotFoundError: There is none of that name and number; names the nearest.
        """
        return self._records.get(f"{name}@{version}")

    def find(self, name: str, version: int) -> ModelVersion | None:
        """Return a model version, None where there is none."""
        return self._records.find(f"{name}@{version}")

    def override(self, name: str, version: int, override: Override) -> ModelVersion:
        """Write down that somebody answers for a version, and return it.

        Raises:
            NotFoundError: There is none of that name and number.
        """

        def write(transaction: Transaction) -> ModelVersion:
            known = self._records.read(transaction, f"{name}@{version}")
            self._names.require_own(transaction, name)
            return self._records.write(transaction, known.with_(overrides=(*known.overrides, override)))

        return self._database.atomically(write, lock=lock_of(name))

    def names(self) -> builtins.list[str]:
        """Return the names that have a version, sorted."""
        sql = f"SELECT DISTINCT name FROM model_versions WHERE {self._visible} ORDER BY name"  # noqa: S608
        rows = self._database.rows(sql, self._names.params())
        return [str(row["name"]) for row in rows]

    def delete(self, name: str, version: int, *, actor: str = "store", reason: str = "deleted") -> None:
        """Remove a model version; its artifacts stay.

        Aliases that point at the only version of its name go with it, and so does the one that notes who
        challenged last.

        Args:
            actor: Who does it; written down with the aliases that go.
            reason: Why.

        Raises:
            NotFoundError: There is none of that name and number.
            ConflictError: A running rollout sends it traffic, a forwarded name is answered by it, a running
                job compares with it, or an alias points at it and could point at another version.
        """
        ref = f"{name}@{version}"

        def remove(transaction: Transaction) -> None:
            self._records.read(transaction, ref)
            self._names.require_own(transaction, name)
            held = [a for a, n in self._aliases(transaction, name).items() if n == version]
            self._refuse_in_use(transaction, name, version, held)
            self._refuse_forwarded(transaction, ref)
            others = transaction.rows(_OTHERS, {"name": name, "version": version})
            needed = [alias for alias in held if alias != _LAST_CHALLENGER] if others else []
            if needed:
                raise ConflictError(
                    f"{ref} is {' and '.join(needed)} of {name} and cannot be deleted",
                    hint=f"tunery deploy promote {name}@{others[0]['version']}, or "
                    f"tunery registry unalias {name}@{needed[0]}",
                )
            for alias in held:
                _unpoint(transaction, self._removal(name, alias, version, actor=actor, reason=reason))
            self._records.erase(transaction, ref)

        self._database.atomically(remove, lock=lock_of(name))

    def aliases(self, name: str) -> dict[str, int]:
        """Return the aliases of a name and the version each points at."""
        return self._aliases(self._database, name)

    def set_alias(self, name: str, alias: str, version: int, *, actor: str, reason: str) -> AliasMove:
        """Point an alias at a version and record the move; nothing moves where it points there already.

        Raises:
            NotFoundError: There is no such version.
        """
        check_name(alias, "alias")

        def move(transaction: Transaction) -> AliasMove:
            self._records.read(transaction, f"{name}@{version}")
            self._names.require_own(transaction, name)
            previous = self._aliases(transaction, name).get(alias)
            if previous == version and (made := self._moves(transaction, name, alias)):
                return made[-1]
            return _point(
                transaction,
                AliasMove(
                    name=name,
                    alias=alias,
                    version=version,
                    previous=previous,
                    actor=actor,
                    reason=reason,
                    at=self._clock.now(),
                ),
            )

        return self._database.atomically(move, lock=lock_of(name))

    def restore_alias(self, name: str, alias: str, *, current: int, actor: str, reason: str) -> AliasMove:
        """Take back the newest move of an alias that was not taken back yet, and record that.

        ``current`` is the version that the caller saw it point at; of two who take back the same move one
        does.

        Raises:
            ConflictError: It no longer points at ``current``, or there is no earlier version to go back to.
        """

        def move(transaction: Transaction) -> AliasMove:
            self._names.require_own(transaction, name)
            points_at = self._aliases(transaction, name).get(alias)
            if points_at != current:
                now = f"{name}@{points_at}" if points_at is not None else "no version"
                raise ConflictError(f"{alias} of {name} points at {now}, no longer at {name}@{current}")
            path = [v for v in _path(self._moves(transaction, name, alias)) if v != current]
            left = [v for v in path if self._records.there(transaction, f"{name}@{v}")]
            if not left:
                gone = f" ({name}@{path[-1]} was deleted)" if path else ""
                raise ConflictError(f"{alias} of {name} has no earlier version to go back to{gone}")
            return _point(
                transaction,
                AliasMove(
                    name=name,
                    alias=alias,
                    version=left[-1],
                    previous=current,
                    actor=actor,
                    reason=reason,
                    at=self._clock.now(),
                    rollback=True,
                ),
            )

        return self._database.atomically(move, lock=lock_of(name))

    def remove_alias(self, name: str, alias: str, *, actor: str, reason: str) -> AliasMove:
        """Let an alias point at nothing and record that.

        Raises:
            NotFoundError: There is no such alias; names those that there are.
            ConflictError: A running rollout or job needs it.
        """

        def remove(transaction: Transaction) -> AliasMove:
            aliases = self._aliases(transaction, name)
            if alias not in aliases:
                known = [f"{name}@{other}" for other in aliases]
                raise NotFoundError.of("alias", f"{name}@{alias}", known, hint="tunery registry ls")
            self._names.require_own(transaction, name)
            self._refuse_in_use(transaction, name, aliases[alias], [alias])
            return _unpoint(
                transaction, self._removal(name, alias, aliases[alias], actor=actor, reason=reason)
            )

        return self._database.atomically(remove, lock=lock_of(name))

    def _removal(self, name: str, alias: str, version: int, *, actor: str, reason: str) -> AliasMove:
        at = self._clock.now()
        return AliasMove(
            name=name, alias=alias, version=None, previous=version, actor=actor, reason=reason, at=at
        )

    def _refuse_in_use(self, transaction: Transaction, name: str, version: int, held: Sequence[str]) -> None:
        """Refuse to take away what a running rollout or job of this name uses, and say what to do first."""
        ref = f"{name}@{version}"
        for row in transaction.rows(_RUNNING, {"name": name}):
            rollout = read_row(self._database, "rollouts", row, lambda row: from_row(Rollout, row))
            if version in (rollout.champion, rollout.challenger):
                raise ConflictError(
                    f"{ref} gets traffic from {rollout.id} and cannot be deleted",
                    hint=f"tunery deploy cancel {name}",
                )
        if "champion" not in held:
            return
        from tunery.core.job import Job  # here: most commands know models and no jobs

        for row in transaction.rows(_AT_WORK):
            job = read_row(self._database, "jobs", row, lambda row: from_row(Job, row))
            if job.recipe.get("name") == name:
                raise ConflictError(
                    f"job {job.id} is running and compares what it trains with {ref}, the champion",
                    hint=f"wait for it, or: tunery jobs cancel {job.id}",
                )

    def _refuse_forwarded(self, transaction: Transaction, ref: str) -> None:
        """Refuse to take away what answers a name that another endpoint answered before."""
        for row in transaction.rows(_FORWARDED, {"ref": ref}):
            forwarded = read_row(
                self._database, "forwarded_names", row, lambda row: from_row(ForwardedName, row)
            )
            if forwarded.stage != "forward":
                raise ConflictError(
                    f"{ref} answers as {forwarded.name} and cannot be deleted",
                    hint=f"tunery rescue serve {forwarded.name} --to forward, or --with another version",
                )

    def moves(self, name: str) -> builtins.list[AliasMove]:
        """Return every move of the aliases of a name, oldest first."""
        with self._database.snapshot() as transaction:
            return self._moves(transaction, name)

    def list(self, name: str | None = None, limit: int = 1000) -> builtins.list[ModelVersion]:
        """Return model versions, of one name or of all, newest first."""
        return self._records.list(limit, name=name)

    def heads(self) -> Iterator[VersionHead]:
        """Yield all versions by name and number, without their recipes."""
        rows = self._database.rows(_HEADS.format(visible=self._visible), self._names.params())
        aliases: dict[tuple[str, int], list[str]] = {}
        listed = f"SELECT name, alias, version FROM aliases WHERE {self._visible} ORDER BY alias"  # noqa: S608
        for row in self._database.rows(listed, self._names.params()):
            aliases.setdefault((str(row["name"]), int(row["version"])), []).append(str(row["alias"]))
        for row in rows:
            name, version = str(row["name"]), int(row["version"])
            yield VersionHead(
                name,
                version,
                read_moment(row["created_at"]),
                str(row["passed"]).lower() in ("true", "1"),
                tuple(aliases.get((name, version), ())),
                row["overrides"] not in (None, "", "[]"),
            )

    def _aliases(self, source: Database | Transaction, name: str) -> dict[str, int]:
        statement = (
            "SELECT name, alias, version FROM aliases "  # noqa: S608
            f"WHERE name = :name AND {self._visible} ORDER BY alias"
        )
        rows = source.rows(statement, self._names.params(name=name))
        return {
            str(row["alias"]): read_row(self._database, "aliases", row, lambda row: int(row["version"]))
            for row in rows
        }

    def _moves(
        self, transaction: Transaction, name: str, alias: str | None = None
    ) -> builtins.list[AliasMove]:
        statement = (
            "SELECT seq, name, alias, at, document FROM alias_moves "  # noqa: S608
            f"WHERE name = :name AND {self._visible} ORDER BY seq"
        )
        return [
            read_row(self._database, "alias_moves", row, lambda row: from_row(AliasMove, row))
            for row in transaction.rows(statement, self._names.params(name=name))
            if alias in (None, row["alias"])
        ]


_RUNNING = """
SELECT seq, id, name, status, created_at, document FROM rollouts WHERE name = :name AND status = 'running'
"""


_HEADS = """
SELECT name, version, created_at, document ->> 'gate_passed' AS passed, document ->> 'overrides' AS overrides
FROM model_versions
WHERE {visible}
ORDER BY name, version DESC
"""
_OTHERS = """
SELECT version FROM model_versions WHERE name = :name AND version <> :version ORDER BY version DESC LIMIT 1
"""
_FORWARDED = """
SELECT seq, id, created_at, project, document FROM forwarded_names WHERE document ->> 'version' = :ref
"""
_AT_WORK = "SELECT seq, id, created_at, status, device, document FROM jobs WHERE status = 'running'"
_LAST_CHALLENGER = "challenger"
"""Alias that stays behind when a rollout ends, as a note; it sends nobody anywhere."""


def _path(moves: list[AliasMove]) -> list[int]:
    """Return the versions an alias has stepped over to where it is: a rollback steps back, others forward."""
    path: list[int] = []
    for move in moves:
        if move.version is None:
            continue
        if move.rollback and move.version in path:
            while path[-1] != move.version:
                path.pop()
        else:
            path.append(move.version)
    return path


def _point(transaction: Transaction, move: AliasMove) -> AliasMove:
    transaction.run(
        "INSERT INTO aliases (name, alias, version) VALUES (:name, :alias, :version) "
        "ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version",
        {"name": move.name, "alias": move.alias, "version": move.version},
    )
    return _noted(transaction, move)


def _unpoint(transaction: Transaction, move: AliasMove) -> AliasMove:
    gone = {"name": move.name, "alias": move.alias}
    transaction.run("DELETE FROM aliases WHERE name = :name AND alias = :alias", gone)
    return _noted(transaction, move)


def _noted(transaction: Transaction, move: AliasMove) -> AliasMove:
    transaction.run(
        "INSERT INTO alias_moves (name, alias, at, document) VALUES (:name, :alias, :at, :document)",
        to_row(move, ("name", "alias", "at")),
    )
    return move
