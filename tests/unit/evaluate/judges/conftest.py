"""A judging endpoint on a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.evaluate.judges.scripted import rubric_judge
from tests.unit.synthesise.teacher import KEY, Teacher, serving


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """An endpoint that scores by the rubric; its ``say`` may be set."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with serving(Teacher(say=rubric_judge)) as running:
        yield running
