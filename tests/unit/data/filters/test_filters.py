"""Filters say exactly why an example goes, and count tokens as training will."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.model.templates import TEMPLATES
from tunery.core.engine import Tokenizer
from tunery.core.example import Example, Message
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig, FiltersConfig, SourceConfig, SplitConfig
from tunery.data.curate import _travels
from tunery.data.filters.filters import FilterContext, build_filters, filter_kinds
from tunery.data.filters.length import LengthFilter, LengthSettings
from tunery.data.filters.same_answers import SameAnswersFilter
from tunery.data.filters.tokens import TokenFilter, token_length
from tunery.model.render import render
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.store.workspace import Workspace


def example(
    prompt: str, answer: str, *, rejected: str | None = None, system: str | None = "Be kind."
) -> Example:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    start = (Message(role="system", content=system),) if system else ()
    return Example(id="ex-1", messages=(*start, *turns), rejected=rejected, group="g")


def reasons(found: list[object]) -> list[str | None]:
    return [None if drop is None else drop[0] for drop in found]  # type: ignore[index]


def test_lengths_are_counted_without_the_system_turn() -> None:
    step = LengthFilter(
        LengthSettings(min_input_chars=3, max_input_chars=5, min_output_chars=2, max_output_chars=4)
    )
    given = [("abc", "ab"), ("abcde", "abcd"), ("ab", "ab"), ("abcdef", "ab"), ("abc", "a"), ("abc", "abcde")]
    assert reasons(list(step.judge([example(p, a) for p, a in given]))) == [
        None,
        None,
        "input_too_short",
        "input_too_long",
        "output_too_short",
        "output_too_long",
    ]
    (drop,) = step.judge([example("abcdef", "ab")])
    assert drop is not None
    assert drop.detail == "input of 6 characters, at most 5 allowed"


def test_what_cleaning_left_empty_goes() -> None:
    step = LengthFilter(LengthSettings())
    assert reasons(list(step.judge([example("", "a"), example("a", "")]))) == ["empty_input", "empty_output"]


def test_a_pair_of_equal_answers_goes() -> None:
    found = SameAnswersFilter().judge([example("q", "a", rejected="a"), example("q", "a", rejected="b")])
    assert reasons(list(found)) == ["same_answers", None]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model)


def test_the_length_is_that_of_the_rendered_conversation(tokenizer: Tokenizer) -> None:
    one = example("When will my card arrive?", "card arrival")
    assert token_length(one, tokenizer) == len(render(tokenizer, one.messages)[0].ids)  # type: ignore[arg-type]
    pair = example("When will my card arrive?", "card", rejected="card arrival")
    assert token_length(pair, tokenizer) == token_length(one, tokenizer)


@pytest.mark.parametrize("limit", [30, 120, 400])
def test_the_shortcut_never_changes_the_verdict(tokenizer: Tokenizer, limit: int) -> None:
    texts = ["Where is my card? " * n for n in (1, 2, 3, 5, 8, 13, 21)] + ["žluťoučký kůň 漢字 🙂 " * 4]
    rows = [example(t, "card arrival", system=s) for t in texts for s in (None, "Be kind.")]
    verdicts = TokenFilter(tokenizer, limit).judge(rows)
    assert [v is not None for v in verdicts] == [token_length(r, tokenizer) > limit for r in rows]
    assert {v.reason for v in verdicts if v} <= {"too_long"}


@pytest.mark.parametrize("limit", [None, 40, 4_000])
def test_what_the_template_refuses_goes_with_its_words_whatever_the_limit(
    tiny_model: Path, limit: int | None
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.hf.chat_template = TEMPLATES["no system"]
    strict = ChatTokenizer(tokenizer.hf)
    twice = (Message(role="user", content="Hello?"), *example("Anyone?", "Yes.", system=None).messages)
    rows = [example("a", "b"), example("a", "b").with_(messages=twice), example("c", "d", system=None)]
    drops = TokenFilter(strict, limit).judge(rows)
    assert drops == [None, ("refused_by_template", "roles must alternate"), None]


def test_only_filters_with_something_to_do_are_built(tokenizer: Tokenizer) -> None:
    def built(context: FilterContext) -> list[str]:
        return [type(one).__name__ for one in build_filters(FiltersConfig(), context)]

    plain = ["LengthFilter", "SameAnswersFilter"]
    assert built(FilterContext()) == plain
    assert built(FilterContext(max_tokens=100)) == plain
    assert built(FilterContext(tokenizer=tokenizer)) == [*plain, "TokenFilter"]
    full = FilterContext(("US_SSN",), tokenizer, 100)
    assert built(full) == [*plain, "PersonalDataFilter", "TokenFilter"]


def test_every_filter_declares_what_others_need_to_know_of_it() -> None:
    for name, kind in filter_kinds().items():
        assert kind.reasons, name
        assert all(says == says.strip() and says for says in kind.reasons.values())
        assert (kind.settings is not None) == (name in FiltersConfig.model_fields)


@pytest.mark.parametrize("bounds", [{"min_input_chars": 5, "max_input_chars": 4}, {"max_output_chars": 0}])
def test_bounds_that_nothing_can_hold_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chars"):
        LengthSettings(**bounds)


class Unpicklable:
    """A tokenizer of one token a character; as a caller's own it may hold what cannot be sent."""

    stop_ids: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def render_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(0 for m in messages for _ in m.content)

    def refusal(self, messages: Sequence[Message]) -> str | None:
        return None

    def on_day(self, day: object) -> Unpicklable:
        return self

    def encode(self, text: str) -> tuple[int, ...]:
        return (0,) * len(text)

    def decode(self, ids: object) -> str:
        return ""


def test_a_filter_that_was_sent_to_a_worker_judges_as_here(tokenizer: Tokenizer) -> None:
    rows = [example("Where is my card? " * n, "card") for n in (1, 5, 20)]
    here = TokenFilter(tokenizer, 100)
    there = pickle.loads(pickle.dumps(here))
    assert there.judge(rows) == here.judge(rows)
    assert {drop.reason for drop in there.judge(rows) if drop} == {"too_long"}


def test_a_tokenizer_is_looked_up_by_its_hash_and_read_once(tokenizer: Tokenizer) -> None:
    sent = pickle.dumps(TokenFilter(tokenizer, 100))
    first, again = (pickle.loads(sent)._tokenizer() for _ in range(2))
    assert first is again


def test_a_tokenizer_of_the_calling_script_stays_in_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfAScript(Unpicklable):
        def __init__(self) -> None:
            pass

    OfAScript.__module__, OfAScript.__qualname__ = "__main__", "OfAScript"
    monkeypatch.setattr(sys.modules["__main__"], "OfAScript", OfAScript, raising=False)
    assert pickle.dumps(OfAScript()), "it can be written here"
    filters = build_filters(FiltersConfig(), FilterContext(tokenizer=OfAScript(), max_tokens=100))
    assert not _travels(filters)


@pytest.mark.parametrize("sendable", [True, False])
def test_lengths_are_judged_alike_wherever_a_tokenizer_can_go(
    tokenizer: Tokenizer,
    tmp_path: Path,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    sendable: bool,
) -> None:
    monkeypatch.setattr("tunery.data.readers.reading.CHUNK_ROWS", 10)
    monkeypatch.setattr("tunery.data.workers._ALONE", 1)
    monkeypatch.setattr("tunery.data.workers._cores", lambda: 2)
    lines = [f"question {i} {chr(97 + i) * 3},{'long ' * 200 if i == 17 else 'a'}{i}" for i in range(26)]
    (tmp_path / "rows.csv").write_text("input,output\n" + "\n".join(lines))
    config = DataConfig(sources=(SourceConfig(path="rows.csv"),), split=SplitConfig(test=2, validation=2))
    chosen = tokenizer if sendable else Unpicklable()
    found = build_dataset(config, workspace, name="t", base_dir=tmp_path, tokenizer=chosen, max_tokens=200)
    assert found.dropped == {"too_long": 1}


THROW_AWAY = '''
from typing import ClassVar

from tunery.core.config import Settings
from tunery.core.example import Drop


class ShoutingSettings(Settings):
    """Prompts in capitals."""

    share: float = 1.0
    """Share of capitals from which a prompt goes."""


class ShoutingFilter:
    settings = ShoutingSettings
    cost = 1
    reasons: ClassVar = {"shouting": "is written in capitals"}

    def __init__(self, share):
        self.share = share

    @classmethod
    def build(cls, settings, context):
        return cls(settings.share)

    def judge(self, examples):
        return [self.one(e.prompt[-1].content) for e in examples]

    def one(self, text):
        capitals = sum(c.isupper() for c in text) / len(text)
        return Drop("shouting", f"{capitals:.0%} capitals") if capitals >= self.share else None
'''
RUN = """
import sys
from contextlib import closing
from pathlib import Path

import tunery.data.filters

folder = Path(sys.argv[1])
tunery.data.filters.__path__.append(str(folder / "more"))

from tunery.data.build import build_dataset
from tunery.pipeline.recipe import load_recipe
from tunery.store.dataset_files import read_dropped
from tunery.store.workspace import Workspace

recipe = load_recipe(folder / "recipe.yaml")
assert recipe.data.filters.shouting.share == 0.5
assert recipe.data.filters.length.min_input_chars == 4
schema = type(recipe).model_json_schema()["$defs"]["ShoutingSettings"]
assert schema["properties"]["share"]["description"] == "Share of capitals from which a prompt goes."
with closing(Workspace.open(folder / "home", database_url=f"sqlite:///{folder}/home.db")) as workspace:
    version = build_dataset(recipe.data, workspace, name="t", base_dir=folder)
    path = workspace.artifacts.path("datasets", version.id)
    print(dict(version.dropped))
    print([(d.row, d.reason, d.detail) for d in read_dropped(path)])
    print((path / "card.md").read_text())
"""
RECIPE = """
name: t
goal: {metric: exact_match}
base: smollm2-135m-instruct
data:
  sources: [{path: rows.csv}]
  split: {test: 2, validation: 2}
  filters:
    length: {min_input_chars: 4}
    shouting: {share: 0.5}
"""


def test_one_more_filter_is_one_more_file(tmp_path: Path) -> None:
    """Set in a recipe, its rows dropped, counted and explained: no other file needs to know of it."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "shouting.py").write_text(THROW_AWAY)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [f"question {i} {chr(97 + i) * 3},answer {chr(97 + i) * 3}{i}" for i in range(20)]
    (tmp_path / "rows.csv").write_text("input,output\nWHERE IS IT,here\nhm,short\n" + "\n".join(rows))
    (tmp_path / "run.py").write_text(RUN)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "{'input_too_short': 1, 'shouting': 1}" in ran.stdout
    assert "(1, 'shouting', '82% capitals')" in ran.stdout
    assert "| `shouting` | 1 | is written in capitals |" in ran.stdout
