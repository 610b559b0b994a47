"""Reviewed feedback as rows of the next dataset version, and never a row that is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.core.ids import artifact_id, canonical_json, sha256_text
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.config import ExportConfig
from tunery.feedback.lineage import EVERYTHING, HeldOutGuard, Objection
from tunery.feedback.rows import FeedbackRows, not_wanted, rows_of
from tunery.store.whole_file import write_json_lines
from tunery.store.workspace import Workspace

EXAMPLES = "examples.jsonl"
PREFERENCES = "preferences.jsonl"
RATINGS = "ratings.jsonl"
SKIPPED = "skipped.jsonl"
MANIFEST = "export.json"


class Export(Record):
    """What an export wrote."""

    id: str
    """``fbx-`` and 16 hex digits: hash of the rows."""
    examples: int
    """Rows of ``examples.jsonl`` [count]."""
    preferences: int
    """Rows of ``preferences.jsonl`` [count]."""
    ratings: int = 0
    """Rows of ``ratings.jsonl`` [count]."""
    skipped: Mapping[str, int]
    """Reason to pieces of feedback that became no row [count]."""
    path: str
    """The folder."""
    created_at: datetime


class Skipped(NamedTuple):
    """One piece of feedback that became no row, and why."""

    feedback_id: str
    request_id: str
    reason: str
    """Short stable word, such as ``held_out_exact``."""
    detail: str


def export(
    workspace: Workspace,
    destination: Path,
    *,
    model: str | None = None,
    since: datetime | None = None,
    config: ExportConfig | None = None,
) -> Export:
    """Write accepted feedback as training rows into a folder.

    ``examples.jsonl`` holds corrections (and, when asked for, liked answers) as OpenAI chat rows:
    ``messages`` ending with the answer to learn; earlier assistant turns get ``weight`` 0, for nobody has
    reviewed them. ``preferences.jsonl`` holds OpenAI preference rows: ``input``, ``preferred_output``,
    ``non_preferred_output``. ``ratings.jsonl`` holds, when asked for, answers with a thumb as unpaired
    preferences: chat rows with ``kto_tag``. ``skipped.jsonl`` names every piece of feedback that became no
    row, with its reason. ``export.json`` is written last: without it the folder is not an export.

    No row repeats, word for word or nearly, a prompt of the validation or test split of any dataset version
    that the model name which answered was trained and measured on, their parents included. Where such a
    version can no longer be read, its rows are skipped, not waved through.

    Every row carries, beside its content, ``"metadata": {"split_hint": "train", "held_out": false,
    "request_id": …, "feedback_id": …}``. That is a contract with the data stage: such rows go to the train
    split of the next version and to no other, because a split drawn afresh could otherwise measure the model
    on what its own users corrected.

    Args:
        destination: Folder to write; created when missing, and an earlier export in it is replaced.
        model: Only feedback on this model name's answers (any version).
        since: Only feedback given at this time or later.
        config: What else becomes rows, and how near a held-out prompt is too near.

    Raises:
        NotFoundError: No such model name.
        ConfigError: The destination is a file, or a folder that holds other things.
        ResourceError: The folder cannot be written.
    """
    if model is not None and model not in (names := workspace.models.names()):
        raise NotFoundError.of("model", model, names, hint="tunery registry ls")
    return export_given(workspace, destination, _candidates(workspace, model, since), config)


def export_given(
    workspace: Workspace,
    destination: Path,
    candidates: Iterable[tuple[Feedback, RequestRecord]],
    config: ExportConfig | None = None,
) -> Export:
    """Write feedback as :func:`export` does, whoever gave it: the same rows, and the same rules of hold-out.

    Args:
        workspace: Whose dataset versions hold rows out.
        destination: Folder to write.
        candidates: Feedback with what it is about, what corrects before what merely likes.
        config: What becomes rows, and how near a held-out prompt is too near.

    Raises:
        ConfigError: The destination is a file, or a folder that holds other things.
        ResourceError: The folder cannot be written.
    """
    settings = config or ExportConfig()
    _check_destination(destination)
    collector = _Collector(HeldOutGuard(workspace, similarity=settings.near_similarity), settings)
    for feedback, request in candidates:
        collector.take(feedback, request)
    (examples, preferences, ratings), skipped = collector.rows, collector.skipped
    written = Export(
        id=artifact_id(
            "fbx",
            stage="feedback",
            version=1,
            # Exports of before there were ratings keep their ids.
            config=settings.model_dump(mode="json", exclude=set() if settings.ratings else {"ratings"}),
            inputs={
                "rows": sha256_text(canonical_json([examples, preferences, *([ratings] if ratings else [])]))
            },
        ),
        examples=len(examples),
        preferences=len(preferences),
        ratings=len(ratings),
        skipped=dict(sorted(Counter(s.reason for s in skipped).items())),
        path=str(destination),
        created_at=workspace.clock.now(),
    )
    _write(destination, collector, written)
    return written


class _Collector:
    """Gathers rows and what was skipped."""

    def __init__(self, guard: HeldOutGuard, settings: ExportConfig) -> None:
        self.rows = FeedbackRows([], [], [])
        self.skipped: list[Skipped] = []
        self._guard = guard
        self._settings = settings
        self._answered: dict[str, str] = {}
        """What a row teaches, without its answer, to the feedback it came from."""

    def take(self, feedback: Feedback, request: RequestRecord) -> None:
        """Add the rows of one piece of feedback, or note why it gives none."""
        why = (
            not_wanted(feedback, request, self._settings)
            or self._guard.objection(request)
            or self._repeats(feedback, request)
        )
        if why is not None:
            self.skipped.append(Skipped(feedback.id, request.id, why.reason, why.detail))
            return
        rows = rows_of(feedback, request, self._settings)
        self.rows.examples.extend(rows.examples)
        self.rows.preferences.extend(rows.preferences)
        self.rows.ratings.extend(rows.ratings)

    def _repeats(self, feedback: Feedback, request: RequestRecord) -> Objection | None:
        turns = [[m.role, m.content] for m in request.messages]
        # Several pairs on one prompt may all be true; two answers to learn for it contradict each other.
        pair = [feedback.correction, feedback.rejected] if feedback.kind == "preference" else None
        if self._settings.ratings and feedback.kind == "rating":
            pair = [request.completion]  # each answer is judged by itself
        taught = canonical_json([turns, pair])
        if taught in self._answered:
            return Objection("superseded", f"newer feedback {self._answered[taught]} is on the same prompt")
        self._answered[taught] = feedback.id
        return None


def _candidates(
    workspace: Workspace, model: str | None, since: datetime | None
) -> Iterable[tuple[Feedback, RequestRecord]]:
    """Yield feedback with its request: what corrects before what merely likes, and the newest first."""
    found = workspace.feedback.list(limit=EVERYTHING)
    for feedback in sorted(found, key=lambda f: f.kind == "rating"):
        if since is not None and feedback.created_at < since:
            continue
        request = workspace.requests.find(feedback.request_id)
        if request is None:  # its client deleted it; a rating alone stays, for the numbers
            continue
        if model is None or request.model.partition("@")[0] == model:
            yield feedback, request


def _check_destination(destination: Path) -> None:
    if destination.is_file():
        raise ConfigError(
            f"{destination} is a file; an export is a folder with {EXAMPLES} and {PREFERENCES}",
            hint=f"tunery feedback export {destination.with_suffix('')}",
        )
    ours = {EXAMPLES, PREFERENCES, RATINGS, SKIPPED, MANIFEST}
    if destination.is_dir() and (
        others := sorted(p.name for p in destination.iterdir() if p.name not in ours)
    ):
        raise ConfigError(
            f"{destination} holds other things ({', '.join(others[:3])}); an export has a folder of its own"
        )


def _write(destination: Path, collected: _Collector, written: Export) -> None:
    """Write all files, each whole or not at all, and the manifest last."""
    try:
        destination.mkdir(parents=True, exist_ok=True)
        # From here until the manifest is back the folder is no export, old rows beside new ones included.
        (destination / MANIFEST).unlink(missing_ok=True)
        write_json_lines(destination / EXAMPLES, collected.rows.examples)
        write_json_lines(destination / PREFERENCES, collected.rows.preferences)
        if collected.rows.ratings:
            write_json_lines(destination / RATINGS, collected.rows.ratings)
        else:  # those of an earlier export
            (destination / RATINGS).unlink(missing_ok=True)
        write_json_lines(destination / SKIPPED, [s._asdict() for s in collected.skipped])
        write_json_lines(destination / MANIFEST, [written.model_dump(mode="json")])
    except OSError as error:
        raise ResourceError(
            f"cannot write {error.filename or destination}: {error.strerror}",
            hint="free space, or choose another folder",
        ) from None
