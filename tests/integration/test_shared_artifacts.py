"""Two homes on one database, artifacts in a bucket: what one makes the other judges, serves and checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_s3 import bucket
from tests.integration.test_whole_models import KINDS, recipe
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.registry.export import export
from tunery.registry.lineage import lineage, verify
from tunery.registry.unused import unused
from tunery.registry.versions import resolve
from tunery.store.adapters import adapter_folder
from tunery.store.workspace import Workspace

__all__ = ["bucket"]


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_version_made_in_one_home_is_used_in_another(
    tiny_model: Path, tmp_path: Path, bucket: str, kind: str
) -> None:
    def home(name: str) -> Workspace:
        database = f"sqlite:///{tmp_path}/{kind}.db"
        return Workspace.open(tmp_path / name, database_url=database, artifacts_url=f"{bucket}/{kind}")

    here = home("here")
    wanted = recipe(tiny_model, tmp_path, **KINDS[kind])
    run = run_recipe(RunContext(wanted, here, tmp_path, Silent()))
    assert run.status == "succeeded", run.error
    here.close()

    there = home("there")
    version = resolve(there, "colours")
    checks = verify(there, lineage(there, version.ref))
    assert all(check.ok for check in checks), [c.detail for c in checks if not c.ok]
    assert list(there.artifacts.ids("adapters")) == [version.adapter_id]
    assert list(unused(there)) == []
    again = run_recipe(RunContext(wanted, there, tmp_path, Silent()))
    assert (again.id, again.model_version) == (run.id, version.ref)
    adapter = there.adapters.get(version.adapter_id)
    folder = adapter_folder(there, adapter)
    assert folder.is_relative_to(tmp_path / "there")
    context = RunContext(wanted, there, tmp_path, Silent())
    try:
        assert context.engine(adapter) is not None
    finally:
        context.release_engine()
    exported = export(there, version.ref, tmp_path / "out")
    assert exported
    there.artifacts.delete("adapters", adapter.id)
    there.close()
    here = home("here")
    assert not here.artifacts.has("adapters", adapter.id)
    here.close()
