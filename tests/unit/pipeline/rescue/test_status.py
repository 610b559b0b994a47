"""The page of a rescue, with nothing in it, with much in it, and after the end."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tunery.core.forwarding import Shutdown
from tunery.core.training import BaseModelInfo
from tunery.deploy import forwarding
from tunery.pipeline.rescue.status import COLUMNS, cells, grouped_losses, status_of, status_page, summary
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Inventory, Scope, SourceModel
from tunery.store.workspace import Workspace

TODAY = date(2026, 11, 27)
PAST, FUTURE = (Shutdown(on=date(*day), source="api") for day in ((2026, 10, 23), (2027, 1, 14)))


def model(n: int, **more: object) -> SourceModel:
    name = f"ft:gpt-4o-mini-2024-07-18:acme:{'very-' * 12}long-name:A{n:03}"
    return SourceModel(id=name, scope="default", base="gpt-4o-mini-2024-07-18").with_(**more)


def rescued(root: Path, *models: SourceModel) -> RescueFolder:
    folder = RescueFolder(root, "openai")
    read_at = datetime(2026, 11, 27, tzinfo=UTC)
    folder.write("inventory.json", Inventory(read_at=read_at, scopes=(Scope(),), models=models))
    return folder


def test_nothing_is_said_to_be_nothing(workspace: Workspace, tmp_path: Path) -> None:
    found = status_of(rescued(tmp_path), workspace, TODAY)
    page = status_page(found)
    assert "lists no fine-tuned model" in page
    assert "|" not in page


def test_what_befalls_many_alike_is_said_once(workspace: Workspace, tmp_path: Path) -> None:
    models = [model(n, shutdown=FUTURE, answers=True) for n in range(30)]
    found = status_of(rescued(tmp_path, *models), workspace, TODAY)
    losses = list(grouped_losses(found))
    assert len(losses) == 2  # its answers, and the service
    assert all(f"{models[0].id} and 29 more: " in loss for loss in losses)
    assert list(summary(found)) == ["Something would be lost today of 30 of 30 models."]
    page = status_page(found)
    assert page.count("\n## ") == 30
    assert f"`tunery rescue record {models[7].id}`" in page


@pytest.mark.parametrize(
    ("end", "listed", "left", "says"),
    [
        (FUTURE, True, "48", "Ends in 48 days, on 2027-01-14"),
        (Shutdown(on=TODAY, source="api"), True, "today", "Ends today, on 2026-11-27"),
        (PAST, True, "ended", "Ended 35 days ago, on 2026-10-23"),
        (PAST, False, "ended", "The source does not list it any more."),
        (None, None, "", "its answers, all of them: `tunery rescue record"),
    ],
)
def test_end_is_told_in_its_tense(
    end: Shutdown | None, listed: bool | None, left: str, says: str, workspace: Workspace, tmp_path: Path
) -> None:
    found = status_of(rescued(tmp_path, model(0, shutdown=end, answers=listed)), workspace, TODAY)
    (status,) = found.models
    assert cells(status)[COLUMNS.index(">days left")] == left
    page = status_page(found)
    assert says in page
    assert ("tunery rescue record" in page) == (listed is not False)  # nobody is left to be recorded


def test_names_of_the_source_are_no_markup(workspace: Workspace, tmp_path: Path) -> None:
    sly = model(0, id="ft:gpt-4o:acme:<img src=x>|`x`*b*:A1")
    page = status_page(status_of(rescued(tmp_path, sly), workspace, TODAY))
    outside = re.sub(r"`[^`]*`", "", page.replace("\\`", ""))
    assert re.search(r"(?<!\\)<img", outside) is None
    row = next(line for line in page.splitlines() if "A1 |" in line)
    assert row.replace("\\|", "").count("|") == len(COLUMNS) + 1


def test_model_that_its_source_forgot_is_said_to_be_gone(workspace: Workspace, tmp_path: Path) -> None:
    sold = model(0, shutdown=FUTURE, answers=True)
    folder = rescued(tmp_path, sold)
    old = BaseModelInfo(name=sold.id, sha256="0", path="", parameters=0, hosted={"kind": "hosted"})
    forwarding.move(workspace, "tickets", "forward", old=old, actor="test")
    before = status_of(folder, workspace, TODAY)
    assert (before.models[0].stage, before.models[0].served_as) == ("forward", "tickets")
    forwarding.note_gone(workspace, "tickets")
    first = forwarding.named(workspace, "tickets")
    forwarding.note_gone(workspace, "tickets")
    assert forwarding.named(workspace, "tickets") == first  # the first time counts
    found = status_of(folder, workspace, TODAY)
    assert cells(found.models[0])[-1] == "nobody, as the old model is gone"
    page = status_page(found)
    assert "did not know it any more" in page
    assert "It is answered here as `tickets`." in page
    assert "its answers, all of them: the source gives none any more" in page
    assert "The source answers as 1 of them no more." in page
