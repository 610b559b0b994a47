"""A rescued model on BANKING77 beside one trained on true labels: the old model's answers are 90 % right.

The old model is a file of recordings: of each message the true intent, but of one in ten another, drawn
among the five whose training messages are most like it (by TF-IDF), as a model's errors are. Ours trains
once on these recordings and once on the true labels; both answer the same held-out messages::

    python benchmarks/rescue_banking77.py --data recipes/data/banking77-train.csv

The file has columns ``text`` and ``category``.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tunery.core.figures import points
from tunery.core.progress import Silent
from tunery.core.run import TUNED
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.rescue.proof import Proof, prove
from tunery.pipeline.rescue.recipe import Choices, TrainOn, draft
from tunery.rescue.folder import RECORDINGS, RescueFolder
from tunery.rescue.records import Inventory, Recording, Scope, SourceModel
from tunery.store.workspace import Workspace

MODEL = "ft:gpt-4o-mini-2024-07-18:bank:banking77:Teach1"
SYSTEM = {"role": "system", "content": "Name the intent of the bank customer's message."}
RIGHT = 0.9
NEAR = 5


class Message:
    """A customer's message with its intent."""

    def __init__(self, text: str, intent: str) -> None:
        self.text, self.intent = text, intent


def read(path: Path) -> list[Message]:
    """Return a file's messages; ``card_arrival`` becomes ``card arrival``."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [Message(row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(lines)]


def sample(messages: Sequence[Message], each: int, seed: int) -> list[Message]:
    """Return so many messages of each intent."""
    by: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        by[message.intent].append(message)
    draw = random.Random(seed)
    return [m for intent in sorted(by) for m in draw.sample(by[intent], min(each, len(by[intent])))]


def taught(messages: Sequence[Message], known: Sequence[Message], seed: int) -> list[str]:
    """Return a teacher's answers: right but for one in ten, which is one of the intents most like it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    intents = sorted({m.intent for m in known})
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    joined = [" ".join(m.text for m in known if m.intent == intent) for intent in intents]
    likeness = vectorizer.fit_transform(joined)
    scores = (vectorizer.transform([m.text for m in messages]) @ likeness.T).toarray()
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(messages)), round((1 - RIGHT) * len(messages))))
    answers = []
    for place, message in enumerate(messages):
        order = [intents[i] for i in scores[place].argsort()[::-1] if intents[i] != message.intent]
        answers.append(draw.choice(order[:NEAR]) if place in wrong else message.intent)
    return answers


def recordings(data: Path, each: int, held: int, seed: int) -> list[Recording]:
    """Return what the teacher answered to messages to train on and to those held out."""
    known = read(data)
    test = sample(known, held, seed)
    apart = {m.text for m in test}
    train = sample([m for m in known if m.text not in apart], each, seed + 1)
    found = []
    for portion, messages in (("train", train), ("holdout", test)):
        answers = taught(messages, known, seed)
        found += [
            Recording(
                id=f"{portion}{n}",
                portion=portion,  # type: ignore[arg-type]
                origin="training_file",
                messages=(SYSTEM, {"role": "user", "content": message.text}),
                truth=message.intent,
                model=MODEL,
                answer=answer,
                at=datetime.now(UTC),
            )
            for n, (message, answer) in enumerate(zip(messages, answers, strict=True))
        ]
    return found


def run(home: Path, kept: Sequence[Recording], train_on: TrainOn, epochs: float) -> tuple[Proof, float, str]:
    """Train on one kind of answer; return the proof, our accuracy and it with its interval."""
    folder = RescueFolder(home, train_on)
    model = SourceModel(id=MODEL, scope="default", base="gpt-4o-mini-2024-07-18")
    folder.write("inventory.json", Inventory(read_at=datetime.now(UTC), scopes=(Scope(),), models=(model,)))
    folder.write_lines(folder.of_model(MODEL) / RECORDINGS, kept)
    drafted = draft(folder, MODEL, None, Choices("smollm2-135m-instruct", train_on, 0.03))
    changes = [
        f"train.epochs={epochs}", "train.batch_size=8", "train.validation_every=100000",
        "evaluate.max_new_tokens=16", "evaluate.baseline.zero_shot=false", "evaluate.baseline.few_shot=false",
        "evaluate.baseline.tfidf=false",
    ]  # fmt: skip
    workspace = Workspace.open(home)
    try:
        context = RunContext(load_recipe(drafted.path, changes), workspace, drafted.path.parent, Silent())
        done = run_recipe(context)
        proof = prove(folder, MODEL, workspace, done)
        found = workspace.evaluations.get(done.evaluations[TUNED]).main
    finally:
        workspace.close()
    arm = next(arm.value for arm in proof.arms if arm.arm == TUNED)
    return proof, found.value, arm


def main() -> None:
    """Print both accuracies, what lies between them, and how far the rescued model follows the teacher."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--each", type=int, default=10, help="messages of each intent to train on")
    parser.add_argument("--held", type=int, default=5, help="messages of each intent to hold out")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kept = recordings(options.data, options.each, options.held, options.seed)
    right = sum(r.answer == r.truth for r in kept) / len(kept)
    print(f"{len(kept):,} recordings, {100 * right:.1f} % right")
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for train_on in ("owner", "recorded"):
            began = time.monotonic()
            found[train_on] = run(Path(folder), kept, train_on, options.epochs)
            proof, _, arm = found[train_on]
            name = "true labels" if train_on == "owner" else "recordings"
            print(f"trained on {name}: {arm}, {proof.following.sentence} {time.monotonic() - began:.0f} s")
    between = found["recorded"][1] - found["owner"][1]
    print(f"rescued beside true labels: {points(between)} (bar: no more than 3 points below)")


if __name__ == "__main__":
    main()
