"""A workspace: one root folder and one database, built once in each face and handed down."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.core.clock import Clock, SystemClock
from tunery.core.errors import ResourceError
from tunery.store.database import IMPATIENT, Database, Patience, open_database
from tunery.store.home import check_home
from tunery.store.records import Records, TableLayout
from tunery.store.upgrade import ensure_current

if TYPE_CHECKING:
    # Each kind of record is loaded when it is first asked for, so that a command pays for what it uses.
    from tunery.core.dataset import DatasetVersion
    from tunery.core.evaluation import Evaluation, GateResult
    from tunery.core.forwarding import ForwardedName
    from tunery.core.job import StoredFile, Upload
    from tunery.core.run import Run
    from tunery.core.training import Adapter
    from tunery.store.artifacts import Artifacts
    from tunery.store.audit import AuditLog
    from tunery.store.batches import Batches
    from tunery.store.checkpoint_permissions import CheckpointPermissions
    from tunery.store.feedback import FeedbackLog
    from tunery.store.jobs import Jobs
    from tunery.store.keys import Keys
    from tunery.store.limits import Counts, LimitRules, UsageLog
    from tunery.store.model_names import ModelNames
    from tunery.store.models import Models
    from tunery.store.projects import Projects
    from tunery.store.remote import RemoteArtifacts
    from tunery.store.requests import ServedRequests
    from tunery.store.rollouts import Rollouts
    from tunery.store.webhooks import Deliveries, Outbox


class Workspace:
    """All that Tunery keeps; safe to use from many threads and many processes at once."""

    def __init__(
        self,
        root: Path,
        database: Database,
        clock: Clock,
        remote: RemoteArtifacts | None = None,
        project: str | None = None,
    ) -> None:
        self.root = root
        self.database = database
        self.clock = clock
        self.project = project
        """Whose things there are; None for all, as the operator sees them."""
        self._remote = remote
        self._projects: dict[str, Workspace] = {}
        self._whole: Workspace | None = None

    def of(self, project: str) -> Workspace:
        """Return this workspace as one project sees it.

        Files, jobs, models, served calls, feedback, rollouts, keys and the audit log of all others do not
        exist in it, and what is stored through it is the project's. Dataset versions, adapters, evaluations,
        gate results and runs are found by the ids that those carry, and belong to the home.

        Raises:
            ValueError: This is the view of another project.
        """
        if self.project == project:
            return self
        if self.project is not None:
            raise ValueError(f"{self.project} sees nothing of {project}")
        found = self._projects.get(project)
        if found is None:
            own = Workspace(self.root, self.database, self.clock, self._remote, project)
            own._whole = self
            found = self._projects.setdefault(project, own)
        return found

    @property
    def whole(self) -> Workspace:
        """All projects at once: for what looks after the home, whoever is looking; never for a route."""
        return self if self._whole is None else self._whole

    @classmethod
    def open(
        cls,
        home: Path | None = None,
        *,
        database_url: str | None = None,
        artifacts_url: str | None = None,
        clock: Clock | None = None,
        patience: Patience = IMPATIENT,
    ) -> Workspace:
        """Open a workspace, making its folder and bringing its database up to date where needed.

        Args:
            home: Root folder; the variable ``TUNERY_HOME`` where None, else ``~/.tunery``.
            database_url: Database; the variable ``TUNERY_DATABASE_URL`` where None, else SQLite in the root.
            artifacts_url: Where machines share artifacts, such as ``s3://bucket/prefix``; the variable
                ``TUNERY_ARTIFACTS`` where None, else they lie in the root.
            clock: The machine's where None.
            patience: How long calls wait for a database that is away.

        Raises:
            ResourceError: The folder cannot be written, or the database not reached.
            ConflictError: The database was written by a newer Tunery, or its files lie in another home.
            ConfigError: The database URL is not understood.
        """
        root = root_of(home)
        make_writable(root)
        url = database_url or os.environ.get("TUNERY_DATABASE_URL") or f"sqlite:///{root / 'tunery.db'}"
        shared = artifacts_url or os.environ.get("TUNERY_ARTIFACTS")
        remote = _remote(shared) if shared else None
        database = open_database(url, patience)
        try:
            ensure_current(database)
            check_home(root, database, remote)
        except BaseException:
            database.close()
            raise
        return cls(root, database, clock or SystemClock(), remote)

    @cached_property
    def journals(self) -> Path:
        """Folder of the journals of served calls; the variable ``TUNERY_JOURNAL``, else in the root."""
        elsewhere = os.environ.get("TUNERY_JOURNAL")
        return Path(elsewhere).expanduser().absolute() if elsewhere else self.root / "journal"

    @property
    def database_label(self) -> str:
        """Which database this is, for what waits to be written to it; the same when a home is moved."""
        label = self.database.driver.label
        return label.removeprefix(f"{self.root}/")

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()

    @cached_property
    def artifacts(self) -> Artifacts:
        """Folders of files."""
        from tunery.store.artifacts import Artifacts

        return Artifacts(self.root, may_write=self.database.check_fence, remote=self._remote)

    @cached_property
    def datasets(self) -> Records[DatasetVersion]:
        """Dataset versions."""
        from tunery.core.dataset import DatasetVersion

        layout = TableLayout("datasets", DatasetVersion, "dataset version", ("name",), hint="tunery data ls")
        return Records(self.database, layout)

    @cached_property
    def adapters(self) -> Records[Adapter]:
        """Adapters."""
        from tunery.core.training import Adapter

        layout = TableLayout("adapters", Adapter, "adapter", ("dataset_version",), hint="tunery train ls")
        return Records(self.database, layout)

    @cached_property
    def evaluations(self) -> Records[Evaluation]:
        """Evaluations."""
        from tunery.core.evaluation import Evaluation

        layout = TableLayout("evaluations", Evaluation, "evaluation", ("subject",), hint="tunery evaluate ls")
        return Records(self.database, layout)

    @cached_property
    def gates(self) -> Records[GateResult]:
        """Gate results."""
        from tunery.core.evaluation import GateResult

        layout = TableLayout("gates", GateResult, "gate result", ("passed",))
        return Records(self.database, layout)

    @cached_property
    def runs(self) -> Records[Run]:
        """Runs of recipes: what each has produced so far."""
        from tunery.core.run import Run

        layout = TableLayout("runs", Run, "run", ("name", "status"), hint="tunery runs ls")
        return Records(self.database, layout)

    @cached_property
    def models(self) -> Models:
        """Model versions and aliases."""
        from tunery.store.models import Models

        return Models(self.database, self.clock, self.project)

    @cached_property
    def model_names(self) -> ModelNames:
        """Whose each name of a model is."""
        from tunery.store.model_names import ModelNames

        return ModelNames(self.database, self.project)

    @cached_property
    def projects(self) -> Projects:
        """The tenants."""
        from tunery.store.projects import Projects

        return Projects(self.database, self.clock)

    @cached_property
    def jobs(self) -> Jobs:
        """The job queue."""
        from tunery.store.jobs import Jobs

        return Jobs(self.database, self.clock, self.project)

    @cached_property
    def files(self) -> Records[StoredFile]:
        """Uploaded and produced files; their bytes are the artifacts of kind ``files``."""
        from tunery.core.job import StoredFile

        columns = ("purpose", "project")
        layout = TableLayout("files", StoredFile, "file", columns, private=True, owned="project = :project")
        return Records(self.database, layout, self.project)

    @cached_property
    def uploads(self) -> Records[Upload]:
        """Files that come in parts."""
        from tunery.core.job import Upload

        layout = TableLayout(
            "uploads", Upload, "upload", ("status", "project"), private=True, owned="project = :project"
        )
        return Records(self.database, layout, self.project)

    @cached_property
    def forwarded_names(self) -> Records[ForwardedName]:
        """Names that another endpoint answered before."""
        from tunery.core.forwarding import ForwardedName

        layout = TableLayout(
            "forwarded_names", ForwardedName, "forwarded name", ("project",), lambda each: each.id,
            hint="tunery rescue status", private=True, owned="project = :project",
        )  # fmt: skip
        return Records(self.database, layout, self.project)

    @cached_property
    def checkpoint_permissions(self) -> CheckpointPermissions:
        """Which other projects may ask for a checkpoint."""
        from tunery.store.checkpoint_permissions import CheckpointPermissions

        return CheckpointPermissions(self.database, self.clock, self.project)

    @cached_property
    def batches(self) -> Batches:
        """Batches and the answers to their lines."""
        from tunery.store.batches import Batches

        return Batches(self.database, self.clock, self.project)

    @cached_property
    def keys(self) -> Keys:
        """API keys."""
        from tunery.store.keys import Keys

        return Keys(self.database, self.clock, self.project)

    @cached_property
    def outbox(self) -> Outbox:
        """Events that no server has taken yet."""
        from tunery.store.webhooks import Outbox

        return Outbox(self.database, self.clock)

    @cached_property
    def webhooks(self) -> Deliveries:
        """Events on their way to endpoints."""
        from tunery.store.webhooks import Deliveries

        return Deliveries(self.database, self.clock, self.outbox)

    @cached_property
    def limits(self) -> LimitRules:
        """Limits that operators set.

        Raises:
            ValueError: This is the view of one project; they bound others, too.
        """
        from tunery.store.limits import LimitRules

        if self.project is not None:
            raise ValueError(f"limits are the operator's, not {self.project}'s")
        return LimitRules(self.database, self.clock)

    @cached_property
    def counts(self) -> Counts:
        """How far limits are used."""
        from tunery.store.limits import Counts

        return Counts(self.database)

    @cached_property
    def usage(self) -> UsageLog:
        """What was used by whom on which day."""
        from tunery.store.limits import UsageLog

        return UsageLog(self.database, self.project)

    @cached_property
    def audit(self) -> AuditLog:
        """What was changed, and by whom."""
        from tunery.store.audit import AuditLog

        return AuditLog(self.database, self.clock, self.project)

    @cached_property
    def requests(self) -> ServedRequests:
        """Served calls."""
        from tunery.store.requests import ServedRequests

        return ServedRequests(self.database, self.project)

    @cached_property
    def rollouts(self) -> Rollouts:
        """Rollouts."""
        from tunery.store.rollouts import Rollouts

        return Rollouts(self.database, self.clock, self.project)

    @cached_property
    def feedback(self) -> FeedbackLog:
        """Feedback on served calls."""
        from tunery.store.feedback import FeedbackLog

        return FeedbackLog(self.database, self.clock, self.project)


def _remote(url: str) -> RemoteArtifacts:
    from tunery.store.remote import RemoteArtifacts

    return RemoteArtifacts(url)


def root_of(home: Path | None) -> Path:
    """Return the root folder of a workspace, made and writable or not.

    Args:
        home: As typed; the variable ``TUNERY_HOME`` where None, else ``~/.tunery``.
    """
    return (home or Path(os.environ.get("TUNERY_HOME") or "~/.tunery")).expanduser().absolute()


def make_writable(root: Path) -> None:
    """Make the root folder of a workspace where it is not there yet.

    Raises:
        ResourceError: It cannot be written.
    """
    try:
        # What users sent and keys' hashes are for this user's eyes only.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable, why = os.access(root, os.W_OK | os.X_OK), "no permission"
    except OSError as error:
        writable, why = False, error.strerror or str(error)
    if not writable:
        raise ResourceError(
            f"{root} cannot be written: {why}",
            hint="set TUNERY_HOME to a folder you can write, as in: export TUNERY_HOME=$HOME/tunery",
        )
