"""A small subset: how many rows it has, where they come from, and that it is better than chance."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError
from tunery.data.build import build_dataset
from tunery.data.config import ColumnsConfig, DataConfig, SelectBy, SelectConfig, SourceConfig, SplitConfig
from tunery.data.select.select import choose, facility_location
from tunery.store.dataset_files import read_columns, read_dropped
from tunery.store.workspace import Workspace
from tunery.text.embeddings import Encoder
from tunery.text.features import blocks, hashed_tfidf

WAYS: tuple[SelectBy, ...] = get_args(SelectBy)
TOPICS = {
    "card": "card arrive post delivery envelope address track waiting week sent plastic mail",
    "rate": "exchange rate euro dollar currency convert pound foreign market abroad percent yen",
    "topup": "top up failed declined balance deposit load funds voucher reload wallet limit",
}


def columns(
    prompts: Sequence[str],
    labels: Sequence[str | None] | None = None,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Columns:
    count = len(prompts)
    ids = [f"ex-{i}" for i in range(count)]
    labels = labels or [None] * count
    return Columns(
        ids=ids,
        prompts=prompts,
        answers=[label or f"answer {i}" for i, label in enumerate(labels)],
        rejected=[None] * count,
        labels=labels,
        splits=splits or ["train"] * count,
        groups=groups or ids,
        sources=["rows.csv"] * count,
        rows=list(range(1, count + 1)),
    )


def questions(per_topic: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return texts of five words of their topic, and the topics."""
    rng = random.Random(seed)
    rows = [
        (" ".join(rng.sample(words.split(), 5)), t) for t, words in TOPICS.items() for _ in range(per_topic)
    ]
    rng.shuffle(rows)
    return [text for text, _ in rows], [topic for _, topic in rows]


def small(texts: Sequence[str]) -> np.ndarray:
    """Encode in few dimensions, so that many examples can be tried."""
    return hashed_tfidf(texts, 64)


WORDS = st.sampled_from(" ".join(TOPICS.values()).split())
ROWS = st.lists(
    st.tuples(
        st.lists(WORDS, max_size=6).map(" ".join),
        st.sampled_from([None, "a", "b", "c"]),
        st.sampled_from(["train", "train", "validation", "test"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(rows=ROWS, count=st.integers(1, 45), by=st.sampled_from(WAYS), seed=st.integers(0, 3))
def test_exactly_so_many_distinct_training_rows_are_chosen_and_the_same_ones_again(
    rows: list[tuple[str, str | None, str]], count: int, by: SelectBy, seed: int
) -> None:
    data = columns([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    train = {i for i, r in enumerate(rows) if r[2] == "train"}
    chosen = choose(data, count, by, seed=seed, encode=small)
    assert len(chosen) == len(set(chosen)) == min(count, len(train))
    assert set(chosen) <= train
    assert chosen == sorted(chosen)
    assert choose(data, count, by, seed=seed, encode=small) == chosen


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.05, 1),
    by=st.sampled_from(WAYS),
)
def test_every_class_keeps_its_share_and_at_least_one_row(
    sizes: list[int], share: float, by: SelectBy
) -> None:
    labels = [f"class {c}" for c, size in enumerate(sizes) for _ in range(size)]
    texts = [f"{TOPICS['card'].split()[i % 12]} {label}" for i, label in enumerate(labels)]
    count = max(len(sizes), round(share * len(labels)))
    counts = Counter(labels[i] for i in choose(columns(texts, labels), count, by, encode=small))
    assert set(counts) == set(labels)
    taken_back = sum(size * count < len(labels) for size in sizes)  # classes whose share rounds to nothing
    for c, size in enumerate(sizes):
        exact = size * count / len(labels)
        assert exact - 1 - taken_back < counts[f"class {c}"] < exact + 1.0001 or counts[f"class {c}"] == 1


def test_quality_passes_over_wrong_labels_and_junk() -> None:
    texts, labels = questions(60)
    wrong = set(range(0, 180, 6))
    names = sorted(TOPICS)
    spoiled = [names[(names.index(t) + 1) % 3] if i in wrong else t for i, t in enumerate(labels)]
    junk = [
        "<div><br/></div>",
        "qwrtzp sdfghjk xcvbnm",
        "????!!!!",
        "card card card card card card card card",
    ]
    data = columns(texts + junk, spoiled + ["card"] * len(junk))
    bad = wrong | set(range(len(texts), len(texts) + len(junk)))
    for by in ("quality", "quality+diversity"):
        assert not bad & set(choose(data, 30, by)), by
    assert bad & set(choose(data, 60, "random"))


def test_diversity_takes_one_of_each_kind_where_one_kind_fills_the_set() -> None:
    kinds = [
        "card lost in the post",
        "euro exchange rate today",
        "top up failed again",
        "wrong pin entered twice",
    ]
    texts = [kinds[0] for _ in range(60)] + [k for k in kinds[1:] for _ in range(3)]
    chosen = choose(columns(texts), 4, "diversity")
    assert {next(k for k in kinds if texts[i].startswith(k)) for i in chosen} == set(kinds)


def test_scores_order_the_rows_that_nothing_speaks_against() -> None:
    texts, labels = questions(20)
    data = columns(texts, labels)
    scores = [float(i) for i in range(60)]
    chosen = choose(data, 12, "quality", scores=scores)
    by_class = {t: [i for i in range(60) if labels[i] == t] for t in TOPICS}
    assert np.mean(chosen) > 40
    assert all(i in by_class[labels[i]][-12:] for i in chosen)
    unknown = choose(data, 12, "quality", scores=[float("nan")] * 59 + [1.0])
    assert 59 in unknown
    assert len(unknown) == 12


def test_features_of_an_encoder_decide_what_is_alike() -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.array([[1, 0] if t[0] == "a" else [0, 1] for t in texts], dtype=np.float32)

    texts = ["a one", "a two", "a three", "b four", "a five"]
    chosen = choose(columns(texts), 2, "diversity", encode=encode)
    assert 3 in chosen
    assert seen[0] == "a one\nanswer 0"


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_lazy_greedy_gains_what_plain_greedy_gains(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = rng.random(12)

    alike = np.maximum(vectors @ vectors.T, 0) * weights
    covered, plain = np.zeros(12), []
    for _ in range(count):
        gains = [
            -1.0 if i in plain else float(np.maximum(alike[i] - covered, 0).sum() * weights[i])
            for i in range(12)
        ]
        plain.append(int(np.argmax(gains)))
        covered = np.maximum(covered, alike[plain[-1]])
    assert sorted(facility_location(vectors, weights, count)) == sorted(plain)


def test_blocks_hold_every_row_once_and_keep_alike_rows_together() -> None:
    texts, topics = questions(100)
    vectors = hashed_tfidf(texts)
    parts = blocks(vectors, np.arange(300), largest=80)
    assert sorted(int(i) for part in parts for i in part) == list(range(300))
    assert max(map(len, parts)) <= 80
    purity = sum(Counter(topics[i] for i in part).most_common(1)[0][1] for part in parts) / 300
    assert purity > 0.6  # a third by chance


def test_features_compare_like_scikit_learn_tf_idf() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, _ = questions(30)

    def terms(text: str) -> list[str]:
        words = text.split()
        return [*words, *(f"{w[:5]}*" for w in words), *(f"{a} {b}" for a, b in itertools.pairwise(words))]

    exact = TfidfVectorizer(analyzer=terms, sublinear_tf=True, min_df=2).fit_transform(texts)
    wanted = (exact @ exact.T).toarray()
    hashed = hashed_tfidf(texts, 1 << 15)
    assert np.abs(hashed @ hashed.T - wanted).mean() < 0.002


def test_a_class_of_doubtful_rows_only_may_go_empty_handed() -> None:
    texts, labels = questions(30)
    data = columns([*texts, "????", "????!"], [*labels, "junk", "junk"])
    assert len(choose(data, 3, "quality+diversity")) == 3


def test_a_hundred_rows_without_words_are_no_obstacle() -> None:
    data = columns([""] * 100, ["a", "b"] * 50)
    assert len(choose(data, 10, "quality+diversity")) == 10


def test_a_recipe_trains_on_the_chosen_rows_and_keeps_the_others_with_their_reason(
    workspace: Workspace, tmp_path: Path
) -> None:
    texts, labels = questions(80)
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    source = SourceConfig(path="rows.csv", columns=ColumnsConfig(input="text", output="label"))
    whole = DataConfig(sources=(source,), split=SplitConfig(test=20, validation=20))
    small = whole.model_copy(update={"select": SelectConfig(rows=30)})
    every, chosen = (build_dataset(c, workspace, name="n", base_dir=tmp_path) for c in (whole, small))

    assert every.id != chosen.id
    assert chosen.splits["train"] == 30
    assert chosen.dropped["not_selected"] == every.splits["train"] - 30
    rows = {v.id: read_columns(workspace.artifacts.path("datasets", v.id)) for v in (every, chosen)}
    for split in ("validation", "test"):
        held = [[i for i, s in zip(c.ids, c.splits, strict=True) if s == split] for c in rows.values()]
        assert held[0] == held[1]
    told = [
        d for d in read_dropped(workspace.artifacts.path("datasets", chosen.id)) if d.reason == "not_selected"
    ]
    assert told[0].detail == "is not among the 30 training rows chosen by quality+diversity"


def test_a_recipe_may_choose_by_meaning(workspace: Workspace, tmp_path: Path) -> None:
    texts, labels = questions(80)
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    source = SourceConfig(path="rows.csv", columns=ColumnsConfig(input="text", output="label"))
    select = SelectConfig(rows=30, by="diversity", compare="meaning")
    config = DataConfig(sources=(source,), split=SplitConfig(test=20, validation=20), select=select)
    asked: list[str] = []

    def backwards(found: Sequence[str]) -> np.ndarray:
        asked.extend(found)
        return small([text[::-1] for text in found])

    with pytest.raises(ConfigError, match="no sentence encoder"):
        build_dataset(config, workspace, name="n", base_dir=tmp_path)
    chosen = build_dataset(config, workspace, name="n", base_dir=tmp_path, encoder=lambda: backwards)
    assert chosen.splits["train"] == 30
    assert len(asked) == chosen.dropped["not_selected"] + 30

    def unused() -> Encoder:
        raise AssertionError("a version that is there needs no encoder")

    assert build_dataset(config, workspace, name="n", base_dir=tmp_path, encoder=unused).id == chosen.id
