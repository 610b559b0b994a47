"""What ``tunery gc`` and deleting leave of a rescue: all that is saved, and what answers the old name."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from tests.doubles.openai_source import OpenAISource, chat_row
from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import register
from tests.integration.test_forwarded_names import OLD, source
from tests.integration.test_rescue_run import MODEL, folder
from tunery.core.errors import ConflictError
from tunery.rescue.folder import RescueFolder
from tunery.store.workspace import Workspace

__all__ = ["folder", "home", "source", "tunery"]


def contents(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_collecting_leaves_all_that_a_rescue_saved(source: OpenAISource, tunery: Tunery, home: Path) -> None:
    source.add_fine_tune("Cd2", [chat_row(f"row {n}", "yes") for n in range(3_000)])
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    assert tunery("rescue", "fetch", "--only", OLD).code == 0
    begun = home / "rescues" / "openai" / "files" / ".file-trainCd2.partial"  # of a fetch that was killed
    begun.write_bytes(source.contents["file-trainCd2"][:100_000])
    before = contents(home / "rescues")
    assert len(before) > 6
    freed = tunery("gc", "--unused", "--json")
    assert freed.code == 0, freed.err
    assert contents(home / "rescues") == before
    source.headers.clear()
    assert tunery("rescue", "fetch").code == 0
    assert "bytes=100000-" in {each.get("range") for each in source.headers}


def test_version_that_answers_an_old_name_is_neither_deleted_nor_freed(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    with closing(Workspace.open(home)) as workspace:
        for name in ("a", "b"):
            register(workspace, tiny_model, tiny_adapters[name], "parcels")
        kept = [workspace.models.get("parcels", n).adapter_id for n in (1, 2)]
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    for stage in ("canary", "ours", "alone"):
        assert tunery("rescue", "serve", OLD, "--to", stage, "--with", "parcels@1").code == 0
        refused = tunery("registry", "rm", "parcels@1")
        assert refused.code == ConflictError.exit_code, refused.err
    assert f"answers as {OLD}" in refused.err
    assert tunery("gc", "--unused").code == 0
    with closing(Workspace.open(home)) as workspace:
        assert all(workspace.artifacts.has("adapters", id) for id in kept)
    assert tunery("rescue", "serve", OLD, "--with", "parcels@2", "--to", "alone").code == 0
    assert tunery("registry", "rm", "parcels@1").code == 0


@pytest.mark.slow
def test_run_can_be_shown_again_after_collecting(
    folder: RescueFolder, tunery: Tunery, tiny_model: Path
) -> None:
    assert tunery("rescue", "recipe", "--base", tiny_model, "--margin", "0.1").code == 0
    quick = ["train.epochs=2", "evaluate.baseline.few_shot=false", "train.early_stopping=null"]
    first = tunery("rescue", "run", MODEL, *quick, "--json")
    report = contents(folder.root)
    assert tunery("gc", "--unused").code == 0
    assert contents(folder.root) == report
    status = tunery("rescue", "status", "--json").json["status"]["models"][0]
    assert status["verdict"] == first.json["proof"]["verdict"]
    again = tunery("rescue", "run", MODEL, *quick, "--json")
    assert again.json["proof"]["flips"] == first.json["proof"]["flips"]
