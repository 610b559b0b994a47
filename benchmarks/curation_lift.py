"""What curation is worth: BANKING77 spoiled on purpose, trained on raw, on curated, and on 1,000 chosen rows.

    python benchmarks/curation_lift.py [--rows 2500] [--budget-steps 320] [--seed 0] [--threads 1]
    python benchmarks/curation_lift.py --proxy tfidf --rows 8000 [--seed 0]

Rows for the test are set aside first and stay clean. The others are spoiled: 20 % move to the class most
confusable with theirs, then 30 % near-duplicates and 5 % junk are added. Every arm trains from the same base
with the same settings, for the same number of trained-on tokens: smaller sets are seen more often. What is
printed is exact match on the clean rows with 95 % intervals, and each arm's paired difference from raw.

``--proxy`` puts a logistic regression, on TF-IDF or on sentence embeddings, in the place of the model. It
takes seconds, has no training budget, and says nothing about a language model; use it to try ideas.

The proxy needs scikit-learn (the ``dev`` extra), spoiling too. A killed run goes on where it was, and arms
may be trained one at a time, on two cores at once: the same command with all of them then prints the table.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spoil import Row, Shares, most_confusable, spoil
from tunery.core.columns import Columns
from tunery.core.evaluation import Prediction
from tunery.core.example import Message
from tunery.core.ids import sha256_file
from tunery.core.progress import Silent
from tunery.core.statistics import wilson_interval
from tunery.data.build import build_dataset
from tunery.data.config import CleanConfig, ColumnsConfig, DataConfig, SourceConfig, SplitConfig
from tunery.data.read_file import read_file
from tunery.data.select.select import choose, take
from tunery.data.select.signals import intact
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import BaselineConfig, GoalConfig
from tunery.inspect.labels import rank_label_issues
from tunery.model.render import render
from tunery.model.tokenizer import ChatTokenizer
from tunery.pipeline.recipe import EvaluateSection, Recipe
from tunery.store.dataset_files import read_columns
from tunery.store.workspace import Workspace
from tunery.text.embeddings import Encoder
from tunery.text.sameness import words_alone
from tunery.train.methods.sft import SftConfig

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "data" / "banking77-train.csv"
SYSTEM = "Name the intent of the bank customer's message."
BATCH = 16
ROUNDS = 2
"""Inspections whose fixes are applied."""
INTACT = 0.8
"""A text with a smaller share of words is junk."""
AS_IS = CleanConfig(exact_duplicates=False, near_duplicates="off")
"""What every arm trains with, so that an arm differs from another by its rows alone."""


class Outcome(NamedTuple):
    """One arm, measured."""

    arm: str
    rows: Sequence[Row]
    predictions: Sequence[Prediction]
    tokens: int
    """Trained-on tokens; 0 for a proxy [count]."""
    seconds: float


Learner = Callable[[str, Sequence[Row], Sequence[Row]], tuple[list[Prediction], int]]
"""(arm, training rows, test rows) to answers and trained-on tokens."""


def main() -> None:
    """Spoil, curate, choose, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2500, help="clean rows to spoil [rows]")
    parser.add_argument("--test", type=int, default=770, help="clean rows set aside [rows]")
    parser.add_argument("--selected", type=int, default=1000, help="rows chosen [rows]")
    parser.add_argument("--by", default="quality+diversity", help="how they are chosen")
    parser.add_argument("--budget-steps", type=int, default=320, help=f"steps of {BATCH} rows on the raw set")
    parser.add_argument("--seed", type=int, default=0, help="of the rows, what is spoiled, and training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--arms", default="raw,curated,selected", help="also: random, the same number of raw rows"
    )
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--encoder", action="store_true", help="compare texts by embeddings, not by words")
    parser.add_argument(
        "--proxy", choices=("tfidf", "minilm"), help="a logistic regression instead of a model"
    )
    options = parser.parse_args()
    names = options.arms.split(",")
    if set(names) - {"raw", "curated", "selected", "random"}:
        parser.error("--arms takes any of raw, curated, selected, random")

    test, rows = material(options.rows, options.test, options.seed)
    workspace = Workspace.open()
    with tempfile.TemporaryDirectory() as folder:
        learner = proxy(options.proxy) if options.proxy else fine_tune(options, workspace, Path(folder), rows)
        started = time.perf_counter()
        arms = {"raw": rows, **prepared(names, rows, options, workspace, Path(folder))}
        print(f"preparing the rows took {time.perf_counter() - started:.0f} s", file=sys.stderr)
        outcomes = []
        for name in names:
            started = time.perf_counter()
            predictions, tokens = learner(name, arms[name], test)
            outcomes.append(Outcome(name, arms[name], predictions, tokens, time.perf_counter() - started))
            report(outcomes)  # after each arm: the run is long
    workspace.close()


def material(count: int, test: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the clean test rows and the spoiled rows, drawn from the file by the seed."""
    with DATA.open(encoding="utf-8", newline="") as stream:
        pairs = [(r["text"], r["category"].replace("_", " ")) for r in csv.DictReader(stream)]
    # One row for each wording: a test row that is also trained on would measure memory.
    pairs = list({words_alone(text): (text, label) for text, label in pairs}.values())
    rng = random.Random(seed)
    rng.shuffle(pairs)
    if count + test > len(pairs):
        raise SystemExit(f"--rows {count} and --test {test} are more than the file's {len(pairs)} rows")
    clean = [Row(text, label, label, "") for text, label in pairs[:test]]
    texts, labels = zip(*pairs[test : test + count], strict=True)
    other = most_confusable(*zip(*pairs, strict=True))  # of the whole file: a class may have few rows here
    return clean, spoil(texts, labels, rng, other=other, shares=Shares())


def prepared(
    names: Sequence[str], rows: Sequence[Row], options: argparse.Namespace, workspace: Workspace, folder: Path
) -> dict[str, list[Row]]:
    """Return the rows of every arm but raw."""
    arms: dict[str, list[Row]] = {}
    if "random" in names:
        arms["random"] = random.Random(options.seed).sample(list(rows), options.selected)
    if {"curated", "selected"} & set(names):
        encoder = sentence_vectors() if options.encoder else None
        columns, mine = curated(rows, encoder, workspace, folder)
        arms["curated"] = mine
        picked = choose(columns, options.selected, options.by, seed=options.seed, encode=encoder)
        arms["selected"] = [mine[i] for i in picked]
    return arms


def curated(
    rows: Sequence[Row], encoder: Encoder | None, workspace: Workspace, folder: Path
) -> tuple[Columns, list[Row]]:
    """Return what the product's curation leaves, as columns and as rows.

    Its default cleaning goes first (repeats and near-duplicates), then texts that are hardly words. What
    ``label_error`` and ``doubtful_label`` find in an inspection is applied twice, as ``tunery data fix``
    does: labels held for wrong become the suggested ones, and rows that are as likely wrong as right go.
    """
    write_csv(rows, folder / "spoiled.csv")
    settings = data_settings("spoiled.csv", CleanConfig())
    version = build_dataset(settings, workspace, name="curation-lift", base_dir=folder)
    columns = read_columns(workspace.artifacts.path("datasets", version.id))
    legible = [i for i, text in enumerate(columns.prompts) if intact(text) >= INTACT]
    labels = list(columns.answers)
    for _ in range(ROUNDS):
        ranking = rank_label_issues(
            [columns.prompts[i] for i in legible], [labels[i] for i in legible], encoder=encoder
        )
        for found in ranking.issues[: ranking.likely]:
            labels[legible[found.row]] = found.suggested
        gone = {found.row for found in ranking.doubtful}
        legible = [row for place, row in enumerate(legible) if place not in gone]
    repaired = [rows[columns.rows[i] - 1]._replace(label=labels[i]) for i in legible]
    now = [row.label for row in repaired]
    return replace(take(columns, legible), answers=now, labels=now), repaired


def data_settings(path: str, clean: CleanConfig) -> DataConfig:
    """Return settings that read a file of ours and hold nothing out."""
    source = SourceConfig(path=path, columns=ColumnsConfig(input="text", output="label"))
    return DataConfig(
        sources=(source,),
        system_prompt=SYSTEM,
        labels="closed",
        clean=clean,
        split=SplitConfig(test=0, validation=0),
    )


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write texts and labels, not what was done to them."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([r.text, r.label] for r in rows)


def proxy(features: str) -> Learner:
    """Return a learner that fits a logistic regression until it converges."""
    from sklearn.linear_model import LogisticRegression

    encode = sentence_vectors() if features == "minilm" else None

    def learn(arm: str, rows: Sequence[Row], test: Sequence[Row]) -> tuple[list[Prediction], int]:
        train, held = [r.text for r in rows], [r.text for r in test]
        vectors = (encode(train), encode(held)) if encode else tfidf(train, held)
        # Embeddings are of length one and need less restraint than sparse counts.
        model = LogisticRegression(C=20.0, max_iter=1000, tol=1e-3)
        answers = model.fit(vectors[0], [r.label for r in rows]).predict(vectors[1])
        return [
            Prediction(id=f"test-{i}", prediction=str(a), reference=r.label, correct=bool(a == r.label))
            for i, (a, r) in enumerate(zip(answers, test, strict=True))
        ], 0

    return learn


@functools.cache
def sentence_vectors() -> Encoder:
    """Return the encoder that comes as a package, each text computed once in this run."""
    from tunery.model.encoder import load_encoder

    encoder, known = load_encoder(), {}

    def encode(texts: Sequence[str]) -> np.ndarray:
        new = [t for t in dict.fromkeys(texts) if t not in known]
        if new:
            known.update(zip(new, encoder(new), strict=True))
        return np.stack([known[t] for t in texts])

    return encode


def tfidf(train: Sequence[str], held: Sequence[str]) -> tuple[object, object]:
    """Return sparse features of both, weighted by the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    return vectorizer.fit_transform(train), vectorizer.transform(held)


def fine_tune(options: argparse.Namespace, workspace: Workspace, folder: Path, raw: Sequence[Row]) -> Learner:
    """Return a learner that trains and evaluates as ``tunery run`` does, for the tokens of the raw arm."""
    import torch

    from tunery.evaluate.task import make_task
    from tunery.model.bases import resolve_base
    from tunery.model.tokenizer import load_tokenizer
    from tunery.pipeline.context import RunContext
    from tunery.pipeline.loop import train_recipe
    from tunery.pipeline.stages.data import make_dataset
    from tunery.pipeline.stages.evaluate import measure, tuned_subject

    torch.set_num_threads(options.threads)
    base = resolve_base(options.base, workspace.root / "models", progress=Silent())
    tokenizer = load_tokenizer(base.path)
    budget = options.budget_steps * BATCH * tokens_per_row(tokenizer, raw)

    def learn(arm: str, rows: Sequence[Row], test: Sequence[Row]) -> tuple[list[Prediction], int]:
        write_csv(rows, folder / f"{arm}.csv")
        steps = max(1, round(budget / (BATCH * tokens_per_row(tokenizer, rows))))
        context = RunContext(recipe_of(options, f"{arm}.csv", epochs=1.0), workspace, folder, Silent())
        batches = math.ceil(make_dataset(context).splits["train"] / BATCH)
        # A hair under the number of steps: what is asked for is rounded up to whole steps.
        context.recipe = recipe_of(options, f"{arm}.csv", epochs=(steps - 0.001) / batches)
        trained = train_recipe(context)
        write_csv(test, folder / "test.csv")
        settings = data_settings("test.csv", AS_IS)
        task = make_task(
            read_file(folder / "test.csv", settings.sources[0], settings),
            data=f"sha256:{sha256_file(folder / 'test.csv')}",
            config=context.recipe.evaluate,
            main_metric="exact_match",
            labels=sorted({r.label for r in test} | set(trained.dataset.labels or ())),
        )
        try:
            result = measure(context, task, tuned_subject(context, trained.adapter), trained.adapter)
        finally:
            context.release_engine()
        return list(result.predictions), trained.adapter.trained_tokens

    return learn


def recipe_of(options: argparse.Namespace, path: str, *, epochs: float) -> Recipe:
    """Return the recipe of one arm: nothing held out, no early stop, so that the budget is spent."""
    return Recipe(
        name="curation-lift",
        goal=GoalConfig(metric="exact_match", target=0.5),
        base=options.base,
        data=data_settings(path, AS_IS),
        train=SftConfig(
            epochs=epochs,
            batch_size=BATCH,
            dropout=0.1,  # as recipes/banking77.yaml
            early_stopping=None,
            seed=options.seed,
            threads=options.threads,
        ),
        evaluate=EvaluateSection(max_new_tokens=16, baseline=BaselineConfig(perplexity=False)),
    )


def tokens_per_row(tokenizer: ChatTokenizer, rows: Sequence[Row]) -> float:
    """Return the mean number of tokens that training sees of a row."""
    lengths = [
        len(
            render(
                tokenizer,
                [
                    Message(role="system", content=SYSTEM),
                    Message(role="user", content=r.text),
                    Message(role="assistant", content=r.label),
                ],
            )[0].ids
        )
        for r in rows
    ]
    return sum(lengths) / len(lengths)


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the table of the arms measured so far."""
    print()
    print("arm        rows  wrong  junk  trained tokens  seconds    n  exact match (95 %)")
    for o in outcomes:
        wrong, junk = sum(r.label != r.truth for r in o.rows), sum(r.fault == "junk" for r in o.rows)
        right, n = sum(p.correct for p in o.predictions), len(o.predictions)
        low, high = wilson_interval(right, n)
        print(
            f"{o.arm:9} {len(o.rows):5,} {wrong / len(o.rows):6.1%} {junk / len(o.rows):5.1%} {o.tokens:15,} "
            f"{o.seconds:8.0f} {n:4,}  {right / n:.3f} ({low:.3f} to {high:.3f})"
        )
    raw = next((o for o in outcomes if o.arm == "raw"), None)
    for o in outcomes:
        if raw is None or o is raw:
            continue
        c = compare(raw.predictions, o.predictions, names=("raw", o.arm))
        print(
            f"{o.arm} - raw: {c.difference:+.3f} ({c.ci95[0]:+.3f} to {c.ci95[1]:+.3f}), "
            f"{c.fixed} fixed, {c.broken} broken, p = {c.p_value:.2g}: {c.verdict}"
        )


if __name__ == "__main__":
    main()
