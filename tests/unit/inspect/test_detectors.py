"""Detectors are found by walking their package: one more is one file."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.unit.inspect.detectors.rows import clean, columns
from tunery.core.dataset import DatasetVersion
from tunery.inspect import detectors as package
from tunery.inspect.config import InspectConfig
from tunery.inspect.detectors import Detector, detectors, finding_kinds
from tunery.inspect.inspect import Given, inspect_columns
from tunery.report.inspection import InspectionInputs, render_inspection

SHOUTING = """
from tunery.core.finding import FindingKind
from tunery.inspect.evidence import Case, finding

_SHOUTING = FindingKind("shouting", "Prompts in capitals", "medium", "Write them as people speak.")
KINDS = (_SHOUTING,)


def find(columns, lengths, *, min_input_chars=10):
    loud = [i for i, text in enumerate(columns.prompts) if text.isupper() and len(text) >= min_input_chars]
    if loud:
        cases = [Case((i,), columns.prompts[i], f"{lengths[i]} tokens") for i in loud]
        yield finding(columns, _SHOUTING, "1 prompt is in capitals.", cases)
"""


@pytest.fixture
def shouting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_throw_away_detector.py").write_text(SHOUTING, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])


@pytest.mark.usefixtures("shouting")
def test_one_more_detector_is_one_file_whose_finding_is_reported_shown_and_ignored() -> None:
    prompts, answers = clean(40)
    prompts[3] = "WHERE IS MY PARCEL, PLEASE?"
    rows = columns(prompts, answers)
    given = Given(lengths=[7] * 40)

    (found,) = inspect_columns(rows, InspectConfig(), given)

    assert (found.kind, found.rows, found.evidence[0].detail) == ("shouting", ("ex-3",), "7 tokens")
    version = DatasetVersion(
        id="dataset-0123456789abcdef",
        name="shop",
        config={},
        masked={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        sources=(),
        rows_read=40,
        rows_kept=40,
        dropped={},
        splits={"train": 40},
        labels=None,
        content_sha256="0" * 64,
    )
    page = render_inspection(InspectionInputs("inspection-1", version, rows, [found], finding_kinds(), []))
    assert "Prompts in capitals" in page
    assert inspect_columns(rows, InspectConfig(ignore=("shouting",)), given) == ()
    assert inspect_columns(rows, InspectConfig(), Given(lengths=None)) == (), "it needs lengths"


def test_each_kind_is_declared_once_in_words_for_people() -> None:
    kinds = [kind for detector in detectors() for kind in detector.kinds]
    assert len(kinds) > 30
    assert max(Counter(kind.name for kind in kinds).values()) == 1
    for kind in kinds:
        assert kind.fix.endswith(".")
        assert kind.title[:1].isupper()
        assert "_" not in kind.title


def test_a_detector_that_asks_for_what_is_not_known_is_named() -> None:
    asks_for_more = Detector("tides", (), lambda columns, moon: [])
    with pytest.raises(TypeError, match="detector tides asks for moon; there is: columns, labels"):
        asks_for_more.run({"columns": columns(*clean(1)), "labels": None})


def test_an_ignored_kind_that_no_detector_reports_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="no detector reports 'short_promt'; did you mean"):
        InspectConfig(ignore=("short_promt",))
