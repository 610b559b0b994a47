"""What no version stands on."""

from __future__ import annotations

import pytest

from tunery.registry.unused import free_unused, unused
from tunery.store.artifacts import MANIFEST
from tunery.store.workspace import Workspace


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_damaged_is_freed_like_what_is_whole(workspace: Workspace, damaged: bool) -> None:
    with workspace.artifacts.create("datasets", "ds-1", {}) as folder:
        (folder / "rows.bin").write_bytes(bytes(1000))
    folder = workspace.artifacts.path("datasets", "ds-1")
    if damaged:
        (folder / MANIFEST).write_text("broken", encoding="utf-8")
    (found,) = unused(workspace)
    assert found.path == folder
    assert found.bytes >= 1000
    assert free_unused(workspace) == [found]
    assert not folder.exists()
