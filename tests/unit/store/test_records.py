"""Records come back as they went in, are listed by age, and are added once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.store import samples
from tunery.core.config import Record
from tunery.core.errors import NotFoundError
from tunery.core.evaluation import Metric
from tunery.core.run import Run
from tunery.store.records import from_row, to_row, utc_text
from tunery.store.workspace import Workspace

MAKERS: dict[str, Callable[..., Record]] = {
    "datasets": samples.dataset,
    "adapters": samples.adapter,
    "evaluations": samples.evaluation,
    "gates": samples.gate,
    "runs": samples.run,
}


@pytest.mark.parametrize("table", MAKERS)
def test_a_record_comes_back_as_it_went_in(workspace: Workspace, table: str) -> None:
    record = MAKERS[table]()
    rows = getattr(workspace, table)
    assert rows.add(record) == record
    assert rows.get(record.id) == record
    assert rows.find(record.id) == record
    assert rows.list() == [record]


@pytest.mark.parametrize("table", MAKERS)
def test_the_newest_are_listed_first_and_the_oldest_left_out(workspace: Workspace, table: str) -> None:
    rows = getattr(workspace, table)
    # All of one moment: what counts is the order they were added in.
    for id in ("x-3", "x-1", "x-2"):
        rows.add(MAKERS[table](id))
    assert [record.id for record in rows.list()] == ["x-2", "x-1", "x-3"]
    assert [record.id for record in rows.list(limit=2)] == ["x-2", "x-1"]


def test_adding_an_id_again_keeps_what_is_stored(workspace: Workspace) -> None:
    first = workspace.datasets.add(samples.dataset(rows_read=3))
    assert workspace.datasets.add(samples.dataset(rows_read=99)) == first
    assert workspace.datasets.list() == [first]


def test_an_unknown_id_names_the_nearest(workspace: Workspace) -> None:
    workspace.datasets.add(samples.dataset("ds-00000000000000aa"))
    assert workspace.datasets.find("ds-00000000000000ab") is None
    with pytest.raises(NotFoundError, match="did you mean 'ds-00000000000000aa'"):
        workspace.datasets.get("ds-00000000000000ab")


def test_a_run_is_filled_in_and_validated(workspace: Workspace) -> None:
    workspace.runs.add(samples.run())
    updated = workspace.runs.update("run-0000000000000001", status="succeeded", seconds={"train": 2.5})
    assert workspace.runs.get("run-0000000000000001") == updated
    assert (updated.status, updated.seconds) == ("succeeded", {"train": 2.5})
    with pytest.raises(ValueError, match="status"):
        workspace.runs.update("run-0000000000000001", status="fine")
    with pytest.raises(NotFoundError):
        workspace.runs.update("run-0000000000000002", status="failed")
    assert workspace.runs.list() == [updated]


def test_times_are_stored_in_utc_and_sort_as_text(workspace: Workspace) -> None:
    far_east = datetime(2026, 3, 1, 20, 0, 0, 5, tzinfo=timezone(timedelta(hours=9)))
    workspace.runs.add(samples.run(created_at=far_east, finished_at=far_east))
    stored = workspace.runs.list()[0]
    assert stored.created_at == far_east
    assert stored.created_at.utcoffset() == stored.finished_at.utcoffset() == timedelta(0)
    assert utc_text(far_east) == "2026-03-01T11:00:00.000005Z"
    with pytest.raises(ValueError, match="time zone"):
        utc_text(datetime(2026, 3, 1))


@given(moments=st.lists(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.timezones()), min_size=2))
def test_time_text_has_the_order_of_time(moments: list[datetime]) -> None:
    texts = sorted(map(utc_text, moments))
    assert [datetime.fromisoformat(text) for text in texts] == sorted(m.astimezone(UTC) for m in moments)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(recipe=st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_document_comes_back_as_it_went_in(recipe: dict[str, object]) -> None:
    run = samples.run(recipe=recipe)
    row = to_row(run, {"id": None, "name": None, "status": None})
    assert from_row(Run, row) == run
    json.loads(str(row["document"]))


def test_characters_that_databases_dislike_are_kept(workspace: Workspace) -> None:
    recipe = {"nul": "a\0b", "emoji": "🧾", "quote": "';--", "percent": "100 % (s)", "colon": "a :name b"}
    workspace.runs.add(samples.run(recipe=recipe))
    assert workspace.runs.list()[0].recipe == recipe


def test_numbers_that_json_has_no_word_for_are_kept(workspace: Workspace) -> None:
    endless = samples.metric(math.inf, ci95=(-math.inf, math.inf), name="perplexity", unit="number")
    lost = samples.metric(math.nan)
    workspace.evaluations.add(samples.evaluation(metrics={"perplexity": endless, "exact_match": lost}))
    read: dict[str, Metric] = dict(workspace.evaluations.list()[0].metrics)
    assert read["perplexity"] == endless
    assert math.isnan(read["exact_match"].value)
