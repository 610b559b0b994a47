"""The request log as one project sees it."""

from __future__ import annotations

from collections.abc import Mapping

from tunery.core.rollout import Feedback, RequestRecord
from tunery.pipeline.gateway.log import RequestLog


class ProjectLog:
    """Records that the database may not have yet, of one project's calls; no others can be found.

    Args:
        log: That of the whole server.
        project: Whose calls there are.
    """

    def __init__(self, log: RequestLog, project: str) -> None:
        self._log = log
        self._project = project

    def flush(self) -> None:
        """Return once what was taken so far is in the database, or in the journal while that is away."""
        self._log.flush()

    def find(self, id: str) -> RequestRecord | None:
        """Return the masked record of a call that waits in this server, None where none does."""
        return self._own(self._log.find(id))

    def find_anywhere(self, id: str) -> RequestRecord | None:
        """Return the record of a call that waits in the journal of any server of this home."""
        return self._own(self._log.find_anywhere(id))

    def forget(self, id: str) -> None:
        """Delete a call for its client.

        Raises:
            NotFoundError: There is none of that id.
            ResourceError: The database does not answer, or does not have the call yet.
        """
        self._log.forget(id, self._project)

    def set_metadata(self, id: str, metadata: Mapping[str, str]) -> None:
        """Replace a call's metadata.

        Raises:
            NotFoundError: There is none of that id.
            ResourceError: The database does not answer, or does not have the call yet.
        """
        self._log.set_metadata(id, self._project, metadata)

    def write_feedback(self, feedback: Feedback) -> None:
        """Journal feedback on a call whose record the database may not have yet.

        Raises:
            ResourceError: It cannot be written.
        """
        self._log.write_feedback(feedback.with_(project=self._project))

    def _own(self, record: RequestRecord | None) -> RequestRecord | None:
        return record if record is not None and record.project == self._project else None
