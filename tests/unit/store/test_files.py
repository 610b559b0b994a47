"""Records of uploaded and produced files."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tunery.core.errors import NotFoundError
from tunery.store.workspace import Workspace


def test_files_are_paged_either_way_and_by_purpose(workspace: Workspace) -> None:
    for number in range(4):
        purpose = "batch" if number == 2 else "fine-tune"
        workspace.files.add(samples.stored_file(f"file-{number}", purpose=purpose))
    ids = [file.id for file in workspace.files.list()]
    assert ids == ["file-3", "file-2", "file-1", "file-0"]
    page = workspace.files.page(oldest_first=True, limit=2)
    assert ([file.id for file in page.items], page.has_more) == (["file-0", "file-1"], True)
    page = workspace.files.page(after="file-1", oldest_first=True)
    assert ([file.id for file in page.items], page.has_more) == (["file-2", "file-3"], False)
    page = workspace.files.page(where={"purpose": "fine-tune"}, limit=2)
    assert ([file.id for file in page.items], page.has_more) == (["file-3", "file-1"], True)


def test_a_deleted_file_is_not_found(workspace: Workspace) -> None:
    file = workspace.files.add(samples.stored_file(filename="../../etc/passwd\0"))
    assert workspace.files.get("file-1") == file
    workspace.files.delete("file-1")
    assert workspace.files.find("file-1") is None
    with pytest.raises(NotFoundError):
        workspace.files.delete("file-1")
