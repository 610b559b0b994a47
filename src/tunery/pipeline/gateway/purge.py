"""Served calls taken back: from the database, from every journal; and which datasets hold them already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tunery.core.errors import TuneryError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.pipeline.gateway.catch_up import FEEDBACK, REQUEST
from tunery.pipeline.gateway.log import without_old_text, without_words
from tunery.store import journal
from tunery.store.journal import Entry
from tunery.store.requests import Chosen, Purged
from tunery.store.workspace import Workspace


class Taken(NamedTuple):
    """What a purge took away, and what it cannot."""

    purged: Purged
    """In the database."""
    journalled: int
    """Lines of journals [count]."""
    datasets: Mapping[str, int]
    """Dataset version to how many of the calls are among its rows [count]."""
    unreadable: tuple[str, ...]
    """Dataset versions that could not be looked at."""


def purge(workspace: Workspace, chosen: Chosen, *, texts_only: bool) -> Taken:
    """Delete served calls, or their texts alone.

    Dataset versions are immutable: those that hold rows made of the calls are named, not changed.

    Raises:
        ConflictError: A running rollout counts them, and they would go altogether.
    """
    from tunery.store.dataset_files import read_request_ids  # a server never loads Arrow

    chosen = workspace.requests.narrowed(chosen)
    workspace.requests.refuse_counted(chosen, texts_only=texts_only)
    ids = set(workspace.requests.chosen_ids(chosen))

    def change(entry: Entry) -> Entry | None:
        if entry.kind == FEEDBACK:
            said = Feedback.model_validate_json(entry.text)
            if said.request_id not in ids:
                return entry
            return without_words(entry, said) if texts_only else None
        if texts_only:
            if entry.kind == REQUEST and chosen.takes(RequestRecord.model_validate_json(entry.text)):
                ids.add(entry.id)
            return without_old_text(entry, chosen)
        if entry.kind == REQUEST and chosen.takes(RequestRecord.model_validate_json(entry.text)):
            ids.add(entry.id)
            return None
        return entry

    # The journals first: what they still hold would come back.
    journalled = journal.erase(workspace.journals, change)
    purged = workspace.requests.purge(chosen, texts_only=texts_only)
    holding: dict[str, int] = {}
    unreadable = []
    for dataset in workspace.datasets.every() if ids else ():
        try:
            held = read_request_ids(workspace.artifacts.path("datasets", dataset.id)) & ids
        except TuneryError:
            unreadable.append(dataset.id)
            continue
        if held:
            holding[dataset.id] = len(held)
    return Taken(purged, journalled, holding, tuple(unreadable))
